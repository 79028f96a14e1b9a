//! Which node has which pods and devices, and what these need. Nothing of whether that is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hub_core::node::NodeId;
use hub_core::object::ObjectKey;

use super::references::Facts;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The pods and devices of each node, connected or not.
    placed: HashMap<NodeId, BTreeSet<ObjectKey>>,
    /// Which nodes have how many pods or devices that need an object.
    referenced: HashMap<ObjectKey, BTreeMap<NodeId, u32>>,
    /// Counts the changes of what pods and devices need.
    revision: u64,
}

impl Placement {
    /// Whether the node has this pod or device.
    pub(super) fn has(&self, node: &NodeId, placed: &ObjectKey) -> bool {
        self.placed.get(node).is_some_and(|known| known.contains(placed))
    }

    /// The pods and devices of a node.
    pub(super) fn of(&self, node: &NodeId) -> impl Iterator<Item = &ObjectKey> {
        self.placed.get(node).into_iter().flatten()
    }

    /// Whether a pod or device of the node needs this object.
    pub(super) fn references(&self, node: &NodeId, key: &ObjectKey) -> bool {
        self.referenced
            .get(key)
            .is_some_and(|nodes| nodes.contains_key(node))
    }

    /// The nodes with a pod or device that needs this object.
    pub(super) fn nodes_with(&self, key: &ObjectKey) -> impl Iterator<Item = &NodeId> {
        self.referenced.get(key).into_iter().flat_map(BTreeMap::keys)
    }

    /// What pods and devices of any node need.
    pub(super) fn needed(&self) -> impl Iterator<Item = &ObjectKey> {
        self.referenced.keys()
    }

    /// Changes whenever [`needed`](Self::needed) may have changed.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// A pod or device appeared, moved, needs other things, or is gone.
    pub(super) fn change(&mut self, placed: &ObjectKey, old: Option<&Facts>, new: Option<&Facts>) {
        self.revision += 1;
        let node_of = |facts: Option<&Facts>| facts.and_then(|facts| facts.node.clone());
        let (from, to) = (node_of(old), node_of(new));
        if let Some(node) = &to {
            let known = self.placed.entry(node.clone()).or_default();
            known.insert(placed.clone());
            for key in new.into_iter().flat_map(|facts| &facts.needs) {
                let nodes = self.referenced.entry(key.clone()).or_default();
                *nodes.entry(node.clone()).or_default() += 1;
            }
        }
        if let Some(node) = &from {
            if to != from
                && let Some(known) = self.placed.get_mut(node)
            {
                known.remove(placed);
                if known.is_empty() {
                    self.placed.remove(node);
                }
            }
            for key in old.into_iter().flat_map(|facts| &facts.needs) {
                self.dereference(node, key);
            }
        }
    }

    fn dereference(&mut self, node: &NodeId, key: &ObjectKey) {
        let Some(nodes) = self.referenced.get_mut(key) else {
            return;
        };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.referenced.remove(key);
        }
    }
}
