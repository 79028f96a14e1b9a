//! From a node's queue to its session: what changed is marked, and told in batches, each when what it needs is there.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use futures::FutureExt;

use hub_core::catch_up::Refused;
use hub_core::handle::{Batch, SendError};
use hub_core::node::NodeId;
use hub_core::object::ObjectKey;
use hub_core::session::Outgoing;

use super::dirty::Dirty;
use super::index::{Effect, What};
use super::kinds::{Kind, kind};
use super::membership::Told;
use super::recall::Intent;
use super::{Downstream, Timer, account, outgoing};
use crate::sessions::SessionId;

/// How handing a batch to a session ended.
pub(super) struct Fed {
    node: NodeId,
    session: SessionId,
    result: Result<Vec<Outgoing>, SendError>,
    given: Vec<(ObjectKey, Dirty)>,
    told: Told,
    completed: bool,
    /// The ended subscriptions that were told.
    lost: Vec<Refused>,
    /// What a crash must not forget.
    intent: Intent,
}

impl Downstream {
    pub(super) fn mark(&mut self, effects: Vec<Effect>) {
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
    pub(super) fn feed(&mut self, id: &NodeId) {
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
        for object in std::mem::take(&mut node.held) {
            let slot = outgoing::slot(&object.key, &object.uid);
            batch
                .held
                .push((slot, object.version.number(), object.body.clone()));
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
                let named = by_record
                    .then(|| outgoing::minimal(registry, key, &gone.uid))
                    .flatten();
                let mut outgoing = match named {
                    Some(named) => outgoing::delete_by_name(registry, &named, self.newest),
                    None => outgoing::delete(registry, gone, own),
                };
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
                    stock.granted.sent(key, &object.uid);
                    // A record that is only about to be written is known to this hub alone.
                    if dirty.fresh || dirty.force || dirty.gone.is_some() || self.sessions.is_shared() {
                        intended.extend(account::recorded(registry, key, &object.uid));
                    }
                }
                if stock.is_some()
                    && self.sessions.is_shared()
                    && let Some(object) = account::recorded(registry, key, &object.uid)
                {
                    self.records.sending(id, object);
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
        batch.send.extend(node.lost.iter().map(outgoing::lost));
        if batch.send.is_empty() && batch.held.is_empty() {
            if let Some(latest) = node.queue.latest(Instant::now()) {
                self.timers.insert((latest, Timer::Feed(id.clone())));
            }
            return;
        }
        node.feeding = true;
        let lost = node.lost.clone();
        let (session, handle) = (node.session, node.handle.clone());
        let slots = intended
            .iter()
            .map(|object| outgoing::slot(&object.key, &object.uid))
            .collect::<HashSet<_>>();
        let intent = self.intend(id, intended);
        let node = id.clone();
        let feed = async move {
            let intent = intent.await;
            let mut held_back = Vec::new();
            if intent == Intent::Waits {
                (held_back, batch.send) = batch
                    .send
                    .into_iter()
                    .partition(|outgoing| slots.contains(&outgoing.key));
            }
            let result = handle.batch(batch).await.map(|mut left| {
                left.append(&mut held_back);
                left
            });
            Fed {
                node,
                session,
                result,
                given,
                told,
                completed,
                lost,
                intent,
            }
        };
        self.feeding.push(feed.boxed());
    }

    pub(super) fn fed(&mut self, fed: Fed) {
        let Some(node) = self
            .nodes
            .get_mut(&fed.node)
            .filter(|node| node.session == fed.session)
        else {
            return;
        };
        node.feeding = false;
        if let Some(stock) = node.stock.as_mut().filter(|_| fed.intent == Intent::Missed) {
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
                node.lost
                    .retain(|lost| !fed.lost.contains(lost) || left.contains(&*outgoing::lost_slot(lost)));
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
}

/// After an intention could not be written in time: how long a node's objects are sent without waiting for the next.
const UNRECORDED: Duration = Duration::from_secs(30);
