//! ConfigMaps and Secrets one by one, where the cluster does not let the hub list them all.
//!
//! What pods need is then watched by name, for as long as one needs it. Other objects, and pods that need none of these, are not
//! concerned.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;

use super::index::{Index, ScopeId};
use super::scopes::Scopes;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Narrow {
    /// The collections that are withheld.
    withheld: BTreeSet<GroupVersionResource>,
    watched: BTreeMap<ObjectKey, ScopeId>,
    scopes: HashSet<ScopeId>,
    /// What was needed when it was last looked at.
    seen: Option<u64>,
}

impl Narrow {
    /// The cluster will not list this collection.
    pub(super) fn withhold(&mut self, resource: GroupVersionResource) {
        self.withheld.insert(resource);
        self.seen = None;
    }

    /// It does, after all.
    pub(super) fn grant(&mut self, resource: &GroupVersionResource) {
        if self.withheld.remove(resource) {
            self.seen = None;
        }
    }

    /// Whether the collection is withheld.
    pub(super) fn withholds(&self, resource: &GroupVersionResource) -> bool {
        self.withheld.contains(resource)
    }

    /// The collections that are withheld.
    pub(super) fn resources(&self) -> impl Iterator<Item = &GroupVersionResource> {
        self.withheld.iter()
    }

    /// Whether this is one of its watches.
    pub(super) fn contains(&self, scope: ScopeId) -> bool {
        self.scopes.contains(&scope)
    }

    /// Watches what is needed by now. Returns the watches of what is not needed any more, to be closed.
    pub(super) fn follow(&mut self, index: &Index, scopes: &mut Scopes) -> Vec<ScopeId> {
        if self.seen == Some(index.needs_revision()) || (self.withheld.is_empty() && self.watched.is_empty())
        {
            return Vec::new();
        }
        self.seen = Some(index.needs_revision());
        let needed: BTreeSet<&ObjectKey> = index
            .needed()
            .filter(|key| self.withheld.contains(&key.resource))
            .collect();
        let mut closed = Vec::new();
        self.watched.retain(|key, scope| {
            let stays = needed.contains(key);
            if !stays {
                self.scopes.remove(scope);
                closed.push(*scope);
            }
            stays
        });
        for key in needed {
            if self.watched.contains_key(key) {
                continue;
            }
            let Some(scope) = scopes.open(&Scope::object(key)) else {
                tracing::warn!(%key, "too many scopes are watched; a pod waits for what it needs");
                continue;
            };
            self.watched.insert(key.clone(), scope);
            self.scopes.insert(scope);
        }
        closed
    }
}
