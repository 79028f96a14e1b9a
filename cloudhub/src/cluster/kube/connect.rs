//! From credentials to a client: who we are, and connections that notice when the other end is gone.

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use tower::{BoxError, ServiceBuilder};

use super::config::KubeClusterConfig;
use super::door::chain;

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
    found: kube::Config,
    config: &KubeClusterConfig,
) -> Result<kube::Client, ConnectError> {
    let mut found = found;
    found.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    let config = config.clone();
    // Credentials may come from a program that is run for them.
    let built = tokio::task::spawn_blocking(move || build(&found, &config)).await;
    let built = built.map_err(|error| ConnectError::Client(error.to_string()))?;
    built.map_err(|error| ConnectError::Client(chain(&error)))
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

/// Who we are in the API server's audit log, and what it calls the manager of what we write: what is before the slash.
const AGENT: &str = concat!("cloudcore/edge-tunnel-", env!("CARGO_PKG_VERSION"));
/// A connection that is silent for so long is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(15);
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
