//! The hub: it keeps the node connected for as long as it lives.
//!
//! One session, one driver; connections come and go. [`EdgeHub::run`] is the only loop that dials, so a stale end of an old
//! connection can never hurt a new one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::clock::{Clock, SystemClock};
use hub_core::driver::{Driver, DriverConfig};
use hub_core::handle::CallError;
use hub_core::message::{Content, Message, MessageId, Operation, Resource, Route};
use hub_core::node::NodeId;
use hub_core::scope::Scope;
use hub_core::service::{BoxError, Handler, Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::Lane;
use hub_core::store::{Change, Journal, ObjectStore};
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, Transport, TransportError,
};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::layer::util::Identity as NoLayer;
use tower::timeout::Timeout;
use tower::{Layer, Service, ServiceExt};

use crate::config::EdgeHubConfig;
use crate::dial::{DialConfig, DialPlan, Failure};
use crate::doubt::Doubts;
use crate::error::RunError;
use crate::handle::{EdgeHandle, Shared};
use crate::identity::{Identities, Target};
use crate::link::{Board, Link};
use crate::metrics::Metrics;
use crate::store::EdgeStore;
use crate::{apply, node, replay, source, subscribe, token};

/// The node half of the tunnel.
///
/// ```text
///   EdgeHub::new(config, store) ── handle() ──► EdgeHandle: requests, reports, the link
///                               ── run() ─────► until stopped
/// ```
pub struct EdgeHub {
    driver: Driver,
    store: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
    bind: Bind,
    /// The embedder's own ways to the cloud; enrolment is then the embedder's business.
    targets: Vec<Target>,
    service_metrics: ServiceMetrics,
}

/// Makes the stack around the routes; kept until all routes are known.
type Stack = Box<dyn FnOnce(Router, ServiceConfig, ServiceMetrics) -> Handler + Send>;
/// Makes the store the node's, for good.
type Bind = Box<dyn FnOnce(&NodeId) -> BoxFuture<'static, Result<(), String>> + Send>;

/// What an embedder may change of a hub before it is made.
pub struct EdgeHubBuilder {
    config: EdgeHubConfig,
    store: Arc<dyn ObjectStore>,
    journal: Arc<dyn Journal>,
    bind: Bind,
    clock: Arc<dyn Clock>,
    routes: Router,
    stack: Stack,
    targets: Vec<Target>,
}

impl EdgeHub {
    /// A hub over the node's store. The store becomes this node's for good when the hub first runs.
    ///
    /// Ways to the cloud come from the configuration; so does the certificate.
    pub fn new(config: EdgeHubConfig, store: EdgeStore) -> Result<Self, RunError> {
        if config.websocket.is_empty() && config.quic.is_empty() {
            return Err(RunError::NoEndpoint);
        }
        Ok(Self::with_store(config, store).build())
    }

    /// The same, to be adapted and then [built](EdgeHubBuilder::build).
    pub fn with_store(config: EdgeHubConfig, store: EdgeStore) -> EdgeHubBuilder {
        let mut builder = Self::builder(config, Arc::new(store.clone()), Arc::new(store.clone()));
        builder.bind = Box::new(move |node| {
            let node = node.clone();
            async move { store.bind(&node).await.map_err(|error| error.to_string()) }.boxed()
        });
        builder
    }

    /// A hub over any store, to be adapted and then [built](EdgeHubBuilder::build).
    pub fn builder(
        config: EdgeHubConfig,
        store: Arc<dyn ObjectStore>,
        journal: Arc<dyn Journal>,
    ) -> EdgeHubBuilder {
        EdgeHubBuilder {
            config,
            store,
            journal,
            bind: Box::new(|_| futures::future::ready(Ok(())).boxed()),
            clock: Arc::new(SystemClock),
            routes: Router::new(),
            stack: Box::new(|routes, config, metrics| stack(routes, NoLayer::new(), config, metrics)),
            targets: Vec::new(),
        }
    }

    /// What everybody else holds of the hub.
    pub fn handle(&self) -> EdgeHandle {
        EdgeHandle {
            shared: self.shared.clone(),
        }
    }

    /// Makes the hub's numbers visible.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.board.metrics.register(registry);
        self.service_metrics
            .register(registry.sub_registry_with_prefix("edge"));
    }

    /// Keeps the node connected until [`EdgeHandle::stop`]. Ends earlier only when the operator must do something.
    pub async fn run(self) -> Result<(), RunError> {
        let Self {
            driver,
            store,
            shared,
            bind,
            targets,
            ..
        } = self;
        let config = &shared.config;
        bind(&config.node).await.map_err(RunError::Store)?;
        let wanted: Vec<Scope> = config
            .own_scopes()
            .into_iter()
            .chain(config.prefetched())
            .collect();
        let wanted = wanted.into_iter().map(Change::Want).collect();
        store
            .apply(wanted)
            .await
            .map_err(|error| RunError::Store(error.to_string()))?;

        // Dropping this future ends the driver too.
        let mut session = JoinSet::new();
        session.spawn(driver.run());
        let ended = tokio::select! {
            () = shared.stop.cancelled() => Ok(()),
            Err(error) = connect(&shared, &*store, targets) => Err(error),
            () = subscribe::run(&shared, &store) => Ok(()),
            () = replay::run(&shared) => Ok(()),
            () = node::run(&shared) => Ok(()),
            () = token::run(&shared) => Ok(()),
            _ = session.join_next() => Err(RunError::Driver),
        };
        shared.session.stop(CloseReason::Shutdown).await;
        let _ = session.join_next().await;
        shared.board.down(if ended.is_ok() {
            "the hub is stopped"
        } else {
            "the hub ended"
        });
        ended
    }
}

impl EdgeHubBuilder {
    /// Adds routes for messages from the cloud. They come before the hub's own.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Tells the time by another clock: that of reports, and that by which tokens end.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Puts a layer around all handlers, in the place where the cloud authorizes. A `tower::ServiceBuilder` is a layer too.
    #[must_use]
    pub fn with_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Timeout<Router>> + Send + 'static,
        L::Service: Service<Request, Response = Reply, Error = BoxError> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Future: Send,
    {
        self.stack = Box::new(|routes, config, metrics| stack(routes, layer, config, metrics));
        self
    }

    /// Adds a way to the cloud that is not made from the configuration. With one of these the hub does not enroll.
    #[must_use]
    pub fn with_dialer(mut self, dialer: impl Dialer + 'static, endpoint: Endpoint) -> Self {
        let dialer = Arc::new(dialer);
        self.targets.push(Target { dialer, endpoint });
        self
    }

    /// The hub. It does nothing before it [runs](EdgeHub::run).
    pub fn build(self) -> EdgeHub {
        let Self {
            config,
            store,
            journal,
            bind,
            clock,
            routes,
            stack,
            targets,
        } = self;
        let metrics = Metrics::default();
        let service_metrics = ServiceMetrics::default();
        let doubts = Arc::new(Doubts::new(config.mass_deletion, metrics.clone()));
        let board = Arc::new(Board::new(store.clone(), metrics));
        let routes = routes.merge(source::routes(board.clone()));
        let routes = routes.merge(apply::routes(store.clone(), config.own_scopes(), doubts.clone()));
        let heard = board.clone();
        let handler = stack(routes, config.service, service_metrics.clone()).map_request(move |request| {
            heard.heard();
            request
        });
        let handler = Arc::new(Handler::new(handler));
        let mut driver_config = DriverConfig::new(config.session.clone());
        driver_config.write_deadline = config.write_deadline;
        let (driver, session) = Driver::new(
            config.node.clone(),
            Arc::new(driver_config),
            handler,
            board.clone(),
            random(),
        );
        let requests = Arc::new(Semaphore::new(config.requests_max));
        let shared = Shared {
            config,
            board,
            session,
            store: store.clone(),
            journal,
            requests,
            clock,
            stop: CancellationToken::new(),
            reconnect: Notify::new(),
            doubts,
        };
        EdgeHub {
            driver,
            store,
            shared: Arc::new(shared),
            bind,
            targets,
            service_metrics,
        }
    }
}

/// Dials, waits for the connection's end, backs off, again. Ends only on an operator's error.
async fn connect(
    shared: &Shared,
    store: &dyn ObjectStore,
    targets: Vec<Target>,
) -> Result<Infallible, RunError> {
    let config = &shared.config;
    let board = &shared.board;
    let mut identities = if targets.is_empty() {
        let serves = !store.resources().is_empty();
        if serves {
            board.down("looking for a certificate");
        }
        Identities::obtain(config, serves, random()).await?
    } else {
        Identities::given(targets)
    };
    let targets = identities.targets.clone();
    let dial_config = DialConfig {
        backoff: config.backoff,
        refused_pause: config.refused_pause,
    };
    let mut plan = DialPlan::new(targets.len(), dial_config, random(), Instant::now());
    let mut troubles = Troubles::default();
    let mut number = 0;
    loop {
        let (target, at) = plan.next();
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            renewed = identities.renewed(config, &board.metrics) => {
                renewed?;
                continue;
            }
        }
        match dial(config, &targets[target]).await {
            Ok(transport) => {
                plan.connected(Instant::now());
                troubles = Troubles::default();
                attach(shared, transport, &mut number).await?;
            }
            Err(error) => {
                board.metrics.dials_failed.inc();
                plan.failed(Failure::from(&error), Instant::now());
                troubles.tell(&targets[target], &error, &plan);
                board.down(&error.to_string());
                continue;
            }
        }
        let lived = loop {
            tokio::select! {
                () = board.gone(number) => break true,
                () = silence(shared, number) => {
                    tracing::error!(
                        endpoint = %targets[target].endpoint,
                        "the cloud takes the connection of this node and says nothing on it, as a stock cloud does with a node that it \
                         rejects: check the node's name and certificate, and the cloud's node limit. It will be tried again slowly"
                    );
                    shared.session.hang_up(CloseReason::Other("nothing was said here".into())).await;
                    board.gone(number).await;
                    board.down("the cloud takes the connection and says nothing; it may reject this node");
                    break false;
                }
                renewed = identities.renewed(config, &board.metrics) => renewed?,
                () = shared.reconnect.notified() => {}
            }
            // The new connection first, then the end of the old one: the node is never away.
            board.replacing();
            match dial(config, &targets[target]).await {
                Ok(transport) => attach(shared, transport, &mut number).await?,
                Err(error) => {
                    tracing::warn!(%error, "no new connection yet; the old one goes on");
                }
            }
            board.replaced();
        };
        if lived && board.connections().borrow().sent_away {
            plan.sent_away(Instant::now());
        } else if lived {
            plan.lost(Instant::now());
        } else {
            plan.useless(Instant::now());
        }
    }
}

/// Resolves when a stock cloud has said nothing since this connection was made, and does not answer what every such cloud answers.
/// One that rejects a node leaves the connection open, and answers pings (weak spot C6).
async fn silence(shared: &Shared, number: u64) {
    let Shared { config, board, .. } = shared;
    let link = board.link().borrow().clone();
    let since = match link {
        Link::Up {
            since, capabilities, ..
        } if capabilities == Capabilities::NONE => since,
        _ => return std::future::pending().await,
    };
    loop {
        board.unanswered.notified().await;
        if board.was_heard(number) || since.elapsed() < config.deaf_after {
            continue;
        }
        // Where the dynamic controller is off, applications have no answer either; EdgeController's questions do.
        let resource = Resource::object(None, "node", config.node.as_str());
        let route = Route::new("edged", "meta", Operation::Query, resource);
        let question = Message::new(route, Content::null());
        let answer = shared
            .session
            .call(question, Lane::Urgent, config.write_timeout)
            .await;
        match answer {
            Ok(_) => board.heard(),
            Err(CallError::TimedOut) if !board.was_heard(number) => return,
            Err(_) => {}
        }
    }
}

/// Hands a connection to the session and waits until it is the session's own.
async fn attach(shared: &Shared, transport: Box<dyn Transport>, number: &mut u64) -> Result<(), RunError> {
    let mut connections = shared.board.connections();
    *number += 1;
    shared
        .session
        .attach(transport)
        .await
        .map_err(|_| RunError::Driver)?;
    connections
        .wait_for(|c| c.attached >= *number)
        .await
        .map_err(|_| RunError::Driver)?;
    Ok(())
}

async fn dial(config: &EdgeHubConfig, target: &Target) -> Result<Box<dyn Transport>, TransportError> {
    tracing::debug!(endpoint = %target.endpoint, transport = target.dialer.transport(), "dialing");
    let request = ConnectRequest::tunnel(&config.node, &config.project_id, config.capabilities)
        .with_version(&config.version);
    let dialed = timeout(
        config.handshake_timeout,
        target.dialer.dial(&target.endpoint, request),
    )
    .await;
    dialed.unwrap_or(Err(TransportError::Timeout("connection")))
}

/// Says each trouble once, until a connection succeeds.
#[derive(Default)]
struct Troubles {
    told: std::collections::BTreeSet<String>,
}

impl Troubles {
    fn tell(&mut self, target: &Target, error: &TransportError, plan: &DialPlan) {
        let endpoint = &target.endpoint;
        let transport = target.dialer.transport();
        let text = format!("{transport} {endpoint} {error}");
        if self.told.len() >= TROUBLES_MAX || !self.told.insert(text) {
            tracing::debug!(%endpoint, transport, %error, "still no connection");
            return;
        }
        match (Failure::from(error), error) {
            (Failure::Refused, _) => tracing::error!(
                %endpoint, transport, %error,
                "the cloud refuses this node: its certificate is for another name, or the node is not wanted there; \
                 check the node's name and its certificate. It will be tried again slowly"
            ),
            (_, TransportError::Tls(_)) => tracing::error!(
                %endpoint, transport, %error,
                "the cloud and this node do not trust each other: check the CA, the certificate's names and the clocks"
            ),
            _ => {
                let pause = plan.next().1.saturating_duration_since(Instant::now());
                tracing::warn!(%endpoint, transport, %error, retry_in = ?pause, "no connection to the cloud; trying again");
            }
        }
    }
}

pub(crate) fn random() -> u64 {
    let id = MessageId::random();
    id.as_uuid().map_or(0, |bytes| {
        u64::from_le_bytes(std::array::from_fn(|i| bytes[i] ^ bytes[i + 8]))
    })
}

/// Different troubles that are told before a connection succeeds.
const TROUBLES_MAX: usize = 32;
