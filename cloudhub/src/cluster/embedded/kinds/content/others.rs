//! What the smaller kinds must be: secrets, leases, nodes, quotas, budgets, autoscalers, classes of pods.

use serde_json::Value;

use super::pod::EFFECTS;
use super::workload::label_selector;
use super::{list, not_negative, one_of, percent, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::conform;
use crate::cluster::embedded::values::{go_json, names};

type Errors = Vec<FieldError>;

/// What each type of secret cannot do without (Kubernetes `pkg/apis/core/validation`, `ValidateSecret`).
pub(super) fn secret(value: &Value, errors: &mut Errors) {
    let data = &value["data"];
    let mut needs = |keys: &[&str]| {
        for key in keys {
            if data.get(*key).is_none() {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
    };
    match text(&value["type"]) {
        "kubernetes.io/service-account-token" => {
            let account = "kubernetes.io/service-account.name";
            if text(&value["metadata"]["annotations"][account]).is_empty() {
                let path = format!("metadata.annotations[{account}]");
                errors.push(FieldError::required(path, ""));
            }
        }
        "kubernetes.io/tls" => needs(&["tls.crt", "tls.key"]),
        "kubernetes.io/ssh-auth" => needs(&["ssh-privatekey"]),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            needs(&["username", "password"]);
        }
        "kubernetes.io/dockercfg" => document(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => document(data, ".dockerconfigjson", errors),
        _ => {}
    }
}

fn document(data: &Value, key: &str, errors: &mut Errors) {
    use base64::Engine as _;
    let path = format!("data[{key}]");
    let Some(text) = data[key].as_str() else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let odd = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) | Err(_) => go_json::syntax_error(&bytes),
        Ok(other) => Some(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            conform::found(&other)
        )),
    };
    if let Some(detail) = odd {
        let shown = "<secret contents redacted>".into();
        errors.push(FieldError::invalid(path, &shown, &detail));
    }
}

pub(super) fn lease(spec: &Value, errors: &mut Errors) {
    let seconds = &spec["leaseDurationSeconds"];
    if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            seconds,
            "must be greater than 0",
        ));
    }
    not_negative(&spec["leaseTransitions"], "spec.leaseTransitions", errors);
}

pub(super) fn node(spec: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, taint) in list(&spec["taints"]).enumerate() {
        // Where taints stood once.
        let path = format!("metadata.taints[{index}]");
        for detail in names::qualified(text(&taint["key"])) {
            errors.push(FieldError::invalid(format!("{path}.key"), &taint["key"], &detail));
        }
        for detail in names::label_value(text(&taint["value"])) {
            errors.push(FieldError::invalid(
                format!("{path}.value"),
                &taint["value"],
                &detail,
            ));
        }
        one_of(&taint["effect"], &format!("{path}.effect"), EFFECTS, errors);
        let pair = (text(&taint["key"]), text(&taint["effect"]));
        if seen.contains(&pair) {
            let shown = format!(
                "{{\"Key\":{:?},\"Value\":{:?},\"Effect\":{:?},\"TimeAdded\":null}}: taints must be unique by key and effect pair",
                pair.0,
                text(&taint["value"]),
                pair.1
            );
            errors.push(FieldError::duplicate_shown(path, &shown));
        }
        seen.push(pair);
    }
}

/// Who holds a namespace has a name as finalizers have.
pub(super) fn finalizers(finalizers: &Value, errors: &mut Errors) {
    for (index, finalizer) in list(finalizers).enumerate() {
        let path = format!("spec.finalizers[{index}]");
        let name = text(finalizer);
        for detail in names::qualified(name) {
            errors.push(FieldError::invalid(path.as_str(), finalizer, &detail));
        }
        if !name.contains('/') && name != "kubernetes" {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(path, finalizer, detail));
        }
    }
}

/// A node's place in the network, and with its provider, is given once.
/// One range of addresses of each family.
fn ranges_of_pods(spec: &Value, errors: &mut Errors) {
    let ranges: Vec<&str> = list(&spec["podCIDRs"]).map(text).collect();
    let count = |of_six: bool| {
        ranges
            .iter()
            .filter(|range| range.contains(':') == of_six)
            .count()
    };
    if count(true) > 1 || count(false) > 1 {
        let (path, detail) = (
            "spec.podCIDRs",
            "may specify no more than one CIDR for each IP family",
        );
        errors.push(FieldError::invalid(path, &spec["podCIDRs"], detail));
    }
}

pub(super) fn node_changed(old: &Value, new: &Value, errors: &mut Errors) {
    let (old, new) = (&old["spec"], &new["spec"]);
    // A real server looks twice.
    node(new, errors);
    ranges_of_pods(new, errors);
    for field in ["podCIDR", "providerID"] {
        let held = text(&old[field]);
        if !held.is_empty() && held != text(&new[field]) {
            let path = if field == "podCIDR" { "podCIDRs" } else { field };
            let detail = format!("node updates may not change {field} except from \"\" to valid");
            errors.push(FieldError::forbidden(format!("spec.{path}"), &detail));
        }
    }
}

pub(super) fn autoscaler(spec: &Value, errors: &mut Errors) {
    let number = |field: &str| spec[field].as_i64();
    if let Some(least) = number("minReplicas").filter(|least| *least < 1) {
        let detail = "must be greater than or equal to 1";
        errors.push(FieldError::invalid("spec.minReplicas", &least.into(), detail));
        let outside = |metric: &Value| matches!(text(&metric["type"]), "Object" | "External");
        if least == 0 && !list(&spec["metrics"]).any(outside) {
            let detail =
                "must specify at least one Object or External metric to support scaling to zero replicas";
            errors.push(FieldError::forbidden("spec.metrics", detail));
        }
    }
    let most = number("maxReplicas").unwrap_or(0);
    if most < 1 {
        errors.push(FieldError::required(
            "spec.maxReplicas",
            "must be set and greater than 0",
        ));
    }
    if number("minReplicas").is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid("spec.maxReplicas", &most.into(), detail));
    }
    let target = &spec["scaleTargetRef"];
    for field in ["kind", "name"] {
        if text(&target[field]).is_empty() {
            errors.push(FieldError::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    if !text(&target["apiVersion"]).contains('/') && target["kind"] != "ReplicationController" {
        let detail = "apiVersion must specify API group";
        let version = text(&target["apiVersion"]).into();
        errors.push(FieldError::invalid(
            "spec.scaleTargetRef.apiVersion",
            &version,
            detail,
        ));
    }
    for (index, metric) in list(&spec["metrics"]).enumerate() {
        let path = format!("spec.metrics[{index}]");
        let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        let kind = text(&metric["type"]);
        one_of(&metric["type"], &format!("{path}.type"), &kinds, errors);
        let field: String = kind
            .char_indices()
            .map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c })
            .collect();
        if kinds.contains(&kind) && metric[&field].is_null() {
            let detail = "must populate information for the given metric source";
            errors.push(FieldError::required(format!("{path}.{field}"), detail));
        }
        let goal = &metric["resource"]["target"];
        if kind == "Resource"
            && goal.is_object()
            && goal["averageUtilization"].is_null()
            && goal["averageValue"].is_null()
        {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(
                format!("{path}.resource.target.averageUtilization"),
                detail,
            ));
        }
    }
    for way in ["scaleUp", "scaleDown"] {
        let seconds = &spec["behavior"][way]["stabilizationWindowSeconds"];
        if seconds.as_i64().is_some_and(|seconds| seconds < 0) {
            let path = format!("spec.behavior.{way}.stabilizationWindowSeconds");
            errors.push(FieldError::invalid(
                path,
                seconds,
                "must be greater than or equal to zero",
            ));
        }
    }
}

pub(super) fn budget(spec: &Value, errors: &mut Errors) {
    let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
    if !least.is_null() && !most.is_null() {
        let policy = &spec["unhealthyPodEvictionPolicy"];
        let shown = format!(
            "{{\"MinAvailable\":{least},\"Selector\":{},\"MaxUnavailable\":{most},\"UnhealthyPodEvictionPolicy\":{policy}}}",
            spec["selector"]
        );
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid_shown("spec", &shown, detail));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let path = format!("spec.{field}");
        percent(&spec[field], &path, false, errors);
        percent(&spec[field], &path, true, errors);
    }
    label_selector(&spec["selector"], "spec.selector", errors);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    let path = "spec.unhealthyPodEvictionPolicy";
    one_of(&spec["unhealthyPodEvictionPolicy"], path, &policies, errors);
}

pub(super) fn priority(value: &Value, errors: &mut Errors) {
    let name = text(&value["metadata"]["name"]);
    let known = ["system-node-critical", "system-cluster-critical"];
    if name.starts_with("system-") && !known.contains(&name) {
        let detail = format!(
            "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
        );
        errors.push(FieldError::forbidden("metadata.name", &detail));
    } else if value["value"].as_i64().is_some_and(|value| value > PRIORITY_MAX) && !known.contains(&name) {
        let detail = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        errors.push(FieldError::forbidden("value", &detail));
    }
    let policies = ["PreemptLowerPriority", "Never"];
    one_of(&value["preemptionPolicy"], "preemptionPolicy", &policies, errors);
}

pub(super) fn runtime(value: &Value, errors: &mut Errors) {
    let handler = text(&value["handler"]);
    if handler.is_empty() {
        errors.push(FieldError::required("handler", ""));
        return;
    }
    for detail in names::label(handler) {
        errors.push(FieldError::invalid("handler", &value["handler"], &detail));
    }
}

/// An event tells of something in its own namespace; one with a time of the new kind says more.
/// Kubernetes `pkg/apis/scheduling`.
const PRIORITY_MAX: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::content::said;

    #[test]
    fn small_kinds_are_told_what_is_wrong_in_a_real_servers_words() {
        assert_eq!(
            said(secret, json!({"type": "kubernetes.io/tls"})),
            ["data[tls.crt]: Required value", "data[tls.key]: Required value"]
        );
        assert_eq!(
            said(
                secret,
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "YQ=="}})
            ),
            [
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'a' looking for beginning of value"
            ]
        );
        assert_eq!(
            said(lease, json!({"leaseDurationSeconds": 0})),
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]
        );
        assert_eq!(
            said(node, json!({"taints": [{"key": "a", "effect": "Foo"}]})),
            [
                "metadata.taints[0].effect: Unsupported value: \"Foo\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
        assert_eq!(
            said(budget, json!({"minAvailable": "150%"})),
            ["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"]
        );
        assert_eq!(
            said(
                priority,
                json!({"metadata": {"name": "p"}, "value": 2_000_000_000})
            ),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
    }
}
