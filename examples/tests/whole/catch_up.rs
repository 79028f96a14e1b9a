//! What it costs to come back to a large collection of which little changed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use cloudhub::cluster::{EmbeddedCluster, EmbeddedConfig};
use cloudhub::{CloudHub, CloudHubConfig};
use edgehub::store::EdgeStore;
use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig};
use futures::StreamExt;
use hub_core::api::{ApiRequest, Verb};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::store::{Coverage, ObjectStore};
use hub_core::testing::TestCa;
use hub_core::transport::{
    Endpoint, Listener, QuicConfig, QuicDialer, QuicListener, TlsClient, TlsServer, TlsVersions,
    WebSocketConfig, WebSocketDialer, WebSocketListener,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use crate::world::{NODE, Tunnel, over_both, until, within};

over_both!(a_node_that_returns_to_5_000_objects_is_sent_the_fifty_that_changed);
async fn a_node_that_returns_to_5_000_objects_is_sent_the_fifty_that_changed(tunnel: Tunnel) {
    let folder = tempfile::tempdir().unwrap();
    let cluster =
        EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
    let ca = TestCa::new();
    execute(
        &cluster,
        Verb::Create,
        core("namespaces"),
        None,
        None,
        json!({ "metadata": { "name": "shop" } }),
    )
    .await;
    futures::stream::iter(0..OBJECTS)
        .map(|i| put(&cluster, Verb::Create, i, "first"))
        .buffer_unordered(512)
        .collect::<()>()
        .await;

    let hub = Hub::start(&cluster, &ca, tunnel).await;
    let edge = Edge::start(folder.path(), &ca, tunnel, hub.at);
    let begun = Instant::now();
    edge.same_as(&cluster, OBJECTS).await;
    let first = hub.cost();
    println!(
        "{tunnel:?}: {OBJECTS} objects for the first time: {first}, in {:?}",
        begun.elapsed()
    );
    edge.stop().await;

    // One in a hundred: forty changed, five deleted, five new.
    for i in 0..40 {
        put(&cluster, Verb::Update, i * 100, "second").await;
    }
    for i in 40..45 {
        let name = name(i * 100);
        execute(
            &cluster,
            Verb::Delete,
            core("configmaps"),
            Some("shop"),
            Some(&name),
            Value::Null,
        )
        .await;
        put(&cluster, Verb::Create, OBJECTS + i, "second").await;
    }

    // The cloud was restarted too: it knows nothing of this node but what the node tells.
    drop(hub);
    let hub = Hub::start(&cluster, &ca, tunnel).await;
    let edge = Edge::start(folder.path(), &ca, tunnel, hub.at);
    let begun = Instant::now();
    edge.same_as(&cluster, OBJECTS).await;
    let back = hub.cost();
    println!(
        "{tunnel:?}: 50 of {OBJECTS} changed while away: {back}, in {:?}",
        begun.elapsed()
    );
    assert!(back.messages < 80, "the fifty, and the words around them: {back}");
    assert!(back.bytes() * 20 < first.bytes(), "{back} after {first}");
    edge.stop().await;

    drop(hub);
    let hub = Hub::start(&cluster, &ca, tunnel).await;
    let edge = Edge::start(folder.path(), &ca, tunnel, hub.at);
    edge.same_as(&cluster, OBJECTS).await;
    let nothing = hub.cost();
    println!("{tunnel:?}: nothing changed while away: {nothing}");
    assert!(nothing.messages < 10, "{nothing}");
    edge.stop().await;
}

const OBJECTS: usize = 5_000;

/// A cloud in front of the cluster.
struct Hub {
    metrics: Registry,
    at: SocketAddr,
    _serving: AbortOnDropHandle<Result<(), cloudhub::ServeError>>,
}

impl Hub {
    async fn start(cluster: &EmbeddedCluster, ca: &TestCa, tunnel: Tunnel) -> Self {
        let mut config = CloudHubConfig::default();
        config.authorization.read_all_configs = true;
        let hub = CloudHub::new(config, cluster.clone()).unwrap();
        let mut metrics = Registry::default();
        hub.register_metrics(&mut metrics);
        let (listener, at) = listen(ca, tunnel).await;
        let serving = tokio::spawn(hub.serve([listener]).into_future());
        Self {
            metrics,
            at,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// What crossed the tunnel since the start.
    fn cost(&self) -> Cost {
        Cost::now(&self.metrics)
    }
}

struct Edge {
    store: EdgeStore,
    handle: EdgeHandle,
    metrics: Registry,
    run: JoinHandle<Result<(), edgehub::RunError>>,
}

impl Edge {
    fn start(folder: &Path, ca: &TestCa, tunnel: Tunnel, at: SocketAddr) -> Self {
        let mut config = EdgeHubConfig::new(NodeId::new(NODE).unwrap());
        config.prefetch.push(configmaps());
        let store = EdgeStore::open(folder.join("edge.db")).unwrap();
        let builder = EdgeHub::with_store(config, store.clone());
        let client = TlsClient::new(ca.certificate(), Some(ca.node(NODE))).unwrap();
        let endpoint = Endpoint::parse(&at.to_string()).unwrap();
        let hub = match tunnel {
            Tunnel::WebSocket => {
                builder.with_dialer(WebSocketDialer::new(client, WebSocketConfig::default()), endpoint)
            }
            Tunnel::Quic => builder.with_dialer(QuicDialer::new(client, QuicConfig::default()), endpoint),
        }
        .build();
        let mut metrics = Registry::default();
        hub.register_metrics(&mut metrics);
        Self {
            store,
            handle: hub.handle(),
            metrics,
            run: tokio::spawn(hub.run()),
        }
    }

    /// Waits until the node has caught up, and compares each object.
    async fn same_as(&self, cluster: &EmbeddedCluster, count: usize) {
        let versions = |store: &dyn ObjectStore| -> Vec<(ObjectKey, String)> {
            let objects = store.list(&core("configmaps"), Some("shop")).objects;
            let version = |body: &[u8]| {
                let body: Value = serde_json::from_slice(body).unwrap();
                format!("{} {}", body["metadata"]["resourceVersion"], body["data"])
            };
            objects
                .iter()
                .map(|stored| (stored.object.key.clone(), version(&stored.object.body)))
                .collect()
        };
        until("the end of a catch-up", async || {
            (value(&self.metrics, "edge_catch_ups_total") == 1).then_some(())
        })
        .await;
        let wanted = versions(cluster);
        assert_eq!(wanted.len(), count);
        until("the catch-up", async || {
            let complete = self.store.coverage(&configmaps()) == Coverage::Complete;
            let revision = |store: &dyn ObjectStore| {
                let objects = store.list(&core("configmaps"), Some("shop")).objects;
                objects
                    .iter()
                    .map(|stored| stored.object.version.clone())
                    .collect::<Vec<_>>()
            };
            (complete && revision(&self.store) == revision(cluster)).then_some(())
        })
        .await;
        assert_eq!(versions(&self.store), wanted);
    }

    async fn stop(self) {
        self.handle.stop();
        within("the edge's end", self.run).await.unwrap().unwrap();
    }
}

/// What crossed the tunnel, as the hub counts it.
#[derive(Debug, Clone, Copy)]
struct Cost {
    messages: u64,
    down: u64,
    up: u64,
}

impl Cost {
    fn now(metrics: &Registry) -> Self {
        Self {
            messages: value(metrics, "cloudhub_sent_messages_total"),
            down: value(metrics, "cloudhub_sent_bytes_total"),
            up: value(metrics, "cloudhub_received_bytes_total"),
        }
    }

    fn bytes(self) -> u64 {
        self.down + self.up
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} messages and {} bytes down, {} bytes up",
            self.messages, self.down, self.up
        )
    }
}

fn value(metrics: &Registry, name: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, metrics).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

async fn listen(ca: &TestCa, tunnel: Tunnel) -> (Box<dyn Listener>, SocketAddr) {
    let tls = TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::Only13).unwrap();
    let here = "127.0.0.1:0";
    let listener: Box<dyn Listener> = match tunnel {
        Tunnel::WebSocket => Box::new(
            WebSocketListener::bind(here, tls, WebSocketConfig::default())
                .await
                .unwrap(),
        ),
        Tunnel::Quic => {
            Box::new(QuicListener::bind(here.parse().unwrap(), tls, QuicConfig::default()).unwrap())
        }
    };
    let at = listener.local_addr().unwrap();
    (listener, at)
}

async fn put(cluster: &EmbeddedCluster, verb: Verb, number: usize, text: &str) {
    let name = name(number);
    // About the size of a small application's settings.
    let lines: String = (0..12)
        .map(|line| format!("setting-{number}-{line} = {}\n", number * 31 + line))
        .collect();
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "shop" },
        "data": { "text": text, "settings": lines } });
    let named = (verb == Verb::Update).then_some(&*name);
    execute(cluster, verb, core("configmaps"), Some("shop"), named, object).await;
}

async fn execute(
    cluster: &EmbeddedCluster,
    verb: Verb,
    resource: GroupVersionResource,
    namespace: Option<&str>,
    name: Option<&str>,
    body: Value,
) {
    let request = ApiRequest::resource(verb, resource, namespace, name);
    let request = match body {
        Value::Null => request,
        body => request.with_body("application/json", body.to_string()),
    };
    let answer = cluster.upstream().oneshot(request).await.unwrap();
    assert!(answer.is_success(), "{}", String::from_utf8_lossy(&answer.body));
}

fn name(number: usize) -> String {
    format!("config-{number:05}")
}

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::core(resource)
}

fn configmaps() -> Scope {
    Scope::namespaced(core("configmaps"), "shop")
}
