//! What the status of a pod may become (Kubernetes `pkg/apis/core/validation`: `ValidatePodStatusUpdate`).

use std::net::IpAddr;

use serde_json::Value;

use super::super::{list, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(in crate::cluster::embedded::kinds::content) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    let (held, status) = (&old["status"], &new["status"]);
    for (index, condition) in list(&status["conditions"]).enumerate() {
        let path = format!("status.conditions[{index}]");
        generation(condition, &path, errors);
        for detail in names::qualified(text(&condition["type"])) {
            errors.push(FieldError::invalid(
                format!("{path}.Type"),
                &condition["type"],
                &detail,
            ));
        }
    }
    nominated(old, status, errors);
    generation(status, "status", errors);
    if !held["qosClass"].is_null() && held["qosClass"] != status["qosClass"] {
        let (path, given) = ("status.qosClass", &status["qosClass"]);
        errors.push(FieldError::invalid(path, given, "field is immutable"));
    }
    for field in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        ended(&old["spec"], field, &held[field], &status[field], errors);
    }
    addresses("podIPs", held, status, errors);
    let first = &status["hostIPs"][0]["ip"];
    if !first.is_null() && text(&status["hostIP"]) != text(first) {
        let detail = "must be equal to `hostIP`";
        errors.push(FieldError::invalid("status.hostIPs[0].ip", first, detail));
    }
    addresses("hostIPs", held, status, errors);
}

fn generation(holder: &Value, path: &str, errors: &mut Errors) {
    let given = &holder["observedGeneration"];
    if given.as_i64().is_some_and(|given| given < 0) {
        let path = format!("{path}.observedGeneration");
        errors.push(FieldError::invalid(path, given, "must be a non-negative integer"));
    }
}

/// The node that a pod may come to, while it is on none.
fn nominated(old: &Value, status: &Value, errors: &mut Errors) {
    let (path, given) = ("status.nominatedNodeName", &status["nominatedNodeName"]);
    if text(given).is_empty() || old["status"]["nominatedNodeName"] == *given {
        return;
    }
    for detail in names::subdomain(text(given)) {
        errors.push(FieldError::invalid(path, given, &detail));
    }
    if !text(&old["spec"]["nodeName"]).is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// A container that has ended runs again only where something starts it again.
fn ended(spec: &Value, field: &str, held: &Value, given: &Value, errors: &mut Errors) {
    let declared = match field {
        "containerStatuses" => &spec["containers"],
        "initContainerStatuses" => &spec["initContainers"],
        _ => &Value::Null,
    };
    if !declared.is_null() && any_rule(spec, |rule| rule["action"] == "RestartAllContainers") {
        return;
    }
    for (index, held) in list(held).enumerate() {
        let end = &held["state"]["terminated"];
        let now = list(given).find(|given| given["name"] == held["name"]);
        if end.is_null() || now.is_none_or(|now| !now["state"]["terminated"].is_null()) {
            continue;
        }
        let code = end["exitCode"].as_i64().unwrap_or(0);
        let container = list(declared).find(|container| container["name"] == held["name"]);
        if !container.is_some_and(|container| starts_again(container, spec, code)) {
            let path = format!("status.{field}[{index}].state");
            errors.push(FieldError::forbidden(
                path,
                "may not be transitioned to non-terminated state",
            ));
        }
    }
}

/// By its own rules, then by its own policy, then by its pod's.
fn starts_again(container: &Value, spec: &Value, code: i64) -> bool {
    let own = container.get("restartPolicy").and_then(Value::as_str);
    if own.is_some() {
        let meets = |rule: &&Value| {
            let codes = &rule["exitCodes"];
            let listed = list(&codes["values"]).any(|value| value.as_i64() == Some(code));
            !codes.is_null() && listed == (codes["operator"] == "In")
        };
        if let Some(rule) = list(&container["restartPolicyRules"]).find(meets) {
            return rule["action"] == "Restart" || rule["action"] == "RestartAllContainers";
        }
    }
    match own.unwrap_or_else(|| text(&spec["restartPolicy"])) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn any_rule(spec: &Value, wanted: fn(&Value) -> bool) -> bool {
    ["containers", "initContainers"]
        .iter()
        .flat_map(|field| list(&spec[*field]))
        .flat_map(|container| list(&container["restartPolicyRules"]))
        .any(wanted)
}

fn addresses(field: &str, held: &Value, status: &Value, errors: &mut Errors) {
    let given = &status[field];
    if *given == held[field] {
        return;
    }
    let path = format!("status.{field}");
    for (index, address) in list(given).enumerate() {
        super::address(&address["ip"], &format!("{path}[{index}]"), errors);
    }
    let parsed: Vec<IpAddr> = list(given)
        .filter_map(|address| text(&address["ip"]).parse().ok())
        .collect();
    let count = list(given).count();
    let of_both = parsed.iter().any(IpAddr::is_ipv4) && parsed.iter().any(IpAddr::is_ipv6);
    if count > 2 || (count == 2 && parsed.len() == 2 && !of_both) {
        let shown: Vec<_> = list(given)
            .map(|address| format!("{{\"IP\":{}}}", address["ip"]))
            .collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid_shown(
            path,
            &format!("[{}]", shown.join(",")),
            detail,
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(policy: &str, old: Value, new: Value) -> Vec<String> {
        let pod = |status: Value| json!({"spec": {"nodeName": "n", "restartPolicy": policy, "containers": [{"name": "c"}]}, "status": status});
        let mut errors = Vec::new();
        changed(&pod(old), &pod(new), &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn a_container_that_ended_runs_again_only_where_something_starts_it() {
        let state = |state: Value| json!({"containerStatuses": [{"name": "c", "state": state}]});
        let refused =
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        for (policy, code, again) in [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 1, false),
        ] {
            let said = said(
                policy,
                state(json!({"terminated": {"exitCode": code}})),
                state(json!({"running": {}})),
            );
            assert_eq!(said.is_empty(), again, "{policy} {code}");
            assert!(again || said == [refused], "{said:?}");
        }
    }

    #[test]
    fn a_pod_has_one_address_of_a_kind_and_no_other_node_in_view() {
        assert_eq!(
            said(
                "Always",
                json!({}),
                json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}]})
            ),
            [
                "status.podIPs: Invalid value: [{\"IP\":\"1.2.3.4\"},{\"IP\":\"1.2.3.5\"}]: may specify no more than one IP for each IP family"
            ]
        );
        assert!(
            said(
                "Always",
                json!({}),
                json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "fd00::1"}]})
            )
            .is_empty()
        );
        assert_eq!(
            said(
                "Always",
                json!({}),
                json!({"nominatedNodeName": "n2", "observedGeneration": -1})
            ),
            [
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
            ]
        );
    }
}
