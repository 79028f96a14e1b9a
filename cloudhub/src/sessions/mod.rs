//! The sessions of the nodes: one driver each, the newest connection wins, and a session outlives its connection for a while.

mod report;
mod table;
mod watcher;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use hub_core::driver::Driver;
use hub_core::handle::SessionHandle;
use hub_core::node::NodeId;
use hub_core::service::Handler;
use hub_core::session::Depth;
use hub_core::transport::{Capabilities, CloseReason, Transport};

pub use report::{NodeReport, Trouble};
pub(crate) use table::{Admission, SessionId, TooMany};
use table::{Connected, Table};
use watcher::Watcher;

use crate::complaints::Complaints;
use crate::config::CloudHubConfig;
use crate::downstream::{Account, Client};
use crate::metered::Metered;
use crate::metrics::HubMetrics;
use crate::source;

/// A node that is connected.
#[derive(Debug, Clone)]
pub struct ConnectedNode {
    /// Its name.
    pub node: NodeId,
    /// Since when.
    pub since: SystemTime,
    /// Where it connected from.
    pub address: Option<SocketAddr>,
    /// `websocket`, `quic` or `memory`.
    pub transport: &'static str,
    /// What both ends can do; nothing, for a stock KubeEdge edge.
    pub capabilities: Capabilities,
    /// What its session holds.
    pub depth: Depth,
}

/// What happens to the nodes of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    /// A node connected.
    Connected(NodeId),
    /// Its connection is gone; its session is kept for a while.
    Disconnected(NodeId),
    /// Its session is over.
    Ended(NodeId),
    /// Two living nodes take turns under one name. Told at each turn.
    Duplicate(NodeId),
}

/// See the [module](self).
pub(crate) struct Sessions {
    table: Mutex<Table>,
    config: Arc<CloudHubConfig>,
    driver: Arc<hub_core::driver::DriverConfig>,
    metrics: Arc<HubMetrics>,
    complaints: Arc<Complaints>,
    downstream: Client,
    account: Account,
    events: broadcast::Sender<HubEvent>,
    drivers: TaskTracker,
    source: Mutex<Source>,
}

/// What nodes were told of the cluster behind this hub.
#[derive(Default)]
struct Source {
    silent_since: Option<Instant>,
    /// Some node may remember that it was told so.
    was_silent: bool,
}

impl Sessions {
    pub(crate) fn new(
        config: Arc<CloudHubConfig>,
        metrics: Arc<HubMetrics>,
        complaints: Arc<Complaints>,
        downstream: Client,
        account: Account,
    ) -> Self {
        Self {
            table: Mutex::new(Table::new(config.node_limit)),
            driver: Arc::new(config.driver.clone()),
            config,
            metrics,
            complaints,
            downstream,
            account,
            events: broadcast::channel(EVENTS_KEPT).0,
            drivers: TaskTracker::new(),
            source: Mutex::default(),
        }
    }

    /// Keeps a place for a node.
    pub(crate) fn admit(self: &Arc<Self>, node: &NodeId) -> Result<Place, TooMany> {
        let (admission, evicted) = self.table().admit(node)?;
        if let Some((node, session, handle)) = evicted {
            tracing::debug!(%node, ?session, "a session that only lingered gives way");
            self.over(node, session, handle, CloseReason::Shutdown);
        }
        Ok(Place {
            sessions: self.clone(),
            admission,
        })
    }

    /// Gives a connection to its node's session.
    pub(crate) async fn join(
        self: &Arc<Self>,
        mut place: Place,
        transport: Box<dyn Transport>,
        handler: &Arc<Handler>,
    ) {
        let node = place.admission.node.clone();
        // A stock edge may have been elsewhere since, and says nothing of it: a session that lasted would not compare it anew.
        if self.is_shared() && !transport.peer().capabilities.resume {
            let retired = self.table().retire(&place.admission);
            if let Some((node, session, handle)) = retired {
                self.over(node, session, handle, CloseReason::Superseded);
            }
        }
        let make = |session| {
            let observer = Arc::new(Watcher::new(node.clone(), session, self.clone()));
            let seed = rand_seed();
            let (driver, handle) =
                Driver::new(node.clone(), self.driver.clone(), handler.clone(), observer, seed);
            self.drivers.spawn(driver.run());
            handle
        };
        let placed = self
            .table()
            .place(&mut place.admission, Instant::now(), SessionHandle::is_over, make);
        let Some((session, handle, _)) = placed else {
            tracing::debug!(%node, "a newer connection came first, or the hub serves no more");
            return;
        };
        let capabilities = transport.peer().capabilities;
        // First the interest, so that what the node asks on this connection finds it known.
        self.downstream
            .attach(node, session, handle.clone(), capabilities)
            .await;
        let transport = Box::new(Metered::new(transport, self.metrics.clone()));
        let _ = handle
            .attach_numbered(transport, place.admission.connection.0)
            .await;
        while let Some(silent) = self.source_now().filter(|_| capabilities.source) {
            let _ = handle.send(source::message(silent)).await;
            let now = self.source_now().flatten();
            if now.is_some() == silent.is_some() {
                break;
            }
        }
    }

    /// Tells the connected nodes that take it for how long the cluster has been silent, or that it is there.
    pub(crate) async fn source_is(&self, silent: Option<Duration>) {
        {
            let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            source.silent_since = silent.and_then(|silent| Instant::now().checked_sub(silent));
            source.was_silent |= silent.is_some();
        }
        let all = self.table().all().into_iter();
        let takers = all.filter(|(_, _, connected)| {
            let connected = connected.as_ref();
            connected.is_some_and(|connected| connected.capabilities.source)
        });
        // A session that hangs keeps nobody else from hearing it.
        let told = takers.map(|(_, handle, _)| async move {
            let told = handle.send(source::message(silent));
            tokio::time::timeout(ANSWERS_WITHIN, told).await
        });
        futures::future::join_all(told).await;
    }

    /// What a node is told of the cluster on a new connection; nothing while there was nothing to tell anybody.
    fn source_now(&self) -> Option<Option<Duration>> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = source.silent_since.map(|since| since.elapsed());
        source.was_silent.then_some(silent)
    }

    /// Ends a node's session.
    pub(crate) fn end(&self, node: &NodeId, reason: CloseReason) {
        let taken = self.table().remove(node);
        if let Some((node, session, handle)) = taken {
            self.over(node, session, handle, reason);
        }
    }

    /// Whether other hubs serve the same cluster.
    pub(crate) fn is_shared(&self) -> bool {
        self.config.instance.is_some()
    }

    /// What the cluster is to be told of a node's connection.
    pub(crate) fn mark(&self, node: &NodeId) -> Option<Arc<str>> {
        self.table().marked(node)
    }

    /// The cluster shows which connection of a node is the newest. Where that is another hub's, the session here is over: nothing that
    /// is queued in it can do harm, and nothing can be asked of the node through it.
    pub(crate) fn shown(&self, node: &NodeId, mark: &str) {
        let taken = self.table().shown(node, mark);
        if let Some((node, session, handle)) = taken {
            tracing::info!(%node, mark, "the node is connected to another instance");
            self.over(node, session, handle, CloseReason::Superseded);
        }
    }

    /// Takes out and ends the sessions that nobody came back for, again and again.
    pub(crate) async fn sweep(&self) {
        let pause = (self.config.linger / 4).max(Duration::from_millis(10));
        loop {
            tokio::time::sleep(pause).await;
            let expired = self.table().expire(self.config.linger, Instant::now());
            for (node, session, handle) in expired {
                self.over(node, session, handle, CloseReason::Shutdown);
            }
        }
    }

    /// Sends all nodes to another hub, one after the other, and waits for them for a bounded time.
    pub(crate) async fn drain(&self) {
        let mut all = self.table().all();
        // In no order, so that those who came together go apart.
        all.sort_by_cached_key(|_| rand_seed());
        let spread = all.len() as f64 / f64::from(self.config.drain_pace.max(1));
        let spread = Duration::from_secs_f64(spread).min(self.config.drain_spread);
        let step = spread / u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
        let stops = all
            .into_iter()
            .zip(0_u32..)
            .map(|((_, handle, _), turn)| async move {
                tokio::time::sleep(step * turn).await;
                handle.stop(CloseReason::Shutdown).await;
            });
        self.drivers.close();
        let drained = async {
            futures::future::join_all(stops).await;
            // Who was let in at the last moment.
            let late = self.table().all();
            let late = late
                .iter()
                .map(|(_, handle, _)| handle.stop(CloseReason::Shutdown));
            futures::future::join_all(late).await;
            self.drivers.wait().await;
        };
        let bound = spread + self.config.drain;
        if tokio::time::timeout(bound, drained).await.is_err() {
            tracing::warn!("some nodes did not take their goodbye in time");
        }
    }

    /// Ends what sessions there are, and takes no others: the hub serves no more, however it came to that. A session that went on would
    /// answer its node, and never tell it anything.
    pub(crate) fn close(&self) {
        let all = self.table().close();
        self.count();
        // Where there is no runtime any more there are no sessions either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        for (node, handle) in all {
            runtime.spawn(async move { handle.stop(CloseReason::Shutdown).await });
            let _ = self.events.send(HubEvent::Ended(node));
        }
    }

    /// The names of the connected nodes.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        let all = self.table().all();
        let connected = all.into_iter().filter(|(_, _, connected)| connected.is_some());
        connected.map(|(node, ..)| node).collect()
    }

    /// The connected nodes.
    pub(crate) async fn nodes(&self) -> Vec<ConnectedNode> {
        let all = self.table().all();
        let connected = all
            .into_iter()
            .filter_map(|(node, handle, connected)| Some((node, handle, connected?)));
        let nodes = connected.map(|(node, handle, connected): (_, _, Connected)| async move {
            ConnectedNode {
                node,
                since: connected.since,
                address: connected.address,
                transport: connected.transport,
                capabilities: connected.capabilities,
                depth: handle.depth().await.unwrap_or_default(),
            }
        });
        futures::future::join_all(nodes).await
    }

    /// What is known of all nodes that have a session, or of one; each session is asked how it is doing.
    pub(crate) async fn report(&self, only: Option<&NodeId>) -> Vec<NodeReport> {
        let mut reports = self.conditions(only).await;
        let nodes = reports.iter().map(|report| report.node.clone()).collect();
        let registered = tokio::time::timeout(ANSWERS_WITHIN, self.downstream.registered(nodes)).await;
        if let Ok(Ok(registered)) = registered {
            for (report, node) in reports.iter_mut().zip(registered) {
                let registered = || node.and_then(|node| report::version(&node));
                report.version = report.version.take().or_else(registered);
            }
        }
        reports
    }

    async fn conditions(&self, only: Option<&NodeId>) -> Vec<NodeReport> {
        let known = self.table().report(only, Instant::now());
        let asked = known.into_iter().map(|(mut report, handle)| async move {
            let condition = tokio::time::timeout(ANSWERS_WITHIN, handle.condition()).await;
            report.condition = condition.ok().flatten();
            report
        });
        futures::future::join_all(asked).await
    }

    /// Brings the numbers up to date that are only known to those who ask.
    pub(crate) async fn sample(&self) {
        let report = self.conditions(None).await;
        let conditions: Vec<_> = report.into_iter().filter_map(|node| node.condition).collect();
        self.metrics.sampled(&conditions);
    }

    /// The handle of a node's session.
    pub(crate) fn handle(&self, node: &NodeId) -> Option<SessionHandle> {
        self.table().handle(node)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<HubEvent> {
        self.events.subscribe()
    }

    /// Ends this session of a node, if it still has it.
    fn finish(&self, node: &NodeId, session: SessionId) {
        let taken = self.table().remove_session(node, session);
        if let Some((node, session, handle)) = taken {
            self.over(node, session, handle, CloseReason::Shutdown);
        }
    }

    fn over(&self, node: NodeId, session: SessionId, handle: SessionHandle, reason: CloseReason) {
        self.count();
        let downstream = self.downstream.clone();
        let gone = node.clone();
        tokio::spawn(async move {
            handle.stop(reason).await;
            downstream.gone(gone, session).await;
        });
        let _ = self.events.send(HubEvent::Ended(node));
    }

    fn count(&self) {
        let connected = self.table().connected();
        self.metrics
            .connected
            .set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two of its statements, so a panic elsewhere does not make it wrong.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is kept until it is dropped.
pub(crate) struct Place {
    sessions: Arc<Sessions>,
    admission: Admission,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.table().release(&self.admission);
    }
}

fn rand_seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}

/// How long a session may take to say how it is doing: it waits for nothing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// The annotation of a Node that names its newest connection, where several hubs serve the cluster: `<instance>/<random>`.
pub const CONNECTION: &str = "edge-tunnel/connection";
/// Events that a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 1024;

#[cfg(test)]
mod tests;
