//! From credentials to a client: who we are, and connections that notice when the other end is gone.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, ServiceBuilder};

use super::config::KubeClusterConfig;
use super::door::chain;

/// Where the address and the credentials of an API server come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `KUBECONFIG` or `~/.kube/config`; without them, the service account of the pod that this program runs in.
    Inferred,
    /// The service account of the pod that this program runs in.
    InCluster,
    /// A kubeconfig file.
    File {
        /// The file.
        path: PathBuf,
        /// The server's address, where it is not the one of the file (KubeEdge `kubeAPIConfig.master`).
        server: Option<String>,
    },
    /// A server that asks for no credentials, such as `http://127.0.0.1:8080` (KubeEdge `kubeAPIConfig.master` alone).
    Anonymous {
        /// Its address.
        server: String,
    },
}

/// There is no API server to turn to. The operator's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No credentials are found, or they cannot be read.
    #[error("cannot read the credentials for the API server: {0}")]
    Credentials(String),
    /// The address is none.
    #[error("{0:?} is not the address of an API server")]
    Address(String),
    /// The credentials cannot be used, such as a certificate that is none.
    #[error("cannot use the credentials for the API server: {0}")]
    Client(String),
}

pub(super) async fn client(
    credentials: Credentials,
    config: &KubeClusterConfig,
) -> Result<kube::Client, ConnectError> {
    let unreadable = |error: &dyn std::error::Error| ConnectError::Credentials(chain(error));
    let address = |text: &str| text.parse().map_err(|_| ConnectError::Address(text.to_owned()));
    let found = match credentials {
        Credentials::Inferred => kube::Config::infer().await.map_err(|error| unreadable(&error))?,
        Credentials::InCluster => kube::Config::incluster().map_err(|error| unreadable(&error))?,
        Credentials::File { path, server } => {
            let file = Kubeconfig::read_from(&path).map_err(|error| {
                ConnectError::Credentials(format!("{}: {}", path.display(), chain(&error)))
            })?;
            let mut found = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| unreadable(&error))?;
            if let Some(server) = server {
                found.cluster_url = address(&server)?;
            }
            found
        }
        Credentials::Anonymous { server } => kube::Config::new(address(&server)?),
    };
    build(&found, config).map_err(|error| ConnectError::Client(chain(&error)))
}

/// kube's own stack without its retries, which know nothing of our deadlines and of our pace, and with keepalive.
fn build(found: &kube::Config, config: &KubeClusterConfig) -> Result<kube::Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_deadline));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(SILENCE / 3));
    tcp.set_keepalive_retries(Some(3));
    let tls = found.rustls_https_connector_with_connector(tcp)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(config.concurrency)
        .build(tls);
    let service = ServiceBuilder::new()
        .layer(found.base_uri_layer())
        .option_layer(found.auth_layer()?)
        .layer(found.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, found.default_namespace.clone()))
}

/// A connection that is silent for so long is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(15);
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
