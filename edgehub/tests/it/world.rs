//! A hub under test, and stores that misbehave on demand.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig, RunError};
use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey, Revision};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{
    Change, Compacted, Coverage, Journal, JournalLimits, Listing, MemoryJournal, MemoryStore, NODE_ONLY,
    ObjectStore, StoreError, StoreLimits, Stored, Watch,
};
use hub_core::transport::{Dialer, Endpoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// For everything that must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(20), future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub fn node() -> NodeId {
    NodeId::new("edge-1").unwrap()
}

pub fn config() -> EdgeHubConfig {
    EdgeHubConfig {
        backoff: Backoff {
            first: Duration::from_millis(2),
            max: Duration::from_millis(20),
        },
        ..EdgeHubConfig::new(node())
    }
}

pub struct Edge {
    pub handle: EdgeHandle,
    pub store: Arc<TestStore>,
    pub run: JoinHandle<Result<(), RunError>>,
    pub metrics: prometheus_client::registry::Registry,
}

impl Edge {
    pub fn start(config: EdgeHubConfig, dialer: impl Dialer + 'static) -> Self {
        Self::over(config, dialer, TestStore::new(), journal())
    }

    pub fn over(
        config: EdgeHubConfig,
        dialer: impl Dialer + 'static,
        store: Arc<TestStore>,
        journal: impl Journal,
    ) -> Self {
        let hub = EdgeHub::builder(config, store.clone(), Arc::new(journal))
            .with_dialer(dialer, Endpoint::parse("cloud:10000").unwrap())
            .build();
        Self::of(hub, store)
    }

    pub fn of(hub: EdgeHub, store: Arc<TestStore>) -> Self {
        let handle = hub.handle();
        let mut metrics = prometheus_client::registry::Registry::default();
        hub.register_metrics(&mut metrics);
        let run = tokio::spawn(hub.run());
        Self {
            handle,
            store,
            run,
            metrics,
        }
    }

    pub async fn up(&self) {
        within("the link", self.handle.link().wait_for(|link| link.is_up()))
            .await
            .unwrap();
    }

    pub async fn down(&self) {
        within(
            "the link's end",
            self.handle.link().wait_for(|link| !link.is_up()),
        )
        .await
        .unwrap();
    }

    pub async fn stop(self) {
        self.handle.stop();
        within("the hub's end", self.run).await.unwrap().unwrap();
    }

    /// Waits until a scope is held to this extent.
    pub async fn coverage(&self, scope: &Scope, coverage: Coverage) {
        let mut changed = self.store.scopes_changed();
        let reached = async {
            while self.store.coverage(scope) != coverage {
                changed.changed().await.unwrap();
            }
        };
        within("a coverage", reached).await;
    }

    /// Waits until the collection holds exactly these names.
    pub async fn names(&self, resource: &GroupVersionResource, names: &[&str]) {
        let reached = async {
            loop {
                let listing = self.store.list(resource, None);
                let held: Vec<_> = listing
                    .objects
                    .iter()
                    .map(|stored| stored.object.key.name.to_string())
                    .collect();
                if held == names {
                    return;
                }
                let mut watch = self.store.watch(resource, listing.revision).unwrap();
                watch.next().await.unwrap();
            }
        };
        within("a collection", reached).await;
    }
}

pub fn journal() -> MemoryJournal {
    MemoryJournal::new(JournalLimits::default())
}

pub fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

pub fn config_map_key(name: &str) -> ObjectKey {
    ObjectKey::new(config_maps(), Some("shop"), name)
}

pub fn config_map(name: &str, version: u64, data: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"shop","uid":"u-{name}","resourceVersion":"{version}"}},"data":{{"a":"{data}"}}}}"#
    )
}

/// A store in memory whose disk can be slow or broken.
pub struct TestStore {
    inner: MemoryStore,
    /// How many of the next changes fail.
    pub failures: AtomicUsize,
    /// The disk refuses what only this node keeps under this name.
    pub refused: Mutex<Option<&'static str>>,
    /// Each change takes one.
    disk: Arc<Semaphore>,
}

impl TestStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(StoreLimits::default(), Registry::builtin()),
            failures: AtomicUsize::new(0),
            refused: Mutex::default(),
            disk: Arc::new(Semaphore::new(DISK as usize)),
        })
    }

    /// From now on nothing gets to the disk, until this is dropped.
    pub async fn stop_disk(&self) -> OwnedSemaphorePermit {
        self.disk.clone().acquire_many_owned(DISK).await.unwrap()
    }

    pub fn put(&self, body: String) {
        let object = hub_core::object::Object::from_body(config_maps(), body.into()).unwrap();
        self.inner.apply_now(vec![Change::Put(object)]).unwrap();
    }
}

impl ObjectStore for TestStore {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.inner.get(key)
    }

    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing {
        self.inner.list(resource, namespace)
    }

    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted> {
        self.inner.watch(resource, after)
    }

    fn resources(&self) -> Vec<GroupVersionResource> {
        self.inner.resources()
    }

    fn coverage(&self, scope: &Scope) -> Coverage {
        self.inner.coverage(scope)
    }

    fn scopes(&self) -> Vec<(Scope, Coverage)> {
        self.inner.scopes()
    }

    fn scopes_changed(&self) -> watch::Receiver<u64> {
        self.inner.scopes_changed()
    }

    fn registry(&self) -> &Registry {
        self.inner.registry()
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        let inner = self.inner.clone();
        let disk = self.disk.clone();
        let object = changes
            .iter()
            .any(|change| matches!(change, Change::Put(_) | Change::Delete { .. }));
        let take = |n: usize| n.checked_sub(1);
        let fails = object
            && self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_ok();
        let refused = *self.refused.lock().unwrap();
        let is_refused = |change: &Change| matches!(change, Change::Put(object) if &*object.key.resource.group == NODE_ONLY && Some(&*object.key.name) == refused);
        let fails = fails || changes.iter().any(is_refused);
        async move {
            let _written = disk.acquire().await.map_err(|_| StoreError::Closed)?;
            if fails {
                return Err(StoreError::Disk("no space left".into()));
            }
            inner.apply_now(changes)
        }
        .boxed()
    }
}

/// Changes that the disk takes at once.
const DISK: u32 = 10_000;
