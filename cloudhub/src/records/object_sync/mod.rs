//! Records as objects of the cluster.
//!
//! ```text
//!   intend · acked · forget ──► pending, newest of each ──► a few requests at once ──► cluster
//!   of(node) ◄── cache, with what is on its way laid over it ◄── two watches ◄─────────────┘
//! ```

mod cache;
mod object;
mod write;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, stream};
use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;
use hub_core::scope::Scope;
use tokio::sync::{Notify, oneshot, watch};

use super::pending::{Change, Entry, Pending, RecordKey, Waiter};
use super::{Recorded, RecordsConfig, RecordsError, SyncRecord, SyncRecords};
use crate::cluster::{Cluster, ClusterEvent};
use cache::{Cache, Progress};
use write::{Outcome, write};

/// Records as ObjectSync and ClusterObjectSync in the cluster, where KubeEdge's own cloudcore keeps them
/// (`staging/src/github.com/kubeedge/api/apis/reliablesyncs/v1alpha1`): so that a node may move between a Go instance and this one,
/// and hears of every deletion.
///
/// A namespace that is deleted takes its ObjectSyncs with it, and so the cluster's memory of what nodes hold of it. KubeEdge has
/// the same weakness; a file has not.
#[derive(Clone)]
pub struct ObjectSyncRecords {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Arc<dyn Cluster>,
    config: RecordsConfig,
    desk: Mutex<Desk>,
    bell: Notify,
    /// Rings when others changed something.
    others: Notify,
    progress: watch::Sender<Progress>,
}

/// What was told, and what is known.
struct Desk {
    cache: Cache,
    pending: Pending,
    /// What is being written.
    flying: Pending,
    /// Whose turn it is: what somebody waits for, and the rest by the time of telling.
    urgent: VecDeque<RecordKey>,
    gathered: VecDeque<(Instant, RecordKey)>,
    flushes: Vec<Waiter>,
    failures: u32,
    /// After a failure: when to try again.
    again: Option<Instant>,
    /// Why nothing is written until then.
    failed: Option<RecordsError>,
    /// The nodes whose records others changed; None while nobody wants to know.
    changed: Option<BTreeSet<NodeId>>,
}

impl ObjectSyncRecords {
    /// Records in this cluster. It must have KubeEdge's definitions of ObjectSync and ClusterObjectSync, and let the hub list, watch,
    /// create, patch (their status too) and delete them.
    pub fn new(cluster: impl Cluster, config: RecordsConfig) -> Self {
        let desk = Desk {
            cache: Cache::new(config.records_max),
            pending: Pending::default(),
            flying: Pending::default(),
            urgent: VecDeque::new(),
            gathered: VecDeque::new(),
            flushes: Vec::new(),
            failures: 0,
            again: None,
            failed: None,
            changed: None,
        };
        let inner = Inner {
            cluster: Arc::new(cluster),
            config,
            desk: Mutex::new(desk),
            bell: Notify::new(),
            others: Notify::new(),
            progress: watch::Sender::new(Progress::Loading),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn tell(&self, node: &NodeId, object: Recorded, change: Change) {
        let key = (node.clone(), object);
        let mut desk = self.inner.desk();
        let is_queued = desk.pending.entries.contains_key(&key);
        let told = desk
            .pending
            .add(key.clone(), change, None, self.inner.config.pending_max);
        match told {
            Ok(()) if is_queued => {}
            Ok(()) => desk
                .gathered
                .push_back((Instant::now() + self.inner.config.gather, key)),
            Err(error) => {
                tracing::warn!(%node, %error, "a sync record is not kept: something will be sent again");
            }
        }
        self.inner.bell.notify_one();
    }

    /// Done when all records are known, or the cluster refuses to tell.
    fn known(&self) -> impl Future<Output = Result<(), RecordsError>> + Send + 'static {
        let mut progress = self.inner.progress.subscribe();
        async move {
            let progress = progress.wait_for(|progress| *progress != Progress::Loading).await;
            match progress.as_deref() {
                Ok(Progress::Refused(reason)) => Err(RecordsError::Refused(reason.clone())),
                Ok(_) => Ok(()),
                Err(_) => Err(RecordsError::Closed),
            }
        }
    }
}

impl SyncRecords for ObjectSyncRecords {
    fn of(&self, node: &NodeId) -> BoxFuture<'static, Result<Vec<SyncRecord>, RecordsError>> {
        let (known, inner, node) = (self.known(), self.inner.clone(), node.clone());
        async move {
            known.await?;
            let desk = inner.desk();
            let cached = desk.cache.of(&node, inner.cluster.registry());
            let records = desk.flying.overlay(&node, cached);
            Ok(desk.pending.overlay(&node, records))
        }
        .boxed()
    }

    fn nodes(&self) -> BoxFuture<'static, Result<BTreeSet<NodeId>, RecordsError>> {
        let (known, inner) = (self.known(), self.inner.clone());
        async move {
            known.await?;
            Ok(inner.desk().cache.nodes())
        }
        .boxed()
    }

    fn intend(&self, node: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Result<(), RecordsError>> {
        let mut waits = Vec::new();
        {
            let mut desk = self.inner.desk();
            // Who refuses does not think better of it within the pause.
            let refused = desk.failed.clone().filter(|error| {
                matches!(error, RecordsError::Refused(_))
                    && desk.again.is_some_and(|again| again > Instant::now())
            });
            for object in objects {
                let key = (node.clone(), object);
                let waiting = desk.pending.entries.get(&key);
                let is_urgent = waiting.is_some_and(|entry| !entry.waiters.is_empty());
                let flying = desk.flying.entries.get(&key);
                let is_going = [waiting, flying]
                    .iter()
                    .flatten()
                    .any(|entry| entry.change == Change::Forget);
                if !is_going && desk.cache.contains(node, &key.1.uid) {
                    continue;
                }
                let (written, wait) = oneshot::channel();
                let max = self.inner.config.pending_max;
                if let Err(error) = desk.pending.add(key.clone(), Change::Intend, Some(written), max) {
                    return futures::future::ready(Err(error)).boxed();
                }
                if !is_urgent {
                    desk.urgent.push_back(key);
                }
                waits.push(wait);
            }
            if let Some(error) = refused.filter(|_| !waits.is_empty()) {
                return futures::future::ready(Err(error)).boxed();
            }
        }
        self.inner.bell.notify_one();
        async move {
            for wait in waits {
                wait.await.unwrap_or(Err(RecordsError::Closed))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn sending(&self, node: &NodeId, object: Recorded) {
        self.tell(node, object, Change::Renew);
    }

    fn acked(&self, node: &NodeId, object: Recorded, version: ResourceVersion) {
        self.tell(node, object, Change::Acked(version));
    }

    fn forget(&self, node: &NodeId, object: Recorded) {
        self.tell(node, object, Change::Forget);
    }

    fn forget_node(&self, node: &NodeId) {
        self.inner.desk().pending.forget_node(node);
        self.inner.bell.notify_one();
    }

    fn changed_by_others(&self) -> BoxStream<'static, NodeId> {
        self.inner.desk().changed.get_or_insert_default();
        let inner = self.inner.clone();
        let next = stream::unfold(inner, async |inner| {
            loop {
                let changed = inner.desk().changed.as_mut().and_then(BTreeSet::pop_first);
                match changed {
                    Some(node) => return Some((node, inner)),
                    None => inner.others.notified().await,
                }
            }
        });
        next.boxed()
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let (written, wait) = oneshot::channel();
        self.inner.desk().flushes.push(written);
        self.inner.bell.notify_one();
        wait.map(drop).boxed()
    }

    fn run(&self) -> BoxFuture<'static, ()> {
        run(self.inner.clone()).boxed()
    }
}

/// Follows the watches and writes what is due. Never ends.
async fn run(inner: Arc<Inner>) {
    let follow = |collection, of_cluster| {
        follow(inner.cluster.clone(), collection).map(move |event| (of_cluster, event))
    };
    let mut events = stream::select(
        follow(object::OBJECT_SYNCS, false),
        follow(object::CLUSTER_OBJECT_SYNCS, true),
    );
    let mut writes = FuturesUnordered::new();
    loop {
        while writes.len() < inner.config.requests_max.max(1)
            && let Some(((node, object), change)) = inner.take()
        {
            let cluster = inner.cluster.clone();
            writes.push(async move {
                let outcome = write(cluster, node.clone(), object.clone(), change).await;
                ((node, object), outcome)
            });
        }
        let next = inner.next_due(writes.len());
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((of_cluster, event)) = events.next() => inner.event(of_cluster, event),
            Some((key, outcome)) = writes.next(), if !writes.is_empty() => inner.written(key, outcome),
            () = inner.bell.notified() => {}
            () = due => {}
        }
    }
}

/// A collection for ever: where the cluster's watch ends, another is begun after a while.
fn follow(cluster: Arc<dyn Cluster>, collection: &'static str) -> BoxStream<'static, ClusterEvent> {
    let scope = Scope::all(object::resource(collection));
    stream::iter(0_u64..)
        .then(move |round| {
            let (cluster, scope) = (cluster.clone(), scope.clone());
            async move {
                if round > 0 {
                    tokio::time::sleep(REOPEN).await;
                }
                let restarted = stream::once(std::future::ready(ClusterEvent::Restarted));
                restarted.chain(cluster.watch(scope))
            }
        })
        .flatten()
        .boxed()
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Each statement leaves it whole.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, of_cluster: bool, event: ClusterEvent) {
        let mut desk = self.desk();
        let is_news = matches!(event, ClusterEvent::Synced { .. } | ClusterEvent::Refused(_));
        if let ClusterEvent::Refused(status) = &event {
            tracing::error!(
                reason = status.message,
                "the cluster refuses to list ObjectSyncs: give the hub the right to"
            );
        }
        for (node, uid) in desk.cache.event(of_cluster, event) {
            let is_ours = [&desk.flying, &desk.pending]
                .iter()
                .any(|told| told.of(&node).any(|((_, object), _)| object.uid == uid));
            if !is_ours && let Some(changed) = &mut desk.changed {
                changed.insert(node);
                self.others.notify_one();
            }
        }
        if is_news {
            let progress = desk.cache.progress();
            self.progress.send_if_modified(|known| {
                let changed = *known != progress;
                *known = progress;
                changed
            });
        }
    }

    /// What is to be written next.
    fn take(&self) -> Option<(RecordKey, Change)> {
        let mut desk = self.desk();
        let now = Instant::now();
        if desk.again.is_some_and(|again| again > now) {
            return None;
        }
        if !desk.pending.nodes.is_empty() && *self.progress.borrow() == Progress::Ready {
            desk.spread_forgotten_nodes(self);
        }
        loop {
            let key = match desk.urgent.pop_front() {
                Some(key) => key,
                None => {
                    let flushing = !desk.flushes.is_empty();
                    let (due, _) = desk.gathered.front()?;
                    if !flushing && *due > now {
                        return None;
                    }
                    desk.gathered.pop_front()?.1
                }
            };
            // What is on its way comes back here when it has arrived.
            if desk.flying.entries.contains_key(&key) {
                continue;
            }
            if let Some(entry) = desk.pending.entries.remove(&key) {
                let change = entry.change.clone();
                desk.flying.entries.insert(key.clone(), entry);
                return Some((key, change));
            }
        }
    }

    /// When something is due without anybody saying so.
    fn next_due(&self, writing: usize) -> Option<Instant> {
        let mut desk = self.desk();
        if desk.pending.entries.is_empty() && desk.flying.entries.is_empty() || desk.again.is_some() {
            for flush in desk.flushes.drain(..) {
                let _ = flush.send(Ok(()));
            }
        }
        if writing >= self.config.requests_max.max(1) {
            return None;
        }
        let gathered = desk.gathered.front().map(|(due, _)| *due);
        let waiting = !desk.urgent.is_empty() || gathered.is_some() || !desk.pending.nodes.is_empty();
        match desk.again {
            Some(again) if waiting && again > Instant::now() => Some(again),
            _ => gathered,
        }
    }

    fn written(&self, key: RecordKey, outcome: Outcome) {
        let mut desk = self.desk();
        let Some(mut entry) = desk.flying.entries.remove(&key) else {
            return;
        };
        let (node, object) = &key;
        let mut failed = None;
        match outcome {
            Outcome::There(version) => desk.cache.wrote(node, object, version),
            Outcome::Kept if desk.cache.contains(node, &object.uid) => {}
            Outcome::Kept => desk.cache.wrote(node, object, None),
            Outcome::Gone => desk.cache.remove(node, &object.uid),
            Outcome::Never(error) => {
                tracing::warn!(%node, object = %object.key, %error, "an ObjectSync cannot be written: the node may miss the deletion of this object while it is away");
                entry.answer(&Err(error));
            }
            Outcome::Again(error) => {
                entry.answer(&Err(error.clone()));
                failed = Some(error);
            }
        }
        match failed {
            None => {
                entry.answer(&Ok(()));
                (desk.failures, desk.again, desk.failed) = (0, None, None);
            }
            Some(error) => {
                // One pause for all that fail together.
                if desk.again.is_none_or(|again| again <= Instant::now()) {
                    if desk.failures == 0 {
                        tracing::warn!(%error, "ObjectSyncs cannot be written; trying again");
                    }
                    let backoff = Backoff {
                        first: FIRST_RETRY,
                        max: self.config.retry_max,
                    };
                    let random = uuid::Uuid::new_v4().as_u64_pair().0;
                    desk.again = Some(Instant::now() + backoff.pause(desk.failures, random));
                    desk.failures = desk.failures.saturating_add(1);
                    desk.failed = Some(error);
                }
                let mut back = Pending::default();
                back.entries.insert(key.clone(), entry);
                desk.pending.put_back(back);
            }
        }
        if desk.pending.entries.contains_key(&key) {
            desk.urgent.push_back(key);
        }
    }
}

impl Desk {
    /// What is there of forgotten nodes is to be deleted, but for what was told since.
    fn spread_forgotten_nodes(&mut self, inner: &Inner) {
        for node in std::mem::take(&mut self.pending.nodes) {
            for record in self.cache.of(&node, inner.cluster.registry()) {
                let key = (node.clone(), record.object);
                if self.pending.entries.contains_key(&key) {
                    continue;
                }
                let max = inner.config.pending_max;
                if self.pending.add(key.clone(), Change::Forget, None, max).is_ok() {
                    self.urgent.push_back(key);
                }
            }
            // What is being written for it goes as soon as it is written.
            let flying: Vec<_> = self.flying.of(&node).map(|(key, _)| key.clone()).collect();
            for key in flying {
                let forget = || Entry {
                    change: Change::Forget,
                    waiters: Vec::new(),
                };
                self.pending.entries.entry(key).or_insert_with(forget);
            }
        }
    }
}

/// The pause before a watch that ended is begun anew.
const REOPEN: Duration = Duration::from_secs(5);
/// The pause after a first failure.
const FIRST_RETRY: Duration = Duration::from_millis(500);
