//! What small kinds keep for life (`Validate…Update` of Kubernetes' `pkg/apis`).

use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::text;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::go_shape;

type Errors = Vec<FieldError>;

pub(super) fn changed(kind: &ResourceKind, old: &Value, new: &Value, errors: &mut Errors) {
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("storage.k8s.io", "storageclasses") => {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                immutable(&old[field], &new[field], field, errors);
            }
        }
        ("storage.k8s.io", "csidrivers") => {
            // A real server calls the first of them so.
            for (field, shown) in [
                ("attachRequired", "attachedRequired"),
                ("volumeLifecycleModes", "volumeLifecycleModes"),
            ] {
                immutable(
                    &old["spec"][field],
                    &new["spec"][field],
                    &format!("spec.{shown}"),
                    errors,
                );
            }
        }
        ("scheduling.k8s.io", "priorityclasses") => {
            if old["value"].as_i64().unwrap_or(0) != new["value"].as_i64().unwrap_or(0) {
                errors.push(FieldError::forbidden("value", "may not be changed in an update."));
            }
            immutable(
                &old["preemptionPolicy"],
                &new["preemptionPolicy"],
                "preemptionPolicy",
                errors,
            );
        }
        ("networking.k8s.io", "ingressclasses") => {
            immutable(
                &old["spec"]["controller"],
                &new["spec"]["controller"],
                "spec.controller",
                errors,
            );
        }
        ("node.k8s.io", "runtimeclasses") => immutable(&old["handler"], &new["handler"], "handler", errors),
        ("", "persistentvolumes") => volume(&old["spec"], &new["spec"], errors),
        _ => {}
    }
}

/// What a volume is made of stays, and how it is used.
fn volume(old: &Value, new: &Value, errors: &mut Errors) {
    let mut given = new.clone();
    let secret = "controllerExpandSecretRef";
    if old["csi"].is_object() && old["csi"][secret].is_null() && given["csi"].is_object() {
        given["csi"][secret] = Value::Null;
    }
    let shown = go_shape::difference("PersistentVolumeSource", old, &given);
    if !shown.is_empty() {
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{shown}");
        errors.push(FieldError::forbidden("spec.persistentvolumesource", &detail));
    }
    immutable(&old["volumeMode"], &new["volumeMode"], "volumeMode", errors);
    let class = "volumeAttributesClassName";
    if !text(&old[class]).is_empty() && new[class].is_null() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(format!("spec.{class}"), detail));
    }
}

fn immutable(old: &Value, new: &Value, path: &str, errors: &mut Errors) {
    if old != new {
        errors.push(FieldError::invalid(path, new, "field is immutable"));
    }
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;
    use hub_core::registry::Registry;
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_keep_what_others_rely_on() {
        let said = |group: &str, resource: &str, old: Value, new: Value| {
            let kind = Registry::builtin()
                .by_resource(&GroupVersionResource::new(group, "v1", resource))
                .unwrap();
            let mut errors = Vec::new();
            changed(&kind, &old, &new, &mut errors);
            errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        let class = json!({"provisioner": "a", "reclaimPolicy": "Delete"});
        assert!(said("storage.k8s.io", "storageclasses", class.clone(), class.clone()).is_empty());
        assert_eq!(
            said(
                "storage.k8s.io",
                "storageclasses",
                class,
                json!({"provisioner": "b", "reclaimPolicy": "Delete", "parameters": {"x": "y"}})
            ),
            [
                "parameters: Invalid value: {\"x\":\"y\"}: field is immutable",
                "provisioner: Invalid value: \"b\": field is immutable"
            ]
        );
        assert_eq!(
            said(
                "scheduling.k8s.io",
                "priorityclasses",
                json!({"value": 1}),
                json!({"value": 2, "preemptionPolicy": "Never"})
            ),
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable"
            ]
        );
        let class = |controller: &str| json!({"spec": {"controller": controller}});
        assert_eq!(
            said("networking.k8s.io", "ingressclasses", class("a/b"), class("c/d")).len(),
            1
        );
        assert_eq!(
            said(
                "node.k8s.io",
                "runtimeclasses",
                json!({"handler": "a"}),
                json!({"handler": "b"})
            ),
            ["handler: Invalid value: \"b\": field is immutable"]
        );
    }
}
