//! `edgecore.yaml` (KubeEdge `componentconfig/edgecore/v1alpha2`), as far as it has a meaning here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeCore {
    /// `database`.
    pub database: Database,
    /// `modules`.
    pub modules: Modules,
    /// Our own section.
    pub edge_tunnel: EdgeTunnel,
}

/// `database`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Database {
    /// The SQLite file. KubeEdge's own is not touched: ours stands beside it.
    pub data_source: PathBuf,
}

/// `modules`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
#[serde(rename_all = "camelCase", default)]
pub struct Edged {
    /// The node's name; the host's name when empty.
    pub hostname_override: String,
    /// Whether this program registers the node and keeps its lease.
    pub register_node: bool,
}

/// `modules.edgeHub`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeHubModule {
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
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// Whether it is tried.
    pub enable: bool,
    /// `host:port`; several, separated by commas, are tried in turn.
    pub server: String,
    /// Seconds for a handshake.
    pub handshake_timeout: u64,
    /// Seconds the cloud may take nothing while there is something for it.
    pub write_deadline: u64,
    /// Seconds without any frame of the cloud after which a link is given up; at least twice the heartbeat is used.
    pub read_deadline: u64,
}

/// `modules.metaManager`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaManager {
    /// `modules.metaManager.metaServer`.
    pub meta_server: MetaServerModule,
}

/// `modules.metaManager.metaServer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaServerModule {
    /// Whether the node's API is served.
    pub enable: bool,
    /// Where.
    pub server: String,
}

/// `edgeTunnel`: what KubeEdge does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeTunnel {
    /// Collections to hold from the first connection on, `resource` or `resource.version.group`.
    pub prefetch: Vec<String>,
    /// Where metrics are served; empty for none.
    pub metrics: String,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            data_source: "/var/lib/kubeedge/edgecore.db".into(),
        }
    }
}

impl Default for Edged {
    fn default() -> Self {
        Self {
            hostname_override: String::new(),
            register_node: true,
        }
    }
}

impl Default for EdgeHubModule {
    fn default() -> Self {
        let endpoints = |enable, server: &str| Endpoints {
            enable,
            server: server.into(),
            ..Endpoints::default()
        };
        Self {
            heartbeat: 15,
            project_id: hub_core::transport::ConnectRequest::DEFAULT_PROJECT.into(),
            tls_ca_file: "/etc/kubeedge/ca/rootCA.crt".into(),
            tls_cert_file: "/etc/kubeedge/certs/server.crt".into(),
            tls_private_key_file: "/etc/kubeedge/certs/server.key".into(),
            token: String::new(),
            http_server: "https://127.0.0.1:10002".into(),
            rotate_certificates: true,
            websocket: endpoints(true, "127.0.0.1:10000"),
            quic: endpoints(false, "127.0.0.1:10001"),
        }
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            enable: false,
            server: String::new(),
            handshake_timeout: 30,
            write_deadline: 15,
            read_deadline: 15,
        }
    }
}

impl Default for MetaServerModule {
    fn default() -> Self {
        Self {
            enable: false,
            server: "127.0.0.1:10550".into(),
        }
    }
}

impl Default for EdgeTunnel {
    fn default() -> Self {
        Self {
            prefetch: [
                "services",
                "endpointslices.v1.discovery.k8s.io",
                "namespaces",
                "nodes",
            ]
            .map(Into::into)
            .into(),
            metrics: String::new(),
        }
    }
}
