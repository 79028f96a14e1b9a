//! A hub over an embedded cluster, and edges that a test plays by hand, over the memory transport.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use cloudhub::cluster::Cluster;
use cloudhub::cluster::{EmbeddedCluster, EmbeddedConfig};
use cloudhub::{CloudHub, CloudHubConfig, HubEvent, ServeError};
use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::catch_up::{self, Complete, Differ, Have, Inventory, ScopeText};
use hub_core::message::{Content, Message, MessageId, Operation, Route, needs_ack};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object};
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, Inbound, Listener, MemoryConfig,
    MemoryDialer, Outbound, Received, Transport, TransportError, memory,
};

/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) hub: CloudHub,
    pub(crate) cluster: EmbeddedCluster,
    pub(crate) events: broadcast::Receiver<HubEvent>,
    dialer: MemoryDialer,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
    folder: Arc<tempfile::TempDir>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(CloudHubConfig::default(), |hub| hub)
    }

    pub(crate) fn with(config: CloudHubConfig, build: impl FnOnce(CloudHub) -> CloudHub) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let cluster =
            EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
        let hub = build(CloudHub::new(config, cluster.clone()).unwrap());
        Self::serve(hub, cluster, folder)
    }

    /// The process of this hub is killed, and another serves the same cluster in its place.
    pub(crate) async fn killed(
        self,
        config: CloudHubConfig,
        build: impl FnOnce(CloudHub) -> CloudHub,
    ) -> Self {
        self.serving.abort();
        let _ = self.serving.await;
        let hub = build(CloudHub::new(config, self.cluster.clone()).unwrap());
        Self::serve(hub, self.cluster, self.folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn serve(hub: CloudHub, cluster: EmbeddedCluster, folder: Arc<tempfile::TempDir>) -> Self {
        let events = hub.events();
        let (listener, dialer) = memory(MemoryConfig::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = hub
            .serve([Box::new(listener) as Box<dyn Listener>])
            .with_graceful_shutdown(stopped);
        let serving = tokio::spawn(serve.into_future());
        Self {
            hub,
            cluster,
            events,
            dialer,
            stop: Some(stop),
            serving,
            folder,
        }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn dial(
        &self,
        common_name: &str,
        request: ConnectRequest,
    ) -> Result<Box<dyn Transport>, TransportError> {
        let endpoint = Endpoint::parse("cloud:10000").unwrap();
        let dial = self
            .dialer
            .clone()
            .with_common_name(common_name)
            .dial(&endpoint, request);
        tokio::time::timeout(PATIENCE, dial).await.unwrap()
    }

    pub(crate) async fn connect(&self, node: &str, capabilities: Capabilities) -> Edge {
        let id = NodeId::new(node).unwrap();
        let request = ConnectRequest::tunnel(&id, ConnectRequest::DEFAULT_PROJECT, capabilities);
        let transport = self.dial(&id.user_name(), request).await.unwrap();
        Edge {
            node: id,
            transport,
            seen: VecDeque::new(),
            held: BTreeMap::new(),
            registry: self.cluster.registry().clone(),
            received: 0,
            manners: Manners::Good,
        }
    }

    /// A stock KubeEdge edge.
    pub(crate) async fn stock(&self, node: &str) -> Edge {
        self.connect(node, Capabilities::NONE).await
    }

    pub(crate) async fn event(&mut self, wanted: HubEvent) {
        let found = async { while self.events.recv().await.unwrap() != wanted {} };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("no {wanted:?}"));
    }

    pub(crate) async fn execute(&self, request: ApiRequest) -> ApiResponse {
        self.cluster.execute(request).await.unwrap()
    }

    /// Creates an object, and returns it as it is in the cluster.
    pub(crate) async fn create(&self, resource: &str, object: Value) -> Value {
        self.create_in(GroupVersionResource::core(resource), object).await
    }

    pub(crate) async fn create_in(&self, resource: GroupVersionResource, object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let request = ApiRequest::resource(Verb::Create, resource, namespace.as_deref(), None)
            .with_body("application/json", object.to_string());
        body(&self.execute(request).await)
    }

    /// Creates an object of any collection (`v1/pods`, `apps/v1/deployments`).
    pub(crate) async fn post(&self, collection: &str, namespace: Option<&str>, object: Value) -> Value {
        let request = ApiRequest::resource(Verb::Create, resource(collection), namespace, None)
            .with_body("application/json", object.to_string());
        body(&self.execute(request).await)
    }

    /// An object of any collection.
    pub(crate) async fn read(&self, collection: &str, namespace: Option<&str>, name: &str) -> Value {
        let request = ApiRequest::resource(Verb::Get, resource(collection), namespace, Some(name));
        body(&self.execute(request).await)
    }

    pub(crate) async fn patch(
        &self,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
        patch: Value,
    ) -> Value {
        self.patch_in(GroupVersionResource::core(resource), namespace, name, patch)
            .await
    }

    pub(crate) async fn patch_in(
        &self,
        resource: GroupVersionResource,
        namespace: Option<&str>,
        name: &str,
        patch: Value,
    ) -> Value {
        let request = ApiRequest::resource(Verb::Patch, resource, namespace, Some(name))
            .with_body("application/merge-patch+json", patch.to_string());
        body(&self.execute(request).await)
    }

    pub(crate) async fn delete(&self, resource: &str, namespace: Option<&str>, name: &str) {
        self.delete_in(GroupVersionResource::core(resource), namespace, name)
            .await;
    }

    pub(crate) async fn delete_in(
        &self,
        resource: GroupVersionResource,
        namespace: Option<&str>,
        name: &str,
    ) {
        let request = ApiRequest::resource(Verb::Delete, resource, namespace, Some(name))
            .with_body("application/json", r#"{"gracePeriodSeconds":0}"#);
        let response = self.execute(request).await;
        assert!(response.is_success(), "{response:?}");
    }
}

fn resource(collection: &str) -> GroupVersionResource {
    match *collection.split('/').collect::<Vec<_>>() {
        [group, version, resource] => GroupVersionResource::new(group, version, resource),
        [version, resource] => GroupVersionResource::new("", version, resource),
        _ => panic!("{collection} is no collection"),
    }
}

pub(crate) fn body(response: &ApiResponse) -> Value {
    assert!(
        response.is_success(),
        "{}",
        String::from_utf8_lossy(&response.body)
    );
    serde_json::from_slice(&response.body).unwrap()
}

pub(crate) fn node(name: &str) -> Value {
    json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name, "labels": { "kubernetes.io/os": "linux", "site": "berlin" } }, "spec": {}, "status": {} })
}

pub(crate) fn config(name: &str, color: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "data": { "color": color } })
}

pub(crate) fn secret(name: &str) -> Value {
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "data": { "password": "ZXhhbXBsZQ==" } })
}

pub(crate) fn service(name: &str) -> Value {
    json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "clusterIP": "None", "selector": { "app": name }, "ports": [{ "port": 80 }] } })
}

/// A pod that references a ConfigMap and a Secret.
pub(crate) fn pod(name: &str, node: &str, config: &str, secret: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node,
            "containers": [{ "name": "c", "image": "pause:1", "envFrom": [{ "configMapRef": { "name": config } }] }],
            "volumes": [{ "name": "s", "secret": { "secretName": secret } }] } })
}

/// The edge's end of a connection, played by a test.
pub(crate) struct Edge {
    pub(crate) node: NodeId,
    pub(crate) transport: Box<dyn Transport>,
    /// What came and was not asked for yet.
    pub(crate) seen: VecDeque<Message>,
    /// What its disk holds, by route resource.
    pub(crate) held: BTreeMap<String, Bytes>,
    registry: hub_core::registry::Registry,
    /// Messages that carried objects.
    pub(crate) received: usize,
    pub(crate) manners: Manners,
}

/// What an edge does with a message that it should acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Stores it and says so.
    Good,
    /// Stores it and says nothing.
    Silent,
    /// Does not store it, and says that.
    Refusing,
}

impl Edge {
    /// The next frame that is a message, acknowledged as a stock edge or ours does, and applied to the disk.
    pub(crate) async fn next(&mut self) -> Message {
        if let Some(message) = self.seen.pop_front() {
            return message;
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Message {
        match self.try_receive().await {
            Ok(message) => message,
            Err(reason) => panic!("the connection ended: {reason:?}"),
        }
    }

    pub(crate) async fn try_receive(&mut self) -> Result<Message, Option<CloseReason>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.transport.next())
                .await
                .expect("a message in time");
            let message = match frame {
                Some(Ok(Inbound::Message(Received::Whole(message)))) => message,
                Some(Ok(Inbound::Message(Received::Patched(mut message, patch)))) => {
                    let base = &self.held[message.route.resource.as_str()];
                    message.content = Content::from_json(patch.apply(base).unwrap());
                    message
                }
                Some(Ok(Inbound::Alive)) => continue,
                Some(Ok(Inbound::Closed(reason))) => return Err(Some(reason)),
                Some(Err(_)) | None => return Err(None),
            };
            if needs_ack(&message) {
                match self.manners {
                    Manners::Good => self.acknowledge(&message).await,
                    Manners::Silent => {}
                    Manners::Refusing => {
                        let mut refusal = message.error("the disk is full");
                        refusal.header.id = MessageId::random();
                        self.send_frame(refusal).await;
                        return Ok(message);
                    }
                }
            }
            if !message.is_reply() {
                self.received += 1;
                let resource = message.route.resource.to_string();
                match message.route.operation {
                    Operation::Delete => drop(self.held.remove(&resource)),
                    _ => drop(self.held.insert(resource, message.content.bytes().clone())),
                }
            }
            return Ok(message);
        }
    }

    pub(crate) async fn acknowledge(&mut self, message: &Message) {
        let mut ack = message.response(Content::ok());
        ack.header.id = MessageId::random();
        self.send_frame(ack).await;
    }

    pub(crate) async fn send_frame(&mut self, message: Message) {
        self.transport
            .send(Outbound::Message { message, base: None })
            .await
            .unwrap();
    }

    /// Asks, and waits for the answer; what else comes is kept.
    pub(crate) async fn ask(&mut self, mut message: Message) -> Message {
        let id = MessageId::random();
        message.header.id = id.clone();
        self.send_frame(message).await;
        loop {
            let message = self.receive().await;
            if message.header.parent_id.as_ref() == Some(&id) {
                return message;
            }
            self.seen.push_back(message);
        }
    }

    /// As kubelet's half of a stock edge asks.
    pub(crate) async fn edged(&mut self, operation: Operation, resource: &str, content: Content) -> Message {
        self.ask(Message::new(
            Route::new("edged", "meta", operation, resource),
            content,
        ))
        .await
    }

    /// `operation resource` of the next messages.
    pub(crate) async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            let route = self.next().await.route;
            told.push(format!("{} {}", route.operation, route.resource));
        }
        told
    }

    /// Reads until the disk is as wanted.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&BTreeMap<String, Bytes>) -> bool) {
        while !done(&self.held) {
            self.next().await;
        }
    }

    /// Reads until the end of the connection.
    pub(crate) async fn closed(mut self) -> Option<CloseReason> {
        loop {
            if let Err(reason) = self.try_receive().await {
                return reason;
            }
        }
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for body in self.held.values() {
            let metadata: Value = serde_json::from_slice(body).unwrap();
            let kind = metadata["kind"].as_str().unwrap_or_default();
            let Some(kind) = self
                .registry
                .by_kind(metadata["apiVersion"].as_str().unwrap_or_default(), kind)
            else {
                continue;
            };
            let object = Object::from_body(kind.resource.clone(), body.clone()).unwrap();
            inventory.add(&object.key, &object.uid, object.version.as_str());
        }
        inventory
    }

    /// The whole conversation of a catch-up. Returns what is complete and how many bytes were told.
    pub(crate) async fn catch_up(&mut self, scopes: Vec<ScopeText>) -> (Complete, usize) {
        let inventory = self.inventory();
        let mut told = 0;
        let mut sync = |resource: &str, content: Content| {
            told += content.bytes().len();
            Message::new(
                Route::new(catch_up::SOURCE, "sync", Operation::Query, resource),
                content,
            )
        };
        let have = sync(
            catch_up::HAVE,
            Content::encode(&Have {
                scopes,
                digests: inventory.digests(),
            }),
        );
        let differ: Differ = self.ask(have).await.content.decode("differ").unwrap();
        if !differ.resources.is_empty() {
            let buckets = sync(catch_up::BUCKETS_OF, Content::encode(&inventory.buckets(&differ)));
            let differ: Differ = self.ask(buckets).await.content.decode("differ").unwrap();
            let versions = sync(
                catch_up::VERSIONS_OF,
                Content::encode(&inventory.versions(&differ)),
            );
            self.ask(versions).await;
        }
        loop {
            let message = self.next().await;
            if message.route.resource.as_str() == catch_up::COMPLETE {
                self.held.remove(catch_up::COMPLETE);
                return (message.content.decode("complete").unwrap(), told);
            }
        }
    }
}
