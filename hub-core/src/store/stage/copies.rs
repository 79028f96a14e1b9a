//! Local copies over what the cloud has: what is served while a write waits to be told.

use std::sync::Arc;

use bytes::Bytes;

use super::{Staged, Write};
use crate::object::{Metadata, Object, ObjectKey};
use crate::store::Stored;
use crate::store::local::LocalCopy;
use crate::store::splice::with_resource_version;

impl Staged<'_> {
    /// Serves a local copy from now on, made here or laid over what the cloud has.
    pub(super) fn lay_over(&mut self, copy: &LocalCopy) {
        let previous = self.get(&copy.key);
        if copy.is_deletion() {
            if let Some(old) = previous {
                self.hide(old);
            }
            return;
        }
        let object = match &previous {
            Some(old) if !old.object.version.as_str().is_empty() => old.object.clone(),
            _ => made_here(copy),
        };
        self.show(object, &copy.body, previous);
    }

    /// Serves again what the cloud has.
    pub(super) fn uncover(&mut self, key: &ObjectKey) {
        let Some(old) = self.get(key) else { return };
        if old.object.version.as_str().is_empty() {
            self.remove(old, None);
        } else {
            self.show(old.object.clone(), &old.object.body, Some(old.clone()));
        }
    }

    /// The cloud has it no more, but a write to it is still to be told: it stays until that is settled.
    pub(super) fn only_here(&mut self, old: &Arc<Stored>, copy: &LocalCopy, version: Option<u64>) {
        let (uid, held) = (old.object.uid.clone(), old.object.version.number());
        self.show(made_here(copy), &copy.body, Some(old.clone()));
        self.bury(uid, version.max(held));
    }

    fn show(&mut self, object: Object, served: &Bytes, previous: Option<Arc<Stored>>) {
        let Some(revision) = self.next_revision(object.version.number(), &object) else {
            return;
        };
        let served = with_resource_version(served, revision.0);
        let stored = Arc::new(Stored {
            object,
            revision,
            served,
        });
        self.write(Write::Put { stored, previous });
    }

    /// The local copy of an object, where there is one.
    pub(super) fn copy(&self, key: &ObjectKey) -> Option<LocalCopy> {
        let copies = LocalCopy::resource();
        if !self.ahead.copies && !self.shared.read().holds(copies) {
            return None;
        }
        LocalCopy::of(&self.get(&LocalCopy::key_of(key))?.object)
    }
}

/// An object that the cloud does not have: its version is empty.
fn made_here(copy: &LocalCopy) -> Object {
    let uid = Metadata::parse(&copy.body).map_or_else(|_| "".into(), |metadata| (&*metadata.uid).into());
    Object {
        key: copy.key.clone(),
        uid,
        version: "".into(),
        body: copy.body.clone(),
    }
}
