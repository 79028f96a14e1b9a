//! Watches of a stock edge that are granted once it has what was there when they began.
//!
//! When a watch is granted, a Go metaServer shows its client what its table has by then. What comes later the client hears of only
//! where it is newer than all that the table ever had (`watcher.go`, `watchhook/hooks.go` in `edge/pkg/metamanager/metaserver`): an
//! old object that comes after the answer is never shown to it. So the answer waits for the acknowledgements, though not for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use hub_core::node::NodeId;
use hub_core::object::ObjectKey;

use super::scopes::State;
use super::subscription::Subscription;
use super::{Downstream, ScopeId, Timer, Watch};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Granted {
    waiting: Vec<Waiting>,
    /// What was handed to the session while a watch waits, and is not acknowledged.
    sent: HashMap<ObjectKey, Arc<str>>,
}

#[derive(Debug)]
struct Waiting {
    watch: ScopeId,
    latest: Instant,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Granted {
    /// An object was handed to the session.
    pub(super) fn sent(&mut self, key: &ObjectKey, uid: &Arc<str>) {
        if !self.waiting.is_empty() {
            self.sent.insert(key.clone(), uid.clone());
        }
    }

    /// An object is acknowledged. Another one of its name may not be.
    pub(super) fn acknowledged(&mut self, key: &ObjectKey, uid: &str) {
        if self.sent.get(key).is_some_and(|sent| **sent == *uid) {
            self.sent.remove(key);
        }
    }
}

impl Downstream {
    /// Begins a watch, and answers once the node may be told that it stands.
    pub(super) fn grant(&mut self, id: &NodeId, watch: Watch, answer: oneshot::Sender<Result<(), String>>) {
        let application = watch.id.clone();
        let begun = self.watch(id, watch);
        let latest = Instant::now() + self.config.grant_wait;
        let node = self.nodes.get_mut(id).filter(|_| begun.is_ok());
        let waits = node.and_then(|node| match (node.watches.get(&application), &mut node.stock) {
            (Some(Subscription::Watched(watch)), Some(stock)) => Some((*watch, stock)),
            _ => None,
        });
        let Some((watch, stock)) = waits else {
            let _ = answer.send(begun);
            return;
        };
        let waiting = Waiting {
            watch,
            latest,
            answer,
        };
        stock.granted.waiting.push(waiting);
        self.timers.insert((latest, Timer::Grant(id.clone())));
        self.grant_what_stands(id);
    }

    /// Answers the watches of a node of which it has all, and those that waited for long enough.
    pub(super) fn grant_what_stands(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(stock) = &mut node.stock else { return };
        let (index, scopes, now) = (&self.index, &self.scopes, Instant::now());
        let (live, queue, sent) = (node.live, &node.queue, &stock.granted.sent);
        let stands = |waiting: &mut Waiting| {
            let lacks = |key: &ObjectKey| index.is_member(waiting.watch, key);
            let known = live && scopes.state(waiting.watch) != State::Loading;
            waiting.latest <= now || (known && !sent.keys().any(lacks) && !queue.keys().any(lacks))
        };
        for standing in stock.granted.waiting.extract_if(.., stands) {
            let refused = match scopes.state(standing.watch) {
                State::Refused(reason) => Err(reason),
                _ => Ok(()),
            };
            let _ = standing.answer.send(refused);
        }
        if stock.granted.waiting.is_empty() {
            stock.granted.sent = HashMap::new();
        }
    }
}
