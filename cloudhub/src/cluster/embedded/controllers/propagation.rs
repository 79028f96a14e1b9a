//! What becomes of dependents when their owner is deleted, and the finalizers with which the owner waits for that.

use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use crate::cluster::embedded::call::{is, is_namespaces};

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum Propagation {
    /// They go after their owner.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// Has an object wait for its dependents, as the client wants it, or else as its finalizers or its kind have it. False when it
/// waited so before.
pub(in crate::cluster::embedded) fn keep_for_dependents(
    kind: &ResourceKind,
    value: &mut Value,
    asked: Option<Propagation>,
) -> bool {
    if is_namespaces(kind) {
        return false;
    }
    let by_kind = || {
        WITHOUT_DEPENDENTS
            .iter()
            .any(|(group, resource)| is(kind, group, resource))
    };
    let held = |finalizer| has_finalizer(value, finalizer);
    let propagation = match asked {
        Some(propagation) => propagation,
        None if held(ORPHAN) => Propagation::Orphan,
        None if held(FOREGROUND) => Propagation::Foreground,
        None if by_kind() => Propagation::Orphan,
        None => Propagation::Background,
    };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let before = value["metadata"]["finalizers"].clone();
    for finalizer in [ORPHAN, FOREGROUND] {
        if wanted != Some(finalizer) {
            drop_finalizer(value, finalizer);
        }
    }
    if let Some(wanted) = wanted.filter(|wanted| !has_finalizer(value, wanted)) {
        match value["metadata"]["finalizers"].as_array_mut() {
            Some(finalizers) => finalizers.push(wanted.into()),
            None => value["metadata"]["finalizers"] = json!([wanted]),
        }
    }
    before != value["metadata"]["finalizers"]
}

pub(in crate::cluster::embedded) fn has_finalizer(value: &Value, finalizer: &str) -> bool {
    let finalizers = value["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|all| all.iter().any(|held| held == finalizer))
}

pub(super) fn drop_finalizer(value: &mut Value, finalizer: &str) {
    let Some(metadata) = value["metadata"].as_object_mut() else {
        return;
    };
    if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        finalizers.retain(|held| held != finalizer);
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        }
    }
}

/// The finalizers of an object that waits for its dependents to be told that it is gone, or to be gone themselves.
pub(in crate::cluster::embedded) const ORPHAN: &str = "orphan";
pub(in crate::cluster::embedded) const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose dependents stay unless a client says otherwise (`DefaultGarbageCollectionPolicy` of their strategies).
const WITHOUT_DEPENDENTS: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];
