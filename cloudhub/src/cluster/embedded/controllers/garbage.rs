//! Dependents of a deleted owner: they go with it, before it, or stay without it (Kubernetes `pkg/controller/garbagecollector`).
//!
//! ```text
//! Background   the owner goes, then its dependents                                    (what a client gets that says nothing)
//! Foreground   the owner waits (finalizer foregroundDeletion) for those that block it (blockOwnerDeletion)
//! Orphan       the owner waits (finalizer orphan) until its dependents name it no more
//! ```
//!
//! A real cluster does this some moments after the answer. Here it is done in the same commit, after the answer was made: a client
//! sees the same answers and events, only sooner. What is created with an owner that is gone already is left alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hub_core::api::Status;
use hub_core::object::{Object, ObjectKey};
use serde::Deserialize;
use serde_json::Value;

use super::propagation::{FOREGROUND, ORPHAN, Propagation, drop_finalizer, has_finalizer};
use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::verbs::delete;

/// Something that a step left to be looked at.
#[derive(Debug)]
pub(in crate::cluster::embedded) enum Garbage {
    /// An object is gone.
    Gone(Object),
    /// An object that is being deleted waits for its dependents.
    Held(ObjectKey),
    /// An object no longer names these owners.
    Left(ObjectKey, Value),
}

/// Which objects name an owner, by its uid.
#[derive(Debug, Default)]
pub(in crate::cluster::embedded) struct Dependents {
    of: HashMap<Arc<str>, BTreeSet<ObjectKey>>,
}

impl Dependents {
    pub(in crate::cluster::embedded) fn add(&mut self, object: &Object) {
        for uid in owners(object) {
            self.of.entry(uid).or_default().insert(object.key.clone());
        }
    }

    pub(in crate::cluster::embedded) fn remove(&mut self, object: &Object) {
        for uid in owners(object) {
            if let Some(all) = self.of.get_mut(&uid) {
                all.remove(&object.key);
                if all.is_empty() {
                    self.of.remove(&uid);
                }
            }
        }
    }

    fn of(&self, uid: &str) -> Vec<ObjectKey> {
        let all = self.of.get(uid).into_iter().flatten();
        all.cloned().collect()
    }
}

/// Collects what the last steps left, and what that leaves in turn. What cannot be collected stays as it is.
pub(in crate::cluster::embedded) fn collect(state: &mut State) {
    while let Some(garbage) = state.garbage.pop_front() {
        let (mark, waiting) = (state.mark(), state.garbage.len());
        let done = match &garbage {
            Garbage::Gone(object) => gone(state, object),
            Garbage::Held(key) => held(state, key),
            Garbage::Left(key, owners) => release(state, key, owners),
        };
        if let Err(status) = done {
            state.roll_back(mark);
            state.garbage.truncate(waiting);
            tracing::warn!(why = status.message, ?garbage, "dependents were not collected");
        }
    }
}

fn gone(state: &mut State, object: &Object) -> Result<(), Status> {
    for dependent in state.dependents.of(&object.uid) {
        dispose(state, &dependent)?;
    }
    if owners(object).next().is_none() {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    release(state, &object.key, &value["metadata"]["ownerReferences"])
}

/// Owners may have waited for this one only.
fn release(state: &mut State, key: &ObjectKey, owners: &Value) -> Result<(), Status> {
    for owner in owners.as_array().into_iter().flatten() {
        if let Some(owner) = owner_key(state, key, owner) {
            held(state, &owner)?;
        }
    }
    Ok(())
}

fn held(state: &mut State, key: &ObjectKey) -> Result<(), Status> {
    let Some(value) = state.value(key)? else {
        return Ok(());
    };
    if meta(&value, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let uid = meta(&value, "uid").to_owned();
    if has_finalizer(&value, ORPHAN) {
        for dependent in state.dependents.of(&uid) {
            disown(state, &dependent, |owner| owner["uid"] == *uid)?;
        }
        return let_go(state, key, value, ORPHAN);
    }
    if !has_finalizer(&value, FOREGROUND) {
        return Ok(());
    }
    for dependent in blocking(state, &uid)? {
        dispose(state, &dependent)?;
    }
    if blocking(state, &uid)?.is_empty() {
        let_go(state, key, value, FOREGROUND)?;
    }
    Ok(())
}

fn let_go(state: &mut State, key: &ObjectKey, mut value: Value, finalizer: &str) -> Result<(), Status> {
    drop_finalizer(&mut value, finalizer);
    state.put(&key.resource, &mut value)?;
    delete::finish(state, key)
}

/// Deletes a dependent that nobody owns any more; one that others own forgets the owners that are gone or going.
fn dispose(state: &mut State, key: &ObjectKey) -> Result<(), Status> {
    let (Some(value), Some(kind)) = (state.value(key)?, state.registry.by_resource(&key.resource)) else {
        return Ok(());
    };
    if !meta(&value, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let owners = value["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut standings = Vec::with_capacity(owners.len());
    for owner in &owners {
        standings.push(standing(state, key, owner)?);
    }
    if standings.contains(&Standing::Solid) {
        let leaving: Vec<&Value> = owners
            .iter()
            .zip(&standings)
            .filter(|(_, standing)| **standing != Standing::Solid)
            .map(|(owner, _)| owner)
            .collect();
        return disown(state, key, |owner| leaving.contains(&owner));
    }
    let blocks =
        standings.contains(&Standing::Waiting) && !state.dependents.of(meta(&value, "uid")).is_empty();
    let propagation = if blocks {
        Some(Propagation::Foreground)
    } else if has_finalizer(&value, ORPHAN) || has_finalizer(&value, FOREGROUND) {
        // It says itself how.
        None
    } else {
        Some(Propagation::Background)
    };
    delete::cascade(state, &kind, key, propagation)
}

fn disown(state: &mut State, key: &ObjectKey, leaving: impl Fn(&Value) -> bool) -> Result<(), Status> {
    let Some(mut value) = state.value(key)? else {
        return Ok(());
    };
    let Some(owners) = value["metadata"]["ownerReferences"].as_array_mut() else {
        return Ok(());
    };
    owners.retain(|owner| !leaving(owner));
    if owners.is_empty()
        && let Some(metadata) = value["metadata"].as_object_mut()
    {
        metadata.remove("ownerReferences");
    }
    state.put(&key.resource, &mut value).map(drop)
}

/// Dependents that an owner waits for.
fn blocking(state: &State, uid: &str) -> Result<Vec<ObjectKey>, Status> {
    let mut blocking = Vec::new();
    for key in state.dependents.of(uid) {
        let value = state.value(&key)?.unwrap_or_default();
        let owners = value["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        let mut own = owners.filter(|owner| owner["uid"] == *uid);
        if own.any(|owner| owner["blockOwnerDeletion"] == true) {
            blocking.push(key);
        }
    }
    Ok(blocking)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is there, or of a kind that is not known here: nobody may say that it is gone.
    Solid,
    /// It is on its way, and waits for its dependents.
    Waiting,
    Gone,
}

fn standing(state: &State, dependent: &ObjectKey, owner: &Value) -> Result<Standing, Status> {
    let Some(key) = owner_key(state, dependent, owner) else {
        return Ok(Standing::Solid);
    };
    Ok(match state.value(&key)? {
        Some(value) if owner["uid"] == *meta(&value, "uid") => {
            let going = !meta(&value, "deletionTimestamp").is_empty();
            if going && has_finalizer(&value, FOREGROUND) {
                Standing::Waiting
            } else {
                Standing::Solid
            }
        }
        _ => Standing::Gone,
    })
}

fn owner_key(state: &State, dependent: &ObjectKey, owner: &Value) -> Option<ObjectKey> {
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let kind = state.registry.by_kind(text("apiVersion"), text("kind"))?;
    let namespace = dependent.namespace.as_deref().filter(|_| kind.namespaced);
    Some(ObjectKey::new(kind.resource.clone(), namespace, text("name")))
}

/// The uids of an object's owners. Most objects have none, and are not parsed to see it.
fn owners(object: &Object) -> impl Iterator<Item = Arc<str>> {
    #[derive(Deserialize)]
    struct Owned {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "ownerReferences", default)]
        owners: Vec<Owner>,
    }
    #[derive(Deserialize)]
    struct Owner {
        uid: Arc<str>,
    }
    let has_owners = memchr::memmem::find(&object.body, b"\"ownerReferences\"").is_some();
    let owned = has_owners
        .then(|| serde_json::from_slice::<Owned>(&object.body).ok())
        .flatten();
    owned
        .into_iter()
        .flat_map(|owned| owned.metadata.owners)
        .map(|owner| owner.uid)
}
