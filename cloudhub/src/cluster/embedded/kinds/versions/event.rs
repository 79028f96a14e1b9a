//! Events of `v1` and of `events.k8s.io/v1`: the same fields under other names (Kubernetes `pkg/apis/events/v1/conversion.go`).

use serde_json::Value;

pub(super) fn to_core(value: &mut Value) {
    for (core, new) in NAMES {
        rename(value, new, core);
    }
}

pub(super) fn from_core(value: &mut Value) {
    for (core, new) in NAMES {
        rename(value, core, new);
    }
}

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(fields) = value.as_object_mut()
        && let Some(held) = fields.remove(from)
    {
        fields.insert(to.to_owned(), held);
    }
}

/// In `v1`, and in `events.k8s.io/v1`.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
