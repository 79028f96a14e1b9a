//! Of which objects a quota speaks.

use hub_core::registry::ResourceKind;
use serde_json::Value;

use crate::cluster::embedded::call::is;
use crate::cluster::embedded::kinds::defaults;

/// Whether a quota speaks of an object; without scopes it speaks of all.
pub(super) fn matches(kind: &ResourceKind, quota: &Value, value: &Value) -> bool {
    let spec = &quota["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let named = |scope: &Value| scope.as_str().unwrap_or_default().to_owned();
    list(&spec["scopes"])
        .iter()
        .all(|scope| is_of(kind, &named(scope), &Value::Null, value))
        && list(&spec["scopeSelector"]["matchExpressions"])
            .iter()
            .all(|row| is_of(kind, &named(&row["scopeName"]), row, value))
}

/// Whether a pod has a time after which it is ended.
pub(super) fn ends_by_itself(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0)
}

fn is_of(kind: &ResourceKind, scope: &str, row: &Value, value: &Value) -> bool {
    if is(kind, "", "persistentvolumeclaims") {
        let class = |part: &str, field: &str| value[part][field].as_str().unwrap_or_default();
        let classes = [
            class("spec", "volumeAttributesClassName"),
            class("status", "currentVolumeAttributesClassName"),
        ];
        return scope == "VolumeAttributesClass" && classes.iter().any(|class| is_selected(row, class));
    }
    if !is(kind, "", "pods") {
        return false;
    }
    let best_effort = || defaults::quality_of_service(value) == "BestEffort";
    match scope {
        "Terminating" => ends_by_itself(value),
        "NotTerminating" => !ends_by_itself(value),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => is_selected(
            row,
            value["spec"]["priorityClassName"].as_str().unwrap_or_default(),
        ),
        "CrossNamespacePodAffinity" => reaches_out(&value["spec"]["affinity"]),
        _ => false,
    }
}

/// Whether a row of a selector takes a name; no name is none of any list.
fn is_selected(row: &Value, name: &str) -> bool {
    let mut values = row["values"].as_array().into_iter().flatten();
    match row["operator"].as_str() {
        None | Some("Exists") => !name.is_empty(),
        Some("DoesNotExist") => name.is_empty(),
        Some("In") => !name.is_empty() && values.any(|value| value == name),
        Some("NotIn") => name.is_empty() || !values.any(|value| value == name),
        Some(_) => false,
    }
}

fn reaches_out(affinity: &Value) -> bool {
    let far = |term: &Value| {
        let namespaces = term["namespaces"].as_array();
        namespaces.is_some_and(|all| !all.is_empty()) || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let terms = |field: &str| affinity[*side][field].as_array().into_iter().flatten();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(far)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| far(&term["podAffinityTerm"]))
    })
}
