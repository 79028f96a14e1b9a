//! What a returning node lacks: its digests against what it should hold ([`hub_core::catch_up`]).

use std::collections::BTreeSet;
use std::time::Instant;

use tokio::sync::oneshot;

use hub_core::catch_up::{Buckets, Complete, Differ, Have, Inventory, Refused, Versions, resource_name};
use hub_core::node::NodeId;

use super::client::Wanted;
use super::known_kinds::Known;
use super::outgoing::minimal;
use super::scopes::State;
use super::subscription::Subscription;
use super::{Downstream, Timer};

/// A node's digests, while scopes that it wants are still being listed.
pub(super) struct PendingHave {
    have: Have,
    refused: Vec<Refused>,
    answer: oneshot::Sender<Differ>,
    deadline: Instant,
}

impl Downstream {
    /// The node says what it holds and wants. Its interest is known from now on; it is answered once its scopes are.
    pub(super) fn have(
        &mut self,
        id: NodeId,
        have: Have,
        wanted: Vec<Wanted>,
        mut refused: Vec<Refused>,
        answer: oneshot::Sender<Differ>,
    ) {
        if !self.nodes.contains_key(&id) {
            return;
        }
        let max = self.config.scopes_per_node_max;
        let mut subscriptions = Vec::new();
        for (text, scope) in wanted {
            if subscriptions.len() == max {
                let reason = format!("a node may subscribe to {max} scopes");
                refused.push(Refused { scope: text, reason });
                continue;
            }
            let subscription = self.open(&id, &scope);
            if let Subscription::Watched(scope) = &subscription {
                // Silently: the comparison finds what the node lacks.
                self.index.subscribe(&id, *scope);
            }
            subscriptions.push((text, subscription));
        }
        let deadline = Instant::now() + self.config.sync_wait;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut node.wanted, subscriptions);
        node.have = Some(Box::new(PendingHave {
            have,
            refused,
            answer,
            deadline,
        }));
        node.complete = None;
        node.lost.clear();
        let old: Vec<_> = old.into_iter().map(|(_, subscription)| subscription).collect();
        self.leave(&id, &old);
        self.timers.insert((deadline, Timer::Have(id.clone())));
        self.compare(&id, false);
    }

    /// Compares, when all is known that the node wants, or when it has waited for long enough.
    pub(super) fn compare(&mut self, id: &NodeId, is_late: bool) {
        let known = self.is_base_known();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(pending) = &node.have else { return };
        let unknown: Vec<_> = self.known_kinds.unknown(&self.scopes).collect();
        let waits = unknown.iter().any(|(_, known)| *known == Known::Soon);
        let mut loading: BTreeSet<String> = node
            .wanted
            .iter()
            .filter(|(_, subscription)| match subscription {
                Subscription::Watched(scope) => self.scopes.state(*scope) == State::Loading,
                _ => false,
            })
            .map(|(text, _)| text.resource.clone())
            .collect();
        let over = is_late && pending.deadline <= Instant::now();
        if !known || ((waits || !loading.is_empty()) && !over) {
            return;
        }
        loading.extend(unknown.iter().map(|(resource, _)| resource_name(resource)));
        loading.extend(self.narrow.resources().map(resource_name));
        let Some(pending) = node.have.take() else { return };
        node.live = true;
        self.metrics.catch_ups.inc();
        let mut have = pending.have;
        let mut inventory = Inventory::default();
        let wanted = self.index.wanted(id);
        for (key, object) in &wanted {
            // A collection of which not all is known cannot be compared; it is told as it becomes known.
            if !loading.contains(&resource_name(&key.resource)) {
                inventory.add(key, &object.uid, object.version.as_str());
            }
        }
        have.digests.retain(|name, _| !loading.contains(name));
        let differ = inventory.differing(&have);
        let mut complete = Complete {
            scopes: Vec::new(),
            refused: pending.refused,
        };
        for (text, subscription) in &node.wanted {
            match subscription {
                Subscription::Own => complete.scopes.push(text.clone()),
                Subscription::Watched(scope) if self.scopes.state(*scope) == State::Synced => {
                    complete.scopes.push(text.clone());
                }
                Subscription::Watched(_) => {}
                Subscription::Refused(reason) => {
                    complete.refused.push(Refused {
                        scope: text.clone(),
                        reason: reason.clone(),
                    });
                }
            }
        }
        // What is withheld cannot be compared: what is known of it is told anew.
        let (withheld, wanted): (Vec<_>, Vec<_>) = wanted
            .into_values()
            .partition(|object| self.narrow.withholds(&object.key.resource));
        for object in withheld {
            node.queue.lacks(object.key.clone());
        }
        let same = wanted.into_iter().filter(|object| {
            !differ
                .resources
                .contains_key(&resource_name(&object.key.resource))
        });
        node.held = same.take(self.config.assume_held_max).collect();
        let began = pending.deadline - self.config.sync_wait;
        node.complete = Some(Box::new((complete, began)));
        node.comparing = !differ.resources.is_empty();
        let _ = pending.answer.send(differ);
        self.ready.insert(id.clone());
    }

    /// The buckets that differ.
    pub(super) fn buckets(&mut self, id: &NodeId, buckets: &Buckets) -> Differ {
        let differ = self.inventory(id).differing_buckets(buckets);
        if differ.resources.values().all(Vec::is_empty) {
            self.compared(id);
        }
        differ
    }

    /// What differs is queued; the end of the catch-up goes behind it.
    pub(super) fn versions(&mut self, id: &NodeId, versions: &Versions) {
        let difference = self.inventory(id).difference(versions);
        let registry = self.cluster.registry();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        self.metrics.caught_up("sent", difference.send.len());
        self.metrics.caught_up("deleted", difference.delete.len());
        for key in difference.send {
            node.queue.lacks(key);
        }
        for (key, uid) in difference.delete {
            match minimal(registry, &key, &uid) {
                Some(object) => node.queue.surplus(object),
                None => {
                    tracing::debug!(node = %id, %key, "the node holds an object of a kind that no longer exists")
                }
            }
        }
        let room = self.config.assume_held_max.saturating_sub(node.held.len());
        let same = difference.same.iter().take(room);
        node.held
            .extend(same.filter_map(|key| self.index.get(key)).cloned());
        self.compared(id);
    }

    fn compared(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.comparing = false;
            self.ready.insert(id.clone());
        }
    }

    fn inventory(&self, id: &NodeId) -> Inventory {
        let mut inventory = Inventory::default();
        for (key, object) in self.index.wanted(id) {
            inventory.add(&key, &object.uid, object.version.as_str());
        }
        inventory
    }
}
