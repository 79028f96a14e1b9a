//! The node half as one value: the store, the hub and the node's API.

use std::collections::BTreeMap;
use std::time::Duration;

use edgehub::enroll::EnrollConfig;
use edgehub::store::EdgeStore;
use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig, NodeAgentConfig};
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::transport::Endpoint;
use metaserver::MetaServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cloud::listen;
use crate::config::EdgeCore;
use crate::metrics;
use crate::pods::Pods;

/// A node half that is ready to run.
pub struct Edge {
    /// What the node holds.
    pub store: EdgeStore,
    hub: EdgeHub,
    pods: Pods,
    api: Option<(MetaServer, TcpListener)>,
    metrics: Option<(TcpListener, prometheus_client::registry::Registry)>,
}

impl Edge {
    /// Opens the store and binds the node's API. Nothing is dialled yet.
    pub async fn bind(config: &EdgeCore) -> Result<Self, String> {
        let path = &config.database.data_source;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        }
        // KubeEdge's own database is another format; ours stands beside it.
        let path = path.with_extension("tunnel.db");
        let store = EdgeStore::open(&path).map_err(|error| error.to_string())?;
        let hub = EdgeHub::new(hub_config(config)?, store.clone()).map_err(|error| error.to_string())?;
        let pods = Pods::new(store.clone(), hub.handle(), node(config)?);

        let meta = &config.modules.meta_manager.meta_server;
        let api = if meta.enable {
            Some((
                MetaServer::new(store.clone(), hub.handle()),
                listen(&meta.server).await?,
            ))
        } else {
            None
        };
        let bind_metrics = &config.edge_tunnel.metrics;
        let metrics = if bind_metrics.is_empty() {
            None
        } else {
            let mut registry = prometheus_client::registry::Registry::default();
            hub.register_metrics(&mut registry);
            if let Some((api, _)) = &api {
                api.register_metrics(&mut registry);
            }
            Some((listen(bind_metrics).await?, registry))
        };
        Ok(Self {
            store,
            hub,
            pods,
            api,
            metrics,
        })
    }

    /// Where it listens, for the log.
    pub fn addresses(&self) -> String {
        let show = |name: &str, listener: &TcpListener| {
            listener
                .local_addr()
                .map_or_else(|_| String::new(), |address| format!("{name}={address}"))
        };
        let api = self.api.as_ref().map(|(_, listener)| show("api", listener));
        let metrics = self
            .metrics
            .as_ref()
            .map(|(listener, _)| show("metrics", listener));
        [api, metrics].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Where the node's API listens.
    pub fn api_address(&self) -> Option<std::net::SocketAddr> {
        self.api
            .as_ref()
            .and_then(|(_, listener)| listener.local_addr().ok())
    }

    /// The hub's handle.
    pub fn handle(&self) -> EdgeHandle {
        self.hub.handle()
    }

    /// Runs until told to stop, or until an operator must do something.
    pub async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let handle = self.hub.handle();
        let pods = stop.clone().run_until_cancelled_owned(self.pods.run());
        let hub = async {
            let result = self.hub.run().await.map_err(|error| error.to_string());
            // Without the hub there is nothing left to run for.
            stop.cancel();
            result
        };
        let stopped = async {
            stop.cancelled().await;
            handle.stop();
            Ok(())
        };
        let api = async {
            match self.api {
                Some((server, listener)) => {
                    let until = stop.clone().cancelled_owned();
                    server
                        .serve_on(listener, until)
                        .await
                        .map_err(|error| error.to_string())
                }
                None => Ok(()),
            }
        };
        let metrics = async {
            match self.metrics {
                Some((listener, registry)) => metrics::serve(listener, registry, stop.clone())
                    .await
                    .map_err(|error| error.to_string()),
                None => Ok(()),
            }
        };
        let all = async { tokio::try_join!(hub, stopped, api, metrics).map(drop) };
        tokio::join!(all, pods).0
    }
}

fn hub_config(config: &EdgeCore) -> Result<EdgeHubConfig, String> {
    let module = &config.modules.edge_hub;
    let node = node(config)?;
    let http_server = module
        .http_server
        .trim_start_matches("https://")
        .trim_end_matches('/');
    let http_servers = endpoints("modules.edgeHub.httpServer", http_server)?;

    let mut enroll = EnrollConfig::new(node.clone(), http_servers);
    enroll.token = (!module.token.is_empty()).then(|| module.token.clone());
    enroll.ca_file = module.tls_ca_file.clone();
    enroll.files = CredentialFiles::new(&module.tls_cert_file, &module.tls_private_key_file);

    let mut hub = EdgeHubConfig::new(node).with_heartbeat(Duration::from_secs(module.heartbeat.max(1)));
    hub.project_id = module.project_id.as_str().into();
    hub.enroll = enroll;
    hub.rotate = module.rotate_certificates;
    if module.websocket.enable {
        hub.websocket = endpoints("modules.edgeHub.websocket.server", &module.websocket.server)?;
        hub.write_deadline = Duration::from_secs(module.websocket.write_deadline);
        hub.handshake_timeout = Duration::from_secs(module.websocket.handshake_timeout);
    }
    if module.quic.enable {
        hub.quic = endpoints("modules.edgeHub.quic.server", &module.quic.server)?;
    }
    if hub.websocket.is_empty() && hub.quic.is_empty() {
        return Err("enable modules.edgeHub.websocket or modules.edgeHub.quic".into());
    }
    if hub.websocket.is_empty() {
        hub.prefer = edgehub::TransportConfig::Quic;
    }
    hub.prefetch = config
        .edge_tunnel
        .prefetch
        .iter()
        .map(|text| scope(text))
        .collect::<Result<_, _>>()?;
    hub.agent = config.modules.edged.register_node.then(|| NodeAgentConfig {
        labels: BTreeMap::from([("node-role.kubernetes.io/edge".into(), String::new())]),
        ..NodeAgentConfig::default()
    });
    Ok(hub)
}

fn node(config: &EdgeCore) -> Result<NodeId, String> {
    let name = &config.modules.edged.hostname_override;
    if !name.is_empty() {
        return NodeId::new(name).map_err(|error| format!("modules.edged.hostnameOverride: {error}"));
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    NodeId::new(&host.trim().to_lowercase())
        .map_err(|error| format!("the host's name: {error}; set modules.edged.hostnameOverride"))
}

fn endpoints(key: &str, text: &str) -> Result<Vec<Endpoint>, String> {
    let parse =
        |part: &str| Endpoint::parse(part.trim()).ok_or_else(|| format!("{key}: {part:?} is not host:port"));
    text.split(',').map(parse).collect()
}

/// `resource` of the core group, or `resource.version.group`.
fn scope(text: &str) -> Result<Scope, String> {
    let mut parts = text.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(resource), None, None) if !resource.is_empty() => {
            Ok(Scope::all(GroupVersionResource::core(resource)))
        }
        (Some(resource), Some(version), Some(group)) => {
            Ok(Scope::all(GroupVersionResource::new(group, version, resource)))
        }
        _ => Err(format!(
            "edgeTunnel.prefetch: {text:?} is neither a resource nor resource.version.group"
        )),
    }
}
