//! `networking.k8s.io` and `discovery.k8s.io`.

use serde_json::Value;

use super::super::text::{NONE, UNSET, at, first, items, plain, selector, text, text_or};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "networkpolicies" => {
            vec![name, selector(at(o, "spec.podSelector")).into(), age]
        }
        "ingresses" => ingress(o, name, age),
        "ingressclasses" => {
            let parameters = match text(o, "spec.parameters.kind") {
                "" => NONE.into(),
                kind => {
                    let group = text(o, "spec.parameters.apiGroup");
                    let dot = if group.is_empty() { "" } else { "." };
                    format!("{kind}{dot}{group}/{}", text(o, "spec.parameters.name"))
                }
            };
            vec![name, text(o, "spec.controller").into(), parameters.into(), age]
        }
        "ipaddresses" => {
            let parts = ["resource", "namespace", "name"].map(|part| text(at(o, "spec.parentRef"), part));
            let parent: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            vec![name, parent.join("/").into(), age]
        }
        "servicecidrs" => {
            let ranges: Vec<&str> = items(o, "spec.cidrs").iter().filter_map(Value::as_str).collect();
            vec![name, ranges.join(",").into(), age]
        }
        "endpointslices" => endpoint_slice(o, name, age),
        _ => return None,
    })
}

fn ingress(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let rules = items(o, "spec.rules");
    let hosts: Vec<String> = rules
        .iter()
        .map(|rule| text(rule, "host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let addresses: Vec<&str> = items(o, "status.loadBalancer.ingress")
        .iter()
        .map(|ingress| text_or(ingress, "ip", text(ingress, "hostname")))
        .collect();
    vec![
        name,
        text_or(o, "spec.ingressClassName", NONE).into(),
        first(&hosts, 3, ",", "*").into(),
        addresses.join(",").into(),
        if items(o, "spec.tls").is_empty() {
            "80"
        } else {
            "80, 443"
        }
        .into(),
        age,
    ]
}

fn endpoint_slice(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports: Vec<String> = items(o, "ports")
        .iter()
        .map(|port| match (at(port, "port"), at(port, "name")) {
            (Value::Null, Value::Null) => "*".into(),
            (Value::Null, name) => plain(name),
            (number, _) => plain(number),
        })
        .collect();
    let addresses: Vec<String> = items(o, "endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "addresses"))
        .map(plain)
        .collect();
    vec![
        name,
        text(o, "addressType").into(),
        first(&ports, 3, ",", UNSET).into(),
        first(&addresses, 3, ",", UNSET).into(),
        age,
    ]
}
