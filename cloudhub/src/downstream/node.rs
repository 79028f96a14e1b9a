//! Nodes come and go: what is known of one while it has a session, and what of a stock edge outlives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hub_core::catch_up::{Complete, Refused, ScopeText};
use hub_core::handle::SessionHandle;
use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::transport::Capabilities;

use super::catch_up::PendingHave;
use super::dirty::Queue;
use super::membership::Membership;
use super::stock::Stock;
use super::subscription::Subscription;
use super::{Downstream, Watch};
use crate::sessions::SessionId;

/// A node with a session.
pub(super) struct Node {
    pub(super) session: SessionId,
    pub(super) handle: SessionHandle,
    pub(super) resume: bool,
    /// What a stock edge holds. Our own say so themselves.
    pub(super) stock: Option<Box<Stock>>,
    /// Whether it is told of changes: from its first catch-up on, or from when a stock edge was compared with its records.
    pub(super) live: bool,
    pub(super) feeding: bool,
    pub(super) paused: bool,
    pub(super) queue: Queue,
    /// What it is known to hold, as it was when it was compared: to be told to its session.
    pub(super) held: Vec<Arc<Object>>,
    /// What it subscribes to in its catch-up.
    pub(super) wanted: Vec<(ScopeText, Subscription)>,
    /// Its watches by application id.
    pub(super) watches: BTreeMap<String, Subscription>,
    /// Of a stock edge: which devices it was told to have.
    pub(super) membership: Membership,
    pub(super) have: Option<Box<PendingHave>>,
    /// The end of a catch-up, to be told once the queue is empty.
    pub(super) complete: Option<Box<(Complete, Instant)>>,
    /// Subscriptions that ended by themselves, of which it is still to be told.
    pub(super) lost: Vec<Refused>,
    /// Whether the node is still to say what exactly it holds.
    pub(super) comparing: bool,
}

impl Node {
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.wanted
            .iter()
            .map(|(_, subscription)| subscription)
            .chain(self.watches.values())
    }
}

impl Downstream {
    pub(super) fn attach(
        &mut self,
        id: NodeId,
        session: SessionId,
        handle: SessionHandle,
        capabilities: Capabilities,
    ) {
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
            lost: Vec::new(),
            comparing: false,
        };
        self.nodes.insert(id.clone(), node);
        let watches = self.away.remove(&id).unwrap_or_default();
        for (application, scope) in watches.into_iter().filter(|_| !resume) {
            let watch = Watch {
                id: application,
                scope: scope.clone(),
                since: None,
            };
            if let Err(reason) = self.watch(&id, watch) {
                tracing::info!(node = %id, %scope, reason, "a watch cannot go on");
            }
        }
        self.recall(&id);
        if self.sessions.is_shared() && !resume {
            self.recall_soon(&id);
        }
        self.ready.insert(id);
    }

    pub(super) fn forget(&mut self, id: &NodeId) {
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
}
