//! The node half as one value: the store, the hub and the node's API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgehub::dmi::DmiMetrics;
use edgehub::enroll::EnrollConfig;
use edgehub::store::EdgeStore;
use edgehub::twin::{MqttConfig, TwinConfig, TwinHub, Twins, serve_mqtt};
use edgehub::{EdgeHandle, EdgeHub, EdgeHubConfig, NodeAgentConfig, RunError, Taint};
use futures::FutureExt as _;
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;

use hub_core::scope::Scope;
use hub_core::transport::Endpoint;
use hyper::Method;
use metaserver::MetaServer;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admin::meta::{Meta, answer_meta};
use crate::admin::twins::answer_twins;
use crate::admin::{self, AdminSocket};
use crate::config::{self, EdgeCore, Host};
use crate::mappers;
use crate::meta::{self, NodeApi};
use crate::metrics;
use crate::pods::Pods;
use crate::port::Port;

/// A node half that is ready to run.
pub struct Edge {
    /// What the node holds.
    pub store: EdgeStore,
    hub: EdgeHub,
    pods: Pods,
    twins: Option<TwinHub>,
    /// Where applications speak of devices.
    broker: Option<MqttConfig>,
    /// Where mappers call.
    mappers: PathBuf,
    mapper_metrics: DmiMetrics,
    /// Whether the cloud is dialled.
    dials: bool,
    server: MetaServer,
    api: Option<NodeApi>,
    metrics: Option<(Port, Arc<Registry>)>,
    admin: Option<AdminSocket>,
}

impl Edge {
    /// Opens the store and binds the node's API. Nothing is dialled yet.
    pub async fn bind(config: &EdgeCore) -> Result<Self, String> {
        let path = config.store();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        }
        let store = EdgeStore::open(&path).map_err(|error| error.to_string())?;
        let hub = hub_config(config)?;
        if hub.websocket.is_empty() && hub.quic.is_empty() {
            return Err(RunError::NoEndpoint.to_string());
        }
        let modules = &config.modules;
        let twins = modules
            .device_twin
            .enable
            .then(|| TwinHub::new(TwinConfig::new(hub.node.clone()), Arc::new(store.clone())));
        let mut hub = EdgeHub::with_store(hub, store.clone());
        if let Some(twins) = &twins {
            hub = hub.with_routes(twins.handle().routes());
        }
        let hub = hub.build();
        let pods = Pods::new(store.clone(), hub.handle(), node(config)?);
        let folder = path.parent().unwrap_or(Path::new(""));
        let broker = modules.event_bus.broker(&node(config)?, folder);
        let broker = broker.map_err(|error| format!("modules.eventBus.mqttServerExternal: {error}"))?;

        let server = meta::server(config, store.clone(), hub.handle());
        let api = NodeApi::bind(config).await;
        let mapper_metrics = DmiMetrics::default();
        let bind_metrics = &config.edge_tunnel.metrics;
        let metrics = if bind_metrics.is_empty() {
            None
        } else {
            let mut registry = Registry::default();
            hub.register_metrics(&mut registry);
            server.register_metrics(&mut registry);
            if let Some(twins) = &twins {
                twins.register_metrics(&mut registry);
                mapper_metrics.register(&mut registry);
            }
            Some((Port::at("the metrics", bind_metrics).await, Arc::new(registry)))
        };
        let admin = AdminSocket::wanted(&config.edge_tunnel.admin.socket, "edgecore meta").await;
        Ok(Self {
            store,
            hub,
            pods,
            twins,
            broker,
            mappers: modules.device_twin.socket(),
            mapper_metrics,
            dials: config.modules.edge_hub.enable,
            server,
            api,
            metrics,
            admin,
        })
    }

    /// Where it listens, for the log.
    pub fn addresses(&self) -> String {
        let metrics = self.metrics.as_ref().map(|(port, _)| port);
        let ports = [
            ("api", self.api.as_ref().map(NodeApi::port)),
            ("metrics", metrics),
        ];
        let shown = ports
            .into_iter()
            .filter_map(|(name, port)| Some(format!("{name}={}", port?.address()?)));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Where the node's API listens. The error is a sentence for the operator.
    pub fn api_address(&self) -> Result<std::net::SocketAddr, String> {
        let api = self.api.as_ref().ok_or("the node's API is not enabled")?;
        let port = api.port();
        port.address()
            .ok_or_else(|| port.trouble().get().unwrap_or_else(|| "it has no address".into()))
    }

    /// The hub's handle.
    pub fn handle(&self) -> EdgeHandle {
        self.hub.handle()
    }

    /// The twins of the devices beside the node, where it keeps any.
    pub fn twins(&self) -> Option<Twins> {
        self.twins.as_ref().map(TwinHub::handle)
    }

    /// Runs until told to stop, or until an operator must do something.
    pub async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let handle = self.hub.handle();
        let kept = self.twins();
        let pods = stop.clone().run_until_cancelled_owned(self.pods.run());
        let mappers = mappers::serve(
            self.mappers,
            kept.clone(),
            self.store.clone(),
            self.mapper_metrics,
            stop.clone(),
        );
        let twins = stop
            .clone()
            .run_until_cancelled_owned(devices(self.twins, self.broker, handle.clone()));
        let hub = async {
            if !self.dials {
                tracing::warn!("modules.edgeHub.enable is false: the cloud is not dialled");
                stop.cancelled().await;
                return Ok(());
            }
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
        let meta = Meta {
            server: self.server.clone(),
            handle: handle.clone(),
            store: self.store.clone(),
            api_trouble: self
                .api
                .as_ref()
                .map(|api| api.port().trouble())
                .unwrap_or_default(),
        };
        let (server, held) = (self.server.clone(), self.store.clone());
        let api = async {
            if let Some(api) = self.api {
                api.run(&server, &held, &stop).await;
            }
        };
        let (sampled, of_twins) = (self.server.clone(), kept.clone());
        let metrics = async {
            let Some((mut port, registry)) = self.metrics else {
                return;
            };
            let Some(listener) = stop.run_until_cancelled(port.open()).await else {
                return;
            };
            let sample = move || {
                sampled.sample();
                of_twins.iter().for_each(Twins::sample);
                std::future::ready(())
            };
            metrics::serve(listener, registry, sample, stop.clone()).await;
        };
        let admin = async {
            let Some(socket) = self.admin else { return };
            let handler = Arc::new(move |method: Method, path: String| {
                if path == "/twins" {
                    return std::future::ready(answer_twins(kept.as_ref(), &method)).boxed();
                }
                answer_meta(meta.clone(), method, path).boxed()
            });
            admin::serve(socket, handler, stop.clone()).await;
        };
        let all = async { tokio::try_join!(hub, stopped).map(drop) };
        tokio::join!(all, api, metrics, admin, pods, twins, mappers).0
    }
}

/// Keeps the twins, and serves them on the broker, where these are wanted.
async fn devices(twins: Option<TwinHub>, broker: Option<MqttConfig>, edge: EdgeHandle) {
    let Some(twins) = twins else { return };
    let handle = twins.handle();
    let served = async {
        if let Some(broker) = broker {
            serve_mqtt(handle, broker).await;
        }
    };
    tokio::join!(twins.run(edge), served);
}

fn hub_config(config: &EdgeCore) -> Result<EdgeHubConfig, String> {
    let module = &config.modules.edge_hub;
    let node = node(config)?;
    let http_servers = config::https(&module.http_server).ok_or_else(|| {
        format!(
            "modules.edgeHub.httpServer: {:?} is not https://host:port",
            module.http_server
        )
    })?;

    let mut enroll = EnrollConfig::new(node.clone(), http_servers);
    enroll.token = (!module.token.is_empty()).then(|| module.token.clone());
    enroll.ca_file = module.tls_ca_file.clone();
    enroll.files = CredentialFiles::new(&module.tls_cert_file, &module.tls_private_key_file);

    let mut hub = EdgeHubConfig::new(node).with_heartbeat(Duration::from_secs(module.heartbeat));
    hub.project_id = module.project_id.as_str().into();
    hub.version = concat!("edgecore-v", env!("CARGO_PKG_VERSION")).into();
    hub.enroll = enroll;
    hub.rotate = module.rotate_certificates;
    if module.websocket.enable {
        hub.websocket = endpoints("modules.edgeHub.websocket.server", &module.websocket.server)?;
    }
    if module.quic.enable {
        hub.quic = endpoints("modules.edgeHub.quic.server", &module.quic.server)?;
    }
    if hub.websocket.is_empty() {
        hub.prefer = edgehub::TransportConfig::Quic;
    }
    let first = if module.websocket.enable {
        &module.websocket
    } else {
        &module.quic
    };
    if first.write_deadline > 0 {
        hub.write_deadline = Duration::from_secs(first.write_deadline);
    }
    if first.handshake_timeout > 0 {
        hub.handshake_timeout = Duration::from_secs(first.handshake_timeout);
    }
    hub.prefetch = config
        .edge_tunnel
        .prefetch
        .iter()
        .map(|text| scope(text))
        .collect::<Result<_, _>>()?;
    hub.agent = agent(config);
    Ok(hub)
}

/// Who speaks for the node: this program, unless a kubelet does.
fn agent(config: &EdgeCore) -> Option<NodeAgentConfig> {
    let edged = &config.modules.edged;
    let kubelet = &edged.tailored_kubelet_config;
    // Without a network there is no address that would help anybody.
    let found = || Some(Host::this().address).filter(|address| !address.is_loopback());
    let address = match edged.node_ip.as_str() {
        "" => found().map(|address| address.to_string()),
        address => Some(address.to_owned()),
    };
    let agent = NodeAgentConfig {
        labels: edged.node_labels.clone(),
        annotations: edged.annotations.clone(),
        taints: kubelet.register_with_taints.iter().map(taint).collect(),
        pod_cidr: Some(kubelet.pod_cidr.clone()).filter(|cidr| !cidr.is_empty()),
        schedulable: edged.register_schedulable,
        internal_ip: address,
        pods: kubelet.max_pods,
        lease_duration: Duration::from_secs(u64::from(kubelet.node_lease_duration_seconds)),
        ..NodeAgentConfig::default()
    };
    let status_interval = config::duration(&kubelet.node_status_report_frequency).filter(|d| !d.is_zero());
    (edged.enable && kubelet.register_node).then(|| NodeAgentConfig {
        // As the kubelet: four renewals in the life of a lease.
        lease_interval: agent.lease_duration / 4,
        status_interval: status_interval.unwrap_or(agent.status_interval),
        ..agent
    })
}

fn taint(taint: &Value) -> Taint {
    let word = |key: &str| taint[key].as_str().unwrap_or_default().to_owned();
    Taint {
        key: word("key"),
        value: word("value"),
        effect: word("effect"),
    }
}

fn node(config: &EdgeCore) -> Result<NodeId, String> {
    NodeId::new(&config.modules.edged.hostname_override)
        .map_err(|error| format!("modules.edged.hostnameOverride: {error}"))
}

fn endpoints(key: &str, text: &str) -> Result<Vec<Endpoint>, String> {
    let parse =
        |part: &str| Endpoint::parse(part.trim()).ok_or_else(|| format!("{key}: {part:?} is not host:port"));
    text.split(',').map(parse).collect()
}

fn scope(text: &str) -> Result<Scope, String> {
    let resource = config::collection(text).map_err(|error| format!("edgeTunnel.prefetch: {error}"))?;
    Ok(Scope::all(resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_registered_as_its_file_says() {
        let mut config = EdgeCore::default();
        let edged = &mut config.modules.edged;
        edged.node_labels = [("shop".to_owned(), "1".to_owned())].into();
        edged.node_ip = "192.0.2.7".into();
        edged.register_schedulable = false;
        let kubelet = &mut edged.tailored_kubelet_config;
        kubelet.register_with_taints = vec![serde_json::json!({ "key": "edge", "effect": "NoSchedule" })];
        kubelet.max_pods = 7;
        kubelet.node_lease_duration_seconds = 80;
        kubelet.node_status_report_frequency = "1m0s".into();
        let agent = agent(&config).unwrap();
        assert_eq!(agent.labels["shop"], "1");
        assert_eq!(agent.internal_ip.as_deref(), Some("192.0.2.7"));
        assert_eq!((agent.schedulable, agent.pods, agent.taints.len()), (false, 7, 1));
        let seconds = Duration::from_secs;
        assert_eq!(
            (agent.lease_duration, agent.lease_interval, agent.status_interval),
            (seconds(80), seconds(20), seconds(60))
        );

        config.modules.edged.tailored_kubelet_config.register_node = false;
        assert!(super::agent(&config).is_none(), "somebody else registers it");
        config.modules.edged.tailored_kubelet_config.register_node = true;
        config.modules.edged.enable = false;
        assert!(super::agent(&config).is_none(), "a kubelet speaks for it");
    }

    #[test]
    fn a_cloud_is_dialled_as_the_file_says() {
        let mut config = EdgeCore::default();
        let hub = &mut config.modules.edge_hub;
        hub.http_server = "https://cloud".into();
        hub.websocket.server = "a:1, [2001:db8::1]:2".into();
        hub.websocket.handshake_timeout = 7;
        hub.websocket.write_deadline = 0;
        hub.heartbeat = 3;
        let made = hub_config(&config).unwrap();
        assert_eq!(made.enroll.http_servers, [Endpoint::parse("cloud:443").unwrap()]);
        assert_eq!(made.websocket.len(), 2);
        assert_eq!(made.handshake_timeout, Duration::from_secs(7));
        assert_eq!(
            made.write_deadline,
            Duration::from_secs(15),
            "0 is KubeEdge's default"
        );
        assert!(made.quic.is_empty());

        config.modules.edge_hub.websocket.enable = false;
        config.modules.edge_hub.quic.enable = true;
        config.modules.edge_hub.quic.handshake_timeout = 8;
        let made = hub_config(&config).unwrap();
        assert_eq!((made.websocket.len(), made.quic.len()), (0, 1));
        assert_eq!(made.handshake_timeout, Duration::from_secs(8));
    }
}
