//! Our half: a hub on a real port, over an embedded cluster that may be made strange.

use std::collections::HashSet;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloudhub::cluster::{Cluster, ClusterError, ClusterEvent, EmbeddedCluster, EmbeddedConfig};
use cloudhub::{CloudHub, CloudHubConfig, HubEvent, ServeError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hub_core::api::{ApiRequest, ApiResponse, Target, UpstreamError, Verb};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::session::SessionConfig;
use hub_core::testing::TestCa;
use hub_core::transport::{Listener, TlsServer, TlsVersions, WebSocketConfig, WebSocketListener};
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may choose.
pub(crate) struct Setup {
    pub(crate) hub: CloudHubConfig,
    pub(crate) web_socket: WebSocketConfig,
    pub(crate) session: SessionConfig,
}

pub(crate) struct Cloud {
    pub(crate) hub: CloudHub,
    pub(crate) cluster: EmbeddedCluster,
    pub(crate) strange: Strange,
    pub(crate) ca: TestCa,
    pub(crate) address: SocketAddr,
    pub(crate) events: broadcast::Receiver<HubEvent>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
    _folder: tempfile::TempDir,
}

impl Cloud {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With resends after 100 ms in place of 5 s.
    pub(crate) async fn hasty() -> Self {
        Self::with(|setup| setup.session.resend = Duration::from_millis(100)).await
    }

    pub(crate) async fn with(choose: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            hub: CloudHubConfig::default(),
            web_socket: WebSocketConfig::default(),
            session: SessionConfig::cloud(),
        };
        choose(&mut setup);
        setup.hub.driver.session = Arc::new(setup.session);
        let folder = tempfile::tempdir().unwrap();
        let cluster =
            EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
        let strange = Strange::new(cluster.clone());
        let hub = CloudHub::new(setup.hub, strange.clone()).unwrap();
        let events = hub.events();
        let ca = TestCa::new();
        // As a stock CloudHub's certificate: an address and an empty name.
        let tls = TlsServer::mutual(
            ca.server(&["127.0.0.1", ""]),
            ca.certificate(),
            TlsVersions::default(),
        )
        .unwrap();
        let listener = WebSocketListener::bind(("127.0.0.1", 0), tls, setup.web_socket)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = hub
            .serve([Box::new(listener) as Box<dyn Listener>])
            .with_graceful_shutdown(stopped);
        let serving = tokio::spawn(serve.into_future());
        Self {
            hub,
            cluster,
            strange,
            ca,
            address,
            events,
            stop: Some(stop),
            serving,
            _folder: folder,
        }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn event(&mut self, wanted: HubEvent) {
        let found = async { while self.events.recv().await.unwrap() != wanted {} };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("no {wanted:?}"));
    }

    pub(crate) async fn connected(&mut self, node: &str) {
        self.event(HubEvent::Connected(id(node))).await;
    }

    /// Creates an object, and returns it as it is in the cluster.
    pub(crate) async fn create(&self, resource: &str, object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let request = ApiRequest::resource(Verb::Create, collection(resource), namespace.as_deref(), None)
            .with_body("application/json", object.to_string());
        self.execute(request).await
    }

    pub(crate) async fn patch(
        &self,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
        patch: Value,
    ) -> Value {
        let request = ApiRequest::resource(Verb::Patch, collection(resource), namespace, Some(name))
            .with_body("application/merge-patch+json", patch.to_string());
        self.execute(request).await
    }

    pub(crate) async fn delete(&self, resource: &str, namespace: Option<&str>, name: &str) {
        let request = ApiRequest::resource(Verb::Delete, collection(resource), namespace, Some(name))
            .with_body("application/json", r#"{"gracePeriodSeconds":0}"#);
        self.execute(request).await;
    }

    pub(crate) async fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let key = ObjectKey::new(collection(resource), namespace, name);
        let object = self.cluster.get(key).await.unwrap()?;
        Some(serde_json::from_slice(&object.body).unwrap())
    }

    async fn execute(&self, request: ApiRequest) -> Value {
        let response = self.cluster.execute(request).await.unwrap();
        assert!(
            response.is_success(),
            "{}",
            String::from_utf8_lossy(&response.body)
        );
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Waits until this many messages are queued and under way for a node.
    pub(crate) async fn until_depth(&self, node: &str, done: impl Fn(usize, usize) -> bool) {
        let waited = async {
            loop {
                let handle = self.hub.session(&id(node));
                let depth = match handle {
                    Some(handle) => handle.depth().await.unwrap_or_default(),
                    None => hub_core::session::Depth::default(),
                };
                if done(depth.queued, depth.in_flight) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited)
            .await
            .expect("the depth in time");
    }
}

pub(crate) fn id(node: &str) -> NodeId {
    NodeId::new(node).unwrap()
}

/// `nodes`, or `<group>/<version>/<resource>`.
fn collection(resource: &str) -> GroupVersionResource {
    match resource.split('/').collect::<Vec<_>>()[..] {
        [group, version, resource] => GroupVersionResource::new(group, version, resource),
        _ => GroupVersionResource::core(resource),
    }
}

pub(crate) fn config(name: &str, color: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "data": { "color": color } })
}

pub(crate) fn secret(name: &str) -> Value {
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "data": { "password": "ZXhhbXBsZQ==" } })
}

pub(crate) fn service(name: &str, app: &str) -> Value {
    json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": { "clusterIP": "None", "selector": { "app": app }, "ports": [{ "port": 80 }] } })
}

/// A pod on a node that uses these ConfigMaps.
pub(crate) fn pod(name: &str, node: &str, configs: &[&str]) -> Value {
    let volumes: Vec<_> = configs
        .iter()
        .map(|config| json!({ "name": config, "configMap": { "name": config } }))
        .collect();
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "pause:1" }], "volumes": volumes } })
}

/// The embedded cluster behind a door that a test may hold shut. Counts what passes.
#[derive(Clone)]
pub(crate) struct Strange {
    cluster: EmbeddedCluster,
    inner: Arc<Inner>,
}

struct Inner {
    executed: AtomicUsize,
    watched: AtomicUsize,
    running: AtomicUsize,
    running_max: AtomicUsize,
    /// Requests about these names wait.
    held: watch::Sender<HashSet<String>>,
    /// No answer is known to any request.
    unreachable: Mutex<bool>,
    /// What becomes of each object that a watch tells.
    rewrite: Mutex<Option<fn(&mut Value)>>,
}

impl Strange {
    fn new(cluster: EmbeddedCluster) -> Self {
        let inner = Inner {
            executed: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
            held: watch::channel(HashSet::new()).0,
            unreachable: Mutex::new(false),
            rewrite: Mutex::new(None),
        };
        Self {
            cluster,
            inner: Arc::new(inner),
        }
    }

    /// Requests, and watches that were begun.
    pub(crate) fn calls(&self) -> (usize, usize) {
        (
            self.inner.executed.load(Ordering::SeqCst),
            self.inner.watched.load(Ordering::SeqCst),
        )
    }

    /// The most requests that were under way at once.
    pub(crate) fn running_max(&self) -> usize {
        self.inner.running_max.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.inner.running.load(Ordering::SeqCst)
    }

    /// Requests about this name wait until it is let go.
    pub(crate) fn hold(&self, name: &str) {
        self.inner.held.send_modify(|held| {
            held.insert(name.to_owned());
        });
    }

    pub(crate) fn let_go(&self) {
        self.inner.held.send_modify(HashSet::clear);
    }

    pub(crate) fn unreachable(&self, unreachable: bool) {
        *self.inner.unreachable.lock().unwrap() = unreachable;
    }

    pub(crate) fn rewrite(&self, rewrite: fn(&mut Value)) {
        *self.inner.rewrite.lock().unwrap() = Some(rewrite);
    }
}

impl Inner {
    fn rewritten(&self, mut object: Object) -> Object {
        let Some(rewrite) = *self.rewrite.lock().unwrap() else {
            return object;
        };
        let mut body: Value = serde_json::from_slice(&object.body).unwrap();
        rewrite(&mut body);
        object.version = body["metadata"]["resourceVersion"].as_str().unwrap().into();
        object.body = body.to_string().into();
        object
    }
}

impl Cluster for Strange {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        self.inner.watched.fetch_add(1, Ordering::SeqCst);
        let inner = self.inner.clone();
        let events = self.cluster.watch(scope).map(move |event| match event {
            ClusterEvent::Applied { object, previous } => ClusterEvent::Applied {
                object: inner.rewritten(object),
                previous,
            },
            ClusterEvent::Deleted { object } => ClusterEvent::Deleted {
                object: inner.rewritten(object),
            },
            other => other,
        });
        events.boxed()
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        self.cluster.get(key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        let (cluster, inner) = (self.cluster.clone(), self.inner.clone());
        async move {
            inner.executed.fetch_add(1, Ordering::SeqCst);
            let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
            inner.running_max.fetch_max(running, Ordering::SeqCst);
            if let Target::Resource { name: Some(name), .. } = &request.target {
                let name = name.to_string();
                let mut held = inner.held.subscribe();
                let _ = held.wait_for(|held| !held.contains(&name)).await;
            }
            let result = if *inner.unreachable.lock().unwrap() {
                Err(UpstreamError::Unreachable)
            } else {
                cluster.execute(request).await
            };
            inner.running.fetch_sub(1, Ordering::SeqCst);
            result
        }
        .boxed()
    }

    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        self.cluster.allows(request)
    }

    fn registry(&self) -> &Registry {
        self.cluster.registry()
    }
}
