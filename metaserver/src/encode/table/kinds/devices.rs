//! `resource.k8s.io`: devices and the claims to them.

use serde_json::Value;

use super::super::text::{at, items, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "deviceclasses" | "resourceclaimtemplates" => vec![name, age],
        "resourceclaims" => {
            let deleted = !text(o, "metadata.deletionTimestamp").is_empty();
            let allocated = !at(o, "status.allocation").is_null();
            let states = [
                (deleted, "deleted"),
                (!allocated && !deleted, "pending"),
                (allocated, "allocated"),
                (
                    allocated && !items(o, "status.reservedFor").is_empty(),
                    "reserved",
                ),
            ];
            let states: Vec<&str> = states
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, state)| *state)
                .collect();
            vec![name, states.join(",").into(), age]
        }
        "resourceslices" => vec![
            name,
            text(o, "spec.nodeName").into(),
            text(o, "spec.driver").into(),
            text(o, "spec.pool.name").into(),
            age,
        ],
        _ => return None,
    })
}
