//! The cloud half as one value: certificates, an API server or the embedded cluster with its API, the hub and its metrics.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudhub::cluster::{
    Cluster, Credentials, EmbeddedCluster, EmbeddedConfig, KubeCluster, KubeClusterConfig,
};
use cloudhub::pki::{
    self, Authority, AuthorityConfig, CertificateRequests, ClusterNodes, PkiConfig, PkiServer, ServeConfig,
    SharedSecrets, Silence, TokenKey,
};
use cloudhub::records::{FileRecords, ObjectSyncRecords, RecordsConfig};
use cloudhub::{CloudHub, CloudHubConfig};
use futures::FutureExt;
use hub_core::clock::SystemClock;
use hub_core::credentials::{CredentialFiles, certificate_pem};
use hub_core::message::MessageId;
use hub_core::node::NodeId;
use hub_core::session::KeepaliveConfig;
use hub_core::transport::{
    Listener, QuicConfig, QuicListener, TlsVersions, WebSocketConfig, WebSocketListener,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminSocket};
use crate::cluster_api::ClusterApi;
use crate::config::{CloudCore, EdgeTunnel, Listen, SyncRecordsMode};
use crate::kinds;
use crate::metrics;

/// A cloud half that is ready to run: every port is bound.
pub struct Cloud {
    /// Where it listens.
    pub addresses: Addresses,
    /// The embedded cluster; None in front of an API server.
    pub embedded: Option<EmbeddedCluster>,
    cluster: Arc<dyn Cluster>,
    authority: Arc<Authority>,
    hub: CloudHub,
    listeners: Vec<Box<dyn Listener>>,
    https: Option<TcpListener>,
    /// The embedded cluster's API.
    api: Option<ClusterApi>,
    metrics: Option<(TcpListener, Arc<prometheus_client::registry::Registry>)>,
    admin: Option<AdminSocket>,
    silence: Option<Silence>,
}

/// The addresses of a cloud half.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The tunnel over WebSocket.
    pub websocket: Option<SocketAddr>,
    /// The tunnel over QUIC.
    pub quic: Option<SocketAddr>,
    /// Certificates for nodes.
    pub https: Option<SocketAddr>,
    /// The embedded cluster's API.
    pub api: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
}

impl Addresses {
    fn fields(&mut self) -> [(&'static str, &mut Option<SocketAddr>); 5] {
        [
            ("websocket", &mut self.websocket),
            ("quic", &mut self.quic),
            ("https", &mut self.https),
            ("api", &mut self.api),
            ("metrics", &mut self.metrics),
        ]
    }

    /// Reads what [`Display`](fmt::Display) wrote, wherever it stands in a line of a log.
    pub fn parse(line: &str) -> Self {
        let mut found = Self::default();
        for (name, field) in found.fields() {
            let value = line.split_once(&format!("{name}=")).map(|(_, rest)| rest);
            *field = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        }
        found
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = self.clone();
        let known = copy
            .fields()
            .into_iter()
            .filter_map(|(name, address)| Some(format!("{name}={}", (*address)?)));
        f.write_str(&known.collect::<Vec<_>>().join(" "))
    }
}

/// The CA and the server's certificate, as a configuration names them.
async fn authority(config: &CloudCore, cluster: Arc<dyn Cluster>) -> Result<Authority, String> {
    let module = &config.modules.cloud_hub;
    let (addresses, mut names): (Vec<_>, Vec<_>) = (
        module
            .advertise_address
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .collect(),
        module
            .advertise_address
            .iter()
            .filter(|text| text.parse::<IpAddr>().is_err())
            .cloned()
            .collect(),
    );
    names.extend(module.dns_names.iter().filter(|name| !name.is_empty()).cloned());
    let files = AuthorityConfig {
        ca: CredentialFiles::new(&module.tls_ca_file, &module.tls_ca_key_file),
        server: CredentialFiles::new(&module.tls_cert_file, &module.tls_private_key_file),
        addresses,
        names,
        node_validity: Duration::from_secs(u64::from(module.edge_cert_signing_duration) * 86_400),
        token_lifetime: Duration::from_secs(u64::from(module.token_refresh_duration) * 2 * 3_600),
    };
    let authority = if config.edge_tunnel.certificates.shared {
        let secrets = SharedSecrets::new(cluster, SharedSecrets::NAMESPACE);
        Authority::shared(&files, secrets, SystemTime::now()).await
    } else {
        Authority::open(&files, SystemTime::now())
    };
    authority.map_err(|error| error.to_string())
}

/// A token with which a node joins, made with the CA that a cloud half keeps. Touches nothing else of it.
pub fn join_token(config: &CloudCore, node: Option<&NodeId>) -> Result<String, String> {
    let module = &config.modules.cloud_hub;
    let files = CredentialFiles::new(&module.tls_ca_file, &module.tls_ca_key_file);
    if config.edge_tunnel.certificates.shared && !module.tls_ca_file.exists() {
        return Err(
            "the CA is in the cluster; so is a token: `keadm gettoken`, or Secret kubeedge/tokensecret"
                .into(),
        );
    }
    let missing = |why: String| {
        format!(
            "{}: {why}; cloudcore makes the CA when it starts",
            module.tls_ca_file.display()
        )
    };
    let ca = files
        .load()
        .map_err(|error| missing(error.to_string()))?
        .ok_or_else(|| missing("is not there".into()))?;
    let certificate = ca.chain.first().ok_or_else(|| missing("no certificate".into()))?;
    let lifetime = Duration::from_secs(u64::from(module.token_refresh_duration) * 2 * 3_600);
    let jwt = TokenKey::of_ca(&ca.key)
        .issue(SystemTime::now() + lifetime, node)
        .map_err(|error| error.to_string())?;
    Ok(pki::join_token(certificate, &jwt))
}

impl Cloud {
    /// Opens the cluster, loads or makes the certificates, and binds every port.
    pub async fn bind(config: &CloudCore) -> Result<Self, String> {
        let module = &config.modules.cloud_hub;
        let standalone = &config.edge_tunnel.standalone;
        if !module.enable {
            tracing::warn!("modules.cloudHub.enable is false: no node can connect");
        }
        let mut registry = prometheus_client::registry::Registry::default();
        let mut silence: Option<Silence> = None;
        let (cluster, embedded): (Arc<dyn Cluster>, _) = if standalone.enable {
            let cluster = embedded(&standalone.data_dir)?;
            kinds::define(&cluster).await?;
            (Arc::new(cluster.clone()), Some(cluster))
        } else {
            let cluster = KubeCluster::connect(credentials(config), kube_config(config))
                .await
                .map_err(|error| error.to_string())?;
            cluster.register_metrics(&mut registry);
            let asked = cluster.clone();
            silence = Some(Arc::new(move || asked.silence()));
            (Arc::new(cluster), None)
        };
        let authority = Arc::new(authority(config, cluster.clone()).await?);
        if let Some(embedded) = &embedded {
            let pem = certificate_pem(authority.certificate());
            let published = embedded.publish_authority(&pem).await;
            published.map_err(|error| error.to_string())?;
        }

        let mut hub_config = CloudHubConfig {
            node_limit: module.node_limit,
            ..CloudHubConfig::default()
        };
        if !standalone.enable {
            hub_config.drain_notice = DRAIN_NOTICE;
            hub_config.instance = Some(instance().into());
        }
        if module.write_timeout > 0 {
            hub_config.driver.write_deadline = Duration::from_secs(module.write_timeout);
        }
        let silence_max = Duration::from_secs(module.keepalive_interval);
        Arc::make_mut(&mut hub_config.driver.session).keepalive = KeepaliveConfig::Expect { silence_max };
        let rights = &config.edge_tunnel.authorization;
        hub_config.downstream.policy = config.feature_gates.require_authorization;
        let instance = module
            .advertise_address
            .iter()
            .find(|address| !address.is_empty());
        hub_config.instance_address = instance.map(|address| address.as_str().into());
        if standalone.enable {
            // No controller of Kubernetes's writes it into the cluster.
            hub_config.cluster_ca = Some(certificate_pem(authority.certificate()).into());
        }
        hub_config.authorization.read_all_configs = rights.read_all_configs;
        hub_config.authorization.read_all_pods = rights.read_all_pods;
        hub_config.authorization.unrestricted_requests = rights.unrestricted_requests;
        let hub = CloudHub::new(hub_config, cluster.clone()).map_err(|error| error.to_string())?;
        let hub = with_records(hub, &config.edge_tunnel, cluster.clone())?;

        let tls = || {
            authority
                .tunnel_tls(TlsVersions::From12)
                .map_err(|e| e.to_string())
        };
        let mut addresses = Addresses::default();
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        if module.enable && module.websocket.enable {
            let address = socket(&module.websocket)?;
            let listener = WebSocketListener::bind(address, tls()?, WebSocketConfig::default())
                .await
                .map_err(|error| busy(address, &error))?;
            addresses.websocket = listener.local_addr();
            listeners.push(Box::new(listener));
        }
        if module.enable && module.quic.enable {
            let address = socket(&module.quic)?;
            let listener = QuicListener::bind(address, tls()?, QuicConfig::default())
                .map_err(|error| busy(address, &error))?;
            addresses.quic = listener.local_addr();
            listeners.push(Box::new(listener));
        }
        let https = if module.enable && module.https.enable {
            Some(listen(&socket(&module.https)?.to_string()).await?)
        } else {
            None
        };
        addresses.https = https.as_ref().and_then(|listener| listener.local_addr().ok());

        let api = match &embedded {
            Some(cluster) => Some(ClusterApi::bind(config, cluster).await?),
            None => None,
        };
        addresses.api = api.as_ref().and_then(|api| api.address);

        let bind_metrics = &config.common_config.monitor_server.bind_address;
        hub.register_metrics(&mut registry);
        if let Some(api) = &api {
            api.server.register_metrics(&mut registry);
        }
        let registry = Arc::new(registry);
        if let Some(api) = &api {
            api.server.show_metrics(registry.clone());
        }
        let metrics = if bind_metrics.is_empty() {
            None
        } else {
            Some((listen(bind_metrics).await?, registry))
        };
        addresses.metrics = metrics
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok());
        let admin = AdminSocket::wanted(&config.edge_tunnel.admin.socket, "cloudcore nodes").await;
        Ok(Self {
            addresses,
            embedded,
            cluster,
            authority,
            hub,
            listeners,
            https,
            api,
            metrics,
            admin,
            silence,
        })
    }

    /// A token with which a node joins.
    pub fn join_token(&self) -> Result<String, String> {
        self.authority
            .join_token(None, SystemTime::now())
            .map_err(|error| error.to_string())
    }

    /// Runs until told to stop; then nodes are told, and what is under way may end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let readiness = self.hub.readiness();
        let cluster = self.cluster.clone();
        let (asked, stop) = (stop, CancellationToken::new());
        let (nodes, sampled) = (self.hub.clone(), self.hub.clone());
        let hub = {
            // `/readyz` and the metrics tell of the drain until it is done.
            let done = stop.clone().drop_guard();
            let serving = self.hub.serve(self.listeners);
            async move {
                let served = serving.with_graceful_shutdown(asked.cancelled_owned()).await;
                drop(done);
                served.map_err(|e| e.to_string())
            }
        };
        let pki = {
            let (stop, authority) = (stop.clone(), self.authority.clone());
            let pki = PkiConfig {
                nodes: Some(Arc::new(ClusterNodes::new(self.cluster))),
                readiness: Some(readiness),
                silence: self.silence,
                ..PkiConfig::default()
            };
            async move {
                let Some(listener) = self.https else { return Ok(()) };
                let server =
                    PkiServer::new(authority, pki, ServeConfig::default()).map_err(|e| e.to_string())?;
                server.serve(listener, stop).await.map_err(|e| e.to_string())
            }
        };
        let keep = {
            let (stop, authority) = (stop.clone(), self.authority.clone());
            async move {
                authority.keep(&SystemClock, stop).await;
                Ok(())
            }
        };
        let certificates = {
            let stop = stop.clone();
            let requests = match self.embedded {
                Some(_) => CertificateRequests::signing(cluster, self.authority.clone()),
                None => CertificateRequests::approving(cluster),
            };
            async move {
                requests.run(stop).await;
                Ok(())
            }
        };
        let api = {
            let stop = stop.clone();
            async move {
                match self.api {
                    Some(api) => api.run(stop).await,
                    None => Ok(()),
                }
            }
        };
        let admin = {
            let (stop, hub) = (stop.clone(), nodes);
            async move {
                if let Some(socket) = self.admin {
                    let handler =
                        Arc::new(move |method, path| admin::answer_nodes(hub.clone(), method, path).boxed());
                    admin::serve(socket, handler, stop).await;
                }
                Ok(())
            }
        };
        let sample = move || {
            let hub = sampled.clone();
            async move { hub.sample().await }
        };
        let metrics = async move {
            match self.metrics {
                Some((listener, registry)) => metrics::serve(listener, registry, sample, stop)
                    .await
                    .map_err(|e| e.to_string()),
                None => Ok(()),
            }
        };
        tokio::try_join!(hub, pki, keep, certificates, api, metrics, admin).map(drop)
    }
}

/// The hub with the sync records that the configuration names.
fn with_records(hub: CloudHub, config: &EdgeTunnel, cluster: Arc<dyn Cluster>) -> Result<CloudHub, String> {
    let limits = RecordsConfig::default();
    Ok(match config.sync_records.mode {
        SyncRecordsMode::File => {
            let mut file = config.sync_records.file.clone();
            if file.as_os_str().is_empty() {
                file = config.standalone.data_dir.join("sync-records.db");
            }
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
            }
            hub.with_records(FileRecords::open(&file, limits).map_err(|error| error.to_string())?)
        }
        SyncRecordsMode::ObjectSync => hub.with_records(ObjectSyncRecords::new(cluster, limits)),
        SyncRecordsMode::Memory => hub,
    })
}

fn embedded(folder: &Path) -> Result<EmbeddedCluster, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    EmbeddedCluster::open(&folder.join("cluster.db"), EmbeddedConfig::default())
        .map_err(|error| error.to_string())
}

fn kube_config(config: &CloudCore) -> KubeClusterConfig {
    KubeClusterConfig {
        queries_per_second: config.kube_api_config.qps,
        burst: config.kube_api_config.burst,
        ..KubeClusterConfig::default()
    }
}

/// As KubeEdge reads its `kubeAPIConfig`: the file, the address in its place or alone, or else the pod's own account. Without a
/// pod, what `kubectl` would use.
fn credentials(config: &CloudCore) -> Credentials {
    let api = &config.kube_api_config;
    let server = Some(api.master.clone()).filter(|master| !master.is_empty());
    match (api.kube_config.is_empty(), server) {
        (false, server) => Credentials::File {
            path: api.kube_config.clone().into(),
            server,
        },
        (true, Some(server)) => Credentials::Anonymous { server },
        (true, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Credentials::InCluster,
        (true, None) => Credentials::Inferred,
    }
}

fn socket(listen: &Listen) -> Result<SocketAddr, String> {
    let address = if listen.address.is_empty() {
        Ok(Ipv4Addr::UNSPECIFIED.into())
    } else {
        listen.address.parse::<IpAddr>()
    };
    let address = address.map_err(|_| format!("{:?} is not an address", listen.address))?;
    Ok(SocketAddr::new(address, listen.port))
}

pub(crate) async fn listen(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| busy(address, &error))
}

fn busy(address: impl std::fmt::Display, error: &io::Error) -> String {
    format!("cannot listen on {address}: {error}; is another program there?")
}

/// A name for this process that no other has, and by which people find it.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = MessageId::random().to_string();
    let random = random.split('-').next().unwrap_or_default();
    format!("{}-{random}", host.trim())
}

/// Twice the period of the readiness probe in the manifests: then nobody new is sent here.
const DRAIN_NOTICE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_line_that_told_them() {
        let addresses = Addresses {
            websocket: Some("127.0.0.1:10000".parse().unwrap()),
            api: Some("[::1]:10080".parse().unwrap()),
            ..Addresses::default()
        };
        let read = Addresses::parse(&format!("INFO ready {addresses} in 3 ms"));
        assert_eq!(
            (read.websocket, read.api, read.quic),
            (addresses.websocket, addresses.api, None)
        );
    }
}
