//! Changes that are worked out but not yet visible: what a durable store writes to its disk in between.

mod ahead;
mod copies;

use std::sync::{Arc, MutexGuard, PoisonError};

use ahead::Ahead;

use super::local::LocalCopy;
use super::memory::RevisionSource;
use super::splice::{with_resource_version, without_managed_fields};
use super::state::Shared;
use super::{Change, Coverage, StoreError, Stored};
use crate::object::{Object, ObjectKey, ResourceVersion, Revision};
use crate::scope::Scope;

/// One thing to be made durable. Changes that the store ignores make none.
#[derive(Debug, Clone)]
pub enum Write {
    /// The object is now this.
    Put {
        /// The new state.
        stored: Arc<Stored>,
        /// The old one.
        previous: Option<Arc<Stored>>,
    },
    /// The object is gone.
    Delete {
        /// Its last state, with the revision of the deletion.
        stored: Arc<Stored>,
        /// That state with its own revision.
        previous: Arc<Stored>,
    },
    /// This incarnation is gone at this version, and must not come back by a late copy of an earlier state.
    Bury {
        /// Which.
        uid: Arc<str>,
        /// That of the deletion; of the last state, where it is merely not needed here any more and may be needed again.
        version: u64,
    },
    /// A scope is now held so, or no longer wanted.
    Scope {
        /// Which.
        scope: Scope,
        /// None when nobody wants it any more.
        coverage: Option<Coverage>,
    },
}

/// The next changes of a [`MemoryStore`](super::MemoryStore). There is one at a time; dropped, nothing has happened.
///
/// ```text
/// store.stage() ── change(…) … change(…) ── writes() to the disk ──► commit()   visible, all at one instant
///                                                             └────► drop       as if nothing had been
/// ```
#[derive(Debug)]
pub struct Staged<'a> {
    shared: &'a Shared,
    _writer: MutexGuard<'a, ()>,
    writes: Vec<Write>,
    ahead: Ahead,
}

impl<'a> Staged<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = Ahead::of(shared.read().revision);
        Self {
            shared,
            _writer: writer,
            writes: Vec::new(),
            ahead,
        }
    }

    /// Adds changes, all or none, and returns the revision at their end. Fails only with [`StoreError::Full`].
    pub fn change(&mut self, changes: Vec<Change>) -> Result<Revision, StoreError> {
        let (mark, revision) = (self.writes.len(), self.ahead.revision);
        for change in changes {
            if let Err(error) = self.one(change) {
                let writes: Vec<_> = self.writes.drain(..).take(mark).collect();
                self.ahead = Ahead::default();
                for write in writes {
                    self.write(write);
                }
                self.ahead.revision = revision;
                return Err(error);
            }
        }
        Ok(self.ahead.revision)
    }

    /// What has to be made durable before [`commit`](Self::commit), in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The revision of the newest change.
    pub fn revision(&self) -> Revision {
        self.ahead.revision
    }

    /// Makes everything visible and wakes the watches.
    pub fn commit(self) -> Revision {
        for write in &self.writes {
            self.learn(write);
        }
        self.shared.publish(&self.writes, self.ahead.revision);
        self.ahead.revision
    }

    fn one(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Put(mut object) => {
                settle(&mut object.key);
                let copy = LocalCopy::of(&object);
                self.put(object)?;
                if let Some(copy) = copy {
                    self.lay_over(&copy);
                }
            }
            Change::Refresh(mut object) => {
                settle(&mut object.key);
                let held = self.get(&object.key);
                if held.is_some_and(|held| same_incarnation(&held.object.uid, &object.uid)) {
                    self.put(object)?;
                }
            }
            Change::Delete {
                mut key,
                uid,
                version,
            } => {
                settle(&mut key);
                let copy = self.get(&key).and_then(|held| LocalCopy::of(&held.object));
                self.delete(&key, uid, version.as_ref());
                if let Some(copy) = copy {
                    self.uncover(&copy.key);
                }
            }
            Change::Want(scope) => {
                if self.ahead.coverage(&scope, self.shared).is_none() {
                    self.scope(scope, Some(Coverage::Loading));
                }
            }
            Change::Complete(scope) => {
                // Nobody wants it any more: the word is late.
                if self.ahead.coverage(&scope, self.shared) == Some(Coverage::Loading) {
                    self.scope(scope, Some(Coverage::Complete));
                }
            }
            Change::Drop(scope) => {
                if self.ahead.coverage(&scope, self.shared).is_some() {
                    self.scope(scope, None);
                }
            }
        }
        self.ahead.check_limits(self.shared)
    }

    fn put(&mut self, mut object: Object) -> Result<(), StoreError> {
        let version = object.version.number();
        let buried = self.ahead.buried(&object.uid, self.shared);
        if version.is_some_and(|version| buried.is_some_and(|buried| version < buried)) {
            return Ok(());
        }
        let mut previous = self.get(&object.key);
        let copy = self.copy(&object.key);
        if copy.as_ref().is_some_and(LocalCopy::is_deletion) {
            return Ok(());
        }
        if let Some(old) = &previous {
            let made_here = copy.is_some() && old.object.version.as_str().is_empty();
            if made_here || same_incarnation(&old.object.uid, &object.uid) {
                let passed = match (version, old.object.version.number()) {
                    (Some(new), Some(old)) => new <= old,
                    _ => old.object.version == object.version && old.object.body == object.body,
                };
                if passed {
                    return Ok(());
                }
            } else if self.shared.source == RevisionSource::Own && copy.is_none() {
                // Another uid under the same name proves that the old object was deleted, after its last state.
                let old = old.clone();
                let after = old.object.version.number().map(|held| held.saturating_add(1));
                self.remove(old, after);
                previous = None;
            }
        }
        let Some(revision) = self.next_revision(version, &object) else {
            return Ok(());
        };
        let served = match copy {
            Some(copy) => with_resource_version(&copy.body, revision.0),
            None => self.served(&mut object, revision),
        };
        let stored = Arc::new(Stored {
            object,
            revision,
            served,
        });
        self.write(Write::Put { stored, previous });
        Ok(())
    }

    fn delete(&mut self, key: &ObjectKey, uid: Option<Arc<str>>, version: Option<&ResourceVersion>) {
        let version = version.and_then(ResourceVersion::number);
        let old = self.get(key).filter(|old| {
            uid.as_ref()
                .is_none_or(|uid| same_incarnation(&old.object.uid, uid))
        });
        match (old, uid) {
            (Some(old), _) => {
                let passed = match (version, old.object.version.number()) {
                    (Some(deleted), Some(held)) => deleted < held,
                    _ => false,
                };
                if passed {
                    return;
                }
                match self.copy(key) {
                    Some(copy) => self.only_here(&old, &copy, version),
                    None => self.remove(old, version),
                }
            }
            // It was never here, or another one took its place: a late copy of it must not come after.
            (None, Some(uid)) => self.bury(uid, version),
            (None, None) => {}
        }
    }

    fn remove(&mut self, old: Arc<Stored>, version: Option<u64>) {
        let (uid, held) = (old.object.uid.clone(), old.object.version.number());
        if self.take(old, version) {
            self.bury(uid, version.max(held));
        }
    }

    /// Removes an object that the cloud may bring back at the same version.
    fn hide(&mut self, old: Arc<Stored>) {
        self.take(old, None);
    }

    fn take(&mut self, old: Arc<Stored>, version: Option<u64>) -> bool {
        let Some(revision) = self.next_revision(version, &old.object) else {
            return false;
        };
        let last = match self.shared.source {
            RevisionSource::Own => &old.object.body,
            RevisionSource::Version => &old.served,
        };
        let stored = Arc::new(Stored {
            object: old.object.clone(),
            revision,
            served: with_resource_version(last, revision.0),
        });
        self.write(Write::Delete {
            stored,
            previous: old,
        });
        true
    }

    fn bury(&mut self, uid: Arc<str>, version: Option<u64>) {
        if let Some(version) = version.filter(|_| !uid.is_empty())
            && self
                .ahead
                .buried(&uid, self.shared)
                .is_none_or(|known| known < version)
        {
            self.write(Write::Bury { uid, version });
        }
    }

    fn scope(&mut self, scope: Scope, coverage: Option<Coverage>) {
        self.write(Write::Scope { scope, coverage });
    }

    fn next_revision(&self, version: Option<u64>, object: &Object) -> Option<Revision> {
        let next = self.ahead.revision.next();
        match self.shared.source {
            RevisionSource::Own => Some(next),
            RevisionSource::Version => version.map(Revision).filter(|given| {
                *given >= next || (*given == self.ahead.revision && self.is_shown_again(object))
            }),
        }
    }

    /// Whether the last change was to the same object in another of its kind's versions: both have one revision.
    fn is_shown_again(&self, object: &Object) -> bool {
        let last = self.writes.iter().rev().find_map(|write| match write {
            Write::Put { stored, .. } | Write::Delete { stored, .. } => Some(&stored.object),
            Write::Bury { .. } | Write::Scope { .. } => None,
        });
        last.is_some_and(|last| {
            !object.uid.is_empty() && last.uid == object.uid && last.key.resource != object.key.resource
        })
    }

    fn served(&self, object: &mut Object, revision: Revision) -> bytes::Bytes {
        match self.shared.source {
            RevisionSource::Own => with_resource_version(&object.body, revision.0),
            // The body says it already. Who owns its fields is served, but goes to no node.
            RevisionSource::Version => {
                let kept = without_managed_fields(&object.body);
                std::mem::replace(&mut object.body, kept)
            }
        }
    }

    /// Notes a write, and what follows from it for later changes.
    fn write(&mut self, write: Write) {
        self.ahead.note(&write, self.shared);
        self.writes.push(write);
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.ahead.get(key, self.shared)
    }

    /// Keeps the registry up with the definitions of custom kinds.
    fn learn(&self, write: &Write) {
        match write {
            Write::Put { stored, .. } if is_definition(&stored.object.key) => {
                if let Err(error) = self.shared.registry.apply_definition(&stored.object.body) {
                    tracing::warn!(name = &*stored.object.key.name, %error, "a CustomResourceDefinition cannot be read");
                }
            }
            Write::Delete { stored, .. } if is_definition(&stored.object.key) => {
                self.shared.registry.remove_definition(&stored.object.key.name);
            }
            _ => {}
        }
    }
}

/// An empty namespace is none: no disk has to tell them apart.
fn settle(key: &mut ObjectKey) {
    key.namespace.take_if(|namespace| namespace.is_empty());
}

/// An empty uid is unknown, and may be any.
fn same_incarnation(a: &str, b: &str) -> bool {
    a == b || a.is_empty() || b.is_empty()
}

/// Whether the object defines custom kinds.
pub(super) fn is_definition(key: &ObjectKey) -> bool {
    &*key.resource.group == "apiextensions.k8s.io"
        && &*key.resource.version == "v1"
        && &*key.resource.resource == "customresourcedefinitions"
}
