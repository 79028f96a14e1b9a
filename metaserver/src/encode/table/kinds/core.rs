//! `v1`: what every cluster has.

use serde_json::Value;
use time::OffsetDateTime;

use super::super::pod;
use super::super::text::{
    NONE, at, condition, containers, count, first, items, labels, number, plain, text, text_or,
};
use super::{apps, event, volumes};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(
    resource: &str,
    o: &Value,
    name: Value,
    age: Value,
    now: OffsetDateTime,
) -> Option<Vec<Value>> {
    Some(match resource {
        "pods" => pod::cells(o, now),
        "nodes" => node(o, name, age),
        "services" => service(o, name, age),
        "namespaces" => vec![name, text(o, "status.phase").into(), age],
        "endpoints" => vec![name, endpoints(o).into(), age],
        "configmaps" => vec![name, (count(o, "data") + count(o, "binaryData")).into(), age],
        "secrets" => vec![name, text(o, "type").into(), count(o, "data").into(), age],
        "serviceaccounts" => vec![name, age],
        "events" => event::cells(o, name, now),
        "persistentvolumes" => volumes::volume(o, name, age),
        "persistentvolumeclaims" => volumes::claim(o, name, age),
        "podtemplates" => {
            let [containers, images] = containers(at(o, "template.spec"));
            vec![
                name,
                containers,
                images,
                labels(at(o, "template.metadata.labels")).into(),
            ]
        }
        "resourcequotas" => quota(o, name, age),
        "componentstatuses" => component(o, name),
        "replicationcontrollers" => apps::replicas(o, name, age, labels(at(o, "spec.selector"))),
        _ => return None,
    })
}

fn node(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let mut status = match condition(o, "Ready") {
        Some(ready) if text(ready, "status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if at(o, "spec.unschedulable") == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = at(o, "metadata.labels")
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role).filter(|role| !role.is_empty()),
                None => Some(key)
                    .filter(|key| *key == "kubernetes.io/role")
                    .and(value.as_str()),
            },
        )
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() {
        NONE.into()
    } else {
        roles.join(",")
    };
    let address = |kind: &str| {
        let found = items(o, "status.addresses")
            .iter()
            .find(|address| text(address, "type") == kind);
        found.map_or(NONE, |address| text(address, "address"))
    };
    let or = |path| text_or(o, path, "<unknown>");
    let kernel = match text(o, "status.nodeInfo.architecture") {
        "" => or("status.nodeInfo.kernelVersion").to_owned(),
        architecture => format!("{} ({architecture})", or("status.nodeInfo.kernelVersion")),
    };
    vec![
        name,
        status.into(),
        roles.into(),
        age,
        text(o, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or("status.nodeInfo.osImage").into(),
        kernel.into(),
        or("status.nodeInfo.containerRuntimeVersion").into(),
    ]
}

fn service(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let kind = text(o, "spec.type");
    let own = items(o, "spec.externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    let external = match kind {
        "ExternalName" => text_or(o, "spec.externalName", NONE).to_owned(),
        "LoadBalancer" => {
            let given = items(o, "status.loadBalancer.ingress")
                .iter()
                .map(|ingress| text_or(ingress, "ip", text(ingress, "hostname")).to_owned());
            let all: Vec<String> = given.chain(own).filter(|address| !address.is_empty()).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        _ => {
            let all: Vec<String> = own.collect();
            if all.is_empty() {
                NONE.into()
            } else {
                all.join(",")
            }
        }
    };
    let ports: Vec<String> = items(o, "spec.ports")
        .iter()
        .map(|port| {
            let protocol = text_or(port, "protocol", "TCP");
            match number(port, "nodePort") {
                0 => format!("{}/{protocol}", number(port, "port")),
                node_port => format!("{}:{node_port}/{protocol}", number(port, "port")),
            }
        })
        .collect();
    let ports = if ports.is_empty() {
        NONE.into()
    } else {
        ports.join(",")
    };
    let address = match items(o, "spec.clusterIPs").first().and_then(Value::as_str) {
        Some(first) => first,
        None => text_or(o, "spec.clusterIP", NONE),
    };
    vec![
        name,
        kind.into(),
        if kind == "ExternalName" { NONE } else { address }.into(),
        external.into(),
        ports.into(),
        age,
        labels(at(o, "spec.selector")).into(),
    ]
}

fn endpoints(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(o, "subsets") {
        let hosts = items(subset, "addresses")
            .iter()
            .map(|address| text(address, "ip"));
        let ports = items(subset, "ports");
        if ports.is_empty() {
            all.extend(hosts.map(str::to_owned));
            continue;
        }
        for port in ports.iter().map(|port| number(port, "port")) {
            all.extend(hosts.clone().map(|host| match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }));
        }
    }
    first(&all, 3, ",", NONE)
}

fn quota(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in at(o, "status.hard").as_object().into_iter().flatten() {
        let used = plain(&at(o, "status.used")[resource]);
        let used = if used.is_empty() { "0".into() } else { used };
        let shown = format!("{resource}: {used}/{}", plain(hard));
        if resource.starts_with("limits.") {
            limits.push(shown)
        } else {
            requests.push(shown)
        }
    }
    requests.sort();
    limits.sort();
    vec![name, requests.join(", ").into(), limits.join(", ").into(), age]
}

fn component(o: &Value, name: Value) -> Vec<Value> {
    let healthy = items(o, "conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(state) => {
            let status = if text(state, "status") == "True" {
                "Healthy"
            } else {
                "Unhealthy"
            };
            (status, text(state, "message"), text(state, "error"))
        }
        None => ("Unhealthy", "", ""),
    };
    vec![name, status.into(), message.into(), error.into()]
}
