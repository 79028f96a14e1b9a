//! What a namespace that is on its way says of why it is still here (Kubernetes `pkg/controller/namespace/deletion`).

use std::collections::BTreeMap;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::{Value, json};

use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;

/// Tells in a namespace's status what holds it now. Anything else has nothing to tell.
pub(in crate::cluster::embedded) fn report(
    state: &mut State,
    key: &ObjectKey,
    mut value: Value,
) -> Result<(), Status> {
    if key.resource == GroupVersionResource::core("namespaces") && set_conditions(state, key, &mut value) {
        state.put(&key.resource, &mut value)?;
    }
    Ok(())
}

/// Sets the conditions of a namespace that is being deleted. False when they stand there already.
pub(in crate::cluster::embedded) fn set_conditions(
    state: &State,
    key: &ObjectKey,
    namespace: &mut Value,
) -> bool {
    let (mut kinds, mut finalizers) = (BTreeMap::new(), BTreeMap::new());
    for key in state.in_namespace(&key.name) {
        let resource = &key.resource;
        let kind = if resource.group.is_empty() {
            format!("{}.", resource.resource)
        } else {
            format!("{}.{}", resource.resource, resource.group)
        };
        *kinds.entry(kind).or_insert(0_usize) += 1;
        let value = state.value(&key).ok().flatten().unwrap_or_default();
        for finalizer in value["metadata"]["finalizers"].as_array().into_iter().flatten() {
            let finalizer = finalizer.as_str().unwrap_or_default().to_owned();
            *finalizers.entry(finalizer).or_insert(0_usize) += 1;
        }
    }
    let list = |counts: &BTreeMap<String, usize>, middle: &str| {
        let counts = counts
            .iter()
            .map(|(what, count)| format!("{what} {middle} {count} resource instances"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let remaining = if kinds.is_empty() {
        (
            "False",
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        )
    } else {
        let kinds = list(&kinds, "has");
        (
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {kinds}"),
        )
    };
    let held = if finalizers.is_empty() {
        (
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        )
    } else {
        let finalizers = list(&finalizers, "in");
        let message = format!("Some content in the namespace has finalizers remaining: {finalizers}");
        ("True", "SomeFinalizersRemain", message)
    };
    let fixed = |reason, message: &str| ("False", reason, message.to_owned());
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            fixed("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fixed("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            fixed(
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", held),
    ];
    let before = namespace["status"]["conditions"].take();
    let since = |kind: &str, status: &str| {
        let mut held = before.as_array().into_iter().flatten();
        let same = held.find(|held| held["type"] == kind && held["status"] == status);
        same.map_or_else(|| clock::now().into(), |same| same["lastTransitionTime"].clone())
    };
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|(kind, (status, reason, message))| {
            json!({"type": kind, "status": status, "lastTransitionTime": since(kind, status), "reason": reason, "message": message})
        })
        .collect();
    namespace["status"]["conditions"] = conditions.into();
    namespace["status"]["conditions"] != before
}
