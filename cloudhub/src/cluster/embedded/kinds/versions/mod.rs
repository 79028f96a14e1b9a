//! Kinds of several versions: one object, shown in each of them.
//!
//! Whatever is written in one version is converted at once and shown in the others under the same uid and revision, so reads, watches
//! and the nodes' scopes of each version are those of any kind. Built-in kinds are converted as Kubernetes converts them; custom
//! kinds only change their `apiVersion` (`conversion: None`, the only strategy here) and are pruned and defaulted by the schema of
//! the other version.

mod autoscaler;
mod event;

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::{Registry, ResourceKind};
use hub_core::store::Change;
use serde_json::Value;

use super::conform::{self, Fill};
use crate::cluster::embedded::custom::structural::Definition;
use crate::cluster::embedded::state::State;

/// The other served versions of the kind in a collection.
pub(in crate::cluster::embedded) fn others(
    registry: &Registry,
    resource: &GroupVersionResource,
) -> Vec<Arc<ResourceKind>> {
    if let Some(family) = family(resource) {
        let others = family.iter().map(gvr).filter(|other| other != resource);
        return others.filter_map(|other| registry.by_resource(&other)).collect();
    }
    if registry.by_resource(resource).is_some_and(|kind| !kind.custom) {
        return Vec::new();
    }
    let mut kinds = registry.all();
    kinds.retain(|kind| {
        let other = &kind.resource;
        kind.custom
            && other.group == resource.group
            && other.resource == resource.resource
            && other.version != resource.version
    });
    kinds
}

/// An object of one version of a kind, in another version.
pub(in crate::cluster::embedded) fn convert(
    state: &State,
    from: &GroupVersionResource,
    to: &ResourceKind,
    value: &Value,
) -> Value {
    let mut value = value.clone();
    let version = to.resource.api_version();
    value["apiVersion"] = version.as_str().into();
    if to.custom {
        if let Some(definition) = Definition::of(state, to) {
            definition.shape(&mut value);
        }
        return value;
    }
    match (&*to.resource.group, &*to.resource.version) {
        ("", _) => event::to_core(&mut value),
        ("events.k8s.io", _) => event::from_core(&mut value),
        (_, "v1") if &*from.version == "v2" => autoscaler::to_v1(&mut value),
        (_, "v2") if &*from.version == "v1" => autoscaler::to_v2(&mut value),
        _ => {}
    }
    if let Err(why) = conform::conform(&version, &to.kind, &mut value, Fill::Zeros) {
        tracing::error!(kind = %to.kind, why, "a conversion made a field of another type than its version has");
    }
    value
}

/// The definition of a custom kind, where a change is one.
pub(in crate::cluster::embedded) fn definition(change: &Change) -> Option<&Object> {
    match change {
        Change::Put(object) if is_definitions(&object.key.resource) => Some(object),
        _ => None,
    }
}

pub(in crate::cluster::embedded) fn is_definitions(resource: &GroupVersionResource) -> bool {
    (&*resource.group, &*resource.resource) == ("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Shows the objects of a custom kind in all versions that its definition serves now, and in no other.
pub(in crate::cluster::embedded) fn agree(state: &mut State, definition: &Object) {
    let Ok(definition) = serde_json::from_slice::<Value>(&definition.body) else {
        return;
    };
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let versions = spec["versions"].as_array().into_iter().flatten();
    let versions: Vec<_> = versions
        .map(|version| GroupVersionResource::new(group.as_str(), text(&version["name"]), plural.as_str()))
        .collect();
    if versions.len() > 1 {
        agree_on(state, &versions);
    }
}

/// The same for every kind of several versions, with what an older program left in one version only.
pub(in crate::cluster::embedded) fn agree_all(state: &mut State) {
    for family in FAMILIES {
        let family: Vec<_> = family.iter().map(gvr).collect();
        agree_on(state, &family);
    }
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definitions: Vec<_> = state.list(&definitions, None).cloned().collect();
    for definition in &definitions {
        agree(state, definition);
    }
}

fn agree_on(state: &mut State, versions: &[GroupVersionResource]) {
    let mut newest: BTreeMap<_, (u64, ObjectKey)> = BTreeMap::new();
    for object in versions.iter().flat_map(|version| state.list(version, None)) {
        let key = &object.key;
        let found = (object.version.number().unwrap_or_default(), key.clone());
        let place = newest.entry((key.namespace.clone(), key.name.clone()));
        let held = place.or_insert_with(|| found.clone());
        if held.0 < found.0 {
            *held = found;
        }
    }
    for (version, key) in newest.into_values() {
        let mark = state.mark();
        if let Err(status) = agree_on_one(state, versions, version, &key) {
            state.roll_back(mark);
            tracing::error!(why = status.message, %key, "an object cannot be shown in all versions of its kind");
        }
    }
}

fn agree_on_one(
    state: &mut State,
    versions: &[GroupVersionResource],
    newest: u64,
    key: &ObjectKey,
) -> Result<(), Status> {
    let (served, unserved): (Vec<_>, Vec<_>) = versions
        .iter()
        .map(|version| ObjectKey {
            resource: version.clone(),
            ..key.clone()
        })
        .partition(|key| state.registry.by_resource(&key.resource).is_some());
    let Some(first) = served.first() else {
        return Ok(());
    };
    let is_newest = |key: &ObjectKey| state.get(key).and_then(|held| held.version.number()) == Some(newest);
    let strays: Vec<_> = unserved
        .into_iter()
        .filter(|key| state.get(key).is_some())
        .collect();
    if strays.is_empty() && served.iter().all(is_newest) {
        return Ok(());
    }
    let Some(mut value) = state.value(key)? else {
        return Ok(());
    };
    let to = if served.contains(key) { key } else { first };
    if let (true, Some(kind)) = (to != key, state.registry.by_resource(&to.resource)) {
        value = convert(state, &key.resource, &kind, &value);
    }
    // First away, then back: a version that no longer serves it must not bury the incarnation that another serves.
    for stray in &strays {
        state.take(stray, false);
    }
    state.put(&to.resource, &mut value).map(drop)
}

fn family(resource: &GroupVersionResource) -> Option<&'static [Place]> {
    let holds = |family: &&&[Place]| family.iter().any(|place| gvr(place) == *resource);
    FAMILIES.iter().find(holds).copied()
}

fn gvr(place: &Place) -> GroupVersionResource {
    GroupVersionResource::new(place.0, place.1, place.2)
}

/// Group, version, resource.
type Place = (&'static str, &'static str, &'static str);

/// The built-in kinds that have several versions.
const FAMILIES: &[&[Place]] = &[
    &[("", "v1", "events"), ("events.k8s.io", "v1", "events")],
    &[
        ("autoscaling", "v2", "horizontalpodautoscalers"),
        ("autoscaling", "v1", "horizontalpodautoscalers"),
    ],
];
