//! Services and their cluster addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use hub_core::api::Status;
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::set::default;

/// The defaults of a service's spec.
pub(in crate::cluster::embedded) fn of_version(spec: &mut Value) {
    default(spec, "type", "ClusterIP".into());
    default(spec, "sessionAffinity", "None".into());
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        default(port, "protocol", "TCP".into());
        // Programs in Go write a target that they left alone as 0.
        if port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = Value::Null;
        }
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
    if spec["sessionAffinity"] == "None"
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("sessionAffinityConfig");
    }
    if spec["sessionAffinity"] == "ClientIP" {
        default(spec, "sessionAffinityConfig", json!({}));
        default(&mut spec["sessionAffinityConfig"], "clientIP", json!({}));
        default(
            &mut spec["sessionAffinityConfig"]["clientIP"],
            "timeoutSeconds",
            10_800.into(),
        );
    }
    let outside = match spec["type"].as_str() {
        Some("NodePort" | "LoadBalancer") => true,
        Some("ClusterIP") => spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    };
    if outside {
        default(spec, "externalTrafficPolicy", "Cluster".into());
    }
    if spec["type"] == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true.into());
    }
    if spec["type"] != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster".into());
    }
}

/// Gives a service an address where it wants one.
pub(in crate::cluster::embedded) fn complete(
    state: &State,
    kind: &ResourceKind,
    value: &mut Value,
) -> Result<(), Status> {
    let name = meta(value, "name").to_owned();
    if value["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    if !agree(&value["spec"]) {
        return Err(disagreement(kind, value));
    }
    let spec = &mut value["spec"];
    let selects = spec["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    if spec["clusterIP"] == "None" && !selects && spec["ipFamilyPolicy"] != "SingleStack" {
        // Whoever writes its endpoints may write any (`pkg/registry/core/service/storage/alloc.go`).
        default(spec, "ipFamilyPolicy", "RequireDualStack".into());
        default(spec, "ipFamilies", json!(["IPv4"]));
        if let Some([one]) = spec["ipFamilies"].as_array().map(Vec::as_slice) {
            let other = if one == "IPv4" { "IPv6" } else { "IPv4" };
            spec["ipFamilies"] = json!([one, other]);
        }
        spec["clusterIPs"] = json!(["None"]);
        return Ok(());
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        let error = FieldError::invalid("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], detail);
        return Err(fault::invalid(kind, &name, &[error]));
    }
    let families = spec["ipFamilies"].as_array().into_iter().flatten();
    if let Some((at, family)) = families.enumerate().find(|(_, family)| **family == "IPv6") {
        let path = format!("spec.ipFamilies[{at}]");
        let error = FieldError::invalid(path, family, "not configured on this cluster");
        return Err(fault::invalid(kind, &name, &[error]));
    }
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", "SingleStack".into());
    let given = spec["clusterIP"]
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let address = match given.as_deref() {
        Some("None") => "None".to_owned(),
        Some(given) => {
            let refuse = |why: &str| {
                let detail = format!("failed to allocate IP {given}: {why}");
                let error = FieldError::invalid("spec.clusterIPs", &json!([given]), &detail);
                Err(fault::invalid(kind, &name, &[error]))
            };
            if given.parse::<IpAddr>().is_err() {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                let error = FieldError::invalid("spec.clusterIPs[0]", &given.into(), detail);
                return Err(fault::invalid(kind, &name, &[error]));
            }
            match given.parse::<Ipv4Addr>() {
                Ok(address) if in_range(address) => {
                    if taken(state).contains(&address) {
                        return refuse("provided IP is already allocated");
                    }
                }
                _ => return refuse("the provided network does not match the current range"),
            }
            given.to_owned()
        }
        None => {
            let free = free_address(&taken(state), random_start());
            let free =
                free.ok_or_else(|| fault::internal("failed to allocate a serviceIP: range is full"))?;
            free.to_string()
        }
    };
    let spec = &mut value["spec"];
    spec["clusterIP"] = address.as_str().into();
    spec["clusterIPs"] = json!([address]);
    Ok(())
}

/// An address stays for life; a client may leave it out, but not change it.
pub(in crate::cluster::embedded) fn keep_address(
    kind: &ResourceKind,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    default(&mut new["spec"], "type", "ClusterIP".into());
    let reached = |spec: &Value| matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    if reached(&old["spec"]) && !reached(&new["spec"]) {
        drop_held(&old["spec"], &mut new["spec"], REACHED);
    }
    if new["spec"]["type"] == "ExternalName" {
        drop_held(&old["spec"], &mut new["spec"], ADDRESSED);
        return Ok(());
    }
    if old["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        default(&mut new["spec"], field, old["spec"][field].clone());
    }
    let (held, given) = (&old["spec"]["clusterIP"], &new["spec"]["clusterIP"]);
    if held == given && !agree(&new["spec"]) {
        return Err(disagreement(kind, new));
    }
    if held != given {
        let error = FieldError::invalid("spec.clusterIPs[0]", &json!([given]), "may not change once set");
        return Err(fault::invalid(kind, meta(new, "name"), &[error]));
    }
    Ok(())
}

/// One address is the first of all.
fn agree(spec: &Value) -> bool {
    let first = &spec["clusterIPs"][0];
    first.is_null() || *first == spec["clusterIP"]
}

fn disagreement(kind: &ResourceKind, service: &Value) -> Status {
    let spec = &service["spec"];
    let detail = if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        "must be empty when `clusterIP` is not specified"
    } else {
        "first value must match `clusterIP`"
    };
    let error = FieldError::invalid("spec.clusterIPs", &spec["clusterIPs"], detail);
    fault::invalid(kind, meta(service, "name"), &[error])
}

/// What came with the old type goes with it, unless the client changed it.
fn drop_held(old: &Value, new: &mut Value, fields: &[&str]) {
    if let Some(new) = new.as_object_mut() {
        for field in fields {
            if new.get(*field) == old.get(*field) {
                new.remove(*field);
            }
        }
    }
}

fn taken(state: &State) -> HashSet<Ipv4Addr> {
    let services = GroupVersionResource::core("services");
    let reserved = RESERVED.iter().copied();
    let address = |object: &hub_core::object::Object| {
        let service: Service = serde_json::from_slice(&object.body).ok()?;
        service.spec.cluster_ip.parse().ok()
    };
    state
        .list(&services, None)
        .filter_map(address)
        .chain(reserved)
        .collect()
}

/// The first free address from a random place on, so that one that was just given up is not given out at once.
fn free_address(taken: &HashSet<Ipv4Addr>, start: u16) -> Option<Ipv4Addr> {
    (0..=u16::MAX)
        .map(|step| {
            let [high, low] = start.wrapping_add(step).to_be_bytes();
            Ipv4Addr::new(RANGE[0], RANGE[1], high, low)
        })
        .find(|address| !taken.contains(address) && !matches!(address.octets()[2..], [0, 0] | [255, 255]))
}

fn in_range(address: Ipv4Addr) -> bool {
    address.octets()[..2] == RANGE
}

fn random_start() -> u16 {
    let random = uuid::Uuid::new_v4();
    u16::from_be_bytes([random.as_bytes()[0], random.as_bytes()[1]])
}

#[derive(Deserialize)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
struct ServiceSpec {
    #[serde(rename = "clusterIP", default)]
    cluster_ip: String,
}

/// What a service has that has an address.
const ADDRESSED: &[&str] = &[
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "internalTrafficPolicy",
];
/// What a service has that is reached through nodes.
const REACHED: &[&str] = &[
    "externalTrafficPolicy",
    "allocateLoadBalancerNodePorts",
    "healthCheckNodePort",
    "loadBalancerClass",
];
/// 10.96.0.0/16.
const RANGE: [u8; 2] = [10, 96];
/// The API server's and, by convention, the cluster DNS's.
const RESERVED: &[Ipv4Addr] = &[Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 0, 10)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_run_out_only_when_all_are_taken() {
        let all = (0..=u16::MAX).map(|n| Ipv4Addr::new(10, 96, n.to_be_bytes()[0], n.to_be_bytes()[1]));
        let mut taken: HashSet<_> = all.collect();
        assert_eq!(free_address(&taken, 65_000), None);
        let free = Ipv4Addr::new(10, 96, 3, 4);
        taken.remove(&free);
        assert_eq!(free_address(&taken, 65_000), Some(free));
        taken.remove(&Ipv4Addr::new(10, 96, 0, 0));
        assert_eq!(free_address(&taken, 0), Some(free), "a network has no host 0");
        assert!(in_range(free) && !in_range(Ipv4Addr::new(10, 97, 0, 1)));
    }
}
