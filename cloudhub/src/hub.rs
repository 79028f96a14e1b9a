//! The hub: listeners in front, a cluster behind, and a session for every node between.

use std::future::{Future, IntoFuture};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::task::AbortOnDropHandle;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service};

use hub_core::handle::SessionHandle;
use hub_core::node::NodeId;
use hub_core::service::{Handler, Outcome, Request, Router, stack};
use hub_core::transport::Listener;

use crate::admit::Admit;
use crate::authorize::Authorizer;
use crate::cluster::Cluster;
use crate::complaints::Complaints;
use crate::config::CloudHubConfig;
use crate::downstream::{Account, Client, Downstream, Inbox};
use crate::error::{ConfigError, ServeError};
use crate::metrics::HubMetrics;
use crate::policy;
use crate::readiness::Readiness;
use crate::records::{MemoryRecords, SyncRecords};
use crate::sessions::{ConnectedNode, HubEvent, NodeReport, Sessions};
use crate::source;
use crate::upstream::{self, Upstream};

/// The cloud half of the tunnel. Cheap to clone; all clones are one hub.
#[derive(Clone)]
pub struct CloudHub {
    config: Arc<CloudHubConfig>,
    cluster: Arc<dyn Cluster>,
    sessions: Arc<Sessions>,
    downstream: Client,
    metrics: Arc<HubMetrics>,
    complaints: Arc<Complaints>,
    records: Arc<dyn SyncRecords>,
    account: Account,
    readiness: watch::Sender<Readiness>,
    /// Taken by the one that serves.
    inbox: Arc<Mutex<Option<Inbox>>>,
    routes: Router,
    wrap: Option<Wrap>,
}

type Wrap = Arc<dyn Fn(Handler) -> Handler + Send + Sync>;

impl CloudHub {
    /// A hub for this cluster. Nothing runs until it is [served](Self::serve).
    ///
    /// What stock KubeEdge edges hold is remembered for as long as the hub lives. Give it
    /// [records that last longer](Self::with_records) where such edges connect.
    pub fn new(config: CloudHubConfig, cluster: impl Cluster) -> Result<Self, ConfigError> {
        let session = &config.driver.session;
        for (name, value) in [
            ("node_limit", config.node_limit),
            ("handshakes_max", config.handshakes_max),
            ("driver.commands_max", config.driver.commands_max),
            ("driver.session.slots_max", session.slots_max),
            ("driver.session.window", session.window),
            ("service.concurrency", config.service.concurrency),
            ("downstream.batch", config.downstream.batch),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        let config = Arc::new(config);
        let metrics = Arc::new(HubMetrics::default());
        let complaints = Arc::new(Complaints::default());
        let (downstream, commands) = Client::new(config.downstream.commands_max);
        let (account, acked) = Account::new(cluster.registry().clone());
        let sessions = Sessions::new(
            config.clone(),
            metrics.clone(),
            complaints.clone(),
            downstream.clone(),
            account.clone(),
        );
        let readiness = watch::Sender::default();
        let inbox = Inbox {
            commands,
            acked,
            readiness: readiness.clone(),
        };
        Ok(Self {
            config,
            cluster: Arc::new(cluster),
            sessions: Arc::new(sessions),
            downstream,
            metrics,
            complaints,
            records: Arc::new(MemoryRecords::default()),
            account,
            readiness,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            routes: Router::new(),
            wrap: None,
        })
    }

    /// Remembers there what stock edges hold: in a [file](crate::records::FileRecords), or in the cluster beside KubeEdge's own
    /// cloudcore ([`ObjectSyncRecords`](crate::records::ObjectSyncRecords)). Call it before the hub is served.
    #[must_use]
    pub fn with_records(mut self, records: impl SyncRecords) -> Self {
        self.records = Arc::new(records);
        self
    }

    /// Adds handlers of your own. They are asked before the hub's, and what they get has passed authorization.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Puts a layer of your own around the handling of every message, outside of all others.
    #[must_use]
    pub fn with_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Handler> + Send + Sync + 'static,
        L::Service: Service<Request, Response = Outcome, Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<Request>>::Future: Send,
    {
        let inner = self.wrap.take();
        self.wrap = Some(Arc::new(move |handler| {
            let handler = inner
                .as_ref()
                .map_or_else(|| handler.clone(), |inner| inner(handler.clone()));
            BoxCloneSyncService::new(layer.layer(handler))
        }));
        self
    }

    /// The nodes that are connected now.
    pub async fn nodes(&self) -> Vec<ConnectedNode> {
        self.sessions.nodes().await
    }

    /// What is known of every node that has a session, or of `only` this one: those that are connected, and those that were
    /// a moment ago. Each session is asked, and has two seconds to answer. Costs nothing while nobody asks.
    pub async fn report(&self, only: Option<&NodeId>) -> Vec<NodeReport> {
        self.sessions.report(only).await
    }

    /// Brings those numbers up to date that are only taken when somebody asks: the depth and age of the lanes. Call it before
    /// the registry is encoded; it wakes every session once, as its keepalive does.
    pub async fn sample(&self) {
        self.sessions.sample().await;
    }

    /// The session of a node, to send it messages or to ask it something.
    pub fn session(&self, node: &NodeId) -> Option<SessionHandle> {
        self.sessions.handle(node)
    }

    /// What happens to the nodes from now on.
    pub fn events(&self) -> broadcast::Receiver<HubEvent> {
        self.sessions.events()
    }

    /// Whether nodes should come to this instance: for `/readyz`.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Makes the hub's numbers visible.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Serves nodes on these listeners. Await it, perhaps after [`Serve::with_graceful_shutdown`].
    pub fn serve(&self, listeners: impl IntoIterator<Item = Box<dyn Listener>>) -> Serve {
        Serve {
            hub: self.clone(),
            listeners: listeners.into_iter().collect(),
            stop: Box::pin(std::future::pending()),
        }
    }

    async fn run(
        self,
        listeners: Vec<Box<dyn Listener>>,
        stop: BoxFuture<'static, ()>,
    ) -> Result<(), ServeError> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inbox = inbox.ok_or(ServeError::Twice)?;
        let _closing = Closing(self.sessions.clone());
        self.account.keep(self.records.clone());
        let authorizer = Authorizer::new(
            Arc::new(self.config.authorization.clone()),
            self.downstream.clone(),
            self.cluster.clone(),
            self.metrics.clone(),
        );
        let upstream = Arc::new(Upstream {
            cluster: self.cluster.clone(),
            downstream: self.downstream.clone(),
            sessions: self.sessions.clone(),
            authorizer: authorizer.clone(),
            config: self.config.clone(),
            metrics: self.metrics.clone(),
        });
        let is_marked = self.config.instance_address.is_some() || self.config.instance.is_some();
        let _marking = is_marked.then(|| {
            let marking = upstream::mark_nodes(upstream.clone(), self.sessions.events());
            AbortOnDropHandle::new(tokio::spawn(marking))
        });
        let routes = self.routes.clone().merge(upstream::routes(&upstream));
        let mut handler = stack(
            routes,
            authorizer,
            self.config.service,
            self.metrics.service.clone(),
        );
        if let Some(wrap) = &self.wrap {
            handler = wrap(handler);
        }
        let admit = Arc::new(Admit {
            config: self.config.clone(),
            sessions: self.sessions.clone(),
            handler: Arc::new(handler),
            metrics: self.metrics.clone(),
            complaints: self.complaints.clone(),
            handshakes: Arc::new(Semaphore::new(self.config.handshakes_max)),
        });
        let downstream = Downstream::new(
            self.cluster.clone(),
            self.config.downstream.clone(),
            self.sessions.clone(),
            self.metrics.clone(),
            self.records.clone(),
            inbox,
        );
        // They end with this function, whichever way it ends.
        let _records = AbortOnDropHandle::new(tokio::spawn(self.records.run()));
        let _downstream = AbortOnDropHandle::new(tokio::spawn(downstream.run()));
        let is_policed = self.config.downstream.policy;
        let _policy =
            is_policed.then(|| AbortOnDropHandle::new(tokio::spawn(policy::run(self.cluster.clone()))));
        let source = source::run(self.cluster.clone(), self.sessions.clone(), self.config.source);
        let _source = AbortOnDropHandle::new(tokio::spawn(source));
        let sessions = self.sessions.clone();
        let _sweep = AbortOnDropHandle::new(tokio::spawn(async move { sessions.sweep().await }));

        let mut accepting: FuturesUnordered<_> = listeners
            .into_iter()
            .map(|listener| {
                let transport = listener.transport();
                let accepting = AbortOnDropHandle::new(tokio::spawn(admit.clone().accept(listener)));
                async move { (transport, accepting.await) }
            })
            .collect();
        let failed = tokio::select! {
            () = stop => None,
            Some((transport, Ok(source))) = accepting.next(), if !accepting.is_empty() => {
                Some(ServeError::Listener { transport, source })
            }
        };
        self.readiness.send_replace(Readiness::Draining);
        if failed.is_none() {
            // While load balancers do not know, who is sent here by them is still served.
            tokio::time::sleep(self.config.drain_notice).await;
        }
        // First nobody new, then a word to everybody who is here.
        drop(accepting);
        self.sessions.drain().await;
        if tokio::time::timeout(self.config.drain, self.records.flush())
            .await
            .is_err()
        {
            tracing::warn!(
                "not all sync records could be written: some nodes will be sent again what they hold"
            );
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Closes the sessions when serving ends, also where its future is just dropped.
struct Closing(Arc<Sessions>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A hub that is about to serve. A future of its end; dropping it ends the connections.
#[must_use = "nothing is served until this is awaited"]
pub struct Serve {
    hub: CloudHub,
    listeners: Vec<Box<dyn Listener>>,
    stop: BoxFuture<'static, ()>,
}

impl Serve {
    /// Stops when `signal` is done: is [no longer ready](CloudHub::readiness), after a while accepts nobody more, sends the nodes away
    /// one after the other, and waits for them for a bounded time.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output: Send> + Send + 'static) -> Self {
        self.stop = Box::pin(async move {
            signal.await;
        });
        self
    }
}

impl IntoFuture for Serve {
    type Output = Result<(), ServeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.hub.run(self.listeners, self.stop))
    }
}
