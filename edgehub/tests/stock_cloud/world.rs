//! An edge under test, over real sockets and a real store.

use std::time::{Duration, SystemTime};

use edgehub::store::EdgeStore;
use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig, NodeAgentConfig, RunError};
use hub_core::backoff::Backoff;
use hub_core::credentials::{CredentialFiles, certificate_pem};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::session::KeepaliveConfig;
use hub_core::store::ObjectStore;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::peer::StockCloud;

pub const NODE: &str = "edge-1";
pub const NODE_ROUTE: &str = "null/node/edge-1";
pub const LEASE_ROUTE: &str = "kube-node-lease/lease/edge-1";
pub const HOUR: Duration = Duration::from_secs(3600);

pub struct Edge {
    pub handle: EdgeHandle,
    pub store: EdgeStore,
    pub run: JoinHandle<Result<(), RunError>>,
    pub directory: TempDir,
}

/// An edge of this cloud that has its certificate already, and short pauses.
pub fn config(cloud: &StockCloud) -> (EdgeHubConfig, TempDir) {
    let (mut config, directory) = fresh(cloud);
    let identity = cloud.ca.node(NODE, SystemTime::now() - HOUR, 1000 * HOUR);
    std::fs::write(&config.enroll.ca_file, certificate_pem(&cloud.ca.certificate)).unwrap();
    config.enroll.files.store(&identity).unwrap();
    config.enroll.token = None;
    (config, directory)
}

/// An edge that has a token only.
pub fn fresh(cloud: &StockCloud) -> (EdgeHubConfig, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = EdgeHubConfig::new(NodeId::new(NODE).unwrap());
    config.enroll.ca_file = directory.path().join("ca.crt");
    config.enroll.files = CredentialFiles::new(
        directory.path().join("node.crt"),
        directory.path().join("node.key"),
    );
    config.enroll.token = Some(cloud.token());
    config.enroll.http_servers = vec![cloud.https.clone()];
    config.websocket = vec![cloud.tunnel.clone()];
    config.backoff = Backoff {
        first: Duration::from_millis(5),
        max: Duration::from_millis(50),
    };
    (config, directory)
}

/// The same with a node agent.
pub fn agent() -> NodeAgentConfig {
    NodeAgentConfig {
        lease_interval: Duration::from_millis(50),
        status_interval: Duration::from_millis(50),
        register_again: Some(Duration::from_millis(100)),
        ..NodeAgentConfig::default()
    }
}

pub fn heartbeat(config: &mut EdgeHubConfig, interval: Duration, silence_max: Duration) {
    config.session.keepalive = KeepaliveConfig::Send {
        interval,
        silence_max,
    };
}

impl Edge {
    pub async fn join(cloud: &StockCloud) -> Self {
        let (config, directory) = config(cloud);
        let edge = Self::start(config, directory);
        edge.up().await;
        edge
    }

    pub fn start(config: EdgeHubConfig, directory: TempDir) -> Self {
        let store = EdgeStore::open(directory.path().join("edge.db")).unwrap();
        let hub = EdgeHub::new(config, store.clone()).unwrap();
        let handle = hub.handle();
        let run = tokio::spawn(hub.run());
        Self {
            handle,
            store,
            run,
            directory,
        }
    }

    /// Stops the program, and gives what is left on the disk.
    pub async fn stop(self) -> TempDir {
        self.handle.stop();
        within("the end", self.run).await.unwrap().unwrap();
        self.directory
    }

    pub async fn up(&self) {
        let mut link = self.handle.link();
        within("the link", link.wait_for(|link| link.is_up()))
            .await
            .unwrap();
    }

    /// Waits until the store holds what is expected of an object; `None` for an object that is not there.
    pub async fn holds(&self, key: &ObjectKey, expected: impl Fn(Option<&Value>) -> bool) {
        let reached = async {
            loop {
                let revision = self.store.revision();
                let stored = self.store.get(key);
                let body = stored.map(|stored| serde_json::from_slice::<Value>(&stored.object.body).unwrap());
                if expected(body.as_ref()) {
                    return;
                }
                match self.store.watch(&key.resource, revision) {
                    Ok(mut watch) => drop(watch.next().await),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        within(&format!("the state of {}", key.name), reached).await;
    }

    pub async fn has(&self, key: &ObjectKey, field: &str, value: &str) {
        let is = |object: Option<&Value>| object.is_some_and(|object| object["data"][field] == value);
        self.holds(key, is).await;
    }

    pub async fn lacks(&self, key: &ObjectKey) {
        self.holds(key, |object| object.is_none()).await;
    }
}

/// For everything that must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(20), future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub fn key(plural: &str, name: &str) -> ObjectKey {
    ObjectKey::new(GroupVersionResource::core(plural), Some("shop"), name)
}

pub fn config_maps() -> Scope {
    Scope::all(GroupVersionResource::core("configmaps"))
}

pub fn config_map(value: &str) -> Value {
    json!({ "data": { "a": value } })
}

pub fn pod(node: &str) -> Value {
    json!({ "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "pause:1" }] }, "status": { "phase": "Pending" } })
}

/// A port where nobody listens.
pub async fn nobody() -> hub_core::transport::Endpoint {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    hub_core::transport::Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap()
}

impl Edge {
    /// Waits until everything in the journal is settled.
    pub async fn journal_is_empty(&self) {
        use hub_core::store::Journal;
        let mut changed = Journal::changed(&self.store);
        let empty = async {
            loop {
                changed.mark_unchanged();
                if Journal::depth(&self.store).entries == 0 {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        within("an empty journal", empty).await;
    }
}
