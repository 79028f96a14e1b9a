//! A store in memory: what every reader sees, whether or not a disk stands behind it.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::local::LocalCopy;
use super::splice::{with_resource_version, without_managed_fields};
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
    /// The newest revision. 0 counts as 1.
    pub revision: Revision,
    /// No watch may begin before this. A collection's may begin with its last change, if that is later: whoever saw it missed nothing.
    pub begin: Revision,
    /// The last deletions of collections since `begin`, which none of the objects shows.
    pub deletions: Vec<(GroupVersionResource, Revision)>,
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
            begin: Revision(1),
            deletions: Vec::new(),
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
        let begin = restored.begin.max(Revision(1)).min(revision);
        let mut shared = Shared::new(limits, source, registry, revision, begin);
        for (object, _) in restored.objects.iter().filter(|(o, _)| is_definition(&o.key)) {
            if let Err(error) = shared.registry.apply_definition(&object.body) {
                tracing::warn!(name = &*object.key.name, %error, "a CustomResourceDefinition cannot be read");
            }
        }
        let copies: HashMap<ObjectKey, LocalCopy> = restored
            .objects
            .iter()
            .filter_map(|(object, _)| LocalCopy::of(object))
            .map(|copy| (copy.key.clone(), copy))
            .collect();
        shared.restore(|state, log| {
            for (mut object, revision) in restored.objects {
                let served = match source {
                    RevisionSource::Own => {
                        let body = copies.get(&object.key).map_or(&object.body, |copy| &copy.body);
                        with_resource_version(body, revision.0)
                    }
                    RevisionSource::Version => {
                        let kept = without_managed_fields(&object.body);
                        std::mem::replace(&mut object.body, kept)
                    }
                };
                let stored = Stored {
                    object,
                    revision,
                    served,
                };
                state.begins(&stored.object.key.resource, revision, log);
                state.insert(Arc::new(stored), log);
            }
            for (resource, revision) in restored.deletions {
                state.begins(&resource, revision, log);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EventKind;
    use crate::testing::store::{config_map, config_maps, keeps_its_promises};

    fn fresh(limits: StoreLimits) -> MemoryStore {
        MemoryStore::new(limits, Registry::builtin())
    }

    fn put(name: &str, version: &str) -> Change {
        Change::Put(config_map(name, name, version, ""))
    }

    #[tokio::test]
    async fn a_store_in_memory_keeps_all_promises() {
        keeps_its_promises(|| fresh(StoreLimits::default())).await;
    }

    #[test]
    fn a_batch_over_a_limit_is_refused_as_a_whole_and_takes_nothing_from_others() {
        let limits = StoreLimits {
            objects_max: 2,
            ..StoreLimits::default()
        };
        let store = fresh(limits);
        let mut staged = store.stage();
        let at = staged.change(vec![put("a", "1")]).unwrap();
        let refused = staged.change(vec![put("a", "2"), put("b", "1"), put("c", "1")]);
        assert!(matches!(refused, Err(StoreError::Full("objects_max"))));
        assert_eq!(staged.revision(), at);
        staged.change(vec![put("b", "7")]).unwrap();
        assert_eq!(staged.writes().len(), 2);
        staged.commit();
        let versions: Vec<_> = store
            .list(&config_maps(), None)
            .objects
            .iter()
            .map(|s| s.object.version.clone())
            .collect();
        assert_eq!(versions, ["1".into(), "7".into()]);
        let full = fresh(StoreLimits {
            bytes_max: 10,
            ..limits
        })
        .apply_now(vec![put("a", "1")]);
        assert!(matches!(full, Err(StoreError::Full("bytes_max"))));
        let wanted = Change::Want(Scope::all(config_maps()));
        let full = fresh(StoreLimits {
            scopes_max: 0,
            ..limits
        })
        .apply_now(vec![wanted]);
        assert!(matches!(full, Err(StoreError::Full("scopes_max"))));
    }

    #[test]
    fn what_is_staged_and_dropped_never_was() {
        let store = fresh(StoreLimits::default());
        let before = store.revision();
        store.stage().change(vec![put("a", "1")]).unwrap();
        assert_eq!((store.revision(), store.len()), (before, 0));
        assert_eq!(store.apply_now(vec![put("a", "1")]).unwrap(), before.next());
    }

    #[tokio::test]
    async fn a_cluster_s_store_takes_its_revisions_from_the_versions() {
        let nothing = Restored {
            revision: Revision(5),
            begin: Revision(5),
            deletions: vec![],
            objects: vec![],
            scopes: vec![],
            tombstones: vec![],
        };
        let store = MemoryStore::restore(
            StoreLimits::default(),
            Registry::builtin(),
            RevisionSource::Version,
            nothing,
        );
        assert_eq!(store.apply_now(vec![put("a", "9")]).unwrap(), Revision(9));
        let stored = store.get(&config_map("a", "a", "9", "").key).unwrap();
        assert_eq!(
            (stored.revision, &stored.served),
            (Revision(9), &stored.object.body)
        );
        assert_eq!(
            store.apply_now(vec![put("b", "9"), put("c", "x")]).unwrap(),
            Revision(9)
        );
        let delete = Change::Delete {
            key: stored.object.key.clone(),
            uid: None,
            version: Some("12".into()),
        };
        assert_eq!(store.apply_now(vec![delete]).unwrap(), Revision(12));
        let mut watch = store.watch(&config_maps(), Revision(9)).unwrap();
        let event = watch.next().await.unwrap();
        assert_eq!((event.kind, event.revision), (EventKind::Deleted, Revision(12)));
        assert!(
            event
                .stored
                .served
                .windows(22)
                .any(|w| w == br#""resourceVersion":"12""#)
        );
    }

    #[tokio::test]
    async fn a_restored_store_goes_on_and_its_history_begins_there() {
        let store = fresh(StoreLimits::default());
        store
            .apply_now(vec![
                put("a", "7"),
                put("b", "8"),
                Change::Want(Scope::all(config_maps())),
            ])
            .unwrap();
        let restored = Restored {
            revision: Revision(100),
            begin: Revision(100),
            deletions: Vec::new(),
            objects: store
                .objects()
                .iter()
                .map(|s| (s.object.clone(), s.revision))
                .collect(),
            scopes: store.scopes(),
            tombstones: vec![("gone".into(), 5)],
        };
        let again = MemoryStore::restore(
            StoreLimits::default(),
            Registry::builtin(),
            RevisionSource::Own,
            restored,
        );
        assert_eq!(
            again.list(&config_maps(), None).objects,
            store.list(&config_maps(), None).objects
        );
        assert_eq!(again.scopes(), store.scopes());
        assert_eq!(again.revision(), Revision(100));
        assert_eq!(
            again.watch(&config_maps(), Revision(99)).unwrap_err().oldest,
            Revision(100)
        );
        assert_eq!(
            again
                .apply_now(vec![Change::Put(config_map("g", "gone", "4", ""))])
                .unwrap(),
            Revision(100)
        );
        assert_eq!(again.apply_now(vec![put("a", "8")]).unwrap(), Revision(101));
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_that_it_missed_something_and_nobody_else_is() {
        let log = LogLimits {
            events_max: 2,
            bytes_max: usize::MAX,
        };
        let store = fresh(StoreLimits {
            log,
            ..StoreLimits::default()
        });
        let start = store.revision();
        let mut slow = store.watch(&config_maps(), start).unwrap();
        let mut quick = store.watch(&config_maps(), start).unwrap();
        for version in 1..=3 {
            store.apply_now(vec![put("a", &version.to_string())]).unwrap();
            assert!(quick.next().await.is_ok());
        }
        assert_eq!(slow.next().await.unwrap_err().oldest, start.next());
    }

    #[test]
    fn collections_that_were_only_watched_do_not_pile_up() {
        let store = fresh(StoreLimits::default());
        for n in 0..100 {
            let made_up = GroupVersionResource::core(&format!("things{n}"));
            drop(store.watch(&made_up, store.revision()).unwrap());
        }
        assert!(store.shared.read().collections.len() <= 2);
    }

    #[test]
    fn custom_kinds_come_and_go_with_their_definitions() {
        let body = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.example.com","uid":"d","resourceVersion":"1"},"spec":{"group":"example.com","names":{"kind":"Widget","listKind":"WidgetList","plural":"widgets","singular":"widget"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true}]},"status":{"conditions":[{"type":"Established","status":"True"}]}}"#;
        let definitions =
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let definition = Object::from_body(definitions, body.as_slice().into()).unwrap();
        let widgets = GroupVersionResource::new("example.com", "v1", "widgets");
        let store = fresh(StoreLimits::default());
        store.apply_now(vec![Change::Put(definition.clone())]).unwrap();
        assert_eq!(&*store.registry().by_resource(&widgets).unwrap().kind, "Widget");

        let restored = Restored {
            revision: store.revision(),
            begin: store.revision(),
            deletions: Vec::new(),
            objects: vec![(definition.clone(), store.revision())],
            scopes: vec![],
            tombstones: vec![],
        };
        let again = MemoryStore::restore(
            StoreLimits::default(),
            Registry::builtin(),
            RevisionSource::Own,
            restored,
        );
        assert!(again.registry().by_resource(&widgets).is_some());
        let delete = Change::Delete {
            key: definition.key,
            uid: None,
            version: None,
        };
        again.apply_now(vec![delete]).unwrap();
        assert!(again.registry().by_resource(&widgets).is_none());
    }
}
