//! A node with devices and a socket for mappers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::dmi::{Dmi, DmiConfig, ReportError, Reports};
use edgehub::store::EdgeStore;
use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::store::{Change, ObjectStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Node {
    folder: TempDir,
    pub(crate) store: EdgeStore,
    pub(crate) reports: Arc<Recorder>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    versions: u64,
}

/// Writes down what is reported.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<String>>);

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut DmiConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EdgeStore::open(folder.path().join("edge.db")).unwrap();
        let reports = Arc::<Recorder>::default();
        let (stop, running) = run(folder.path(), &store, &reports, change).await;
        Self {
            folder,
            store,
            reports,
            stop,
            running,
            versions: 0,
        }
    }

    /// Stops, and begins anew with what is on the disk. Between the two, `meanwhile` happens.
    pub(crate) async fn restart(self, meanwhile: impl AsyncFnOnce(&EdgeStore)) -> Self {
        self.stop.cancel();
        self.running.await.unwrap();
        drop(self.store);
        let store = EdgeStore::open(self.folder.path().join("edge.db")).unwrap();
        meanwhile(&store).await;
        let (stop, running) = run(self.folder.path(), &store, &self.reports, |_| {}).await;
        Self {
            store,
            stop,
            running,
            ..self
        }
    }

    /// A path beside the node's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("dmi.sock")
    }

    /// The cloud says that an object is now this.
    pub(crate) async fn put(&mut self, kind: &str, name: &str, spec: Value) {
        self.versions += 1;
        put(&self.store, kind, name, spec, self.versions).await;
    }

    pub(crate) async fn delete(&self, resource: &str, name: &str) {
        let key = ObjectKey::new(collection(resource), Some("shop"), name);
        let gone = Change::Delete {
            key,
            uid: None,
            version: None,
        };
        self.store.apply(vec![gone]).await.unwrap();
    }
}

async fn run(
    folder: &Path,
    store: &EdgeStore,
    reports: &Arc<Recorder>,
    change: impl FnOnce(&mut DmiConfig),
) -> (CancellationToken, JoinHandle<()>) {
    let mut config = DmiConfig::new(folder.join("dmi.sock"));
    config.settle = Duration::ZERO;
    config.backoff = Backoff {
        first: Duration::from_millis(2),
        max: Duration::from_millis(50),
    };
    config.attempts_max = 1000;
    change(&mut config);
    let node = NodeId::new("edge-1").unwrap();
    let dmi = Dmi::bind(config, node, Arc::new(store.clone()), reports.clone())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(dmi.run(stop.clone()));
    (stop, running)
}

pub(crate) async fn put(store: &EdgeStore, kind: &str, name: &str, spec: Value, version: u64) {
    let body = json!({ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind, "spec": spec,
        "metadata": { "namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string() } });
    let resource = collection(&format!("{}s", kind.to_lowercase()));
    let object = Object::from_body(resource, body.to_string().into()).unwrap();
    store.apply(vec![Change::Put(object)]).await.unwrap();
}

/// A lamp of a node: its protocol, and how bright it should be.
pub(crate) fn lamp(node: &str, protocol: &str, desired: &str) -> Value {
    json!({ "nodeName": node, "deviceModelRef": { "name": "lamp" }, "protocol": { "protocolName": protocol },
        "properties": [{ "name": "level", "desired": { "value": desired, "metadata": { "type": "int" } }, "reportToCloud": true }] })
}

pub(crate) fn model(unit: &str) -> Value {
    json!({ "protocol": "dali", "properties": [{ "name": "level", "type": "INT", "accessMode": "ReadWrite", "unit": unit }] })
}

fn collection(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("devices.kubeedge.io", "v1beta1", resource)
}

impl Reports for Recorder {
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        values: Vec<(String, String)>,
    ) -> BoxFuture<'a, Result<(), ReportError>> {
        let text = |(name, value)| format!(" {name}={value}");
        let values: String = values.into_iter().map(text).collect();
        self.0.lock().unwrap().push(format!("{namespace}/{name}{values}"));
        async { Ok(()) }.boxed()
    }

    fn state<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        state: String,
    ) -> BoxFuture<'a, Result<(), ReportError>> {
        self.0
            .lock()
            .unwrap()
            .push(format!("{namespace}/{name} is {state}"));
        async { Ok(()) }.boxed()
    }
}
