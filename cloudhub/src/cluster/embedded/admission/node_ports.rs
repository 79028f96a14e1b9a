//! The ports of services on every node.

use std::collections::HashSet;

use hub_core::api::Status;
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::content::has_health;
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
    let mut others = taken(state, (meta(new, "namespace"), &name));
    each(kind, &name, &had, new, &mut others)?;
    let held = old.map_or(&Value::Null, |old| &old["spec"]);
    health(held, &mut new["spec"], &others)
}

/// Gives every port its own.
fn each(
    kind: &ResourceKind,
    name: &str,
    had: &[Port],
    new: &mut Value,
    others: &mut HashSet<(String, u64)>,
) -> Result<(), Status> {
    if !wants(&new["spec"]) {
        drop_held(had, new);
        return Ok(());
    }
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
                    Err(fault::invalid(kind, name, &[error]))
                };
                if !RANGE.contains(&given) {
                    return refuse(OUT_OF_RANGE);
                }
                if others.contains(&(protocol.clone(), given)) {
                    return refuse(TAKEN);
                }
                given
            }
            None => free(others, &protocol, random_start())
                .ok_or_else(|| fault::internal("failed to allocate a nodePort: range is full"))?,
        };
        others.insert((protocol, chosen));
        port["nodePort"] = chosen.into();
    }
    Ok(())
}

/// Gives a service the port at which balancers ask a node whether it has any of its pods, for as long as they do.
fn health(held: &Value, new: &mut Value, others: &HashSet<(String, u64)>) -> Result<(), Status> {
    let given = new[HEALTH].as_u64().filter(|port| *port != 0);
    let had = held[HEALTH].as_u64();
    let is_taken = |port: u64| {
        PROTOCOLS
            .iter()
            .any(|protocol| others.contains(&((*protocol).to_owned(), port)))
    };
    if !has_health(new) {
        // What is left over of it goes; what somebody wrote is looked at.
        if (given.is_none() || given == had)
            && let Some(fields) = new.as_object_mut()
        {
            fields.remove(HEALTH);
        }
        return Ok(());
    }
    if has_health(held) {
        if given.is_none() {
            new[HEALTH] = held[HEALTH].clone();
        }
        return Ok(());
    }
    let chosen = match given {
        Some(port) => {
            let why = if !RANGE.contains(&port) {
                OUT_OF_RANGE
            } else if is_taken(port) {
                TAKEN
            } else {
                new[HEALTH] = port.into();
                return Ok(());
            };
            return Err(fault::internal_error(&format!(
                "failed to allocate requested HealthCheck NodePort {port}: {why}"
            )));
        }
        None => {
            let (count, start) = (RANGE.end - RANGE.start, random_start());
            let mut ports = (0..count).map(|step| RANGE.start + (start + step) % count);
            ports.find(|port| !is_taken(*port))
        }
    };
    let full = || fault::internal_error("failed to allocate a HealthCheck NodePort 0: range is full");
    new[HEALTH] = chosen.ok_or_else(full)?.into();
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
        let health = service.spec.health_check_node_port.into_iter();
        let health = health.flat_map(|port| {
            PROTOCOLS
                .iter()
                .map(move |protocol| ((*protocol).to_owned(), port))
        });
        let ports = service.spec.ports.into_iter();
        ports
            .filter_map(|port| Some((port.protocol, port.node_port?)))
            .chain(health)
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
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(default)]
    ports: Vec<Port>,
    health_check_node_port: Option<u64>,
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

const HEALTH: &str = "healthCheckNodePort";
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const OUT_OF_RANGE: &str = "provided port is not in the valid range. The range of valid ports is 30000-32767";
const TAKEN: &str = "provided port is already allocated";
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
