//! What is kept of local writes: notes beside local copies, and conflicts.

use std::sync::Arc;

use hub_core::api::User;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, ResourceVersion};
use hub_core::store::{Change, LocalCopy, NODE_ONLY, ObjectStore, Stored};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::merge::Clash;
use super::policy::{LocalClass, Winner};
use super::unanswered::OF_AN_OBJECT_MAX;

/// What is noted beside the local state of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// The cloud's object when the first of the writes was made; null where it had none.
    pub(super) base: Value,
    pub(super) class: LocalClass,
    pub(super) wins: Winner,
    /// The store's revision at the first write: the order within a class.
    pub(super) order: u64,
    pub(super) since_ms: i64,
    pub(super) writes: u64,
    /// In whose name the cloud is told: of whoever wrote, as long as it was one. What several wrote the node tells in its own name,
    /// which reaches no further than what is the node's.
    #[serde(default)]
    pub(super) user: Option<User>,
    /// Set while all that was written is what one manager applied: then that is told, and not its outcome.
    #[serde(default)]
    pub(super) intent: Option<Intent>,
    /// Whether the object of the cloud was deleted here, and then made anew under its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) remade: bool,
    /// States to which this node may itself have brought the cloud's object since: what it asked for without hearing an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) own: Vec<Value>,
}

/// What a manager applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    pub(super) manager: String,
    pub(super) force: bool,
    /// Through `status`.
    pub(super) status: bool,
    /// Without versions, which are this node's.
    pub(super) body: Value,
}

impl Note {
    /// One more write, by this user, of which this is the intent if it was an apply. The cloud may have `own` by now.
    pub(super) fn goes_on(&mut self, user: Option<User>, intent: Option<Intent>, own: Vec<Value>) {
        self.writes += 1;
        for state in own {
            if !self.own.contains(&state) {
                self.own.push(state);
            }
        }
        let over = self.own.len().saturating_sub(OF_AN_OBJECT_MAX);
        self.own.drain(..over);
        if self.user != user {
            self.user = None;
        }
        let same = |a: &Intent, b: &Intent| (&a.manager, a.status) == (&b.manager, b.status);
        self.intent = match (&self.intent, intent) {
            (Some(before), Some(now)) if same(before, &now) => Some(now),
            _ => None,
        };
    }
}

/// An object with a local state that the cloud has not yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) copy: LocalCopy,
    pub(super) note: Note,
}

impl Pending {
    pub(super) fn of(stored: &Stored) -> Option<Self> {
        let copy = LocalCopy::of(&stored.object)?;
        let note = serde_json::from_slice(&copy.note).ok()?;
        Some(Self { copy, note })
    }

    pub(super) fn get(store: &dyn ObjectStore, key: &ObjectKey) -> Option<Self> {
        Self::of(&*store.get(&LocalCopy::key_of(key))?)
    }

    /// All of them, in the order in which the cloud is told.
    pub(super) fn all(store: &dyn ObjectStore) -> Vec<Self> {
        let copies = store.list(LocalCopy::resource(), None).objects;
        let mut all: Vec<_> = copies.iter().filter_map(|stored| Self::of(stored)).collect();
        all.sort_by_key(|pending| (pending.note.class, pending.note.order));
        all
    }

    pub(super) fn put(&self) -> Result<Change, serde_json::Error> {
        let note = serde_json::to_vec(&self.note)?.into();
        LocalCopy {
            note,
            ..self.copy.clone()
        }
        .put()
    }
}

/// An object that was written on this node while the cloud was away, and that the cloud has not been told of yet.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingWrite {
    /// Its path on an API server.
    pub path: String,
    /// In which order it is told.
    pub class: LocalClass,
    /// When the first of the writes was made, in Unix milliseconds.
    pub since_ms: i64,
    /// How many there were.
    pub writes: u64,
}

/// A local write, or a part of one, that the cloud did not take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteConflict {
    /// The path of the object on an API server.
    pub path: String,
    /// When the first of the writes was made, in Unix milliseconds.
    pub since_ms: i64,
    /// When the cloud was told, in Unix milliseconds.
    pub at_ms: i64,
    /// `Merged`: the cloud had changed the same fields. `Gone`: it had deleted the object. `Refused`: it said no.
    pub reason: String,
    /// What happened, as a sentence.
    pub message: String,
    /// The fields that both ends had changed: pointer, both values, and who won.
    pub fields: Value,
    /// The object as this node had written it.
    pub local: Value,
}

/// Local writes that are still to be told, and those that came to nothing.
#[derive(Debug, Clone, Serialize)]
pub struct LocalJournal {
    /// In the order in which they will be told.
    pub pending: Vec<PendingWrite>,
    /// Oldest first.
    pub conflicts: Vec<WriteConflict>,
}

impl LocalJournal {
    pub(super) fn of(store: &dyn ObjectStore) -> Self {
        let pending = Pending::all(store).into_iter().map(|pending| PendingWrite {
            path: path(&pending.copy.key),
            class: pending.note.class,
            since_ms: pending.note.since_ms,
            writes: pending.note.writes,
        });
        let kept = conflicts(store);
        let read = kept
            .iter()
            .filter_map(|stored| serde_json::from_slice(&stored.object.body).ok());
        Self {
            pending: pending.collect(),
            conflicts: read.collect(),
        }
    }
}

impl WriteConflict {
    pub(super) fn new(
        pending: &Pending,
        reason: &str,
        message: String,
        clashes: &[Clash],
        at_ms: i64,
    ) -> Self {
        Self {
            path: path(&pending.copy.key),
            since_ms: pending.note.since_ms,
            at_ms,
            reason: reason.into(),
            message,
            fields: serde_json::to_value(clashes).unwrap_or_default(),
            local: serde_json::from_slice(&pending.copy.body).unwrap_or_default(),
        }
    }

    /// The changes that keep it, and make room for it.
    pub(super) fn put(&self, store: &dyn ObjectStore, max: usize) -> Result<Vec<Change>, serde_json::Error> {
        let kept = conflicts(store);
        let over = (kept.len() + 1).saturating_sub(max.max(1));
        let mut changes: Vec<_> = kept[..over.min(kept.len())]
            .iter()
            .map(|old| {
                tracing::warn!(
                    name = &*old.object.key.name,
                    "the oldest conflict made room for a new one"
                );
                Change::Delete {
                    key: old.object.key.clone(),
                    uid: None,
                    version: None,
                }
            })
            .collect();
        let name = format!("{:020}{}", store.revision().0, self.path);
        changes.push(Change::Put(Object {
            key: ObjectKey::new(conflict_resource(), None, &name),
            uid: "".into(),
            version: ResourceVersion::from(""),
            body: serde_json::to_vec(self)?.into(),
        }));
        Ok(changes)
    }
}

pub(super) fn path(key: &ObjectKey) -> String {
    key.resource.path(key.namespace.as_deref(), Some(&key.name))
}

/// Oldest first, by their names.
pub(super) fn conflicts(store: &dyn ObjectStore) -> Vec<Arc<Stored>> {
    store.list(&conflict_resource(), None).objects
}

fn conflict_resource() -> GroupVersionResource {
    GroupVersionResource::new(NODE_ONLY, "v1", "writeconflicts")
}
