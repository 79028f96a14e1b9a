//! Parts of an object that have a door of their own, beside the status: the containers that look into a pod, what its containers may
//! take, and who holds a namespace that is on its way (Kubernetes `pkg/registry/core/pod`, `pkg/registry/core/namespace`).

use hub_core::registry::ResourceKind;
use serde_json::Value;

use crate::cluster::embedded::call::{is, is_namespaces};
use crate::cluster::embedded::values::set::set;

/// Whether it is such a part of the kind.
pub(in crate::cluster::embedded) fn concerns(kind: &ResourceKind, part: &str) -> bool {
    match part {
        "ephemeralcontainers" | "resize" => is(kind, "", "pods"),
        "finalize" => is_namespaces(kind),
        _ => false,
    }
}

/// Of what is written, what comes by the door of ephemeral containers; with labels and annotations.
pub(in crate::cluster::embedded) fn ephemeral_only(old: &Value, new: &mut Value) {
    let given = new["spec"].get("ephemeralContainers").cloned();
    rest(old, new);
    set(&mut new["spec"], "ephemeralContainers", given.as_ref());
}

/// Of what is written, what comes by the door of resizing. Who adds, removes or renames containers is told so later.
pub(in crate::cluster::embedded) fn resources_only(old: &Value, new: &mut Value) {
    let mut spec = old["spec"].clone();
    for part in ["containers", "initContainers"] {
        let given = new["spec"][part].as_array().cloned().unwrap_or_default();
        let held = old["spec"][part].as_array().cloned().unwrap_or_default();
        if given.len() != held.len() {
            rest_but_spec(old, new);
            return;
        }
        if given
            .iter()
            .zip(&held)
            .any(|(given, held)| given["name"] != held["name"])
        {
            spec[part] = given.into();
            continue;
        }
        for (at, given) in given.iter().enumerate() {
            for field in ["resources", "resizePolicy"] {
                set(&mut spec[part][at], field, given.get(field));
            }
        }
    }
    rest_but_spec(old, new);
    new["spec"] = spec;
}

fn rest(old: &Value, new: &mut Value) {
    new["spec"] = old["spec"].clone();
    rest_but_spec(old, new);
}

fn rest_but_spec(old: &Value, new: &mut Value) {
    set(new, "status", old.get("status"));
    let given = new["metadata"].take();
    new["metadata"] = old["metadata"].clone();
    for field in ["labels", "annotations"] {
        set(&mut new["metadata"], field, given.get(field));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_the_door_of_resizing_come_resources_and_nothing_else() {
        let old = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "a"}]}, "status": {"phase": "Running"}});
        let mut new = json!({"metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]}, "status": {"phase": "Failed"},
            "spec": {"nodeName": "m", "containers": [{"name": "c", "image": "b", "resources": {"limits": {"cpu": "1"}}}]}});
        resources_only(&old, &mut new);
        assert_eq!(
            new,
            json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Running"},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "a", "resources": {"limits": {"cpu": "1"}}}]}})
        );
    }

    #[test]
    fn by_the_door_of_ephemeral_containers_come_they_alone() {
        let old = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
        let mut new = json!({"metadata": {"name": "p"}, "spec": {"ephemeralContainers": [{"name": "e"}]}});
        ephemeral_only(&old, &mut new);
        assert_eq!(
            new,
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "ephemeralContainers": [{"name": "e"}]}})
        );
    }
}
