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
mod client;
mod dirty;
mod index;
mod kinds;
mod known_kinds;
mod membership;
mod models;
mod narrow;
mod outgoing;
mod recall;
mod references;
mod scopes;
mod stock;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

use hub_core::catch_up::{Complete, ScopeText};
use hub_core::handle::{Batch, SendError, SessionHandle};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::scope::Scope;
use hub_core::session::Outgoing;
use hub_core::transport::{Capabilities, CloseReason};

pub(crate) use account::{Account, Acked};
pub(crate) use client::{Client, Command, Question, Stopping};
pub(crate) use index::ScopeId;
pub(crate) use kinds::{EDGE_CONTROLLER, accesses};
pub(crate) use outgoing::{RESOURCE, minimal};
pub(crate) use scopes::Scopes;

use catch_up::PendingHave;

use dirty::{Dirty, Queue};
use index::{Effect, Index, What};
use kinds::{Kind, kind};
use known_kinds::KnownKinds;
use membership::{Membership, Told};
use narrow::Narrow;
use recall::Recalled;
use scopes::State;
use stock::Stock;

use crate::cluster::{Cluster, ClusterEvent};
use crate::config::DownstreamConfig;
use crate::metrics::HubMetrics;
use crate::readiness::Readiness;
use crate::records::SyncRecords;
use crate::sessions::{CONNECTION, SessionId, Sessions};

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
    /// What the records are asked, and the cluster about them.
    recalling: FuturesUnordered<BoxFuture<'static, Recalled>>,
    /// Whether the records of vanished nodes were looked for.
    swept: bool,
    index: Index,
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

/// A node with a session.
struct Node {
    session: SessionId,
    handle: SessionHandle,
    resume: bool,
    /// What a stock edge holds. Our own say so themselves.
    stock: Option<Box<Stock>>,
    /// Whether it is told of changes: from its first catch-up on, or from when a stock edge was compared with its records.
    live: bool,
    feeding: bool,
    paused: bool,
    queue: Queue,
    /// What it is known to hold, to be told to its session.
    held: Vec<ObjectKey>,
    /// What it subscribes to in its catch-up.
    wanted: Vec<(ScopeText, Subscription)>,
    /// Its watches by application id.
    watches: BTreeMap<String, Subscription>,
    /// Of a stock edge: which devices it was told to have.
    membership: Membership,
    have: Option<Box<PendingHave>>,
    /// The end of a catch-up, to be told once the queue is empty.
    complete: Option<Box<(Complete, Instant)>>,
    /// Whether the node is still to say what exactly it holds.
    comparing: bool,
}

/// What became of a wish for a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subscription {
    /// Every node gets it anyway.
    Own,
    Watched(ScopeId),
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Feed(NodeId),
    Have(NodeId),
    Recall(NodeId),
    Check(NodeId),
    Surplus(NodeId),
    Sweep,
    CloseScope(ScopeId),
    ReopenScope(ScopeId),
}

/// How handing a batch to a session ended.
struct Fed {
    node: NodeId,
    session: SessionId,
    result: Result<Vec<Outgoing>, SendError>,
    given: Vec<(ObjectKey, Dirty)>,
    told: Told,
    completed: bool,
    /// Whether what a crash must not forget is written.
    recorded: bool,
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
            recalling: FuturesUnordered::new(),
            swept: false,
            index: Index::new(policy),
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
            Command::Watch {
                node,
                id,
                scope,
                answer,
            } => {
                let _ = answer.send(self.watch(&node, id, &scope));
            }
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
            Command::Ask { .. } if !self.is_base_known() => {
                if self.questions.len() < self.config.commands_max {
                    self.questions.push(command);
                }
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

    // --- nodes come and go

    fn attach(&mut self, id: NodeId, session: SessionId, handle: SessionHandle, capabilities: Capabilities) {
        let resume = capabilities.resume;
        if let Some(known) = self.nodes.get_mut(&id) {
            if known.session == session && known.resume == resume {
                if let Some(stock) = &mut known.stock {
                    stock.told_everything = false;
                }
                // Everything that it was not told waits in its session or in its queue.
                return;
            }
            if session < known.session {
                return;
            }
            self.forget(&id);
        }
        let node = Node {
            session,
            handle,
            resume,
            stock: (!resume).then(Box::default),
            live: false,
            feeding: false,
            paused: false,
            queue: Queue::default(),
            held: Vec::new(),
            wanted: Vec::new(),
            watches: BTreeMap::new(),
            membership: Membership::default(),
            have: None,
            complete: None,
            comparing: false,
        };
        self.nodes.insert(id.clone(), node);
        let watches = self.away.remove(&id).unwrap_or_default();
        for (application, scope) in watches.into_iter().filter(|_| !resume) {
            if let Err(reason) = self.watch(&id, application, &scope) {
                tracing::info!(node = %id, %scope, reason, "a watch cannot go on");
            }
        }
        self.recall(&id);
        if self.sessions.is_shared() && !resume {
            let again = Instant::now() + self.config.recall_again;
            self.timers.insert((again, Timer::Recall(id.clone())));
        }
        self.ready.insert(id);
    }

    fn forget(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.remove(id) else { return };
        let watches = node.watches.iter().filter_map(|(application, subscription)| {
            let Subscription::Watched(scope) = subscription else {
                return None;
            };
            Some((application.clone(), self.scopes.scope(*scope)?.clone()))
        });
        let watches: BTreeMap<_, _> = watches.collect();
        let kept: usize = self.away.values().map(BTreeMap::len).sum();
        if !node.resume && !watches.is_empty() && kept + watches.len() <= self.config.scopes_max {
            self.away.insert(id.clone(), watches);
        }
        let wanted = node.wanted.into_iter().map(|(_, subscription)| subscription);
        for subscription in wanted.chain(node.watches.into_values()) {
            if let Subscription::Watched(scope) = subscription {
                self.index.unsubscribe(id, scope);
                self.unwanted(scope);
            }
        }
    }

    // --- subscriptions

    /// Opens a scope for a node; the index is told by the caller.
    fn open(&mut self, node: &NodeId, scope: &Scope) -> Subscription {
        if is_own_scope(node, scope) {
            return Subscription::Own;
        }
        if self.cluster.registry().by_resource(&scope.resource).is_none() {
            return Subscription::Refused(format!("the cluster has no resource {}", scope.resource));
        }
        match self.scopes.open(scope) {
            Some(id) => {
                self.metrics
                    .scopes
                    .set(i64::try_from(self.scopes.len()).unwrap_or(i64::MAX));
                Subscription::Watched(id)
            }
            None => Subscription::Refused("too many scopes are watched".into()),
        }
    }

    fn watch(&mut self, id: &NodeId, application: String, scope: &Scope) -> Result<(), String> {
        let subscription = self.open(id, scope);
        let max = self.config.scopes_per_node_max;
        let Some(node) = self.nodes.get_mut(id) else {
            return Err("the session is over".into());
        };
        match &subscription {
            Subscription::Refused(reason) => return Err(reason.clone()),
            _ if node.watches.len() >= max && !node.watches.contains_key(&application) => {
                return Err(format!("a node may watch {max} scopes at once"));
            }
            _ => {}
        }
        let old = node.watches.insert(application, subscription.clone());
        if let Subscription::Watched(scope) = subscription {
            let effects = self.index.subscribe(id, scope);
            self.mark(effects);
        }
        if let Some(old) = old {
            self.leave(id, &[old]);
        }
        Ok(())
    }

    /// Makes a node's watches those that it still wants. What cannot be watched is returned with the reason.
    fn watch_sync(&mut self, id: &NodeId, wanted: Vec<(String, Scope)>) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        let keep: HashSet<String> = wanted.iter().map(|(id, _)| id.clone()).collect();
        for (application, scope) in wanted {
            if self
                .nodes
                .get(id)
                .is_some_and(|node| node.watches.contains_key(&application))
            {
                continue;
            }
            if let Err(reason) = self.watch(id, application.clone(), &scope) {
                failed.push((application, reason));
            }
        }
        let Some(node) = self.nodes.get_mut(id) else {
            return failed;
        };
        let (kept, left) = std::mem::take(&mut node.watches)
            .into_iter()
            .partition(|(id, _)| keep.contains(id));
        node.watches = kept;
        let left: Vec<_> = BTreeMap::into_values(left).collect();
        self.leave(id, &left);
        self.knows_watches(id);
        failed
    }

    /// A node wants these no more, unless it has another reason to.
    fn leave(&mut self, id: &NodeId, left: &[Subscription]) {
        for subscription in left {
            let Subscription::Watched(scope) = subscription else {
                continue;
            };
            let still = self
                .nodes
                .get(id)
                .is_some_and(|node| node.subscriptions().any(|other| other == subscription));
            if !still {
                let effects = self.index.unsubscribe(id, *scope);
                self.mark(effects);
                self.unwanted(*scope);
            }
        }
    }

    fn unwanted(&mut self, scope: ScopeId) {
        if !self.index.is_wanted(scope) && !self.is_for_all(scope) {
            self.timers.insert((
                Instant::now() + self.config.scope_linger,
                Timer::CloseScope(scope),
            ));
        }
    }

    // --- the cluster speaks

    fn cluster_event(&mut self, (scope, event): (ScopeId, Option<ClusterEvent>)) {
        match event {
            Some(ClusterEvent::Applied { object, .. }) => {
                self.scopes.saw(scope, &object.key);
                self.look_for_mark(&object);
                let effects = self.index.apply(scope, object);
                self.mark(effects);
            }
            Some(ClusterEvent::Deleted { object }) => {
                let key = object.key.clone();
                self.removed(scope, &key, Some(object));
            }
            Some(ClusterEvent::Restarted) => self.scopes.restarted(scope),
            Some(ClusterEvent::Synced) => {
                if let Some(seen) = self.scopes.synced(scope) {
                    let gone: Vec<_> = self
                        .index
                        .members(scope)
                        .filter(|key| !seen.contains(*key))
                        .cloned()
                        .collect();
                    for key in gone {
                        self.removed(scope, &key, None);
                    }
                }
                self.known_kinds.synced(scope);
                if let Some(resource) = self.withholdable(scope) {
                    self.narrow.grant(&resource);
                }
                self.settled(scope);
            }
            Some(ClusterEvent::Refused(status)) => {
                let stays = self.base.contains(&scope)
                    || self.narrow.contains(scope)
                    || (self.known_kinds.contains(scope)
                        && !self.known_kinds.refused(scope, self.cluster.registry()));
                if let Some(resource) = self.withholdable(scope) {
                    if self.scopes.withheld(scope, &status) {
                        tracing::error!(%resource, reason = status.message, "the cluster does not list these for the hub; what pods need of them is watched by name");
                    }
                    self.narrow.withhold(resource);
                    self.settled(scope);
                } else if stays {
                    tracing::error!(scope = %scope_text(&self.scopes, scope), reason = status.message, "the cluster refuses what every node needs; give the hub the right to list and watch it");
                    self.settled(scope);
                } else {
                    self.scopes.refused(scope, &status);
                    self.refused(scope, &status.message);
                }
            }
            None if self.is_for_all(scope) => {
                self.timers
                    .insert((Instant::now() + REOPEN, Timer::ReopenScope(scope)));
            }
            None => match self.scopes.state(scope) {
                State::Refused(_) => {}
                _ => drop(
                    self.timers
                        .insert((Instant::now() + REOPEN, Timer::ReopenScope(scope))),
                ),
            },
        }
    }

    /// Where several hubs serve the cluster, a Node tells which of them has its newest connection.
    fn look_for_mark(&self, object: &Object) {
        if !self.sessions.is_shared() || kind(&object.key) != Kind::Node {
            return;
        }
        let node = NodeId::new(&object.key.name).ok();
        let Some(node) = node.filter(|node| self.nodes.contains_key(node)) else {
            return;
        };
        let body: serde_json::Value = serde_json::from_slice(&object.body).unwrap_or_default();
        if let Some(mark) = body["metadata"]["annotations"][CONNECTION].as_str() {
            self.sessions.shown(&node, mark);
        }
    }

    fn removed(&mut self, scope: ScopeId, key: &ObjectKey, last: Option<Object>) {
        let effects = self.index.remove(scope, key, last);
        self.mark(effects);
        // Only the watch of all nodes says that one is deleted; others may only have stopped to match.
        if kind(key) == Kind::Node
            && self.base.get(NODES) == Some(&scope)
            && let Ok(node) = NodeId::new(&key.name)
        {
            self.forget(&node);
            self.away.remove(&node);
            self.sessions.end(&node, CloseReason::NodeDeleted);
            self.vanished(node);
        }
    }

    /// All of a scope is known, or will not be.
    fn settled(&mut self, scope: ScopeId) {
        let is_base = self.is_for_all(scope);
        if is_base && self.is_base_known() {
            self.readiness.send_if_modified(|readiness| {
                let starting = *readiness == Readiness::Starting;
                if starting {
                    *readiness = Readiness::Ready;
                }
                starting
            });
            for question in std::mem::take(&mut self.questions) {
                self.command(question);
            }
            self.ready.extend(self.nodes.keys().cloned());
            self.sweep();
        }
        self.settled_for_stock();
        let waiting: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.have.is_some())
            .filter(|(_, node)| is_base || node.subscriptions().any(|s| *s == Subscription::Watched(scope)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.compare(&id, false);
        }
    }

    fn refused(&mut self, scope: ScopeId, reason: &str) {
        let refused = Subscription::Refused(reason.to_owned());
        let concerned = self.nodes.iter_mut().filter_map(|(id, node)| {
            let mut found = false;
            let wanted = node.wanted.iter_mut().map(|(_, s)| s);
            for subscription in wanted.chain(node.watches.values_mut()) {
                if *subscription == Subscription::Watched(scope) {
                    *subscription = refused.clone();
                    found = true;
                }
            }
            found.then(|| id.clone())
        });
        let concerned: Vec<_> = concerned.collect();
        for id in concerned {
            tracing::info!(node = %id, scope = %scope_text(&self.scopes, scope), reason, "the cluster refuses a subscription");
            self.index.unsubscribe(&id, scope);
            self.compare(&id, false);
        }
        self.close(scope);
    }

    fn close(&mut self, scope: ScopeId) {
        self.scopes.close(scope);
        self.metrics
            .scopes
            .set(i64::try_from(self.scopes.len()).unwrap_or(i64::MAX));
        let members: Vec<_> = self.index.members(scope).cloned().collect();
        for key in members {
            let effects = self.index.remove(scope, &key, None);
            self.mark(effects);
        }
    }

    /// Whether it is watched for all nodes.
    fn is_for_all(&self, scope: ScopeId) -> bool {
        self.base.contains(&scope) || self.known_kinds.contains(scope) || self.narrow.contains(scope)
    }

    /// What a watch for all nodes is about, if pods get by without the whole of it.
    fn withholdable(&self, scope: ScopeId) -> Option<GroupVersionResource> {
        let configs = self.base.get(..CONFIGS)?;
        let found = configs.iter().position(|config| *config == scope)?;
        Some(GroupVersionResource::core(BASE[found]))
    }

    fn is_base_known(&self) -> bool {
        self.base.len() == BASE.len()
            && self.base.iter().all(|scope| match self.scopes.state(*scope) {
                State::Synced => true,
                State::Loading => false,
                // Never of pods: a list of them that is not known is not an empty one.
                State::Refused(_) => self.withholdable(*scope).is_some(),
            })
    }

    // --- queues and batches

    fn mark(&mut self, effects: Vec<Effect>) {
        for Effect { node: id, key, what } in effects {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            // What happens before the comparison is found by the comparison.
            if !node.live || node.have.is_some() {
                continue;
            }
            let what = match (what, &mut node.stock, self.index.get(&key)) {
                (What::Put { fresh, previous }, Some(stock), Some(object)) => {
                    let put = What::Put { fresh, previous };
                    match stock.wants(&key, object, put, &mut node.queue) {
                        Some(what) => what,
                        None => continue,
                    }
                }
                (what, ..) => what,
            };
            let waits = matches!(what, What::Put { .. })
                && matches!(kind(&key), Kind::Pod | Kind::Device)
                && !self.index.has_dependencies(&key);
            let latest = waits.then(|| Instant::now() + self.config.dependency_wait);
            node.queue.mark(key, what, latest);
            self.ready.insert(id);
        }
    }

    /// Hands a node's session what it must be told next.
    fn feed(&mut self, id: &NodeId) {
        if !self.is_base_known() {
            return;
        }
        let Some(node) = self
            .nodes
            .get_mut(id)
            .filter(|node| !node.feeding && !node.paused)
        else {
            return;
        };
        let (index, now) = (&self.index, Instant::now());
        let mut stock = node.stock.as_deref_mut();
        let waiting = match &stock {
            Some(stock) => stock.models.waiting(index, id, &node.queue),
            None => BTreeMap::new(),
        };
        let given = node.queue.take(self.config.batch, |key, dirty| {
            let held_up = stock.as_ref().is_some_and(|stock| {
                let object = index.get(key).filter(|_| index.needs(id, key));
                waiting.contains_key(key) || stock.is_held_up(key, object.map(|object| &*object.uid))
            });
            !held_up && (dirty.latest.is_none_or(|latest| latest <= now) || index.has_dependencies(key))
        });
        let (mut intended, mut later) = (Vec::new(), Vec::new());
        let registry = self.cluster.registry();
        let mut batch = Batch::default();
        for key in std::mem::take(&mut node.held) {
            if let Some(object) = index.get(&key) {
                let slot = outgoing::slot(&key, &object.uid);
                batch
                    .held
                    .push((slot, object.version.number(), object.body.clone()));
            }
        }
        let mut told = Told::default();
        if !node.resume {
            // A device joins before its model goes, and waits for that.
            let joining = given.iter().map(|(key, dirty)| (key, dirty)).chain(&waiting);
            (batch.send, told) = node.membership.follow(index, id, joining);
        }
        for (key, dirty) in &given {
            let now = index.get(key).filter(|_| index.needs(id, key));
            let own = index.is_own(id, key);
            if let Some(gone) = dirty
                .gone
                .as_ref()
                .filter(|gone| now.is_none_or(|now| now.uid != gone.uid))
            {
                // What it was is known no more; a node's own kinds were its own, and all that a stock edge is told by its records.
                let own = own || kind(key).is_owned();
                let by_record = stock.is_some() && gone.version.as_str().is_empty();
                let mut outgoing = outgoing::delete(registry, gone, own || by_record);
                if own && !node.resume {
                    outgoing::as_kubeedge_writes(&mut outgoing, kind(key));
                }
                batch.send.push(outgoing);
                if let Some(stock) = &mut stock {
                    stock.deletes(key, &gone.uid);
                    stock.models.forget(key);
                }
            }
            if let Some(object) = now {
                if let Some(stock) = &mut stock {
                    if stock.is_held_up(key, Some(&object.uid)) {
                        later.push(key.clone());
                        continue;
                    }
                    stock.deletes_no_more(key, &object.uid);
                    stock.models.sent(key, &object.uid);
                    if dirty.fresh || dirty.force || dirty.gone.is_some() {
                        intended.extend(account::recorded(registry, key, &object.uid));
                    }
                }
                if dirty.force {
                    batch.cancel.push(outgoing::slot(key, &object.uid));
                }
                let previous = dirty.previous.clone();
                let mut outgoing = outgoing::put(registry, object, own, dirty.fresh, previous);
                if own && !node.resume {
                    outgoing::as_kubeedge_writes(&mut outgoing, kind(key));
                }
                batch.send.push(outgoing);
            }
        }
        for key in later {
            node.queue.lacks(key);
        }
        let completed = node
            .complete
            .as_ref()
            .filter(|_| node.queue.is_empty() && !node.comparing);
        batch
            .send
            .extend(completed.map(|complete| outgoing::complete(&complete.0)));
        let completed = completed.is_some();
        if batch.send.is_empty() && batch.held.is_empty() {
            if let Some(latest) = node.queue.latest(Instant::now()) {
                self.timers.insert((latest, Timer::Feed(id.clone())));
            }
            return;
        }
        node.feeding = true;
        let (session, handle) = (node.session, node.handle.clone());
        let recorded = self.intend(id, intended);
        let node = id.clone();
        let feed = async move {
            let recorded = recorded.await;
            Fed {
                node,
                session,
                result: handle.batch(batch).await,
                given,
                told,
                completed,
                recorded,
            }
        };
        self.feeding.push(feed.boxed());
    }

    fn fed(&mut self, fed: Fed) {
        let Some(node) = self
            .nodes
            .get_mut(&fed.node)
            .filter(|node| node.session == fed.session)
        else {
            return;
        };
        node.feeding = false;
        if let Some(stock) = node.stock.as_mut().filter(|_| !fed.recorded) {
            stock.unrecorded_until = Some(Instant::now() + UNRECORDED);
        }
        match fed.result {
            Ok(left) => {
                let left: HashSet<_> = left.iter().map(|outgoing| &*outgoing.key).collect();
                if !left.contains(hub_core::catch_up::COMPLETE)
                    && fed.completed
                    && let Some((_, began)) = node.complete.take().map(|complete| *complete)
                {
                    let took = began.elapsed().as_secs_f64();
                    self.metrics.catch_up_seconds.observe(took);
                }
                for key in node.membership.take_back(fed.told, |slot| left.contains(slot)) {
                    node.queue.add(
                        key,
                        Dirty {
                            fresh: true,
                            ..Dirty::default()
                        },
                    );
                }
                if !left.is_empty() {
                    node.paused = true;
                    let again = Instant::now() + self.config.full_pause;
                    self.timers.insert((again, Timer::Feed(fed.node.clone())));
                    for (key, dirty) in fed.given {
                        if let (Some(stock), Some(gone)) = (&mut node.stock, &dirty.gone)
                            && left.contains(&*outgoing::slot(&key, &gone.uid))
                        {
                            stock.deletes_no_more(&key, &gone.uid);
                        }
                        let slots = [dirty.gone.as_ref(), self.index.get(&key)];
                        if slots
                            .into_iter()
                            .flatten()
                            .any(|o| left.contains(&*outgoing::slot(&key, &o.uid)))
                        {
                            node.queue.add(key, dirty);
                        }
                    }
                }
                self.ready.insert(fed.node);
            }
            Err(_) => self.forget(&fed.node),
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
                Timer::Recall(id) => self.recall(&id),
                Timer::Check(id) => self.check(&id, None),
                Timer::Surplus(id) => self.delete_surplus(&id),
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

impl Node {
    fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.wanted
            .iter()
            .map(|(_, subscription)| subscription)
            .chain(self.watches.values())
    }
}

/// Whether a scope holds nothing but what the node gets anyway.
fn is_own_scope(node: &NodeId, scope: &Scope) -> bool {
    if !scope.resource.group.is_empty() || !scope.labels.is_empty() {
        return false;
    }
    match &*scope.resource.resource {
        "pods" => {
            scope.namespace.is_none()
                && scope.name.is_none()
                && scope.fields.strip_prefix("spec.nodeName=") == Some(node.as_str())
        }
        "nodes" => {
            let by_field = scope.fields.strip_prefix("metadata.name=") == Some(node.as_str());
            let by_name = scope.name.as_deref() == Some(node.as_str());
            (by_name && scope.fields.is_empty()) || (by_field && scope.name.is_none())
        }
        _ => false,
    }
}

fn scope_text(scopes: &Scopes, id: ScopeId) -> String {
    scopes.scope(id).map(ToString::to_string).unwrap_or_default()
}

/// The collection of nodes.
pub(crate) fn nodes() -> GroupVersionResource {
    GroupVersionResource::core(BASE[NODES])
}

/// What is watched for all nodes. ConfigMaps and Secrets first: pods need them.
const BASE: [&str; 4] = ["configmaps", "secrets", "pods", "nodes"];
/// How many at its start are ConfigMaps and Secrets.
const CONFIGS: usize = 2;
/// The place of the nodes in it.
const NODES: usize = 3;
/// Changes that are looked at together.
const EVENTS_AT_ONCE: usize = 256;
/// After an intention could not be written in time: how long a node's objects are sent without waiting for the next.
const UNRECORDED: Duration = Duration::from_secs(30);
/// The pause before a watch that ended is begun anew.
const REOPEN: Duration = Duration::from_secs(5);
