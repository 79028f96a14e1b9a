//! Persistent volumes and the claims to them.

use serde_json::Value;

use super::super::text::{UNSET, at, items, plain, text, text_or};

pub(super) fn volume(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let claim = match text(o, "spec.claimRef.name") {
        "" => String::new(),
        claim => format!("{}/{claim}", text(o, "spec.claimRef.namespace")),
    };
    vec![
        name,
        plain(at(o, "spec.capacity.storage")).into(),
        modes(o, "spec.accessModes").into(),
        text(o, "spec.persistentVolumeReclaimPolicy").into(),
        phase(o),
        claim.into(),
        class(o).into(),
        text_or(o, "spec.volumeAttributesClassName", UNSET).into(),
        text(o, "status.reason").into(),
        age,
        text_or(o, "spec.volumeMode", UNSET).into(),
    ]
}

pub(super) fn claim(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let bound = !text(o, "spec.volumeName").is_empty();
    let (capacity, access) = if bound {
        (
            plain(at(o, "status.capacity.storage")),
            modes(o, "status.accessModes"),
        )
    } else {
        Default::default()
    };
    vec![
        name,
        phase(o),
        text(o, "spec.volumeName").into(),
        capacity.into(),
        access.into(),
        class(o).into(),
        text_or(o, "spec.volumeAttributesClassName", UNSET).into(),
        age,
        text_or(o, "spec.volumeMode", UNSET).into(),
    ]
}

fn modes(o: &Value, path: &str) -> String {
    let short = items(o, path)
        .iter()
        .filter_map(Value::as_str)
        .map(|mode| match mode {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        });
    short.collect::<Vec<_>>().join(",")
}

fn phase(o: &Value) -> Value {
    if text(o, "metadata.deletionTimestamp").is_empty() {
        text(o, "status.phase")
    } else {
        "Terminating"
    }
    .into()
}

fn class(o: &Value) -> &str {
    let old = &at(o, "metadata.annotations")["volume.beta.kubernetes.io/storage-class"];
    old.as_str().unwrap_or_else(|| text(o, "spec.storageClassName"))
}
