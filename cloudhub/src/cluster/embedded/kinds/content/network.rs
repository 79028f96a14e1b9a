//! What ingresses and network policies must be (Kubernetes `pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::Value;

use super::workload::label_selector;
use super::{in_range, list, one_of, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn ingress(spec: &Value, errors: &mut Errors) {
    if list(&spec["rules"]).next().is_none() && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", &spec["rules"], detail));
    }
    if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"], "spec.defaultBackend", errors);
    }
    for (index, rule) in list(&spec["rules"]).enumerate() {
        let path = format!("spec.rules[{index}]");
        host(&rule["host"], &format!("{path}.host"), errors);
        for (at, route) in list(&rule["http"]["paths"]).enumerate() {
            let path = format!("{path}.http.paths[{at}]");
            let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
            if route["pathType"].is_null() {
                let detail = "pathType must be specified";
                errors.push(FieldError::required(format!("{path}.pathType"), detail));
            } else {
                one_of(&route["pathType"], &format!("{path}.pathType"), &kinds, errors);
            }
            location(route, &format!("{path}.path"), errors);
            backend(&route["backend"], &format!("{path}.backend"), errors);
        }
    }
    for (index, tls) in list(&spec["tls"]).enumerate() {
        for (at, name) in list(&tls["hosts"]).enumerate() {
            let path = format!("spec.tls[{index}].hosts[{at}]");
            named_host(text(name), name, &path, errors);
        }
        let secret = &tls["secretName"];
        if !text(secret).is_empty() {
            for detail in names::subdomain(text(secret)) {
                let path = format!("spec.tls[{index}].secretName");
                errors.push(FieldError::invalid(path, secret, &detail));
            }
        }
    }
    if !spec["ingressClassName"].is_null() {
        for detail in names::subdomain(text(&spec["ingressClassName"])) {
            errors.push(FieldError::invalid(
                "spec.ingressClassName",
                &spec["ingressClassName"],
                &detail,
            ));
        }
    }
}

/// Where a route leads from.
fn location(route: &Value, path: &str, errors: &mut Errors) {
    let (kind, location) = (text(&route["pathType"]), text(&route["path"]));
    let whole = matches!(kind, "Exact" | "Prefix");
    let mut say = |detail: &str| errors.push(FieldError::invalid(path, &location.into(), detail));
    if (whole || (kind == "ImplementationSpecific" && !location.is_empty())) && !location.starts_with('/') {
        say("must be an absolute path");
    }
    if whole {
        for part in ["//", "/./", "/../", "%2f", "%2F"] {
            if location.contains(part) {
                say(&format!("must not contain '{part}'"));
            }
        }
        for end in ["/..", "/."] {
            if location.ends_with(end) {
                say(&format!("cannot end with '{end}'"));
            }
        }
    }
}

fn host(value: &Value, path: &str, errors: &mut Errors) {
    let name = text(value);
    if name.is_empty() {
        return;
    }
    if name.parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be a DNS name, not an IP address",
        ));
        return;
    }
    named_host(name, value, path, errors);
}

/// A name, or all names below one.
fn named_host(name: &str, value: &Value, path: &str, errors: &mut Errors) {
    let details = if name.contains('*') {
        names::wildcard(name)
    } else {
        names::subdomain(name)
    };
    for detail in details {
        errors.push(FieldError::invalid(path, value, &detail));
    }
}

fn backend(backend: &Value, path: &str, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    if !service.is_null() && !resource.is_null() {
        let detail = "cannot set both resource and service backends";
        errors.push(FieldError::invalid(path, &"".into(), detail));
        return;
    }
    if service.is_null() {
        if resource.is_null() {
            let detail = "resource or service backend is required";
            errors.push(FieldError::invalid(path, &"".into(), detail));
        }
        return;
    }
    if text(&service["name"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.service.name"), ""));
    } else {
        for detail in names::label(text(&service["name"])) {
            errors.push(FieldError::invalid(
                format!("{path}.service.name"),
                &service["name"],
                &detail,
            ));
        }
    }
    let number = service["port"]["number"].as_i64().unwrap_or(0);
    match (text(&service["port"]["name"]), number) {
        ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
        ("", _) => in_range(
            &service["port"]["number"],
            &format!("{path}.service.port.number"),
            errors,
        ),
        (_, 0) => {
            for detail in names::port(text(&service["port"]["name"])) {
                let at = format!("{path}.service.port.name");
                errors.push(FieldError::invalid(at, &service["port"]["name"], &detail));
            }
        }
        _ => errors.push(FieldError::invalid(
            path,
            &"".into(),
            "cannot set both port name & port number",
        )),
    }
}

pub(super) fn policy(spec: &Value, errors: &mut Errors) {
    label_selector(&spec["podSelector"], "spec.podSelector", errors);
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(&spec[field]).enumerate() {
            let path = format!("spec.{field}[{index}]");
            for (at, port) in list(&rule["ports"]).enumerate() {
                self::port(port, &format!("{path}.ports[{at}]"), errors);
            }
            for (at, peer) in list(&rule[peers]).enumerate() {
                self::peer(peer, &format!("{path}.{peers}[{at}]"), errors);
            }
        }
    }
    for (index, kind) in list(&spec["policyTypes"]).enumerate() {
        one_of(
            kind,
            &format!("spec.policyTypes[{index}]"),
            &["Ingress", "Egress"],
            errors,
        );
    }
}

fn port(port: &Value, path: &str, errors: &mut Errors) {
    one_of(
        &port["protocol"],
        &format!("{path}.protocol"),
        &["TCP", "UDP", "SCTP"],
        errors,
    );
    if port["port"].is_number() {
        in_range(&port["port"], &format!("{path}.port"), errors);
    }
    if let (Some(first), Some(last)) = (port["port"].as_i64(), port["endPort"].as_i64())
        && last < first
    {
        let detail = "must be greater than or equal to `port`";
        errors.push(FieldError::invalid(
            format!("{path}.endPort"),
            &first.into(),
            detail,
        ));
    }
}

fn peer(peer: &Value, path: &str, errors: &mut Errors) {
    let count = ["podSelector", "namespaceSelector", "ipBlock"]
        .iter()
        .filter(|field| !peer[**field].is_null())
        .count();
    for field in ["podSelector", "namespaceSelector"] {
        label_selector(&peer[field], &format!("{path}.{field}"), errors);
    }
    let block = &peer["ipBlock"];
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if count > 1 && !block.is_null() {
        errors.push(FieldError::forbidden(
            path,
            "may not specify both ipBlock and another peer",
        ));
    } else if !block.is_null() {
        let path = format!("{path}.ipBlock");
        let Some(whole) = cidr(&block["cidr"], &format!("{path}.cidr"), errors) else {
            return;
        };
        for (index, except) in list(&block["except"]).enumerate() {
            let path = format!("{path}.except[{index}]");
            if let Some(part) = cidr(except, &path, errors)
                && !(part.1 > whole.1 && covers(whole, part.0))
            {
                let detail = "must be a strict subset of `cidr`";
                errors.push(FieldError::invalid(path, except, detail));
            }
        }
    }
}

/// A network and the length of its prefix.
pub(super) fn cidr(value: &Value, path: &str, errors: &mut Errors) -> Option<(IpAddr, u8)> {
    let parsed = text(value).split_once('/').and_then(|(ip, length)| {
        let ip: IpAddr = ip.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
    });
    if parsed.is_none() {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, &text(value).into(), detail));
    }
    parsed
}

fn covers((network, length): (IpAddr, u8), ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
        IpAddr::V6(ip) => (ip.to_bits(), false),
    };
    let ((network, one), (ip, other)) = (bits(network), bits(ip));
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    one == other && network & mask == ip & mask
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::content::said;

    #[test]
    fn ingresses_and_policies_are_told_what_is_wrong_in_a_real_servers_words() {
        assert_eq!(
            said(ingress, json!({})),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
        assert_eq!(
            said(ingress, json!({"rules": [{"host": "1.2.3.4"}]})),
            ["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"]
        );
        assert_eq!(
            said(ingress, json!({"defaultBackend": {"service": {"name": "s"}}})),
            ["spec.defaultBackend: Required value: port name or number is required"]
        );
        let block = |cidr: &str, except: &str| json!({"egress": [{"to": [{"ipBlock": {"cidr": cidr, "except": [except]}}]}]});
        assert!(said(policy, block("10.0.0.0/8", "10.1.0.0/16")).is_empty());
        assert_eq!(
            said(policy, block("10.0.0.0/8", "11.0.0.0/16")),
            [
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
            ]
        );
        assert!(said(policy, block("0.0.0.0/0", "11.0.0.0/16")).is_empty());
        assert_eq!(
            said(policy, json!({"ingress": [{"from": [{}]}]})),
            ["spec.ingress[0].from[0]: Required value: must specify a peer"]
        );
    }
}
