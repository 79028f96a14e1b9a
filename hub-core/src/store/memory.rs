//! A store in memory: what every reader sees, whether or not a disk stands behind it.

use std::ops::Bound;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::splice::with_resource_version;
use super::stage::{Staged, is_definition};
use super::state::{Name, Shared};
use super::{Change, Compacted, Coverage, Listing, LogLimits, ObjectStore, StoreError, Stored, Watch};
use crate::object::{GroupVersionResource, Object, ObjectKey, Revision};
use crate::registry::Registry;
use crate::scope::Scope;

/// What a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Objects.
    pub objects_max: usize,
    /// Bytes of all bodies, as they came and as they are served.
    pub bytes_max: usize,
    /// Scopes wanted at a time.
    pub scopes_max: usize,
    /// Deletions remembered against late copies.
    pub tombstones_max: usize,
    /// The history of each collection.
    pub log: LogLimits,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            objects_max: 100_000,
            bytes_max: 1 << 30,
            scopes_max: 4096,
            tombstones_max: 4096,
            log: LogLimits::default(),
        }
    }
}

/// Where the revisions of a store come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevisionSource {
    /// The store counts its own changes; `served` bodies carry its count. This is a node's store.
    #[default]
    Own,
    /// The version of an object *is* the revision of its change, and its body is served as it is: the store of a cluster that
    /// gives versions itself. A Put or Delete whose version is no number, or not above the store's revision, is ignored.
    Version,
}

/// What a store held before, read back from a disk.
#[derive(Debug)]
pub struct Restored {
    /// The newest revision. Histories begin here: watches from before it are told so. 0 counts as 1.
    pub revision: Revision,
    /// The objects with their revisions.
    pub objects: Vec<(Object, Revision)>,
    /// The scopes.
    pub scopes: Vec<(Scope, Coverage)>,
    /// Deleted uids and the versions they had passed, oldest first.
    pub tombstones: Vec<(Arc<str>, u64)>,
}

/// Objects in memory. Cheap to clone; all clones are the same store.
///
/// Readers take one short lock and get shared bytes. A durable store keeps one of these in front: it [`stage`](Self::stage)s changes,
/// writes them down, and commits.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// An empty store that counts its own revisions from 1. `registry` will follow the CustomResourceDefinitions in it.
    pub fn new(limits: StoreLimits, registry: Registry) -> Self {
        let nothing = Restored {
            revision: Revision(1),
            objects: Vec::new(),
            scopes: Vec::new(),
            tombstones: Vec::new(),
        };
        Self::restore(limits, registry, RevisionSource::Own, nothing)
    }

    /// A store that goes on where another stopped. Nothing that is restored is refused, whatever the limits.
    pub fn restore(
        limits: StoreLimits,
        registry: Registry,
        source: RevisionSource,
        restored: Restored,
    ) -> Self {
        let newest = restored.objects.iter().map(|(_, revision)| *revision).max();
        let revision = restored.revision.max(newest.unwrap_or_default()).max(Revision(1));
        let mut shared = Shared::new(limits, source, registry, revision);
        for (object, _) in restored.objects.iter().filter(|(o, _)| is_definition(&o.key)) {
            if let Err(error) = shared.registry.apply_definition(&object.body) {
                tracing::warn!(name = &*object.key.name, %error, "a CustomResourceDefinition cannot be read");
            }
        }
        shared.restore(|state, log| {
            for (object, revision) in restored.objects {
                let served = match source {
                    RevisionSource::Own => with_resource_version(&object.body, revision.0),
                    RevisionSource::Version => object.body.clone(),
                };
                let stored = Stored {
                    object,
                    revision,
                    served,
                };
                state.insert(Arc::new(stored), log);
            }
            state.scopes.extend(restored.scopes);
            for (uid, version) in restored.tombstones {
                state.tombstones.bury(uid, version);
            }
        });
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Begins the next changes; waits while others are being prepared.
    pub fn stage(&self) -> Staged<'_> {
        Staged::new(&self.shared)
    }

    /// [`apply`](ObjectStore::apply) without a future.
    pub fn apply_now(&self, changes: Vec<Change>) -> Result<Revision, StoreError> {
        let mut staged = self.stage();
        let revision = staged.change(changes)?;
        staged.commit();
        Ok(revision)
    }

    /// How many objects are here.
    pub fn len(&self) -> usize {
        self.shared.read().objects
    }

    /// Whether no object is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects of all collections at one instant: their keys, uids and versions tell a cloud what is held here.
    pub fn objects(&self) -> Vec<Arc<Stored>> {
        let state = self.shared.read();
        let mut objects = Vec::with_capacity(state.objects);
        for collection in state.collections.values() {
            objects.extend(collection.objects.values().cloned());
        }
        objects
    }
}

impl ObjectStore for MemoryStore {
    fn revision(&self) -> Revision {
        self.shared.read().revision
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.shared.read().get(key).cloned()
    }

    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing {
        let state = self.shared.read();
        let objects = match (state.collections.get(resource), namespace) {
            (None, _) => Vec::new(),
            (Some(collection), None) => collection.objects.values().cloned().collect(),
            (Some(collection), Some(namespace)) => {
                let first: Name = (Some(namespace.into()), "".into());
                collection
                    .objects
                    .range((Bound::Included(first), Bound::Unbounded))
                    .take_while(|((held, _), _)| held.as_deref() == Some(namespace))
                    .map(|(_, stored)| stored.clone())
                    .collect()
            }
        };
        Listing {
            revision: state.revision,
            objects,
        }
    }

    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted> {
        let changed = self.shared.follow(resource, after)?;
        Ok(Watch::new(self.shared.clone(), resource.clone(), after, changed))
    }

    fn resources(&self) -> Vec<GroupVersionResource> {
        let state = self.shared.read();
        let held = state.collections.iter().filter(|(_, c)| !c.objects.is_empty());
        held.map(|(resource, _)| resource.clone()).collect()
    }

    fn coverage(&self, scope: &Scope) -> Coverage {
        let state = self.shared.read();
        let mut best = Coverage::Absent;
        for (held, coverage) in &state.scopes {
            if held.covers(scope) {
                best = match (best, *coverage) {
                    (_, Coverage::Complete) => return Coverage::Complete,
                    (_, Coverage::Loading) => Coverage::Loading,
                    (best, Coverage::Absent) => best,
                };
            }
        }
        best
    }

    fn scopes(&self) -> Vec<(Scope, Coverage)> {
        let state = self.shared.read();
        state
            .scopes
            .iter()
            .map(|(scope, coverage)| (scope.clone(), *coverage))
            .collect()
    }

    fn scopes_changed(&self) -> watch::Receiver<u64> {
        self.shared.scopes_changed.subscribe()
    }

    fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        futures::future::ready(self.apply_now(changes)).boxed()
    }
}
