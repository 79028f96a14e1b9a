//! The cloud half as one value: certificates, an API server or the embedded cluster with its API, the hub and its metrics.

mod addresses;
mod api;
mod certificates;
mod cluster;
mod hub;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use cloudhub::CloudHub;
use cloudhub::cluster::{Cluster, EmbeddedCluster, KubeCluster};
use cloudhub::pki::{
    Authority, CertificateRequests, ClusterNodes, PkiConfig, PkiServer, ServeConfig, Silence,
};
use futures::FutureExt;
use hub_core::clock::SystemClock;
use hub_core::credentials::certificate_pem;
use hub_core::transport::{
    Listener, QuicConfig, QuicListener, TlsVersions, WebSocketConfig, WebSocketListener,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use addresses::Addresses;
pub use certificates::join_token;

use api::ClusterApi;

use crate::admin::{self, AdminSocket};
use crate::config::{CloudCore, Listen};
use crate::kinds;
use crate::metrics;
use crate::port::{busy, listen};

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
            let cluster = cluster::embedded(&standalone.data_dir)?;
            kinds::define(&cluster).await?;
            (Arc::new(cluster.clone()), Some(cluster))
        } else {
            let cluster = KubeCluster::connect(cluster::credentials(config), cluster::kube_config(config))
                .await
                .map_err(|error| error.to_string())?;
            cluster.register_metrics(&mut registry);
            let asked = cluster.clone();
            silence = Some(Arc::new(move || asked.silence()));
            (Arc::new(cluster), None)
        };
        let authority = Arc::new(certificates::authority(config, cluster.clone()).await?);
        if let Some(embedded) = &embedded {
            let pem = certificate_pem(authority.certificate());
            let published = embedded.publish_authority(&pem).await;
            published.map_err(|error| error.to_string())?;
        }

        let hub = CloudHub::new(hub::config(config, &authority), cluster.clone())
            .map_err(|error| error.to_string())?;
        let hub = hub::with_records(hub, &config.edge_tunnel, cluster.clone())?;

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
            if let Some((listener, registry)) = self.metrics {
                metrics::serve(listener, registry, sample, stop).await;
            }
            Ok(())
        };
        tokio::try_join!(hub, pki, keep, certificates, api, metrics, admin).map(drop)
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
