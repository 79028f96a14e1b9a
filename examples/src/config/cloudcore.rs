//! `cloudcore.yaml` (KubeEdge `componentconfig/cloudcore/v1alpha1`), as far as it has an effect here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::catalogue::Catalogue;
use super::load::{Configuration, defaults};

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudCore {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `commonConfig`.
    pub common_config: CommonConfig,
    /// `kubeAPIConfig`.
    #[serde(rename = "kubeAPIConfig")]
    pub kube_api_config: KubeApiConfig,
    /// `modules`.
    pub modules: Modules,
    /// `featureGates`.
    pub feature_gates: FeatureGates,
    /// Our own section.
    pub edge_tunnel: EdgeTunnel,
}

/// `featureGates`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeatureGates {
    /// Whether ServiceAccountAccess objects are kept and told to the nodes.
    pub require_authorization: bool,
}

/// `commonConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommonConfig {
    /// `commonConfig.monitorServer`.
    pub monitor_server: MonitorServer,
}

/// The Kubernetes API server, where the embedded cluster is not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeApiConfig {
    /// Its address; wins over what `kube_config` says. Empty: see there.
    pub master: String,
    /// The kubeconfig. Empty: the service account of the pod.
    pub kube_config: String,
    /// Requests a second; 0 for no limit.
    pub qps: u32,
    /// Requests that may go at once after a quiet time.
    pub burst: u32,
}

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitorServer {
    /// Address and port; empty for none.
    pub bind_address: String,
}

/// `modules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modules {
    /// `modules.cloudHub`.
    pub cloud_hub: CloudHubModule,
}

/// `modules.cloudHub`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudHubModule {
    /// Whether nodes are served.
    pub enable: bool,
    /// Seconds without any frame of a node after which its connection is cut.
    pub keepalive_interval: u64,
    /// Connected nodes at once.
    pub node_limit: usize,
    /// The CA's certificate.
    #[serde(rename = "tlsCAFile")]
    pub tls_ca_file: PathBuf,
    /// The CA's key.
    #[serde(rename = "tlsCAKeyFile")]
    pub tls_ca_key_file: PathBuf,
    /// The server's certificate.
    pub tls_cert_file: PathBuf,
    /// The server's key.
    pub tls_private_key_file: PathBuf,
    /// Seconds a node may take nothing while there is something for it.
    pub write_timeout: u64,
    /// `modules.cloudHub.websocket`.
    pub websocket: Listen,
    /// `modules.cloudHub.quic`.
    pub quic: Listen,
    /// `modules.cloudHub.https`: certificates for nodes.
    pub https: Listen,
    /// The addresses that nodes dial; they go into the server's certificate.
    pub advertise_address: Vec<String>,
    /// The names that nodes dial.
    pub dns_names: Vec<String>,
    /// Days that a node's certificate is valid.
    pub edge_cert_signing_duration: u32,
    /// Hours; a join token lives twice as long.
    pub token_refresh_duration: u32,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listen {
    /// Whether it listens.
    pub enable: bool,
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// `edgeTunnel`: what KubeEdge does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeTunnel {
    /// The embedded cluster.
    pub standalone: Standalone,
    /// What nodes may do.
    pub authorization: Authorization,
    /// Where the CA and the server's certificate are.
    pub certificates: Certificates,
    /// Where it is remembered what stock KubeEdge edges hold.
    pub sync_records: SyncRecords,
    /// Where an operator asks.
    #[serde(default)]
    pub admin: Admin,
}

/// Where an operator asks, such as with `cloudcore nodes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admin {
    /// The unix socket; empty for none.
    pub socket: PathBuf,
}

/// Where the CA and the server's certificate are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Whether in the cluster's Secrets `casecret`, `cloudcoresecret` and `tokensecret` of namespace `kubeedge`, as with KubeEdge,
    /// instead of in the files of `modules.cloudHub`. Files that are there come first all the same, and go into the Secrets.
    pub shared: bool,
}

/// Where it is remembered what stock KubeEdge edges hold, so that they hear of what was deleted while they were away.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncRecords {
    /// In which way.
    pub mode: SyncRecordsMode,
    /// The file, where it is one. Empty: `sync-records.db` beside the embedded cluster.
    pub file: PathBuf,
}

/// How sync records are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SyncRecordsMode {
    /// In a file of this process.
    #[default]
    File,
    /// In the cluster, as ObjectSync and ClusterObjectSync: beside a Go cloudcore.
    ObjectSync,
    /// Until this process ends.
    Memory,
}

/// What nodes may do beyond what is their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Whether a node may read all ConfigMaps and Secrets, not only those that its pods use.
    pub read_all_configs: bool,
    /// Whether a node may read the pods of other nodes.
    pub read_all_pods: bool,
    /// Whether the requests of metaServers are executed unasked, as by a KubeEdge without `authorization`.
    pub unrestricted_requests: bool,
}

/// The embedded cluster, in place of a Kubernetes API server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standalone {
    /// Whether to use it; also `--standalone`.
    pub enable: bool,
    /// Where its objects are kept.
    pub data_dir: PathBuf,
    /// Where its API is served. Plain HTTP, unless callers must show who they are: keep it on loopback.
    pub server: String,
    /// Whether its API speaks CBOR too, as a kube-apiserver with the gate `CBORServingAndStorage` does.
    pub cbor: bool,
    /// Whether callers of its API must show who they are.
    pub authorize: bool,
    /// A file of tokens that are known beforehand; empty for none.
    pub tokens: PathBuf,
}

impl Configuration for CloudCore {
    fn catalogue() -> &'static Catalogue {
        Catalogue::cloudcore()
    }

    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let hub = &self.modules.cloud_hub;
        let dialled = hub.advertise_address.iter().chain(&hub.dns_names);
        if hub.enable && dialled.count() == 0 {
            let what = "expected at least one address or name that nodes dial";
            return vec![("modules.cloudHub.advertiseAddress", what.into())];
        }
        Vec::new()
    }
}

impl Default for CloudCore {
    /// KubeEdge's defaults, and ours.
    fn default() -> Self {
        defaults()
    }
}
