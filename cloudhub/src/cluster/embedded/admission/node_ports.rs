//! The ports of services on every node.

use std::collections::HashSet;

use hub_core::api::Status;
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;

/// Gives every port of a service that wants one a port of the nodes, and keeps those that it had. One that is asked for must be free.
pub(in crate::cluster::embedded) fn complete(
    state: &State,
    kind: &ResourceKind,
    old: Option<&Value>,
    new: &mut Value,
) -> Result<(), Status> {
    let name = meta(new, "name").to_owned();
    let had = old.map_or_else(Vec::new, wanted);
    if !wants(&new["spec"]) {
        drop_held(&had, new);
        return Ok(());
    }
    let mut others = taken(state, (meta(new, "namespace"), &name));
    let Some(ports) = new["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    for (index, port) in ports.iter_mut().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let kept = had
            .iter()
            .find(|held| held.protocol == protocol && Some(held.port) == port["port"].as_u64());
        let given = number(port).or(kept.and_then(|held| held.node_port));
        let chosen = match given {
            Some(given) => {
                let refuse = |why: &str| {
                    let place = format!("spec.ports[{index}].nodePort");
                    let error = FieldError::invalid(&place, &given.into(), why);
                    Err(fault::invalid(kind, &name, &[error]))
                };
                if !RANGE.contains(&given) {
                    return refuse(
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    );
                }
                if others.contains(&(protocol.clone(), given)) {
                    return refuse("provided port is already allocated");
                }
                given
            }
            None => free(&others, &protocol, random_start())
                .ok_or_else(|| fault::internal("failed to allocate a nodePort: range is full"))?,
        };
        others.insert((protocol, chosen));
        port["nodePort"] = chosen.into();
    }
    Ok(())
}

fn wants(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// A service that wants none any more gives back those that it was given.
fn drop_held(had: &[Port], new: &mut Value) {
    if new["spec"]["type"] == "LoadBalancer" {
        return;
    }
    let ports = new["spec"]["ports"].as_array_mut();
    for port in ports.into_iter().flatten() {
        let given = number(port);
        if given.is_some()
            && had.iter().any(|held| held.node_port == given)
            && let Some(fields) = port.as_object_mut()
        {
            fields.remove("nodePort");
        }
    }
}

/// What all other services have.
fn taken(state: &State, own: (&str, &str)) -> HashSet<(String, u64)> {
    let services = GroupVersionResource::core("services");
    let ports = |object: &hub_core::object::Object| -> Vec<(String, u64)> {
        if (
            object.key.namespace.as_deref().unwrap_or_default(),
            &*object.key.name,
        ) == own
        {
            return Vec::new();
        }
        let service: Service = serde_json::from_slice(&object.body).unwrap_or_default();
        let ports = service.spec.ports.into_iter();
        ports
            .filter_map(|port| Some((port.protocol, port.node_port?)))
            .collect()
    };
    state.list(&services, None).flat_map(ports).collect()
}

fn wanted(service: &Value) -> Vec<Port> {
    Service::deserialize(service)
        .map(|service| service.spec.ports)
        .unwrap_or_default()
}

/// The first free port from a random place on.
fn free(taken: &HashSet<(String, u64)>, protocol: &str, start: u64) -> Option<u64> {
    let count = RANGE.end - RANGE.start;
    (0..count)
        .map(|step| RANGE.start + (start + step) % count)
        .find(|port| !taken.contains(&(protocol.to_owned(), *port)))
}

/// The port of the nodes that is asked for; programs in Go write 0 for none.
fn number(port: &Value) -> Option<u64> {
    port["nodePort"].as_u64().filter(|port| *port != 0)
}

fn random_start() -> u64 {
    let random = uuid::Uuid::new_v4();
    u64::from(u16::from_be_bytes([random.as_bytes()[0], random.as_bytes()[1]]))
}

#[derive(Deserialize, Default)]
struct Service {
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
struct ServiceSpec {
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    port: u64,
    #[serde(default = "tcp")]
    protocol: String,
    node_port: Option<u64>,
}

fn tcp() -> String {
    "TCP".into()
}

/// What a kube-apiserver gives out unless told otherwise.
const RANGE: std::ops::Range<u64> = 30_000..32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_run_out_only_when_all_of_a_protocol_are_taken() {
        let mut taken: HashSet<_> = RANGE.map(|port| ("TCP".to_owned(), port)).collect();
        assert_eq!(free(&taken, "TCP", 60_000), None);
        assert_eq!(free(&taken, "UDP", 5), Some(30_005));
        taken.remove(&("TCP".to_owned(), 30_001));
        assert_eq!(free(&taken, "TCP", 60_000), Some(30_001));
    }
}
