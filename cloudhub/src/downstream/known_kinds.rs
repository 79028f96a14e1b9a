//! What every node gets something of, as far as the cluster has the kind: devices, their models, what service accounts may do.
//!
//! Their kinds come with CustomResourceDefinitions. Where a definition is absent, comes later or goes, these objects only are
//! concerned; pods do not wait for them.

use hub_core::object::GroupVersionResource;
use hub_core::registry::Registry;
use hub_core::scope::Scope;

use super::index::ScopeId;
use super::kinds::{accesses, devices, models};
use super::scopes::{Scopes, State};

/// See the [module](self).
pub(super) struct KnownKinds {
    kinds: Vec<KnownKind>,
}

struct KnownKind {
    resource: GroupVersionResource,
    scope: Option<ScopeId>,
    /// Whether the cluster would not have the last watch.
    refused: bool,
}

/// How much is known of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// All of it.
    All,
    /// It is being listed.
    Soon,
    /// Nobody knows when: the cluster refuses to say.
    Never,
}

impl KnownKinds {
    /// `policy`: whether nodes are told what service accounts may do.
    pub(super) fn new(policy: bool) -> Self {
        let kinds = [models(), devices()].into_iter().chain(policy.then(accesses));
        let kinds = kinds.map(|resource| KnownKind {
            resource,
            scope: None,
            refused: false,
        });
        Self {
            kinds: kinds.collect(),
        }
    }

    /// How many there are at most.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Watches what the cluster has by now.
    pub(super) fn open(&mut self, registry: &Registry, scopes: &mut Scopes) {
        for kind in self.kinds.iter_mut().filter(|kind| kind.scope.is_none()) {
            if registry.by_resource(&kind.resource).is_some() {
                kind.scope = scopes.open(&Scope::all(kind.resource.clone()));
            }
        }
    }

    /// Whether this is one of them.
    pub(super) fn contains(&self, scope: ScopeId) -> bool {
        self.kinds.iter().any(|kind| kind.scope == Some(scope))
    }

    /// The cluster refuses the watch. Whether that is for good: it has no such kind any more.
    pub(super) fn refused(&mut self, scope: ScopeId, registry: &Registry) -> bool {
        let Some(kind) = self.kinds.iter_mut().find(|kind| kind.scope == Some(scope)) else {
            return true;
        };
        kind.refused = true;
        let is_gone = registry.by_resource(&kind.resource).is_none();
        if is_gone {
            kind.scope = None;
            kind.refused = false;
        }
        is_gone
    }

    /// All of it is known from now on.
    pub(super) fn synced(&mut self, scope: ScopeId) {
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.scope == Some(scope)) {
            kind.refused = false;
        }
    }

    /// Whether all of this collection is known.
    pub(super) fn is_known(&self, resource: &GroupVersionResource, scopes: &Scopes) -> bool {
        let kind = self.kinds.iter().find(|kind| kind.resource == *resource);
        let scope = kind.and_then(|kind| kind.scope);
        scope.is_some_and(|scope| scopes.state(scope) == State::Synced)
    }

    /// The collections of which not all is known.
    pub(super) fn unknown(&self, scopes: &Scopes) -> impl Iterator<Item = (&GroupVersionResource, Known)> {
        self.kinds.iter().filter_map(|kind| {
            let known = match kind.scope {
                None => Known::All,
                Some(scope) if scopes.state(scope) == State::Synced => Known::All,
                Some(_) if kind.refused => Known::Never,
                Some(_) => Known::Soon,
            };
            (known != Known::All).then_some((&kind.resource, known))
        })
    }
}
