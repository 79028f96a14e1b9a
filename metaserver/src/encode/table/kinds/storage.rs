//! `storage.k8s.io`.

use serde_json::Value;

use super::super::text::{NONE, UNSET, at, items, text, text_or};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "storageclasses" => {
            vec![
                marked(o, is_default_class(o)),
                text(o, "provisioner").into(),
                text_or(o, "reclaimPolicy", "Delete").into(),
                text_or(o, "volumeBindingMode", "Immediate").into(),
                (at(o, "allowVolumeExpansion") == true).into(),
                age,
            ]
        }
        "csidrivers" => csi_driver(o, name, age),
        "csinodes" => vec![name, items(o, "spec.drivers").len().into(), age],
        "volumeattachments" => vec![
            name,
            text(o, "spec.attacher").into(),
            text(o, "spec.source.persistentVolumeName").into(),
            text(o, "spec.nodeName").into(),
            (at(o, "status.attached") == true).into(),
            age,
        ],
        "volumeattributesclasses" => {
            let annotations = at(o, "metadata.annotations");
            let default = annotations["storageclass.kubernetes.io/is-default-class"] == "true";
            vec![marked(o, default), text(o, "driverName").into(), age]
        }
        _ => return None,
    })
}

fn is_default_class(o: &Value) -> bool {
    let annotations = at(o, "metadata.annotations");
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .iter()
    .any(|annotation| annotations[annotation] == "true")
}

fn csi_driver(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let audiences: Vec<&str> = items(o, "spec.tokenRequests")
        .iter()
        .map(|token| text(token, "audience"))
        .collect();
    let modes: Vec<&str> = items(o, "spec.volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        name,
        (at(o, "spec.attachRequired") != false).into(),
        (at(o, "spec.podInfoOnMount") == true).into(),
        (at(o, "spec.storageCapacity") == true).into(),
        if audiences.is_empty() {
            UNSET.to_owned()
        } else {
            audiences.join(",")
        }
        .into(),
        (at(o, "spec.requiresRepublish") == true).into(),
        if modes.is_empty() {
            NONE.to_owned()
        } else {
            modes.join(",")
        }
        .into(),
        age,
    ]
}

/// The name of a class, with whether it is the one for those who name none.
fn marked(o: &Value, default: bool) -> Value {
    let mark = if default { " (default)" } else { "" };
    format!("{}{mark}", text(o, "metadata.name")).into()
}
