//! What services and their endpoints must be (Kubernetes `pkg/apis/core/validation`, `pkg/apis/discovery/validation`).

use std::net::IpAddr;

use serde_json::Value;

use super::pod::{self, ADDRESS};
use super::{PROTOCOLS, in_range, list, named, one_of, one_of_or_none, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::validate;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn service(spec: &Value, errors: &mut Errors) {
    let kind = text(&spec["type"]);
    let ports: Vec<&Value> = list(&spec["ports"]).collect();
    if ports.is_empty() && kind != "ExternalName" && spec["clusterIP"] != "None" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if matches!(kind, "NodePort" | "LoadBalancer") && spec["clusterIP"] == "None" {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &spec["clusterIP"],
            &detail,
        ));
    }
    if kind == "ExternalName" {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let first = field == "clusterIPs" && !text(&spec["clusterIP"]).is_empty();
            if first || list(&spec[field]).next().is_some() || spec[field].is_string() {
                let detail = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(format!("spec.{field}"), detail));
            }
        }
    }
    let external = text(&spec["externalName"]);
    if kind == "ExternalName" && external.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else if kind == "ExternalName" {
        for detail in names::subdomain(external.strip_suffix('.').unwrap_or(external)) {
            errors.push(FieldError::invalid(
                "spec.externalName",
                &spec["externalName"],
                &detail,
            ));
        }
    }
    let mut taken = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        if ports.len() > 1 || !text(&port["name"]).is_empty() {
            named(port, &path, &mut taken, errors);
        }
        in_range(&port["port"], &format!("{path}.port"), errors);
        one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
        let given = port["nodePort"].as_i64().is_some_and(|number| number != 0);
        if given && matches!(kind, "ClusterIP" | "ExternalName") {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(format!("{path}.nodePort"), &detail));
        }
        let target = &port["targetPort"];
        let path = format!("{path}.targetPort");
        match target.as_str() {
            Some(name) => {
                for detail in names::port(name) {
                    errors.push(FieldError::invalid(path.as_str(), target, &detail));
                }
            }
            // Nothing is what it is when nobody says.
            None if target.is_number() && *target != 0 => in_range(target, &path, errors),
            None => {}
        }
    }
    validate::labels(&spec["selector"], "spec.selector", errors);
    let affinities = ["ClientIP", "None"];
    one_of(
        &spec["sessionAffinity"],
        "spec.sessionAffinity",
        &affinities,
        errors,
    );
    let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if spec["sessionAffinity"] == "ClientIP"
        && seconds
            .as_i64()
            .is_some_and(|seconds| !(1..=86_400).contains(&seconds))
    {
        let detail = "must be greater than 0 and less than 86400";
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(FieldError::invalid(path, seconds, detail));
    }
    if kind != "ExternalName" {
        families(spec, errors);
    }
    for (index, address) in list(&spec["externalIPs"]).enumerate() {
        let path = format!("spec.externalIPs[{index}]");
        match text(address).parse::<IpAddr>() {
            Ok(ip) => reachable(ip, address, &path, errors),
            Err(_) => pod::address(address, &path, errors),
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(&spec["type"], "spec.type", &kinds, errors);
    for (index, range) in list(&spec["loadBalancerSourceRanges"]).enumerate() {
        let path = format!("spec.LoadBalancerSourceRanges[{index}]");
        super::network::cidr(range, &path, errors);
    }
    let mut seen: Vec<(&Value, &Value)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let place = (&port["protocol"], &port["port"]);
        if seen.contains(&place) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
                place.0, place.1
            );
            errors.push(FieldError::duplicate_shown(
                format!("spec.ports[{index}]"),
                &shown,
            ));
        }
        seen.push(place);
    }
    traffic(spec, kind, errors);
}

/// The families of its addresses, each once.
fn families(spec: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, family) in list(&spec["ipFamilies"]).enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        one_of(family, &path, &["IPv4", "IPv6"], errors);
        if seen.contains(&family) {
            errors.push(FieldError::duplicate(path, family));
        }
        seen.push(family);
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(&spec["ipFamilyPolicy"], "spec.ipFamilyPolicy", &policies, errors);
}

/// What may not have become of a service.
pub(super) fn service_changed(old: &Value, new: &Value, errors: &mut Errors) {
    let (old, new) = (&old["spec"], &new["spec"]);
    let both = old["type"] == "LoadBalancer" && new["type"] == "LoadBalancer";
    if both && old["loadBalancerClass"] != new["loadBalancerClass"] {
        let path = "spec.loadBalancerClass";
        errors.push(FieldError::invalid(
            path,
            &new["loadBalancerClass"],
            "may not change once set",
        ));
    }
    let port = |spec: &Value| spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if has_health(old) && has_health(new) && port(old) != port(new) {
        errors.push(FieldError::forbidden(
            "spec.healthCheckNodePort",
            "field is immutable",
        ));
    }
}

/// Whether its balancers ask nodes whether it is there.
pub(in crate::cluster::embedded) fn has_health(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn traffic(spec: &Value, kind: &str, errors: &mut Errors) {
    if !spec["allocateLoadBalancerNodePorts"].is_null() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(
            "spec.allocateLoadBalancerNodePorts",
            detail,
        ));
    }
    if !spec["loadBalancerClass"].is_null() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.loadBalancerClass", detail));
    }
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || list(&spec["externalIPs"]).next().is_some();
    let external = &spec["externalTrafficPolicy"];
    if !external.is_null() && !outside {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            "spec.externalTrafficPolicy",
            external,
            detail,
        ));
    }
    one_of(
        external,
        "spec.externalTrafficPolicy",
        &["Cluster", "Local"],
        errors,
    );
    let health = &spec["healthCheckNodePort"];
    if has_health(spec) {
        in_range(health, "spec.healthCheckNodePort", errors);
    } else if health.as_i64().is_some_and(|port| port != 0) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        let path = "spec.healthCheckNodePort";
        errors.push(FieldError::invalid(path, &spec["healthCheckNodePort"], detail));
    }
    let internal = &spec["internalTrafficPolicy"];
    one_of(
        internal,
        "spec.internalTrafficPolicy",
        &["Cluster", "Local"],
        errors,
    );
    let ways = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    one_of(
        &spec["trafficDistribution"],
        "spec.trafficDistribution",
        &ways,
        errors,
    );
}

pub(super) fn endpoints(value: &Value, errors: &mut Errors) {
    for (index, subset) in list(&value["subsets"]).enumerate() {
        let path = format!("subsets[{index}]");
        let ready: Vec<&Value> = list(&subset["addresses"]).collect();
        let unready: Vec<&Value> = list(&subset["notReadyAddresses"]).collect();
        if ready.is_empty() && unready.is_empty() {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(path.as_str(), detail));
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
            for (at, address) in addresses.into_iter().enumerate() {
                let path = format!("{path}.{field}[{at}].ip");
                pod::address(&address["ip"], &path, errors);
                match text(&address["ip"]).parse::<IpAddr>() {
                    Err(_) => {
                        let value = text(&address["ip"]).into();
                        errors.push(FieldError::invalid(path, &value, "must be a valid IP address"));
                    }
                    Ok(ip) => reachable(ip, &address["ip"], &path, errors),
                }
            }
        }
        let ports: Vec<&Value> = list(&subset["ports"]).collect();
        for (at, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{at}]");
            match text(&port["name"]) {
                "" if ports.len() > 1 => errors.push(FieldError::required(format!("{path}.name"), "")),
                "" => {}
                name => {
                    for detail in names::label(name) {
                        errors.push(FieldError::invalid(
                            format!("{path}.name"),
                            &port["name"],
                            &detail,
                        ));
                    }
                }
            }
            in_range(&port["port"], &format!("{path}.port"), errors);
            one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
        }
    }
}

pub(super) fn slice(value: &Value, errors: &mut Errors) {
    let family = text(&value["addressType"]);
    let families = ["FQDN", "IPv4", "IPv6"];
    if family.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else {
        one_of_or_none(&value["addressType"], "addressType", &families, errors);
    }
    for (index, endpoint) in list(&value["endpoints"]).enumerate() {
        let path = format!("endpoints[{index}]");
        let addresses: Vec<&Value> = list(&endpoint["addresses"]).collect();
        if addresses.is_empty() {
            let detail = "must contain at least 1 address";
            errors.push(FieldError::required(format!("{path}.addresses"), detail));
        }
        for (at, address) in addresses.into_iter().enumerate() {
            if !matches!(family, "IPv4" | "IPv6") {
                continue;
            }
            let path = format!("{path}.addresses[{at}]");
            match text(address).parse::<IpAddr>() {
                Err(_) => errors.push(FieldError::invalid(path, address, ADDRESS)),
                Ok(ip) if ip.is_ipv4() != (family == "IPv4") => {
                    let detail = format!("must be an {family} address");
                    errors.push(FieldError::invalid(path, address, &detail));
                }
                Ok(ip) => reachable(ip, address, &path, errors),
            }
        }
        if !endpoint["nodeName"].is_null() {
            for detail in names::subdomain(text(&endpoint["nodeName"])) {
                let path = format!("{path}.nodeName");
                errors.push(FieldError::invalid(path, &endpoint["nodeName"], &detail));
            }
        }
        if !endpoint["hostname"].is_null() {
            for detail in names::label(text(&endpoint["hostname"])) {
                let path = format!("{path}.hostname");
                errors.push(FieldError::invalid(path, &endpoint["hostname"], &detail));
            }
        }
    }
    let mut taken = Vec::new();
    for (index, port) in list(&value["ports"]).enumerate() {
        let (name, path) = (text(&port["name"]), format!("ports[{index}]"));
        if !name.is_empty() {
            for detail in names::label(name) {
                errors.push(FieldError::invalid(
                    format!("{path}.name"),
                    &port["name"],
                    &detail,
                ));
            }
        }
        if taken.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &port["name"]));
        }
        taken.push(name);
        one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
    }
}

/// Nobody else can reach an address that every machine has for itself.
fn reachable(ip: IpAddr, value: &Value, path: &str, errors: &mut Errors) {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let detail = if ip.is_unspecified() {
        format!("may not be unspecified ({})", text(value))
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if ip.is_multicast() {
        "may not be in the multicast range (224.0.0.0/4, ff00::/10)".to_owned()
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, value, &detail));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::content::said;

    #[test]
    fn services_and_endpoints_are_told_what_is_wrong_in_a_real_servers_words() {
        assert_eq!(
            said(
                service,
                json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]})
            ),
            [
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"
            ]
        );
        assert_eq!(
            said(
                service,
                json!({"ports": [{"port": 80, "protocol": "TCP", "name": "a"}, {"port": 80, "protocol": "TCP", "name": "b"}]})
            ),
            [
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}"
            ]
        );
        assert_eq!(
            said(service, json!({"type": "ExternalName"})),
            ["spec.externalName: Required value"]
        );
        assert_eq!(
            said(endpoints, json!({"subsets": [{}]})),
            ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]
        );
        assert_eq!(
            said(
                slice,
                json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fe80::1"]}]})
            ),
            [
                "endpoints[0].addresses[0]: Invalid value: \"fe80::1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"
            ]
        );
        assert_eq!(
            said(slice, json!({"endpoints": []})),
            ["addressType: Required value"]
        );
    }
}
