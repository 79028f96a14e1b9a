//! `edgecore.yaml` (KubeEdge `componentconfig/edgecore/v1alpha2`), as far as it has an effect here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use edgehub::enroll::JoinToken;
use edgehub::twin::{InvalidBroker, MqttConfig, MqttTls, Quality};
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;

use super::callers::Callers;
use super::catalogue::Catalogue;
use super::cloudcore::Admin;
use super::load::{Configuration, defaults};

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCore {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `database`.
    pub database: Database,
    /// `featureGates`.
    pub feature_gates: FeatureGates,
    /// `modules`.
    pub modules: Modules,
    /// Our own section.
    pub edge_tunnel: EdgeTunnel,
}

/// `featureGates`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeatureGates {
    /// Whether callers of the node's API must show who they are.
    pub require_authorization: bool,
}

/// `database`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// The SQLite file. KubeEdge's own is not touched: ours stands beside it.
    pub data_source: PathBuf,
}

/// `modules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modules {
    /// `modules.edged`.
    pub edged: Edged,
    /// `modules.edgeHub`.
    pub edge_hub: EdgeHubModule,
    /// `modules.metaManager`.
    pub meta_manager: MetaManager,
    /// `modules.eventBus`.
    pub event_bus: EventBus,
    /// `modules.deviceTwin`.
    pub device_twin: DeviceTwin,
}

/// `modules.edged`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edged {
    /// Whether this program speaks for the node: registers it, renews its lease, reports it ready.
    pub enable: bool,
    /// The node's name.
    pub hostname_override: String,
    /// The node's address; found where it is empty.
    #[serde(rename = "nodeIP")]
    pub node_ip: String,
    /// Labels that the node is registered with.
    pub node_labels: BTreeMap<String, String>,
    /// Annotations that the node is registered with.
    pub annotations: BTreeMap<String, String>,
    /// Whether the node takes pods from the beginning.
    pub register_schedulable: bool,
    /// `modules.edged.tailoredKubeletConfig`.
    pub tailored_kubelet_config: Kubelet,
}

/// `modules.edged.tailoredKubeletConfig`, as far as a node is registered by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kubelet {
    /// Whether this program registers the node.
    pub register_node: bool,
    /// Taints that the node is registered with.
    pub register_with_taints: Vec<Value>,
    /// The addresses of the node's pods; empty where the cloud assigns them.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// How long the node's lease is good.
    pub node_lease_duration_seconds: u32,
    /// How often the node's status is reported though nothing changed, as Go writes durations.
    pub node_status_report_frequency: String,
}

/// `modules.edgeHub`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeHubModule {
    /// Whether the cloud is dialled.
    pub enable: bool,
    /// Seconds between signs of life.
    pub heartbeat: u64,
    /// Part of the tunnel's path.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// The CA's certificate.
    pub tls_ca_file: PathBuf,
    /// The node's certificate.
    pub tls_cert_file: PathBuf,
    /// The node's key.
    pub tls_private_key_file: PathBuf,
    /// The join token; not needed once there is a certificate.
    pub token: String,
    /// Where certificates come from: `https://host:10002`.
    pub http_server: String,
    /// Whether certificates are renewed.
    pub rotate_certificates: bool,
    /// `modules.edgeHub.websocket`.
    pub websocket: Endpoints,
    /// `modules.edgeHub.quic`.
    pub quic: Endpoints,
}

/// A way to the cloud.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Whether it is tried.
    pub enable: bool,
    /// `host:port`; several, separated by commas, are tried in turn.
    pub server: String,
    /// Seconds for a handshake.
    pub handshake_timeout: u64,
    /// Seconds the cloud may take nothing while there is something for it.
    pub write_deadline: u64,
}

/// `modules.metaManager`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaManager {
    /// Whether the node serves anything.
    pub enable: bool,
    /// `modules.metaManager.metaServer`.
    pub meta_server: MetaServerModule,
}

/// `modules.metaManager.metaServer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaServerModule {
    /// Whether the node's API is served.
    pub enable: bool,
    /// Where.
    pub server: String,
    /// Where too, with HTTPS, if the machine has such an address.
    pub dummy_server: String,
    /// The authorities of client certificates.
    pub tls_ca_file: PathBuf,
    /// A server certificate of the operator's.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_private_key_file: PathBuf,
    /// Who makes tokens.
    pub service_account_issuers: Vec<String>,
    /// For whom they must be.
    pub api_audiences: Vec<String>,
    /// Public keys of tokens.
    pub service_account_key_files: Vec<PathBuf>,
}

/// `modules.eventBus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBus {
    /// Whether there is an MQTT broker to serve.
    pub enable: bool,
    /// Which broker: 0 is one inside, which there is not.
    pub mqtt_mode: u8,
    /// `tcp://host:port`.
    pub mqtt_server_external: String,
    /// The name that the broker knows this node by.
    #[serde(rename = "mqttSubClientID")]
    pub mqtt_sub_client_id: String,
    /// The user.
    pub mqtt_username: String,
    /// Its password.
    pub mqtt_password: String,
    /// The quality of what is published: 0, 1 or 2.
    #[serde(rename = "mqttQOS")]
    pub mqtt_qos: u8,
    /// Whether the broker keeps documents and deltas.
    pub mqtt_retain: bool,
    /// Messages that wait for the broker.
    pub mqtt_session_queue_size: u16,
    /// `modules.eventBus.eventBusTLS`.
    #[serde(rename = "eventBusTLS")]
    pub tls: EventBusTls,
}

/// `modules.eventBus.eventBusTLS`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBusTls {
    /// Whether the broker is spoken to over TLS.
    pub enable: bool,
    /// The CA of the broker.
    #[serde(rename = "tlsMqttCAFile")]
    pub ca: PathBuf,
    /// What this node shows to the broker.
    #[serde(rename = "tlsMqttCertFile")]
    pub certificate: PathBuf,
    /// Its key.
    #[serde(rename = "tlsMqttPrivateKeyFile")]
    pub key: PathBuf,
}

/// `modules.deviceTwin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceTwin {
    /// Whether there are twins.
    pub enable: bool,
    /// The socket of mappers, or its folder.
    pub dmi_sock_path: PathBuf,
}

/// `edgeTunnel`: what KubeEdge does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeTunnel {
    /// Collections to hold from the first connection on, `resource` or `resource.version.group`.
    pub prefetch: Vec<String>,
    /// Where metrics are served; empty for none.
    pub metrics: String,
    /// Where an operator asks.
    #[serde(default)]
    pub admin: Admin,
    /// `edgeTunnel.metaServer`.
    pub meta_server: Callers,
}

impl Configuration for EdgeCore {
    fn catalogue() -> &'static Catalogue {
        Catalogue::edgecore()
    }

    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let hub = &self.modules.edge_hub;
        let mut mistakes = self.modules.event_bus.mistakes();
        mistakes.extend(self.edge_tunnel.meta_server.mistakes());
        if !hub.enable {
            return mistakes;
        }
        if !hub.websocket.enable && !hub.quic.enable {
            let what = "expected true here, or in modules.edgeHub.quic.enable: there is no way to the cloud";
            mistakes.push(("modules.edgeHub.websocket.enable", what.into()));
        }
        let is_absent = |file: &PathBuf| !file.is_file();
        let joined = !is_absent(&hub.tls_cert_file) && !is_absent(&hub.tls_private_key_file);
        let token = Some(hub.token.trim()).filter(|token| !token.is_empty());
        if let Some(Err(error)) = token.filter(|_| !joined).map(JoinToken::parse) {
            mistakes.push(("modules.edgeHub.token", error.to_string()));
        }
        // A node that has joined before serves what it holds, whatever became of its files.
        let is_new = is_absent(&self.store());
        if is_new && token.is_none() && (!joined || is_absent(&hub.tls_ca_file)) {
            let (key, file) = if is_absent(&hub.tls_ca_file) {
                ("modules.edgeHub.tlsCaFile", &hub.tls_ca_file)
            } else if is_absent(&hub.tls_cert_file) {
                ("modules.edgeHub.tlsCertFile", &hub.tls_cert_file)
            } else {
                ("modules.edgeHub.tlsPrivateKeyFile", &hub.tls_private_key_file)
            };
            mistakes.push((
                key,
                format!(
                    "{} is not there, and modules.edgeHub.token is empty: give a token of the cloud's",
                    file.display()
                ),
            ));
        }
        mistakes
    }
}

impl EventBus {
    /// The broker; none where that is switched off. `folder` is this program's own. Fails as [`mistakes`](Self::mistakes) says.
    pub fn broker(&self, node: &NodeId, folder: &Path) -> Result<Option<MqttConfig>, InvalidBroker> {
        if !self.enable {
            return Ok(None);
        }
        let tls = self.tls.enable.then(|| MqttTls {
            ca: self.tls.ca.clone(),
            identity: CredentialFiles::new(&self.tls.certificate, &self.tls.key),
            socket: folder.join("mqtt.sock"),
        });
        let mut config = MqttConfig::with_tls(node, &self.mqtt_server_external, tls)?;
        if !self.mqtt_sub_client_id.is_empty() {
            config.client_id = self.mqtt_sub_client_id.as_str().into();
        }
        let (user, password) = (self.mqtt_username.as_str(), self.mqtt_password.as_str());
        config.credentials = (!user.is_empty()).then(|| (user.into(), password.into()));
        if self.mqtt_qos == 2 {
            config.quality = Quality::ExactlyOnce;
        }
        config.retain = self.mqtt_retain;
        config.queue_max = self.mqtt_session_queue_size.into();
        Ok(Some(config))
    }

    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !self.enable {
            return mistakes;
        }
        if self.mqtt_mode == 0 {
            let what = "expected 2: there is no broker inside this program. Run one on this machine, such as mosquitto, or set \
                        modules.eventBus.enable to false";
            mistakes.push(("modules.eventBus.mqttMode", what.into()));
        }
        let any = NodeId::new("any").ok();
        if let Some(Err(error)) = any.map(|node| self.broker(&node, Path::new(""))) {
            mistakes.push(("modules.eventBus.mqttServerExternal", error.to_string()));
        }
        mistakes
    }
}

impl DeviceTwin {
    /// Where mappers call. KubeEdge takes a folder too, and looks for `dmi.sock` in it.
    pub fn socket(&self) -> PathBuf {
        let path = &self.dmi_sock_path;
        match path.extension() {
            Some(extension) if extension == "sock" => path.clone(),
            _ if path.as_os_str().is_empty() => PathBuf::from("/etc/kubeedge/dmi.sock"),
            _ => path.join("dmi.sock"),
        }
    }
}

impl EdgeCore {
    /// Where the node's store lies: beside KubeEdge's own database, which is of another format.
    pub fn store(&self) -> PathBuf {
        self.database.data_source.with_extension("tunnel.db")
    }
}

impl Default for EdgeCore {
    /// KubeEdge's defaults, and ours.
    fn default() -> Self {
        defaults()
    }
}
