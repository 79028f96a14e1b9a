//! What the status of an object must be: numbers that count something, and that agree (Kubernetes `pkg/apis/apps/validation`,
//! `pkg/apis/batch/validation`, `pkg/apis/core/validation`).

use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::{list, not_negative, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

/// Adds what is wrong with a status that is about to be stored.
pub(super) fn changed(kind: &ResourceKind, old: &Value, new: &Value, errors: &mut Errors) {
    let (group, resource) = (&*kind.resource.group, &*kind.resource.resource);
    let status = &new["status"];
    if let Some((_, _, counts, parts, ready)) = COUNTS
        .iter()
        .find(|(of, name, ..)| (*of, *name) == (group, resource))
    {
        for field in *counts {
            not_negative(&status[*field], &format!("status.{field}"), errors);
        }
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        let mut most = |field: &str, limit: i64, detail: &str| {
            if number(field) > limit {
                let path = format!("status.{field}");
                errors.push(FieldError::invalid(path, &number(field).into(), detail));
            }
        };
        for field in *parts {
            most(
                field,
                number("replicas"),
                "cannot be greater than status.replicas",
            );
        }
        if !ready.is_empty() {
            most("availableReplicas", number("readyReplicas"), ready);
        }
        let (held, given) = (&old["status"]["collisionCount"], &status["collisionCount"]);
        let given = given.as_i64().unwrap_or(0);
        if held.as_i64().is_some_and(|held| held > given) {
            let path = "status.collisionCount";
            errors.push(FieldError::invalid(path, &given.into(), "cannot be decremented"));
        }
    }
    match (group, resource) {
        ("", "pods") => super::pod::status::changed(old, new, errors),
        ("batch", "jobs") => super::job::status::changed(old, new, errors),
        ("", "resourcequotas") => super::quota::counted(status, errors),
        ("policy", "poddisruptionbudgets") => conditions(status, errors),
        ("", "services") => balancer(new, errors),
        ("", "nodes") => {
            amounts(status, errors);
            addresses(status, errors);
        }
        ("", "namespaces") => phase(new, errors),
        _ => {}
    }
}

fn balancer(new: &Value, errors: &mut Errors) {
    let path = "status.loadBalancer.ingress";
    let places = &new["status"]["loadBalancer"]["ingress"];
    if new["spec"]["type"] != "LoadBalancer" {
        if list(places).next().is_some() {
            let detail = "may only be used when `spec.type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(path, detail));
        }
        return;
    }
    for (index, place) in list(places).enumerate() {
        let path = format!("{path}[{index}]");
        let (address, host, mode) = (text(&place["ip"]), text(&place["hostname"]), &place["ipMode"]);
        if !address.is_empty() {
            super::pod::address(&place["ip"], &format!("{path}.ip"), errors);
        }
        let at = format!("{path}.ipMode");
        match (mode.is_null(), address.is_empty()) {
            (true, false) => {
                errors.push(FieldError::required(at, "must be specified when `ip` is set"));
            }
            (false, true) => {
                let detail = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(at, detail));
            }
            _ => super::one_of(mode, &at, &["Proxy", "VIP"], errors),
        }
        let at = format!("{path}.hostname");
        if !host.is_empty() {
            for detail in names::subdomain(host) {
                errors.push(FieldError::invalid(at.as_str(), &host.into(), &detail));
            }
            if host.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(at, &host.into(), detail));
            }
        }
    }
}

/// A namespace is on its way when its deletion says so.
fn phase(new: &Value, errors: &mut Errors) {
    let phase = &new["status"]["phase"];
    let (allowed, when) = match new["metadata"]["deletionTimestamp"].is_string() {
        true => ("Terminating", "`deletionTimestamp` is not empty"),
        false => ("Active", "`deletionTimestamp` is empty"),
    };
    if phase != allowed {
        let detail = format!("may only be '{allowed}' if {when}");
        errors.push(FieldError::invalid("status.Phase", &text(phase).into(), &detail));
    }
}

/// Conditions of the one type that newer kinds share (`metav1.Condition`).
fn conditions(status: &Value, errors: &mut Errors) {
    for (index, condition) in list(&status["conditions"]).enumerate() {
        let path = |field: &str| format!("status.conditions[{index}].{field}");
        if !matches!(text(&condition["status"]), "True" | "False" | "Unknown") {
            let (given, all) = (&condition["status"], r#""False", "True", "Unknown""#);
            errors.push(FieldError::unsupported(path("status"), &given.to_string(), all));
        }
        if condition["observedGeneration"]
            .as_i64()
            .is_some_and(|given| given < 0)
        {
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(
                path("observedGeneration"),
                &condition["observedGeneration"],
                detail,
            ));
        }
        for field in ["lastTransitionTime", "reason"] {
            if text(&condition[field]).is_empty() {
                errors.push(FieldError::required(path(field), ""));
            }
        }
    }
}

fn amounts(status: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in status[field].as_object().into_iter().flatten() {
            if text(amount).starts_with('-') {
                let path = format!("status.{field}.{name}");
                errors.push(FieldError::invalid(
                    path,
                    amount,
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
}

fn addresses(status: &Value, errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, address) in list(&status["addresses"]).enumerate() {
        if taken.contains(&address) {
            let shown = format!(
                "{{\"Type\":{},\"Address\":{}}}",
                address["type"], address["address"]
            );
            let path = format!("status.addresses[{index}]");
            errors.push(FieldError::duplicate_shown(path, &shown));
        }
        taken.push(address);
    }
}

/// A kind's counts; those that are parts of its replicas; and how the refusal of more available than ready ones ends.
type Counts = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

const COUNTS: &[Counts] = &[
    (
        "apps",
        "deployments",
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    ),
    (
        "apps",
        "replicasets",
        REPLICAS,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    ),
    (
        "",
        "replicationcontrollers",
        REPLICAS,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    ),
    (
        "apps",
        "statefulsets",
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        &[
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ],
        "cannot be greater than status.readyReplicas",
    ),
    (
        "apps",
        "daemonsets",
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        &[],
        "",
    ),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &["currentReplicas", "desiredReplicas"],
        &[],
        "",
    ),
    (
        "policy",
        "poddisruptionbudgets",
        &[
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ],
        &[],
        "",
    ),
];
const REPLICAS: &[&str] = &[
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
];

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;
    use hub_core::registry::Registry;
    use serde_json::json;

    use super::*;

    fn said(group: &str, resource: &str, old: Value, new: Value) -> Vec<String> {
        let kind = Registry::builtin()
            .by_resource(&GroupVersionResource::new(group, "v1", resource))
            .unwrap();
        let mut errors = Vec::new();
        changed(&kind, &old, &new, &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn counts_are_refused_in_the_words_of_a_real_server() {
        let status = |status: Value| json!({"status": status});
        assert_eq!(
            said("apps", "deployments", json!({}), status(json!({"replicas": -1}))),
            [
                "status.replicas: Invalid value: -1: must be greater than or equal to 0",
                "status.updatedReplicas: Invalid value: 0: cannot be greater than status.replicas",
                "status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas",
            ]
        );
        let good =
            status(json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 3}));
        assert!(said("apps", "deployments", json!({}), good).is_empty());
        assert_eq!(
            said(
                "apps",
                "statefulsets",
                status(json!({"collisionCount": 2})),
                status(json!({"replicas": 1, "availableReplicas": 1}))
            ),
            [
                "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn a_balancer_says_how_its_addresses_are_reached() {
        let service = |kind: &str, place: Value| json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": [place]}}});
        assert_eq!(
            said(
                "",
                "services",
                json!({}),
                service("LoadBalancer", json!({"ip": "1.2.3.4"}))
            ),
            ["status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"]
        );
        assert_eq!(
            said(
                "",
                "services",
                json!({}),
                service("ClusterIP", json!({"ip": "1.2.3.4", "ipMode": "VIP"}))
            ),
            ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
        );
    }
}
