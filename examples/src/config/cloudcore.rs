//! `cloudcore.yaml` (KubeEdge `componentconfig/cloudcore/v1alpha1`), as far as it has a meaning here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudCore {
    /// `commonConfig`.
    pub common_config: CommonConfig,
    /// `modules`.
    pub modules: Modules,
    /// Our own section.
    pub edge_tunnel: EdgeTunnel,
}

/// `commonConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommonConfig {
    /// `commonConfig.monitorServer`.
    pub monitor_server: MonitorServer,
}

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitorServer {
    /// Address and port; empty for none.
    pub bind_address: String,
}

/// `modules`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Modules {
    /// `modules.cloudHub`.
    pub cloud_hub: CloudHubModule,
}

/// `modules.cloudHub`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudHubModule {
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
#[serde(rename_all = "camelCase", default)]
pub struct Listen {
    /// Whether it listens.
    pub enable: bool,
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// `edgeTunnel`: what KubeEdge does not have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeTunnel {
    /// The embedded cluster.
    pub standalone: Standalone,
    /// What nodes may do.
    pub authorization: Authorization,
}

/// What nodes may do beyond what is their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// Whether a node may read all ConfigMaps and Secrets, not only those that its pods use.
    pub read_all_configs: bool,
    /// Whether the requests of metaServers are executed unasked, as by a KubeEdge without `authorization`.
    pub unrestricted_requests: bool,
}

/// The embedded cluster, in place of a Kubernetes API server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standalone {
    /// Whether to use it; also `--standalone`.
    pub enable: bool,
    /// Where its objects are kept.
    pub data_dir: PathBuf,
    /// Where its API is served, plain HTTP: keep it on loopback.
    pub server: String,
}

impl Default for MonitorServer {
    fn default() -> Self {
        Self {
            bind_address: "127.0.0.1:9091".into(),
        }
    }
}

impl Default for CloudHubModule {
    fn default() -> Self {
        let on = |enable, port| Listen {
            enable,
            port,
            ..Listen::default()
        };
        Self {
            keepalive_interval: 30,
            node_limit: 500,
            tls_ca_file: "/etc/kubeedge/ca/rootCA.crt".into(),
            tls_ca_key_file: "/etc/kubeedge/ca/rootCA.key".into(),
            tls_cert_file: "/etc/kubeedge/certs/server.crt".into(),
            tls_private_key_file: "/etc/kubeedge/certs/server.key".into(),
            write_timeout: 30,
            websocket: on(true, 10000),
            quic: on(false, 10001),
            https: on(true, 10002),
            advertise_address: Vec::new(),
            dns_names: Vec::new(),
            edge_cert_signing_duration: 365,
            token_refresh_duration: 12,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            enable: false,
            address: "0.0.0.0".into(),
            port: 0,
        }
    }
}

impl Default for Standalone {
    fn default() -> Self {
        Self {
            enable: false,
            data_dir: "/var/lib/kubeedge/cluster".into(),
            server: "127.0.0.1:10080".into(),
        }
    }
}
