//! What objects that make pods must be (Kubernetes `pkg/apis/apps/validation`, `pkg/apis/batch/validation`).

use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use super::{job, list, not_negative, one_of, percent, pod, text};
use crate::cluster::embedded::call::is;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::{validate, workload};
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn check(kind: &ResourceKind, value: &Value, errors: &mut Errors) {
    let spec = &value["spec"];
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "replicationcontrollers") => {
            not_negative(&spec["replicas"], "spec.replicas", errors);
            template(spec, "spec.template", errors);
        }
        ("apps", "deployments") => deployment(spec, errors),
        ("apps", "replicasets") => {
            not_negative(&spec["replicas"], "spec.replicas", errors);
            not_negative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
            selected(spec, "deployment", "ReplicaSet", errors);
        }
        ("apps", "statefulsets") => stateful(spec, errors),
        ("apps", "daemonsets") => daemon(spec, errors),
        ("batch", "jobs") => job::check(value, errors),
        ("batch", "cronjobs") => job::cron(spec, errors),
        _ => {}
    }
}

/// Adds what may not have become of an object.
pub(super) fn changed(kind: &ResourceKind, old: &Value, new: &Value, errors: &mut Errors) {
    if is(kind, "batch", "jobs") {
        return job::changed(old, new, errors);
    }
    let (old, new) = (&old["spec"], &new["spec"]);
    let mut frozen = |field: &str| {
        if old[field] != new[field] {
            let path = format!("spec.{field}");
            errors.push(FieldError::invalid(path, &new[field], "field is immutable"));
        }
    };
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("apps", "deployments" | "replicasets" | "daemonsets") => frozen("selector"),
        ("apps", "statefulsets") => {
            let rest = |spec: &Value| {
                let mut spec = spec.as_object().cloned().unwrap_or_default();
                spec.retain(|field, _| !STATEFUL_CHANGES.contains(&field.as_str()));
                spec
            };
            if rest(old) != rest(new) {
                errors.push(FieldError::forbidden("spec", STATEFUL));
            }
        }
        _ => {}
    }
}

fn deployment(spec: &Value, errors: &mut Errors) {
    not_negative(&spec["replicas"], "spec.replicas", errors);
    selected(spec, "deployment", "ReplicaSet", errors);
    let strategy = &spec["strategy"];
    let rolling = &strategy["rollingUpdate"];
    let path = "spec.strategy.rollingUpdate";
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => errors.push(FieldError::forbidden(
            path,
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "Recreate" | "" => {}
        "RollingUpdate" => {
            percent(
                &rolling["maxUnavailable"],
                &format!("{path}.maxUnavailable"),
                false,
                errors,
            );
            percent(&rolling["maxSurge"], &format!("{path}.maxSurge"), false, errors);
            let zero = |value: &Value| *value == 0 || *value == "0%";
            if zero(&rolling["maxUnavailable"]) && zero(&rolling["maxSurge"]) {
                let (path, value) = (format!("{path}.maxUnavailable"), &rolling["maxUnavailable"]);
                errors.push(FieldError::invalid(
                    path,
                    value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            percent(
                &rolling["maxUnavailable"],
                &format!("{path}.maxUnavailable"),
                true,
                errors,
            );
        }
        other => strategies("spec.strategy", other, "\"Recreate\", \"RollingUpdate\"", errors),
    }
    for field in [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        not_negative(&spec[field], &format!("spec.{field}"), errors);
    }
    let ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if spec["progressDeadlineSeconds"]
        .as_i64()
        .is_some_and(|deadline| deadline <= ready)
    {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            &spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        ));
    }
}

fn stateful(spec: &Value, errors: &mut Errors) {
    let management = text(&spec["podManagementPolicy"]);
    if !matches!(management, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid(
            "spec.podManagementPolicy",
            &management.into(),
            detail,
        ));
    }
    let strategy = &spec["updateStrategy"];
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = "spec.updateStrategy.rollingUpdate.partition";
            not_negative(&strategy["rollingUpdate"]["partition"], path, errors);
        }
        other => {
            let shown = json!({"Type": other, "RollingUpdate": null}).to_string();
            // As Go writes it: in the order of the type's fields.
            let shown = shown.replace("{\"RollingUpdate\":null,\"Type\":", "{\"Type\":");
            let shown = shown.strip_suffix('}').unwrap_or_default();
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            let shown = format!("{shown},\"RollingUpdate\":null}}");
            errors.push(FieldError::invalid_shown("spec.updateStrategy", &shown, detail));
        }
    }
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    for field in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
        one_of(&retention[field], &path, &["Retain", "Delete"], errors);
    }
    not_negative(&spec["replicas"], "spec.replicas", errors);
    not_negative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
    not_negative(&spec["ordinals"]["start"], "spec.ordinals.start", errors);
    let with_claims = volumes_of_claims(spec);
    selected(
        with_claims.as_ref().unwrap_or(spec),
        "statefulset",
        "StatefulSet",
        errors,
    );
    for (index, claim) in list(&spec["volumeClaimTemplates"]).enumerate() {
        super::storage::claim(
            &claim["spec"],
            &format!("spec.volumeClaimTemplates[{index}].spec"),
            errors,
        );
    }
}

/// The spec of a set whose pods get a volume for each of its claims, in place of their own of that name.
fn volumes_of_claims(spec: &Value) -> Option<Value> {
    let claims: Vec<&Value> = list(&spec["volumeClaimTemplates"])
        .map(|claim| &claim["metadata"]["name"])
        .collect();
    if claims.is_empty() {
        return None;
    }
    let volume = |name: &Value| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let mut spec = spec.clone();
    let mut volumes: Vec<Value> = claims.iter().map(|name| volume(name)).collect();
    let own = list(&spec["template"]["spec"]["volumes"]).filter(|own| !claims.contains(&&own["name"]));
    volumes.extend(own.cloned());
    spec["template"]["spec"]["volumes"] = volumes.into();
    Some(spec)
}

fn daemon(spec: &Value, errors: &mut Errors) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    if selector.is_null() || !workload::selects(selector, labels) {
        mismatch(labels, errors);
    }
    if is_empty(selector) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid("spec.selector", selector, detail));
    }
    template(spec, "spec.template", errors);
    not_negative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
    let strategy = &spec["updateStrategy"];
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
            percent(&rolling["maxUnavailable"], path, false, errors);
            let zero = |value: &Value| *value == 0 || *value == "0%";
            if zero(&rolling["maxUnavailable"]) && zero(&rolling["maxSurge"]) {
                errors.push(FieldError::required(path, "cannot be 0 when maxSurge is 0"));
            }
        }
        other => strategies(
            "spec.updateStrategy",
            other,
            "\"RollingUpdate\", \"OnDelete\"",
            errors,
        ),
    }
    not_negative(&spec["revisionHistoryLimit"], "spec.revisionHistoryLimit", errors);
}

/// A selector that must be there, and the pods that it must find.
fn selected(spec: &Value, shown: &str, kind: &str, errors: &mut Errors) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    let before = errors.len();
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
        mismatch(labels, errors);
    } else {
        label_selector(selector, "spec.selector", errors);
        if errors.len() > before {
            errors.push(FieldError::invalid(
                "spec.selector",
                selector,
                "invalid label selector",
            ));
            return;
        }
        if is_empty(selector) {
            let detail = format!("empty selector is invalid for {shown}");
            errors.push(FieldError::invalid("spec.selector", selector, &detail));
        } else if !workload::selects(selector, labels) {
            mismatch(labels, errors);
        }
    }
    template(spec, "spec.template", errors);
    if !spec["template"]["spec"]["activeDeadlineSeconds"].is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            &detail,
        ));
    }
}

/// What is wrong with a selector itself (`apimachinery/pkg/apis/meta/v1/validation`).
pub(super) fn label_selector(selector: &Value, path: &str, errors: &mut Errors) {
    validate::labels(&selector["matchLabels"], &format!("{path}.matchLabels"), errors);
    for (index, expression) in list(&selector["matchExpressions"]).enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        requirement(expression, &path, false, errors);
    }
}

/// One row of a selector; those of nodes may compare numbers too.
pub(super) fn requirement(row: &Value, path: &str, of_nodes: bool, errors: &mut Errors) {
    let values = list(&row["values"]).count();
    match text(&row["operator"]) {
        "In" | "NotIn" if values == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(format!("{path}.values"), detail));
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{path}.values"), detail));
        }
        "Gt" | "Lt" if of_nodes && values != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(format!("{path}.values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if of_nodes => {}
        _ => errors.push(FieldError::invalid(
            format!("{path}.operator"),
            &row["operator"],
            "not a valid selector operator",
        )),
    }
    for detail in names::qualified(text(&row["key"])) {
        errors.push(FieldError::invalid(format!("{path}.key"), &row["key"], &detail));
    }
}

fn template(spec: &Value, path: &str, errors: &mut Errors) {
    let template = &spec["template"];
    validate::labels(&template["metadata"]["labels"], &format!("{path}.labels"), errors);
    pod_of(template, path, &["Always"], errors);
}

pub(super) fn pod_of(template: &Value, path: &str, policies: &[&str], errors: &mut Errors) {
    let empty = json!({});
    let spec = Some(&template["spec"])
        .filter(|spec| spec.is_object())
        .unwrap_or(&empty);
    pod::spec(spec, &format!("{path}.spec"), policies, errors);
}

pub(super) fn mismatch(labels: &Value, errors: &mut Errors) {
    errors.push(FieldError::invalid(
        "spec.template.metadata.labels",
        labels,
        "`selector` does not match template `labels`",
    ));
}

fn is_empty(selector: &Value) -> bool {
    selector.is_object()
        && list(&selector["matchExpressions"]).next().is_none()
        && selector["matchLabels"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
}

fn strategies(path: &str, given: &str, supported: &str, errors: &mut Errors) {
    let shown = format!("{{\"Type\":{given:?},\"RollingUpdate\":null}}");
    errors.push(FieldError::unsupported(path, &shown, supported));
}

const STATEFUL: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const STATEFUL_CHANGES: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
#[cfg(test)]
mod tests {
    use super::*;

    fn said(then: fn(&Value, &mut Errors), spec: Value) -> Vec<String> {
        let mut errors = Vec::new();
        then(&spec, &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    fn spec() -> Value {
        json!({"selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}}})
    }

    #[test]
    fn a_deployment_is_told_what_is_wrong_in_a_real_servers_words() {
        assert!(said(deployment, spec()).is_empty());
        let with = |field: &str, value: Value| {
            let mut spec = spec();
            spec[field] = value;
            said(deployment, spec)
        };
        assert_eq!(
            with("selector", json!({})),
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
        );
        assert_eq!(
            with("selector", Value::Null),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            with("strategy", json!({"type": "Recreate", "rollingUpdate": {}})),
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
            ]
        );
        assert_eq!(
            with("strategy", json!({"type": "Foo"})),
            [
                "spec.strategy: Unsupported value: {\"Type\":\"Foo\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\""
            ]
        );
        assert_eq!(
            with(
                "strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}})
            ),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ]
        );
        assert_eq!(
            with("progressDeadlineSeconds", json!(0)),
            ["spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds"]
        );
    }
}
