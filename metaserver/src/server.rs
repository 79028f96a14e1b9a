//! The front door: listeners, connections, and how all of it stops.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use hub_core::api::{ApiRequest, ApiResponse, Reach, Upstream, UpstreamError};
use hub_core::store::ObjectStore;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::Semaphore;
use tokio::time::{Duration, sleep, timeout};
use tower::Service;

use crate::api::Api;
use crate::auth::Peer;
use crate::body::Body;
use crate::cloud::Cloud;
use crate::config::MetaConfig;
use crate::explain::{Scopes, WatchReport, Why};
use crate::listen::{Connection, Listen};
use crate::write::local::LocalJournal;

/// A small Kubernetes API server over a store, with the cloud behind it. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct MetaServer {
    api: Arc<Api>,
    connections: Arc<Semaphore>,
}

impl MetaServer {
    /// A server of a node's store with the default limits. `upstream` carries what the store cannot answer to the
    /// cloud; while it knows that the cloud is not there, nothing is sent and answers come at once.
    pub fn new<U>(store: impl ObjectStore, upstream: U) -> Self
    where
        U: Service<ApiRequest, Response = ApiResponse, Error = UpstreamError>
            + Reach
            + Clone
            + Send
            + Sync
            + 'static,
        U::Future: Send + 'static,
    {
        Self::with_config(MetaConfig::default(), store, upstream)
    }

    /// The same with limits of your own.
    pub fn with_config<U>(config: MetaConfig, store: impl ObjectStore, upstream: U) -> Self
    where
        U: Service<ApiRequest, Response = ApiResponse, Error = UpstreamError>
            + Reach
            + Clone
            + Send
            + Sync
            + 'static,
        U::Future: Send + 'static,
    {
        let (link, held_back) = (upstream.connected(), upstream.held_back());
        let source = upstream.silent_since();
        let mut cloud = Cloud::new(Upstream::new(upstream), config.cloud_timeout, config.cloud_pause);
        if let Some(link) = link {
            cloud.with_link(link);
        }
        if let Some(held_back) = held_back {
            cloud.with_held_back(held_back);
        }
        if let Some(source) = source {
            cloud.with_source(source);
        }
        Self {
            connections: Arc::new(Semaphore::new(config.connections_max)),
            api: Arc::new(Api::new(Arc::new(store), cloud, config)),
        }
    }

    /// Registers the server's metrics, below `metaserver_`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.api.metrics.register(registry);
        self.api.cloud.register(registry);
    }

    /// Shows a program's metrics at `/metrics`, as a kube-apiserver does. Without this there is no such path. The first call counts.
    pub fn show_metrics(&self, registry: Arc<Registry>) {
        let _ = self.api.shown.set(registry);
    }

    /// Brings those metrics up to date that are only taken when somebody asks: before each answer to Prometheus.
    pub fn sample(&self) {
        self.api.sample();
    }

    /// What was written here and is still to be told to the cloud, and what it did not take.
    pub fn local_journal(&self) -> LocalJournal {
        self.api.local_journal()
    }

    /// What of the cluster is held here, in which state, and what of it is in doubt.
    pub fn scopes(&self) -> Scopes {
        self.api.scopes()
    }

    /// The watches that are open.
    pub fn watchers(&self) -> Vec<WatchReport> {
        self.api.open.report()
    }

    /// What a GET of an API path with its query would be answered, from where, and why. Nobody is asked for it.
    pub fn why(&self, path: &str) -> Why {
        self.api.why(path, None)
    }

    /// The same for one asker: a user's name, such as `system:serviceaccount:kube-system:flannel`, or `group:NAME`.
    pub fn why_for(&self, path: &str, asker: &str) -> Why {
        self.api.why(path, Some(asker))
    }

    /// The server as a [`tower::Service`], for layers and for tests without a socket.
    pub fn service(&self) -> MetaService {
        MetaService {
            api: self.api.clone(),
            peer: Arc::default(),
        }
    }

    /// Listens on an address and answers for ever. Plain HTTP/1.1, and HTTP/2 by prior knowledge.
    pub async fn serve(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        self.serve_on(listener, std::future::pending()).await
    }

    /// Answers on a listener until told to stop. Then watches end, open requests may end within the drain timeout, and it
    /// returns. One server may answer on several listeners.
    pub async fn serve_on(
        &self,
        listener: impl Into<Listen>,
        until: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let listener = listener.into();
        let graceful = GracefulShutdown::new();
        self.api.start_telling();
        self.api.start_guard();
        self.api.start_correcting();
        tokio::pin!(until);
        loop {
            // Over the limit newcomers wait in the listener's queue: back-pressure, not refusal.
            let next = async {
                let permit = self.connections.clone().acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = &mut until => break,
                next = next => next,
            };
            match accepted {
                Ok(arrival) => {
                    let connection = Connection {
                        api: self.api.clone(),
                        watcher: graceful.watcher(),
                        _permit: permit.ok(),
                    };
                    tokio::spawn(arrival.attend(connection));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    // Usually too many open files; at once it would be the same again.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        self.api.stop.cancel();
        // Who does not end in time is dropped with the runtime.
        let _ = timeout(self.api.config.drain_timeout, graceful.shutdown()).await;
        Ok(())
    }
}

impl fmt::Debug for MetaServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaServer")
            .field("config", &self.api.config)
            .finish_non_exhaustive()
    }
}

/// A [`MetaServer`] as a service of HTTP requests.
#[derive(Clone)]
pub struct MetaService {
    pub(crate) api: Arc<Api>,
    pub(crate) peer: Arc<Peer>,
}

impl<B> Service<Request<B>> for MetaService
where
    B: http_body::Body<Data: Buf + Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (api, peer) = (self.api.clone(), self.peer.clone());
        let (head, body) = request.into_parts();
        Box::pin(async move {
            // A bug in one answer is no reason to leave the others, or the node agent in the same process, without theirs.
            let answer = AssertUnwindSafe(api.answer(head, &peer, body))
                .catch_unwind()
                .await;
            Ok(answer.unwrap_or_else(|_| api.panicked()))
        })
    }
}

impl fmt::Debug for MetaService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetaService")
    }
}
