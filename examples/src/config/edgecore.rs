//! `edgecore.yaml` (KubeEdge `componentconfig/edgecore/v1alpha2`), as far as it has an effect here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use edgehub::enroll::JoinToken;

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
    /// `modules`.
    pub modules: Modules,
    /// Our own section.
    pub edge_tunnel: EdgeTunnel,
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
}

impl Configuration for EdgeCore {
    fn catalogue() -> &'static Catalogue {
        Catalogue::edgecore()
    }

    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let hub = &self.modules.edge_hub;
        let mut mistakes = Vec::new();
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
