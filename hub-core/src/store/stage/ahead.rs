//! The state as it will be once what is staged is visible.

use std::collections::HashMap;
use std::sync::Arc;

use super::Write;
use crate::object::{ObjectKey, Revision};
use crate::scope::Scope;
use crate::store::local::LocalCopy;
use crate::store::state::{Shared, size};
use crate::store::{Coverage, StoreError, Stored};

/// The state as it will be, as far as it differs.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) revision: Revision,
    objects: HashMap<ObjectKey, Option<Arc<Stored>>>,
    buried: HashMap<Arc<str>, u64>,
    scopes: HashMap<Scope, Option<Coverage>>,
    /// Whether there may be a local copy among the objects.
    pub(super) copies: bool,
    objects_added: isize,
    bytes_added: isize,
    scopes_added: isize,
}

impl Ahead {
    /// As it is.
    pub(super) fn of(revision: Revision) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    pub(super) fn get(&self, key: &ObjectKey, shared: &Shared) -> Option<Arc<Stored>> {
        match self.objects.get(key) {
            Some(known) => known.clone(),
            None => shared.read().get(key).cloned(),
        }
    }

    pub(super) fn buried(&self, uid: &str, shared: &Shared) -> Option<u64> {
        let known = self.buried.get(uid).copied();
        known.or_else(|| shared.read().tombstones.version(uid))
    }

    pub(super) fn coverage(&self, scope: &Scope, shared: &Shared) -> Option<Coverage> {
        match self.scopes.get(scope) {
            Some(known) => *known,
            None => shared.read().scopes.get(scope).copied(),
        }
    }

    /// Whether the store may be as large as this.
    pub(super) fn check_limits(&self, shared: &Shared) -> Result<(), StoreError> {
        let (state, limits) = (shared.read(), &shared.limits);
        let over = |held: usize, added: isize, max: usize| {
            added > 0 && held.checked_add_signed(added).is_none_or(|total| total > max)
        };
        if over(state.objects, self.objects_added, limits.objects_max) {
            return Err(StoreError::Full("objects_max"));
        }
        if over(state.bytes, self.bytes_added, limits.bytes_max) {
            return Err(StoreError::Full("bytes_max"));
        }
        if over(state.scopes.len(), self.scopes_added, limits.scopes_max) {
            return Err(StoreError::Full("scopes_max"));
        }
        Ok(())
    }

    /// What follows from a write for later changes.
    pub(super) fn note(&mut self, write: &Write, shared: &Shared) {
        match write {
            Write::Put { stored, previous } => {
                self.revision = stored.revision;
                self.copies |= stored.object.key.resource == *LocalCopy::resource();
                self.bytes_added += size(stored) as isize;
                match previous {
                    Some(previous) => self.bytes_added -= size(previous) as isize,
                    None => self.objects_added += 1,
                }
                self.objects
                    .insert(stored.object.key.clone(), Some(stored.clone()));
            }
            Write::Delete { stored, previous } => {
                self.revision = stored.revision;
                self.objects_added -= 1;
                self.bytes_added -= size(previous) as isize;
                self.objects.insert(stored.object.key.clone(), None);
            }
            Write::Bury { uid, version } => {
                self.buried.insert(uid.clone(), *version);
            }
            Write::Scope { scope, coverage } => {
                let known = match self.scopes.insert(scope.clone(), *coverage) {
                    Some(known) => known,
                    None => shared.read().scopes.get(scope).copied(),
                };
                self.scopes_added += isize::from(coverage.is_some()) - isize::from(known.is_some());
            }
        }
    }
}
