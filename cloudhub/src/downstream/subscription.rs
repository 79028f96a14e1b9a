//! What nodes want beside their own: scopes, each watched once in the cluster.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use hub_core::node::NodeId;
use hub_core::scope::Scope;

use super::index::ScopeId;
use super::{Downstream, Timer, Watch};

/// What became of a wish for a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subscription {
    /// Every node gets it anyway.
    Own,
    Watched(ScopeId),
    Refused(String),
}

impl Downstream {
    /// Opens a scope for a node; the index is told by the caller.
    pub(super) fn open(&mut self, node: &NodeId, scope: &Scope) -> Subscription {
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

    pub(super) fn watch(&mut self, id: &NodeId, watch: Watch) -> Result<(), String> {
        let Watch {
            id: application,
            scope,
            since,
        } = watch;
        let subscription = self.open(id, &scope);
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
        let mut opened = None;
        if let Subscription::Watched(scope) = subscription {
            let effects = self.index.subscribe(id, scope);
            self.mark(effects);
            opened = Some(scope);
        }
        if let Some(old) = old {
            self.leave(id, &[old]);
        }
        self.check_watched(id);
        if let Some(since) = since {
            self.watches_since(id, opened, &scope, &since);
        }
        Ok(())
    }

    /// Makes a node's watches those that it still wants. What cannot be watched is returned with the reason.
    pub(super) fn watch_sync(&mut self, id: &NodeId, wanted: Vec<Watch>) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        let keep: HashSet<String> = wanted.iter().map(|watch| watch.id.clone()).collect();
        for watch in wanted {
            let application = watch.id.clone();
            if self
                .nodes
                .get(id)
                .is_some_and(|node| node.watches.contains_key(&application))
            {
                continue;
            }
            if let Err(reason) = self.watch(id, watch) {
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
    pub(super) fn leave(&mut self, id: &NodeId, left: &[Subscription]) {
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

    pub(super) fn unwanted(&mut self, scope: ScopeId) {
        if !self.index.is_wanted(scope) && !self.is_for_all(scope) {
            self.timers.insert((
                Instant::now() + self.config.scope_linger,
                Timer::CloseScope(scope),
            ));
        }
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
