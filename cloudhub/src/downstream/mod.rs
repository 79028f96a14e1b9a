//! Cluster changes → the outboxes of the nodes that need them.
//!
//! One task watches the cluster, knows what each node should hold ([`index`]), and keeps for each node with a session a queue of what it
//! must still be told ([`dirty`]). It hands these to the sessions in batches and never waits for one of them.
//!
//! ```text
//!   cluster ── Applied · Deleted ──► index ── effects ──► a queue a node ── batches ──► SessionHandle
//!   nodes ──── attach · have · watch ──► subscriptions, catch-up ──┘  ▲                      │
//!                                                                     └── no room: later ────┘
//! ```

mod account;
mod catch_up;
mod changes;
mod client;
mod dirty;
mod feed;
mod granted;
mod index;
mod kinds;
mod known_kinds;
mod listed;
mod membership;
mod models;
mod narrow;
mod node;
mod outgoing;
mod placement;
mod recall;
mod references;
mod scopes;
mod stock;
mod subscription;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use tokio::sync::{mpsc, watch};

use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;

pub(crate) use account::{Account, Acked};
pub(crate) use changes::nodes;
pub(crate) use client::{Client, Command, Question, Stopping, Watch};
pub(crate) use index::ScopeId;
pub(crate) use kinds::{EDGE_CONTROLLER, accesses};
pub(crate) use listed::Shown;
pub(crate) use outgoing::{RESOURCE, minimal};
pub(crate) use scopes::Scopes;

use changes::BASE;
use feed::Fed;
use index::Index;
use known_kinds::KnownKinds;
use narrow::Narrow;
use node::Node;
use recall::Recalled;

use crate::cluster::Cluster;
use crate::config::DownstreamConfig;
use crate::metrics::HubMetrics;
use crate::readiness::Readiness;
use crate::records::SyncRecords;
use crate::sessions::Sessions;

/// See the [module](self).
pub(crate) struct Downstream {
    cluster: Arc<dyn Cluster>,
    config: DownstreamConfig,
    sessions: Arc<Sessions>,
    metrics: Arc<HubMetrics>,
    commands: mpsc::Receiver<Command>,
    readiness: watch::Sender<Readiness>,
    records: Arc<dyn SyncRecords>,
    acked: mpsc::UnboundedReceiver<Acked>,
    /// Nodes of whose records other hubs changed some.
    changed_records: BoxStream<'static, NodeId>,
    /// What the records are asked, and the cluster about them.
    recalling: FuturesUnordered<BoxFuture<'static, Recalled>>,
    /// Whether the records of vanished nodes were looked for.
    swept: bool,
    index: Index,
    /// The newest version that the cluster named.
    newest: u64,
    scopes: Scopes,
    /// What every node gets something of.
    base: Vec<ScopeId>,
    /// What every node gets something of where the cluster has the kind.
    known_kinds: KnownKinds,
    narrow: Narrow,
    nodes: HashMap<NodeId, Node>,
    /// What stock edges watched whose sessions are over: they believe that they still do, and do not say so again (weak spot L10).
    away: HashMap<NodeId, BTreeMap<String, Scope>>,
    /// Nodes whose queues changed.
    ready: BTreeSet<NodeId>,
    feeding: FuturesUnordered<BoxFuture<'static, Fed>>,
    timers: BTreeSet<(Instant, Timer)>,
    /// Questions that came before the cluster was known.
    questions: Vec<Command>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Feed(NodeId),
    Have(NodeId),
    Recall(NodeId),
    Check(NodeId),
    Surplus(NodeId),
    Listed(NodeId),
    Grant(NodeId),
    Sweep,
    CloseScope(ScopeId),
    ReopenScope(ScopeId),
}

/// What a [`Downstream`] reads from.
pub(crate) struct Inbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) acked: mpsc::UnboundedReceiver<Acked>,
    /// Where it is told that the cluster is known.
    pub(crate) readiness: watch::Sender<Readiness>,
}

impl Downstream {
    pub(crate) fn new(
        cluster: Arc<dyn Cluster>,
        config: DownstreamConfig,
        sessions: Arc<Sessions>,
        metrics: Arc<HubMetrics>,
        records: Arc<dyn SyncRecords>,
        Inbox {
            commands,
            acked,
            readiness,
        }: Inbox,
    ) -> Self {
        let known_kinds = KnownKinds::new(config.policy);
        let own = BASE.len() + known_kinds.len();
        let mut scopes = Scopes::new(cluster.clone(), config.scopes_max.saturating_add(own));
        let changed_records = if sessions.is_shared() {
            records.changed_by_others()
        } else {
            futures::stream::pending().boxed()
        };
        let base = BASE
            .iter()
            .filter_map(|resource| scopes.open(&Scope::all(GroupVersionResource::core(resource))));
        let (base, policy) = (base.collect(), config.policy);
        Self {
            cluster,
            config,
            sessions,
            metrics,
            commands,
            readiness,
            records,
            acked,
            changed_records,
            recalling: FuturesUnordered::new(),
            swept: false,
            index: Index::new(policy),
            newest: 0,
            scopes,
            base,
            known_kinds,
            narrow: Narrow::default(),
            nodes: HashMap::new(),
            away: HashMap::new(),
            ready: BTreeSet::new(),
            feeding: FuturesUnordered::new(),
            timers: BTreeSet::new(),
            questions: Vec::new(),
        }
    }

    /// Runs until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        let mut kinds = self.cluster.registry().changes();
        loop {
            self.known_kinds.open(self.cluster.registry(), &mut self.scopes);
            let timer = self.timers.first().map(|(at, _)| *at);
            let sleep = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.scopes.next() => {
                    self.cluster_event(event);
                    // What changed together is told together, in the right order.
                    for _ in 0..EVENTS_AT_ONCE {
                        let Some(event) = self.scopes.next_now() else { break };
                        self.cluster_event(event);
                    }
                    self.metrics.objects.set(i64::try_from(self.index.len()).unwrap_or(i64::MAX));
                }
                // What it tells is looked at above.
                Ok(()) = kinds.changed() => {}
                Some(fed) = self.feeding.next(), if !self.feeding.is_empty() => self.fed(fed),
                Some(acked) = self.acked.recv() => self.acked(&acked),
                Some(node) = self.changed_records.next() => self.recall_soon(&node),
                Some(recalled) = self.recalling.next(), if !self.recalling.is_empty() => self.recalled(recalled),
                () = sleep => self.timeout(Instant::now()),
            }
            for scope in self.narrow.follow(&self.index, &mut self.scopes) {
                self.close(scope);
            }
            for node in std::mem::take(&mut self.ready) {
                self.feed(&node);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Attach {
                node,
                session,
                handle,
                capabilities,
            } => {
                self.attach(node, session, handle, capabilities);
            }
            Command::Gone { node, session } => {
                if self
                    .nodes
                    .get(&node)
                    .is_some_and(|known| known.session == session)
                {
                    self.forget(&node);
                }
            }
            Command::Have {
                node,
                have,
                wanted,
                refused,
                answer,
            } => {
                self.have(node, have, wanted, refused, answer);
            }
            Command::Buckets {
                node,
                buckets,
                answer,
            } => {
                let _ = answer.send(self.buckets(&node, &buckets));
            }
            Command::Versions {
                node,
                versions,
                answer,
            } => {
                self.versions(&node, &versions);
                let _ = answer.send(());
            }
            Command::Shown { node, shown } => self.shown(&node, shown),
            Command::Given { node, key, uid } => self.given(&node, &key, &uid),
            Command::Watch { node, watch, answer } => self.grant(&node, watch, answer),
            Command::WatchSync { node, wanted, answer } => {
                let _ = answer.send(self.watch_sync(&node, wanted));
            }
            Command::Afresh { node } => self.afresh(&node),
            Command::Drop { node, object } => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    known.queue.surplus(object);
                    self.ready.insert(node);
                }
            }
            Command::Registered { nodes, answer } => {
                let object = |node: &NodeId| {
                    let key = ObjectKey::new(changes::nodes(), None, node.as_str());
                    self.index.get(&key).cloned()
                };
                let _ = answer.send(nodes.iter().map(object).collect());
            }
            Command::Ask { .. } | Command::Accounts { .. } if !self.is_base_known() => {
                if self.questions.len() < self.config.commands_max {
                    self.questions.push(command);
                }
            }
            Command::Accounts { node, answer } => {
                let accounts = self
                    .index
                    .facts(&node)
                    .filter_map(|pod| pod.service_account.clone());
                let _ = answer.send(accounts.collect());
            }
            Command::Ask {
                node,
                question,
                answer,
            } => {
                let _ = answer.send(match question {
                    Question::References(key) => self.index.references(&node, &key),
                    // What is not there is nobody else's: the cluster will say that it is gone.
                    Question::Runs(key) => self.index.get(&key).is_none() || self.index.is_own(&node, &key),
                    Question::Claims(key) => self.index.facts(&node).any(|pod| pod.claims.contains(&key)),
                    Question::RunsAs(key) => self
                        .index
                        .facts(&node)
                        .any(|pod| pod.service_account.as_ref() == Some(&key)),
                });
            }
        }
    }

    fn timeout(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Feed(id) => {
                    if let Some(node) = self.nodes.get_mut(&id) {
                        node.paused = false;
                        self.ready.insert(id);
                    }
                }
                Timer::Have(id) => self.compare(&id, true),
                Timer::Recall(id) => {
                    if let Some(stock) = self.nodes.get_mut(&id).and_then(|node| node.stock.as_mut()) {
                        stock.is_recalled_soon = false;
                    }
                    self.recall(&id);
                }
                Timer::Check(id) => self.check(&id, None),
                Timer::Surplus(id) => self.delete_surplus(&id),
                Timer::Grant(id) => self.grant_what_stands(&id),
                Timer::Listed(id) => self.look_for_missed(&id),
                Timer::Sweep => self.sweep(),
                Timer::CloseScope(scope) => {
                    if !self.index.is_wanted(scope) {
                        self.close(scope);
                    }
                }
                Timer::ReopenScope(scope) => self.scopes.reopen(scope),
            }
        }
    }
}

/// Changes that are looked at together.
const EVENTS_AT_ONCE: usize = 256;
