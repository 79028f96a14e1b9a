//! Both halves in this process, over real sockets and TLS, with a wire between them that a test can spoil.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgehub::EdgeHandle;
use edgehub::store::EdgeStore;
use edgehub::twin::Twins;
use examples::cloud::{Addresses, Cloud};
use examples::config::{CloudCore, EdgeCore, Listen};
use examples::edge::Edge;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::store::{Coverage, ObjectStore};
use hub_core::testing::{Wire, WireConditions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Api;

/// What the tunnel runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tunnel {
    WebSocket,
    Quic,
}

/// Runs a test over both transports.
macro_rules! over_both {
    ($test:ident) => {
        mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn websocket() {
                super::$test($crate::world::Tunnel::WebSocket).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn quic() {
                super::$test($crate::world::Tunnel::Quic).await;
            }
        }
    };
}
pub(crate) use over_both;

/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NODE: &str = "edge-1";

/// A cloud with a namespace `shop`.
pub(crate) struct CloudHalf {
    pub(crate) addresses: Addresses,
    pub(crate) api: Api,
    pub(crate) token: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
    _folder: TempDir,
}

impl CloudHalf {
    pub(crate) async fn start(tunnel: Tunnel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::bind(&cloud_config(folder.path(), tunnel)).await.unwrap();
        let (addresses, token) = (cloud.addresses.clone(), cloud.join_token().unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn(cloud.run(stop.clone()));
        let api = Api(addresses.api.unwrap());
        api.create("/api/v1/namespaces", json!({ "metadata": { "name": "shop" } }))
            .await;
        Self {
            addresses,
            api,
            token,
            stop,
            task,
            _folder: folder,
        }
    }

    /// Where the tunnel is.
    pub(crate) fn tunnel(&self) -> SocketAddr {
        self.addresses.websocket.or(self.addresses.quic).unwrap()
    }

    /// The value of a metric, as a scrape tells it.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = Api(self.addresses.metrics.unwrap()).get("/metrics").await;
        let text = answer.body.as_str().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// An edge that joins through a wire of its own.
    pub(crate) async fn edge(&self, node: &str, prefetch: &[&str]) -> EdgeHalf {
        self.edge_with(node, prefetch, |_, _| {}).await
    }

    /// The same with a changed configuration; its folder is given too.
    pub(crate) async fn edge_with(
        &self,
        node: &str,
        prefetch: &[&str],
        change: impl FnOnce(&mut EdgeCore, &Path),
    ) -> EdgeHalf {
        let wire = match self.addresses.quic {
            Some(quic) => Wire::udp(quic).await,
            None => Wire::tcp(self.tunnel()).await,
        }
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = edge_config(
            folder.path(),
            node,
            &self.addresses,
            wire.address(),
            &self.token,
            prefetch,
        );
        change(&mut config, folder.path());
        EdgeHalf::start(folder, config, wire).await
    }

    /// Ends in good order.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("the cloud's end", self.task).await.unwrap().unwrap();
    }

    /// Ends in good order, and begins anew with the same files at the same addresses.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            addresses,
            stop,
            task,
            _folder,
            ..
        } = self;
        stop.cancel();
        within("the cloud's end", task).await.unwrap().unwrap();
        let tunnel = match addresses.quic {
            Some(_) => Tunnel::Quic,
            None => Tunnel::WebSocket,
        };
        let mut config = cloud_config(_folder.path(), tunnel);
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let hub = &mut config.modules.cloud_hub;
        hub.websocket.port = port(addresses.websocket);
        hub.quic.port = port(addresses.quic);
        hub.https.port = port(addresses.https);
        config.common_config.monitor_server.bind_address = addresses.metrics.unwrap().to_string();
        config.edge_tunnel.standalone.server = addresses.api.unwrap().to_string();
        let cloud = until("the same addresses", async || Cloud::bind(&config).await.ok()).await;
        let (addresses, token) = (cloud.addresses.clone(), cloud.join_token().unwrap());
        let stop = CancellationToken::new();
        Self {
            api: Api(addresses.api.unwrap()),
            task: tokio::spawn(cloud.run(stop.clone())),
            addresses,
            token,
            stop,
            _folder,
        }
    }
}

/// A running node.
pub(crate) struct EdgeHalf {
    pub(crate) api: Api,
    /// Where its metrics are, where they are wanted.
    pub(crate) metrics: Option<Api>,
    pub(crate) store: EdgeStore,
    pub(crate) handle: EdgeHandle,
    pub(crate) twins: Twins,
    pub(crate) wire: Wire,
    pub(crate) folder: TempDir,
    config: EdgeCore,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

impl EdgeHalf {
    /// Where its files are, and its admin socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn start(folder: TempDir, config: EdgeCore, wire: Wire) -> Self {
        let edge = Edge::bind(&config).await.unwrap();
        let stop = CancellationToken::new();
        let half = Self {
            api: Api(edge.api_address().unwrap()),
            metrics: edge
                .addresses()
                .split(' ')
                .find_map(|shown| Some(Api(shown.strip_prefix("metrics=")?.parse().unwrap()))),
            store: edge.store.clone(),
            handle: edge.handle(),
            twins: edge.twins().unwrap(),
            wire,
            task: tokio::spawn(edge.run(stop.clone())),
            stop,
            folder,
            config,
        };
        half.link(true).await;
        half
    }

    /// Ends in good order, and begins anew with the same files, its API at the same address. What happens meanwhile is done in between.
    pub(crate) async fn restarted(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self {
            api,
            store,
            handle,
            twins,
            wire,
            folder,
            mut config,
            stop,
            task,
            ..
        } = self;
        stop.cancel();
        within("the edge's end", task).await.unwrap().unwrap();
        // The file is closed with the last who holds the store.
        drop((store, handle, twins));
        meanwhile().await;
        config.modules.meta_manager.meta_server.server = api.0.to_string();
        Self::start(folder, config, wire).await
    }

    /// Waits until the link is up, or down.
    pub(crate) async fn link(&self, up: bool) {
        let mut link = self.handle.link();
        let what = if up { "the link" } else { "the link's end" };
        within(what, link.wait_for(|link| link.is_up() == up))
            .await
            .unwrap();
    }

    /// Cuts the link and keeps it cut.
    pub(crate) async fn cut(&self) {
        self.wire.stall();
        self.wire.cut();
        self.link(false).await;
    }

    /// Makes the link good again.
    pub(crate) async fn restore(&self) {
        self.wire.set(WireConditions::default());
        self.wire.cut();
        self.link(true).await;
    }

    /// Something beside the node's store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends in good order.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("the edge's end", self.task).await.unwrap().unwrap();
    }

    /// An object on the disk, as the cloud has it.
    pub(crate) fn held(&self, resource: &str, name: &str) -> Option<Value> {
        let key = ObjectKey::new(GroupVersionResource::core(resource), Some("shop"), name);
        let stored = self.store.get(&key)?;
        Some(serde_json::from_slice(&stored.object.body).unwrap())
    }

    /// The names of what is held of a collection, in all namespaces.
    pub(crate) fn names(&self, resource: &GroupVersionResource) -> Vec<String> {
        let objects = self.store.list(resource, None).objects;
        objects
            .iter()
            .map(|stored| stored.object.key.name.to_string())
            .collect()
    }

    pub(crate) async fn complete(&self, scope: &Scope) {
        let what = format!("all of {scope}");
        until(&what, async || {
            (self.store.coverage(scope) == Coverage::Complete).then_some(())
        })
        .await;
    }
}

pub(crate) fn cloud_config(folder: &Path, tunnel: Tunnel) -> CloudCore {
    let mut config = CloudCore::default();
    let here = |enable| Listen {
        enable,
        address: "127.0.0.1".into(),
        port: 0,
    };
    let hub = &mut config.modules.cloud_hub;
    hub.websocket = here(tunnel == Tunnel::WebSocket);
    hub.quic = here(tunnel == Tunnel::Quic);
    hub.https = here(true);
    hub.advertise_address = vec!["127.0.0.1".into()];
    hub.tls_ca_file = folder.join("ca.crt");
    hub.tls_ca_key_file = folder.join("ca.key");
    hub.tls_cert_file = folder.join("server.crt");
    hub.tls_private_key_file = folder.join("server.key");
    config.common_config.monitor_server.bind_address = "127.0.0.1:0".into();
    config.edge_tunnel.admin.socket = folder.join("admin.sock");
    config.edge_tunnel.standalone.enable = true;
    config.edge_tunnel.standalone.data_dir = folder.join("cluster");
    config.edge_tunnel.standalone.server = "127.0.0.1:0".into();
    config
}

pub(crate) fn edge_config(
    folder: &Path,
    node: &str,
    cloud: &Addresses,
    tunnel: SocketAddr,
    token: &str,
    prefetch: &[&str],
) -> EdgeCore {
    let mut config = EdgeCore::default();
    config.database.data_source = folder.join("edgecore.db");
    config.modules.edged.hostname_override = node.into();
    let hub = &mut config.modules.edge_hub;
    hub.heartbeat = 1;
    hub.token = token.into();
    hub.http_server = format!("https://{}", cloud.https.unwrap());
    hub.tls_ca_file = folder.join("ca.crt");
    hub.tls_cert_file = folder.join("node.crt");
    hub.tls_private_key_file = folder.join("node.key");
    hub.websocket.enable = cloud.websocket.is_some();
    hub.websocket.server = tunnel.to_string();
    hub.websocket.handshake_timeout = 2;
    hub.quic.enable = cloud.quic.is_some();
    hub.quic.server = tunnel.to_string();
    config.modules.meta_manager.meta_server.enable = true;
    config.modules.meta_manager.meta_server.server = "127.0.0.1:0".into();
    config.edge_tunnel.admin.socket = folder.join("edgecore.sock");
    config.modules.device_twin.dmi_sock_path = folder.join("dmi.sock");
    config.modules.event_bus.enable = false;
    config.edge_tunnel.prefetch = prefetch.iter().map(|text| (*text).to_owned()).collect();
    config
}

/// Gives up on what takes too long.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
}

/// Looks again and again until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Waits for longer than the longest pause between two dials (30 s), and then a connection and a catch-up, may take.
pub(crate) async fn settles(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(120), looking)
        .await
        .is_err()
    {
        panic!("{what}: not so after two minutes");
    }
}

pub(crate) fn config_map(name: &str, text: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "shop" }, "data": { "text": text } })
}

pub(crate) fn secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "shop" }, "stringData": { "password": "not-a-real-one" } })
}

/// A pod whose environment comes from a ConfigMap and a Secret. Without a node it waits for one.
pub(crate) fn pod(name: &str, node: Option<&str>, config: &str, secret: &str) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "containers": [{ "name": "main", "image": "registry.example.com/main:1",
            "envFrom": [{ "configMapRef": { "name": config } }, { "secretRef": { "name": secret } }] }] } });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

pub(crate) const CONFIGMAPS: &str = "/api/v1/namespaces/shop/configmaps";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/shop/secrets";
pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/shop/services";

pub(crate) fn service(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "clusterIP": "None", "selector": { "app": name }, "ports": [{ "port": 80 }] } })
}
