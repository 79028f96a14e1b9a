//! The cluster speaks: its changes go into the index, and what is known of it decides who may be answered.

use std::time::{Duration, Instant};

use hub_core::catch_up::Refused;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::transport::CloseReason;

use super::index::ScopeId;
use super::kinds::{Kind, kind};
use super::outgoing::as_of;
use super::scopes::{Scopes, State};
use super::subscription::Subscription;
use super::{Downstream, Timer};
use crate::cluster::ClusterEvent;
use crate::readiness::Readiness;
use crate::sessions::CONNECTION;

impl Downstream {
    pub(super) fn cluster_event(&mut self, (scope, event): (ScopeId, Option<ClusterEvent>)) {
        match event {
            Some(ClusterEvent::Applied { object, .. }) => {
                self.newest = self.newest.max(object.version.number().unwrap_or(0));
                self.scopes.saw(scope, &object.key);
                self.look_for_mark(&object);
                let effects = self.index.apply(scope, object);
                self.mark(effects);
            }
            Some(ClusterEvent::Deleted { object }) => {
                self.newest = self.newest.max(object.version.number().unwrap_or(0));
                let key = object.key.clone();
                self.removed(scope, &key, Some(object));
            }
            Some(ClusterEvent::Restarted) => self.scopes.restarted(scope),
            Some(ClusterEvent::Synced { as_of: version }) => {
                self.newest = self.newest.max(version);
                if let Some(seen) = self.scopes.synced(scope) {
                    let gone: Vec<_> = self
                        .index
                        .members(scope)
                        .filter(|key| !seen.contains(*key))
                        .cloned()
                        .collect();
                    for key in gone {
                        // When it went is not known; surely before this. A node that has a newer answer than the last that was seen
                        // here must not take the deletion for an old one.
                        let last = self.index.get(&key).map(|last| as_of(last, self.newest));
                        self.removed(scope, &key, last);
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
    pub(super) fn look_for_mark(&self, object: &Object) {
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

    pub(super) fn removed(&mut self, scope: ScopeId, key: &ObjectKey, last: Option<Object>) {
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
    pub(super) fn settled(&mut self, scope: ScopeId) {
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

    pub(super) fn refused(&mut self, scope: ScopeId, reason: &str) {
        let refused = Subscription::Refused(reason.to_owned());
        let mut concerned = Vec::new();
        for (id, node) in &mut self.nodes {
            let mut lost = Vec::new();
            for (text, subscription) in &mut node.wanted {
                if *subscription == Subscription::Watched(scope) {
                    *subscription = refused.clone();
                    lost.push(Refused {
                        scope: text.clone(),
                        reason: reason.to_owned(),
                    });
                }
            }
            let mut watches = false;
            for subscription in node.watches.values_mut() {
                if *subscription == Subscription::Watched(scope) {
                    *subscription = refused.clone();
                    watches = true;
                }
            }
            if watches || !lost.is_empty() {
                concerned.push(id.clone());
            }
            // One that is still to be compared hears of it at the end of that.
            if node.have.is_none() && !lost.is_empty() {
                node.lost.append(&mut lost);
            }
        }
        for id in concerned {
            tracing::info!(node = %id, scope = %scope_text(&self.scopes, scope), reason, "the cluster refuses a subscription");
            self.index.unsubscribe(&id, scope);
            self.compare(&id, false);
            self.ready.insert(id);
        }
        self.close(scope);
    }

    pub(super) fn close(&mut self, scope: ScopeId) {
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
    pub(super) fn is_for_all(&self, scope: ScopeId) -> bool {
        self.base.contains(&scope) || self.known_kinds.contains(scope) || self.narrow.contains(scope)
    }

    /// What a watch for all nodes is about, if pods get by without the whole of it.
    pub(super) fn withholdable(&self, scope: ScopeId) -> Option<GroupVersionResource> {
        let configs = self.base.get(..CONFIGS)?;
        let found = configs.iter().position(|config| *config == scope)?;
        Some(GroupVersionResource::core(BASE[found]))
    }

    pub(super) fn is_base_known(&self) -> bool {
        self.base.len() == BASE.len()
            && self.base.iter().all(|scope| match self.scopes.state(*scope) {
                State::Synced => true,
                State::Loading => false,
                // Never of pods: a list of them that is not known is not an empty one.
                State::Refused(_) => self.withholdable(*scope).is_some(),
            })
    }
}

/// The collection of nodes.
pub(crate) fn nodes() -> GroupVersionResource {
    GroupVersionResource::core(BASE[NODES])
}

fn scope_text(scopes: &Scopes, id: ScopeId) -> String {
    scopes.scope(id).map(ToString::to_string).unwrap_or_default()
}

/// What is watched for all nodes. ConfigMaps and Secrets first: pods need them.
pub(super) const BASE: [&str; 4] = ["configmaps", "secrets", "pods", "nodes"];
/// How many at its start are ConfigMaps and Secrets.
const CONFIGS: usize = 2;
/// The place of the nodes in it.
const NODES: usize = 3;
/// The pause before a watch that ended is begun anew.
const REOPEN: Duration = Duration::from_secs(5);
