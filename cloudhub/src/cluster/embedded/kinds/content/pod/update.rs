//! What may become of a pod that is there: little of it changes, and each part by its own door (Kubernetes
//! `pkg/apis/core/validation`: `ValidatePodUpdate`, `ValidatePodEphemeralContainersUpdate`, `ValidatePodResize`).

use serde_json::Value;

use super::super::{list, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::defaults;
use crate::cluster::embedded::values::go_shape;

type Errors = Vec<FieldError>;

/// By the main door.
pub(in crate::cluster::embedded::kinds::content) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    let (old, new) = (&old["spec"], &new["spec"]);
    // What every write of a label and of a status ends with.
    if old == new {
        return;
    }
    for part in ["containers", "initContainers"] {
        if !containers(&old[part], &new[part], part, errors) {
            return;
        }
    }
    if !deadline(
        &old["activeDeadlineSeconds"],
        &new["activeDeadlineSeconds"],
        errors,
    ) {
        return;
    }
    tolerations(&old["tolerations"], &new["tolerations"], errors);
    gates(&old["schedulingGates"], &new["schedulingGates"], errors);
    let mut rest = new.clone();
    for part in ["containers", "initContainers"] {
        for (at, held) in list(&old[part]).enumerate() {
            rest[part][at]["image"] = held["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut rest, old, field);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|grace| grace < 0) && grace(&rest) == Some(1) {
        keep(&mut rest, old, "terminationGracePeriodSeconds");
    }
    if list(&old["schedulingGates"]).next().is_some() {
        selector(&old["nodeSelector"], &new["nodeSelector"], errors);
        keep(&mut rest, old, "nodeSelector");
    }
    let shown = go_shape::difference("PodSpec", old, &rest);
    if !shown.is_empty() {
        errors.push(FieldError::forbidden("spec", &format!("{KEPT}\n{shown}")));
    }
}

/// What the annotations of a pod mean to the cluster.
pub(in crate::cluster::embedded::kinds::content) fn annotations(
    old: &Value,
    new: &Value,
    errors: &mut Errors,
) {
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    let Some(given) = new[cost].as_str() else { return };
    // A plus or a zero in front is no number to Kubernetes, nor to those that sort by it.
    let odd = given.starts_with('+') || (given.starts_with('0') && given != "0");
    if old[cost] != given && (odd || given.parse::<i32>().is_err()) {
        let path = format!("metadata.annotations[{cost}]");
        errors.push(FieldError::invalid(
            path,
            &given.into(),
            "must be a 32bit integer",
        ));
    }
}

/// By the door of containers that look into a pod.
pub(in crate::cluster::embedded::kinds::content) fn ephemeral_changed(
    old: &Value,
    new: &Value,
    errors: &mut Errors,
) {
    let path = "spec.ephemeralContainers";
    if is_static(old) {
        let detail = "static pods do not support ephemeral containers";
        *errors = vec![FieldError::forbidden("", detail)];
        return;
    }
    for held in list(&old["spec"]["ephemeralContainers"]) {
        let name = text(&held["name"]);
        let mut given = list(&new["spec"]["ephemeralContainers"]);
        match given.find(|given| given["name"] == held["name"]) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(path, &detail));
            }
            Some(given) if given != held => {
                let shown = go_shape::difference("EphemeralContainer", held, given);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{shown}");
                errors.push(FieldError::forbidden(path, &detail));
            }
            Some(_) => {}
        }
    }
}

/// By the door of what its containers may take.
pub(in crate::cluster::embedded::kinds::content) fn resized(old: &Value, new: &Value, errors: &mut Errors) {
    if is_static(old) {
        *errors = vec![FieldError::forbidden("", "static pods cannot be resized")];
        return;
    }
    if old["spec"]["os"]["name"] == "windows" {
        *errors = vec![FieldError::forbidden("", "windows pods cannot be resized")];
        return;
    }
    let class = match text(&old["status"]["qosClass"]) {
        "" => defaults::quality_of_service(old),
        class => class,
    };
    if class != defaults::quality_of_service(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", &class.into(), detail));
    }
    let mut running = list(&old["status"]["containerStatuses"]);
    let running = running.find(|status| status["state"]["running"].is_object());
    if running.is_some_and(|status| status["resources"].is_null()) {
        errors.push(FieldError::forbidden(
            "spec",
            "Pod running on node without support for resize",
        ));
    }
    for part in ["containers", "initContainers"] {
        if !same_containers(old, new, part, errors) {
            return;
        }
    }
    let before = errors.len();
    for part in ["initContainers", "containers"] {
        let pairs = list(&old["spec"][part]).zip(list(&new["spec"][part]));
        for (at, (held, given)) in pairs.enumerate() {
            if part == "initContainers" && held["restartPolicy"] != "Always" {
                if held != given {
                    let detail = "resources for non-sidecar init containers are immutable";
                    errors.push(FieldError::forbidden("spec", detail));
                }
                continue;
            }
            for (field, word) in [("requests", "requests"), ("limits", "limits")] {
                let names = held["resources"][field].as_object().into_iter().flatten();
                let mut names = names.map(|(name, _)| name);
                if names.any(|name| given["resources"][field].get(name).is_none()) {
                    let detail = format!("resource {word} cannot be removed");
                    let path = format!("spec.{part}[{at}].resources.{field}");
                    errors.push(FieldError::forbidden(path, &detail));
                }
            }
            if errors.len() == before && others(held) != others(given) {
                let (path, detail) = if part == "containers" {
                    ("spec".to_owned(), "only cpu and memory resources are mutable")
                } else {
                    let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                    (format!("spec.{part}[{at}]"), detail)
                };
                errors.push(FieldError::forbidden(path, detail));
            }
        }
    }
}

/// What of a container's resources no door changes.
fn others(container: &Value) -> Vec<(&str, &String, &Value)> {
    let mut others = Vec::new();
    for field in ["requests", "limits"] {
        for (name, amount) in container["resources"][field].as_object().into_iter().flatten() {
            if name != "cpu" && name != "memory" {
                others.push((field, name, amount));
            }
        }
    }
    others
}

fn same_containers(old: &Value, new: &Value, part: &str, errors: &mut Errors) -> bool {
    let (old, new) = (&old["spec"][part], &new["spec"][part]);
    let before = errors.len();
    if list(old).count() != list(new).count() {
        let detail = format!("{part} may not be added or removed on resize");
        errors.push(FieldError::forbidden(format!("spec.{part}"), &detail));
        return false;
    }
    for (at, (held, given)) in list(old).zip(list(new)).enumerate() {
        if held["name"] != given["name"] {
            let detail = format!("{part} may not be renamed or reordered on resize");
            errors.push(FieldError::forbidden(format!("spec.{part}[{at}].name"), &detail));
        }
    }
    errors.len() == before
}

/// A pod that a node runs by itself, and only shows.
fn is_static(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string()
}

fn keep(spec: &mut Value, old: &Value, field: &str) {
    match (spec.as_object_mut(), old.get(field)) {
        (Some(fields), Some(held)) => {
            fields.insert(field.to_owned(), held.clone());
        }
        (Some(fields), None) => {
            fields.remove(field);
        }
        (None, _) => {}
    }
}

fn containers(old: &Value, new: &Value, part: &str, errors: &mut Errors) -> bool {
    if list(old).count() != list(new).count() {
        let detail = "pod updates may not add or remove containers";
        errors.push(FieldError::forbidden(format!("spec.{part}"), detail));
        return false;
    }
    for (at, container) in list(new).enumerate() {
        let path = format!("spec.{part}[{at}].image");
        let image = text(&container["image"]);
        if image.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(path, &container["image"], detail));
        }
    }
    true
}

/// It may come nearer. False if nothing else is looked at.
fn deadline(old: &Value, new: &Value, errors: &mut Errors) -> bool {
    let path = "spec.activeDeadlineSeconds";
    let Some(seconds) = new.as_i64() else {
        if !old.is_null() {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, &Value::Null, detail));
        }
        return true;
    };
    let detail = if !(0..=i64::from(i32::MAX)).contains(&seconds) {
        format!("must be between 0 and {}, inclusive", i32::MAX)
    } else if old.as_i64().is_some_and(|held| held < seconds) {
        "must be less than or equal to previous value".into()
    } else {
        return true;
    };
    errors.push(FieldError::invalid(path, new, &detail));
    false
}

fn tolerations(old: &Value, new: &Value, errors: &mut Errors) {
    let same = |held: &Value, given: &Value| {
        let fields = ["key", "operator", "value", "effect"].into_iter();
        fields.into_iter().all(|field| held[field] == given[field])
    };
    let kept = |held: &Value| list(new).any(|given| same(held, given));
    if !list(old).all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
}

fn gates(old: &Value, new: &Value, errors: &mut Errors) {
    for (at, given) in list(new).enumerate() {
        if !list(old).any(|held| held["name"] == given["name"]) {
            let name = text(&given["name"]);
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let path = format!("spec.schedulingGates[{at}].name");
            errors.push(FieldError::forbidden(path, &detail));
        }
    }
}

/// A pod that waits at a gate may be told more of where it is to run.
fn selector(old: &Value, new: &Value, errors: &mut Errors) {
    let held = old.as_object().into_iter().flatten();
    if held.into_iter().any(|(key, value)| new.get(key) != Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid("spec.nodeSelector", new, detail));
    }
}

const KEPT: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_costs_to_lose_is_a_number() {
        let cost = |given: &str| json!({"controller.kubernetes.io/pod-deletion-cost": given});
        for (given, fits) in [
            ("-10", true),
            ("0", true),
            ("+1", false),
            ("01", false),
            ("x", false),
            ("3000000000", false),
        ] {
            let mut errors = Vec::new();
            annotations(&Value::Null, &cost(given), &mut errors);
            assert_eq!(errors.is_empty(), fits, "{given}");
            let mut errors = Vec::new();
            annotations(&cost(given), &cost(given), &mut errors);
            assert!(errors.is_empty(), "what was there stays");
        }
    }

    fn pod(change: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "1"}}}],
            "tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 9}});
        json_patch::merge(&mut pod, &change);
        pod
    }

    fn said(check: fn(&Value, &Value, &mut Errors), change: Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(&pod(json!({})), &pod(change), &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn what_may_change_changes() {
        let image = json!({"name": "c", "image": "x:2", "resources": {"requests": {"cpu": "1"}}});
        for change in [
            json!({}),
            json!({"spec": {"containers": [image]}}),
            json!({"spec": {"activeDeadlineSeconds": 5}}),
            json!({"spec": {"tolerations": [{"key": "b"}, {"key": "a", "operator": "Exists", "tolerationSeconds": 1}]}}),
        ] {
            assert!(said(changed, change.clone()).is_empty(), "{change}");
        }
    }

    #[test]
    fn what_may_not_is_refused_in_the_words_of_a_real_server() {
        for (change, expected) in [
            (
                json!({"spec": {"containers": []}}),
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ),
            (
                json!({"spec": {"activeDeadlineSeconds": 10}}),
                "spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value",
            ),
            (
                json!({"spec": {"tolerations": []}}),
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ),
            (
                json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
            ),
        ] {
            assert_eq!(said(changed, change), [expected]);
        }
        let told = said(changed, json!({"spec": {"nodeName": "n"}}));
        assert!(
            told[0].starts_with(&format!("spec: Forbidden: {KEPT}\n@@ -"))
                && told[0].contains("\n- \"NodeName\": \"\",\n+ \"NodeName\": \"n\",\n"),
            "{told:?}"
        );
    }

    #[test]
    fn a_pod_is_resized_within_its_class() {
        let resources = |resources: Value| json!({"spec": {"containers": [{"name": "c", "image": "x:1", "resources": resources}]}});
        assert!(said(resized, resources(json!({"requests": {"cpu": "2"}}))).is_empty());
        assert_eq!(
            said(resized, resources(json!({}))),
            [
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ]
        );
        assert_eq!(
            said(
                resized,
                resources(json!({"requests": {"cpu": "1", "x.io/a": "1"}}))
            ),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
    }
}
