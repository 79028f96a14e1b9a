//! The sync records of a stock edge against what it should hold: on attach, and never again while its session lives.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use hub_core::node::NodeId;
use hub_core::object::{Object, ObjectKey};

use super::account::Acked;
use super::index::ScopeId;
use super::kinds::{Kind, kind};
use super::known_kinds::KnownKinds;
use super::scopes::{Scopes, State};
use super::stock::Now;
use super::subscription::Subscription;
use super::{Downstream, Timer, account};
use crate::cluster::Cluster;
use crate::records::{Recorded, RecordsError, SyncRecord};
use crate::sessions::SessionId;

/// An answer about records.
pub(super) enum Recalled {
    /// A node's records.
    Records(NodeId, SessionId, Result<Vec<SyncRecord>, RecordsError>),
    /// Which of a node's objects are gone, and whether the cluster answered for all of them.
    Checked(NodeId, SessionId, Vec<Recorded>, bool),
    /// Which of the objects that a node's clients were shown are gone.
    Missed(NodeId, SessionId, Vec<Object>),
    /// A node that seemed to be gone, and whether it is.
    Vanished(NodeId, bool),
    /// What was to be written is, or will not be.
    Written,
    /// The nodes that have records.
    Nodes(Result<Vec<NodeId>, RecordsError>),
}

/// Whether what is about to be sent is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// It is, or needs not be.
    Written,
    /// It is not. It is sent all the same.
    Missed,
    /// It is not, and is not sent before it is: the node may be with another hub before this one can write that down.
    Waits,
}

impl Downstream {
    /// Reads the records of a stock edge once more, after a while in which others may write what they still have to. One that was just
    /// with another hub may hold what that one had not on record when it came here.
    pub(super) fn recall_soon(&mut self, id: &NodeId) {
        let stock = self.nodes.get_mut(id).and_then(|node| node.stock.as_mut());
        if let Some(stock) = stock
            && !std::mem::replace(&mut stock.is_recalled_soon, true)
        {
            let again = Instant::now() + self.config.recall_again;
            self.timers.insert((again, Timer::Recall(id.clone())));
        }
    }

    /// Asks what a stock edge acknowledged.
    pub(super) fn recall(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id).filter(|node| node.stock.is_some()) else {
            return;
        };
        let (id, session, wait) = (id.clone(), node.session, self.config.recall_wait);
        let records = self.records.of(&id);
        let recall = async move {
            let late = || RecordsError::Unreachable("no answer in time".into());
            let records = tokio::time::timeout(wait, records).await;
            Recalled::Records(id, session, records.unwrap_or_else(|_| Err(late())))
        };
        self.recalling.push(recall.boxed());
    }

    pub(super) fn recalled(&mut self, recalled: Recalled) {
        match recalled {
            Recalled::Records(id, session, records) => {
                let Some(node) = self.nodes.get_mut(&id).filter(|node| node.session == session) else {
                    return;
                };
                let Some(stock) = &mut node.stock else { return };
                match records {
                    Ok(records) => stock.recalled = Some(records),
                    Err(error) => {
                        tracing::warn!(node = %id, %error, "the sync records of a node cannot be read: it is sent everything");
                        let again = RECALL_AGAIN.saturating_mul(1 << stock.failures.min(5));
                        stock.failures += 1;
                        self.timers
                            .insert((Instant::now() + again, Timer::Recall(id.clone())));
                        if !node.live {
                            stock.recalled = Some(Vec::new());
                        }
                    }
                }
                self.compare_stock(&id);
            }
            Recalled::Checked(id, session, gone, complete) => {
                let Some(node) = self.nodes.get_mut(&id).filter(|node| node.session == session) else {
                    return;
                };
                if let Some(stock) = &mut node.stock {
                    stock.gone(&gone, &mut node.queue);
                }
                if !complete || self.has_doubtful(&id) {
                    let pause = if self.sessions.is_shared() {
                        self.config.recall_again
                    } else {
                        CHECK_AGAIN
                    };
                    self.timers
                        .insert((Instant::now() + pause, Timer::Check(id.clone())));
                }
                self.ready.insert(id);
            }
            Recalled::Missed(id, session, gone) => {
                if self.nodes.get(&id).is_some_and(|node| node.session == session) {
                    self.missed(&id, gone);
                }
            }
            Recalled::Written => {}
            Recalled::Nodes(Ok(nodes)) => {
                for node in nodes {
                    let key = ObjectKey::new(super::nodes(), None, node.as_str());
                    if self.index.get(&key).is_none() && !self.nodes.contains_key(&node) {
                        self.vanished(node);
                    }
                }
            }
            Recalled::Vanished(node, gone) => {
                if gone && !self.nodes.contains_key(&node) {
                    tracing::info!(%node, "the node is gone: its sync records are removed");
                    self.records.forget_node(&node);
                }
            }
            Recalled::Nodes(Err(error)) => {
                tracing::debug!(%error, "the nodes that have sync records are not known");
                self.swept = false;
                self.timers.insert((Instant::now() + SWEEP_AGAIN, Timer::Sweep));
            }
        }
    }

    /// Compares, once both the records and the cluster are known.
    pub(super) fn compare_stock(&mut self, id: &NodeId) {
        if !self.is_base_known() {
            return;
        }
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(stock) = &mut node.stock else { return };
        let Some(mut records) = stock.recalled.take() else {
            return;
        };
        let mut wanted = self.index.wanted(id);
        // With several hubs the records are read twice, and compared as a whole each time.
        if std::mem::replace(&mut node.live, true) && !self.sessions.is_shared() {
            // The records came late: all that it needs was sent. What it should not hold is still to be found.
            let needed = |record: &SyncRecord| {
                wanted
                    .get(&record.object.key)
                    .is_some_and(|object| object.uid == record.object.uid)
            };
            records.retain(|record| !needed(record));
            let held: HashSet<_> = records.iter().map(|record| &record.object.key).collect();
            wanted.retain(|key, _| held.contains(key));
        }
        let (index, base, kinds) = (&self.index, &self.base, &self.known_kinds);
        // Another hub may have seen an object that the watches here are still to tell of: the cluster is asked before it is deleted.
        let is_alone = !self.sessions.is_shared();
        let now = |key: &ObjectKey| match index.get(key) {
            Some(object) => Now::There(object.clone()),
            None if is_alone && is_known(key, base, kinds, &self.scopes) => Now::Absent,
            None => Now::Unknown,
        };
        let unknown = stock.compare(records, &wanted, &mut node.queue, now);
        let wait = match stock.surplus_at {
            Some(at) => at,
            None => Instant::now() + self.config.surplus_wait,
        };
        stock.surplus_at = Some(wait);
        self.timers.insert((wait, Timer::Surplus(id.clone())));
        self.metrics.catch_ups.inc();
        self.ready.insert(id.clone());
        self.grant_what_stands(id);
        if !unknown.is_empty() {
            self.check(id, Some(unknown));
        }
    }

    /// Asks the cluster for objects of kinds that are not watched. None asks for all whose state is not known.
    pub(super) fn check(&mut self, id: &NodeId, objects: Option<Vec<Recorded>>) {
        let Some(node) = self.nodes.get(id) else { return };
        let Some(stock) = &node.stock else { return };
        let registry = self.cluster.registry();
        let is_unknown = |key: &ObjectKey| self.index.get(key).is_none();
        let mut objects = objects.unwrap_or_else(|| stock.kept(is_unknown));
        // Of a kind that is not known (yet, or any more) nothing can be said.
        objects.retain(|object| registry.by_resource(&object.key.resource).is_some());
        let (id, session, cluster) = (id.clone(), node.session, self.cluster.clone());
        self.recalling.push(gone(cluster, id, session, objects).boxed());
    }

    /// Asks the cluster for what a stock edge holds of the scopes that it watches and that these do not show. It was there when the
    /// edge came, and went before the watch began: no event tells of it.
    pub(super) fn check_watched(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id).filter(|node| node.live) else {
            return;
        };
        let Some(stock) = &node.stock else { return };
        let scopes = node
            .watches
            .values()
            .filter_map(|subscription| match subscription {
                Subscription::Watched(scope) if self.scopes.state(*scope) == State::Synced => {
                    self.scopes.scope(*scope)
                }
                _ => None,
            });
        let scopes: Vec<_> = scopes.collect();
        let is_missed = |key: &ObjectKey| {
            self.index.get(key).is_none() && scopes.iter().any(|scope| scope.contains_key(key))
        };
        let missed = stock.kept(is_missed);
        if !missed.is_empty() {
            self.check(id, Some(missed));
        }
    }

    /// The node may have a database that knows nothing: it is sent everything.
    pub(super) fn afresh(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(stock) = node.stock.as_mut().filter(|stock| !stock.told_everything) else {
            return;
        };
        stock.doubt();
        if node.live {
            stock.told_everything = true;
            for key in self.index.wanted(id).into_keys() {
                node.queue.lacks(key);
            }
            self.ready.insert(id.clone());
        }
    }

    /// A stock edge said which watches it has.
    pub(super) fn knows_watches(&mut self, id: &NodeId) {
        let stock = self.nodes.get_mut(id).and_then(|node| node.stock.as_mut());
        if let Some(stock) = stock {
            stock.surplus_at = Some(Instant::now());
            self.delete_surplus(id);
        }
    }

    /// Something more of the cluster is known.
    pub(super) fn settled_for_stock(&mut self) {
        let nodes = self.nodes.iter();
        let stock: Vec<_> = nodes
            .filter(|(_, node)| node.stock.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in stock {
            self.compare_stock(&id);
            self.delete_surplus(&id);
            self.grant_what_stands(&id);
            self.check_watched(&id);
        }
    }

    /// Deletes what no watch asked for in time.
    pub(super) fn delete_surplus(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.live) else {
            return;
        };
        let loading = node.watches.values().any(|subscription| match subscription {
            Subscription::Watched(scope) => self.scopes.state(*scope) == State::Loading,
            _ => false,
        });
        let Some(stock) = &mut node.stock else { return };
        if !loading && stock.surplus_at.is_some_and(|at| at <= Instant::now()) {
            let (base, kinds, scopes) = (&self.base, &self.known_kinds, &self.scopes);
            let (index, is_alone) = (&self.index, !self.sessions.is_shared());
            let is_surplus = |key: &ObjectKey| {
                is_known(key, base, kinds, scopes) && (is_alone || index.get(key).is_some())
            };
            stock.delete_surplus(is_surplus, &mut node.queue);
            self.ready.insert(id.clone());
            if self.has_doubtful(id) {
                self.check(id, None);
            }
        }
    }

    /// Whether there are records of objects that the watches here do not show, though they show all of their kind. Another hub has seen
    /// them: sooner or later either the watches show them or the cluster says that they are gone.
    fn has_doubtful(&self, id: &NodeId) -> bool {
        let stock = self.nodes.get(id).and_then(|node| node.stock.as_ref());
        let is_doubtful = |key: &ObjectKey| {
            self.index.get(key).is_none() && is_known(key, &self.base, &self.known_kinds, &self.scopes)
        };
        self.sessions.is_shared() && stock.is_some_and(|stock| !stock.kept(is_doubtful).is_empty())
    }

    /// A stock edge acknowledged a deletion: unless the object was sent again since, it holds nothing of it. Or it acknowledged an
    /// object: devices may go that wait for their model, and watches stand that show it first.
    pub(super) fn acked(&mut self, acked: &Acked) {
        let Acked {
            node: id,
            session,
            key,
            uid,
            deleted,
        } = acked;
        let node = self.nodes.get_mut(id).filter(|node| node.session == *session);
        let Some(node) = node else { return };
        let Some(stock) = &mut node.stock else { return };
        if !deleted {
            stock.models.acknowledged(key, uid);
            stock.granted.acknowledged(key, uid);
        } else if stock.deletes_no_more(key, uid) {
            if let Some(object) = account::recorded(self.cluster.registry(), key, uid) {
                self.records.forget(id, object);
            }
            stock.delete_next(key, &mut node.queue);
        }
        self.ready.insert(id.clone());
        self.grant_what_stands(id);
    }

    /// Records of nodes that vanished while nobody looked are removed.
    pub(super) fn sweep(&mut self) {
        if !std::mem::replace(&mut self.swept, true) {
            let nodes = self.records.nodes();
            let nodes = nodes.map(|nodes| Recalled::Nodes(nodes.map(|nodes| nodes.into_iter().collect())));
            self.recalling.push(nodes.boxed());
        }
    }

    /// Forgets the records of a node that is gone. Where several hubs serve the cluster the node may have come again to another, which
    /// keeps its records, before this one hears that it is gone: then the cluster has the last word. All hubs do the same, and it
    /// does no harm to do it twice.
    pub(super) fn vanished(&mut self, node: NodeId) {
        if !self.sessions.is_shared() {
            return self.records.forget_node(&node);
        }
        let key = ObjectKey::new(super::nodes(), None, node.as_str());
        let get = self.cluster.get(key);
        let asked = async move { Recalled::Vanished(node, matches!(get.await, Ok(None))) };
        self.recalling.push(asked.boxed());
    }

    /// A stock edge keeps an object that it asked for by name: should it be gone when the edge comes back, it is told. As with a Go cloud,
    /// whose records know every acknowledged answer (`cloud/pkg/cloudhub/session/node_session.go`).
    pub(super) fn given(&self, id: &NodeId, key: &ObjectKey, uid: &Arc<str>) {
        if self.nodes.get(id).is_some_and(|node| node.stock.is_some()) {
            let object = account::recorded(self.cluster.registry(), key, uid);
            let written = self.intend(id, object.into_iter().collect());
            self.recalling.push(written.map(|_| Recalled::Written).boxed());
        }
    }

    /// Waits for a bounded time until a crash cannot forget these.
    pub(super) fn intend(&self, id: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Intent> {
        if objects.is_empty() {
            return futures::future::ready(Intent::Written).boxed();
        }
        let intended = self.records.intend(id, objects);
        let stock = self.nodes.get(id).and_then(|node| node.stock.as_ref());
        let unrecorded_until = stock.and_then(|stock| stock.unrecorded_until);
        if unrecorded_until.is_some_and(|until| until > Instant::now()) {
            return futures::future::ready(Intent::Written).boxed();
        }
        let (id, wait, is_shared) = (id.clone(), self.config.intent_wait, self.sessions.is_shared());
        async move {
            let error = match tokio::time::timeout(wait, intended).await {
                Ok(Ok(())) => return Intent::Written,
                Err(_) | Ok(Err(RecordsError::Unreachable(_))) if is_shared => {
                    tracing::debug!(node = %id, "what is new for a node waits until it is on record");
                    return Intent::Waits;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            tracing::warn!(node = %id, error, "a node is sent objects that are not on record: should this process die now, their deletion may be missed");
            Intent::Missed
        }
        .boxed()
    }
}

/// Whether this is of a kind that nodes have without asking, and all of the collection is known.
fn is_known(key: &ObjectKey, base: &[ScopeId], kinds: &KnownKinds, scopes: &Scopes) -> bool {
    match kind(key) {
        Kind::Other => false,
        Kind::Node | Kind::Pod | Kind::Config => {
            base.iter().all(|scope| scopes.state(*scope) == State::Synced)
        }
        Kind::Device | Kind::Model | Kind::Access => kinds.is_known(&key.resource, scopes),
    }
}

/// Which of these objects do not exist, or are others of the same name.
async fn gone(
    cluster: Arc<dyn Cluster>,
    node: NodeId,
    session: SessionId,
    objects: Vec<Recorded>,
) -> Recalled {
    let asked = objects.into_iter().map(|object| {
        let found = cluster.get(object.key.clone());
        async move { (found.await, object) }
    });
    let mut asked = stream::iter(asked).buffer_unordered(QUESTIONS_AT_ONCE);
    let (mut gone, mut complete) = (Vec::new(), true);
    while let Some((found, object)) = asked.next().await {
        match found {
            Ok(found) if found.as_ref().is_none_or(|found| found.uid != object.uid) => gone.push(object),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%node, %error, "an object is not known to exist or not");
                complete = false;
            }
        }
    }
    drop(asked);
    Recalled::Checked(node, session, gone, complete)
}

/// The pause before records are read again, doubled with every failure.
const RECALL_AGAIN: Duration = Duration::from_secs(5);
/// The pause before the cluster is asked again about objects that it gave no answer for.
const CHECK_AGAIN: Duration = Duration::from_secs(30);
/// The pause before the nodes that have records are asked for again.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);
/// Objects that are asked for at once.
pub(super) const QUESTIONS_AT_ONCE: usize = 8;
