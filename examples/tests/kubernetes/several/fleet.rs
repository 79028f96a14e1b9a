//! The hubs, the address in front of them, and the nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloudhub::cluster::Cluster;
use cloudhub::records::{ObjectSyncRecords, RecordsConfig};
use cloudhub::{CloudHub, CloudHubConfig, ServeError};
use edgehub::store::EdgeStore;
use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig, NodeAgentConfig, RunError};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::backoff::Backoff;
use hub_core::message::{Content, MessageId, Operation, needs_ack};
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::random::Random;
use hub_core::store::ObjectStore;
use hub_core::testing::{TestCa, Wire};
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Inbound, Listener, Outbound, Received, TlsClient,
    TlsServer, TlsVersions, Transport, TransportError, WebSocketConfig, WebSocketDialer, WebSocketListener,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::Server;
use crate::world::within;

pub(super) const OURS: &str = "edge-1";
pub(super) const STOCK: &str = "stock-1";

/// A scripted API server and what stands in front of it.
pub(super) struct Fleet {
    pub(super) server: Server,
    pub(super) ca: TestCa,
    pub(super) address: Arc<Address>,
    pub(super) instances: Vec<Instance>,
    count: usize,
    config: fn(&mut CloudHubConfig),
}

/// One of the hubs.
pub(super) struct Instance {
    pub(super) hub: CloudHub,
    /// Its connections, which end with its process.
    wire: Wire,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

/// The one address of them all: each dial lands somewhere.
#[derive(Default)]
pub(super) struct Address {
    sockets: Mutex<Vec<SocketAddr>>,
    turn: AtomicU64,
}

/// A way there for one node.
pub(super) struct Way {
    address: Arc<Address>,
    dialer: WebSocketDialer,
}

impl Fleet {
    pub(super) async fn new(instances: usize, config: fn(&mut CloudHubConfig)) -> Self {
        let mut fleet = Self {
            server: Server::new(),
            ca: TestCa::new(),
            address: Arc::default(),
            instances: Vec::new(),
            count: 0,
            config,
        };
        for definition in [
            include_str!("../../../kubernetes/crds/objectsync.yaml"),
            include_str!("../../../kubernetes/crds/clusterobjectsync.yaml"),
        ] {
            let definition: Value = serde_saphyr::from_str(definition).unwrap();
            let resource =
                GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
            let create = ApiRequest::resource(Verb::Create, resource, None, None)
                .with_body("application/json", definition.to_string());
            assert!(fleet.at_truth(create).await.is_success());
        }
        for _ in 0..instances {
            fleet.start().await;
        }
        fleet
    }

    pub(super) async fn at_truth(&self, request: ApiRequest) -> ApiResponse {
        self.server.truth.execute(request).await.unwrap()
    }

    /// One more instance.
    pub(super) async fn start(&mut self) {
        let cluster: Arc<dyn Cluster> = Arc::new(self.server.cluster());
        self.count += 1;
        let mut config = CloudHubConfig {
            instance: Some(format!("cloud-{}", self.count).into()),
            drain: Duration::from_secs(1),
            ..CloudHubConfig::default()
        };
        let session = Arc::make_mut(&mut config.driver.session);
        session.resend = Duration::from_millis(100);
        session.resend_max = Duration::from_millis(400);
        config.downstream.recall_again = Duration::from_millis(300);
        config.downstream.surplus_wait = Duration::from_millis(300);
        (self.config)(&mut config);
        let limits = RecordsConfig {
            gather: Duration::from_millis(10),
            retry_max: Duration::from_millis(200),
            ..RecordsConfig::default()
        };
        let hub = CloudHub::new(config, cluster.clone()).unwrap();
        let hub = hub.with_records(ObjectSyncRecords::new(cluster, limits));
        let server = self.ca.server(&["127.0.0.1"]);
        let tls = TlsServer::mutual(server, self.ca.certificate(), TlsVersions::From12).unwrap();
        let listener = WebSocketListener::bind("127.0.0.1:0", tls, WebSocketConfig::default());
        let listener = listener.await.unwrap();
        let wire = Wire::tcp(listener.local_addr().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let serve = hub
            .serve([Box::new(listener) as Box<dyn Listener>])
            .with_graceful_shutdown(stopped);
        let serving = tokio::spawn(serve.into_future());
        self.address.sockets.lock().unwrap().push(wire.address());
        self.instances.push(Instance {
            hub,
            wire,
            stop,
            serving,
        });
    }

    /// Waits until the instances know the cluster.
    pub(super) async fn ready(&self) {
        for instance in &self.instances {
            let mut readiness = instance.hub.readiness();
            within(
                "a ready hub",
                readiness.wait_for(|readiness| readiness.is_ready()),
            )
            .await
            .unwrap();
        }
    }

    /// The load balancer takes one out, and it is drained.
    pub(super) async fn drain(&mut self, at: usize) {
        let instance = self.take(at);
        let _ = instance.stop.send(());
        within("the end of a drain", instance.serving)
            .await
            .unwrap()
            .unwrap();
    }

    /// One dies without a word.
    pub(super) async fn kill(&mut self, at: usize) {
        let instance = self.take(at);
        instance.wire.stall();
        instance.serving.abort();
        let _ = instance.serving.await;
        instance.wire.cut();
    }

    fn take(&mut self, at: usize) -> Instance {
        let instance = self.instances.remove(at);
        self.address
            .sockets
            .lock()
            .unwrap()
            .retain(|socket| *socket != instance.wire.address());
        instance
    }

    pub(super) fn way(&self, node: &str) -> Way {
        let tls = TlsClient::new(self.ca.certificate(), Some(self.ca.node(node))).unwrap();
        Way {
            address: self.address.clone(),
            dialer: WebSocketDialer::new(tls, WebSocketConfig::default()),
        }
    }

    /// Makes an object, or changes one that is there.
    pub(super) async fn put(&self, resource: &str, object: Value, word: &str) {
        let gvr = GroupVersionResource::core(resource);
        let (metadata, namespace) = (&object["metadata"], object["metadata"]["namespace"].as_str());
        let create = ApiRequest::resource(Verb::Create, gvr.clone(), namespace, None)
            .with_body("application/json", object.to_string());
        let answer = self.at_truth(create).await;
        if answer.code == 409 {
            let patch = json!({ "metadata": { "labels": { "word": word } } });
            let patch = ApiRequest::resource(Verb::Patch, gvr, namespace, metadata["name"].as_str())
                .with_body("application/merge-patch+json", patch.to_string());
            self.at_truth(patch).await;
        } else {
            assert!(answer.is_success(), "{answer:?}");
        }
    }

    pub(super) async fn remove(&self, resource: &str, name: &str) {
        let gvr = GroupVersionResource::core(resource);
        let delete = ApiRequest::resource(Verb::Delete, gvr, Some("default"), Some(name))
            .with_body("application/json", r#"{"gracePeriodSeconds":0}"#);
        let answer = self.at_truth(delete).await;
        assert!(answer.is_success() || answer.code == 404, "{answer:?}");
    }

    pub(super) async fn list(&self, resource: GroupVersionResource) -> Vec<Value> {
        let request = ApiRequest::resource(Verb::List, resource, None, None);
        let list: Value = serde_json::from_slice(&self.at_truth(request).await.body).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Waits until so many more requests about this came to the API server.
    pub(super) async fn attempts(&self, what: &str, count: usize) {
        let (_, mut after) = self.server.counted(0, |_| false);
        let (began, mut found) = (Instant::now(), 0);
        while found < count {
            assert!(
                began.elapsed() < crate::world::PATIENCE,
                "{found} requests about {what}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (new, all) = self.server.counted(after, |line| line.contains(what));
            (found, after) = (found + new, all);
        }
    }

    /// What a node should hold: `resource/name` with uid and version.
    pub(super) async fn truth(&self, node: &str) -> BTreeMap<String, String> {
        let list = async |resource: &str| self.list(GroupVersionResource::core(resource)).await;
        let mut pods = list("pods").await;
        pods.retain(|pod| pod["spec"]["nodeName"] == node);
        let mut configs = list("configmaps").await;
        configs.retain(|config| {
            let name = &config["metadata"]["name"];
            pods.iter()
                .any(|pod| pod["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] == *name)
        });
        let mut nodes = list("nodes").await;
        nodes.retain(|object| object["metadata"]["name"] == node);
        let kinds = [("pod", pods), ("configmap", configs), ("node", nodes)];
        let named = kinds
            .into_iter()
            .flat_map(|(kind, objects)| objects.into_iter().map(move |object| (kind, object)));
        named.map(|(kind, object)| summary(kind, &object)).collect()
    }
}

impl Address {
    pub(super) fn seed(&self, seed: u64) {
        self.turn.store(seed, Ordering::Relaxed);
    }
}

impl Dialer for Way {
    fn dial(
        &self,
        _: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        let turn = self.address.turn.fetch_add(0x9e37_79b9, Ordering::Relaxed);
        let sockets = self.address.sockets.lock().unwrap();
        let Some(socket) = sockets.get(turn as usize % sockets.len().max(1)) else {
            return Box::pin(futures::future::ready(Err(TransportError::Timeout("connection"))));
        };
        self.dialer
            .dial(&Endpoint::parse(&socket.to_string()).unwrap(), request)
    }

    fn transport(&self) -> &'static str {
        "websocket"
    }
}

/// An edge of our own kind.
pub(super) struct Ours {
    pub(super) handle: EdgeHandle,
    pub(super) store: EdgeStore,
    run: JoinHandle<Result<(), RunError>>,
    _folder: TempDir,
}

impl Ours {
    pub(super) fn start(fleet: &Fleet, node: &str, agent: Option<NodeAgentConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EdgeStore::open(folder.path().join("edge.db")).unwrap();
        let config = EdgeHubConfig {
            backoff: Backoff {
                first: Duration::from_millis(500),
                max: Duration::from_secs(2),
            },
            agent,
            ..EdgeHubConfig::new(NodeId::new(node).unwrap())
        };
        let hub = EdgeHub::with_store(config, store.clone())
            .with_dialer(fleet.way(node), Endpoint::parse("cloud:10000").unwrap())
            .build();
        Self {
            handle: hub.handle(),
            store,
            run: tokio::spawn(hub.run()),
            _folder: folder,
        }
    }

    pub(super) async fn up(&self) {
        within("the link", self.handle.link().wait_for(|link| link.is_up()))
            .await
            .unwrap();
    }

    pub(super) fn held(&self) -> BTreeMap<String, String> {
        let kinds = [("pod", "pods"), ("configmap", "configmaps"), ("node", "nodes")];
        let objects = kinds.into_iter().flat_map(|(kind, resource)| {
            let listing = self.store.list(&GroupVersionResource::core(resource), None);
            let bodies = listing
                .objects
                .into_iter()
                .map(move |stored| stored.object.body.clone());
            bodies.map(move |body| summary(kind, &serde_json::from_slice(&body).unwrap()))
        });
        objects.collect()
    }

    pub(super) async fn end(self) {
        self.handle.stop();
        within("the edge's end", self.run).await.unwrap().unwrap();
    }
}

/// A stock edge, played by a test: it stores by name, then acknowledges, and comes back after its own pause.
pub(super) struct Stock {
    store: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Ends a connection: in good order, or so that the cloud does not notice.
    cut: tokio::sync::watch::Sender<(u64, bool)>,
    task: JoinHandle<()>,
}

impl Stock {
    pub(super) fn start(way: Way, seed: u64) -> Self {
        let store = Arc::<Mutex<BTreeMap<String, Value>>>::default();
        let (cut, cuts) = tokio::sync::watch::channel((0, false));
        let held = store.clone();
        let task = tokio::spawn(live(way, held, cuts, seed));
        Self { store, cut, task }
    }

    /// It connects anew. Where `half_open`, the old connection stays, and nobody reads it.
    pub(super) fn reconnect(&self, half_open: bool) {
        self.cut.send_modify(|cut| *cut = (cut.0 + 1, half_open));
    }

    pub(super) fn held(&self) -> BTreeMap<String, String> {
        let store = self.store.lock().unwrap();
        let kind = |key: &str| key.split('/').nth(1).unwrap().to_owned();
        store
            .iter()
            .map(|(key, object)| summary(&kind(key), object))
            .collect()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(
    way: Way,
    store: Arc<Mutex<BTreeMap<String, Value>>>,
    mut cuts: tokio::sync::watch::Receiver<(u64, bool)>,
    seed: u64,
) {
    let node = NodeId::new(STOCK).unwrap();
    let mut random = Random::new(seed);
    let mut stale = Vec::new();
    loop {
        let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::NONE);
        let endpoint = Endpoint::parse("cloud:10000").unwrap();
        if let Ok(mut transport) = way.dial(&endpoint, request).await {
            cuts.mark_unchanged();
            loop {
                tokio::select! {
                    _ = cuts.changed() => {
                        if cuts.borrow().1 {
                            stale.push(transport);
                        }
                        break;
                    }
                    frame = transport.next() => {
                        let Some(Ok(frame)) = frame else { break };
                        let message = match frame {
                            Inbound::Message(Received::Whole(message)) => message,
                            Inbound::Closed(_) => break,
                            _ => continue,
                        };
                        if !needs_ack(&message) {
                            continue;
                        }
                        keep(&store, &message.route.resource.to_string(), &message);
                        // What it did is not always heard.
                        if random.below(10) == 0 {
                            continue;
                        }
                        let mut answer = message.response(Content::ok());
                        answer.header.id = MessageId::random();
                        let answer = Outbound::Message { message: answer, base: None };
                        if transport.send(answer).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20 + random.below(60))).await;
    }
}

fn keep(store: &Mutex<BTreeMap<String, Value>>, key: &str, message: &hub_core::message::Message) {
    let object: Value = serde_json::from_slice(message.content.bytes()).unwrap();
    let mut store = store.lock().unwrap();
    match message.route.operation {
        Operation::Delete => {
            let other = |held: &Value| held["metadata"]["uid"] != object["metadata"]["uid"];
            if !(key.contains("/pod/") && store.get(key).is_some_and(other)) {
                store.remove(key);
            }
        }
        _ => drop(store.insert(key.to_owned(), object)),
    }
}

/// The kind and name, and what is compared.
fn summary(kind: &str, object: &Value) -> (String, String) {
    let metadata = &object["metadata"];
    (
        format!("{kind}/{}", metadata["name"].as_str().unwrap()),
        format!("{} {}", metadata["uid"], metadata["resourceVersion"]),
    )
}

pub(super) fn node(name: &str) -> Value {
    json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name }, "spec": {}, "status": {} })
}

pub(super) fn config(name: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "data": { "a": "1" } })
}

pub(super) fn pod(name: &str, node: &str, config: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "spec": { "nodeName": node,
        "containers": [{ "name": "c", "image": "pause:1", "envFrom": [{ "configMapRef": { "name": config } }] }] } })
}

/// Waits until a node holds the truth.
pub(super) async fn settled(fleet: &Fleet, node: &str, held: impl Fn() -> BTreeMap<String, String>) {
    let began = Instant::now();
    loop {
        let (is, should) = (held(), fleet.truth(node).await);
        if is == should {
            return;
        }
        if began.elapsed() >= crate::world::PATIENCE {
            let syncs = GroupVersionResource::new("reliablesyncs.kubeedge.io", "v1alpha1", "objectsyncs");
            let records = fleet.list(syncs).await;
            let records: Vec<_> = records
                .iter()
                .map(|record| {
                    (
                        &record["metadata"]["name"],
                        &record["spec"]["objectName"],
                        &record["status"],
                    )
                })
                .collect();
            panic!("{node} holds {is:#?}\nand should hold {should:#?}\non record are {records:#?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
