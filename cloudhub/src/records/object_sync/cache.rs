//! All records of the cluster by node, kept up to date by two watches.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;
use hub_core::registry::Registry;

use super::object::Written;
use crate::cluster::ClusterEvent;
use crate::records::{Recorded, SyncRecord};

/// How far the two watches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// What is there is being listed.
    Loading,
    /// All is known.
    Ready,
    /// The cluster will not have the watch, and says why.
    Refused(String),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Cache {
    nodes: HashMap<NodeId, HashMap<Arc<str>, (Written, u32)>>,
    /// By collection: the round of listing, and how far it is.
    rounds: [(u32, Progress); 2],
    count: usize,
    max: usize,
}

impl Cache {
    pub(super) fn new(max: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            rounds: [(0, Progress::Loading), (0, Progress::Loading)],
            count: 0,
            max,
        }
    }

    /// How far both are together.
    pub(super) fn progress(&self) -> Progress {
        let [(_, one), (_, other)] = &self.rounds;
        match (one, other) {
            (Progress::Refused(_), _) => one.clone(),
            (_, Progress::Refused(_)) => other.clone(),
            (Progress::Ready, Progress::Ready) => Progress::Ready,
            _ => Progress::Loading,
        }
    }

    /// A watch speaks. `of_cluster` tells which. The records that are new or gone by it, as far as all were known before.
    pub(super) fn event(&mut self, of_cluster: bool, event: ClusterEvent) -> Vec<(NodeId, Arc<str>)> {
        let is_known = self.rounds[usize::from(of_cluster)].1 == Progress::Ready;
        let mut changed = Vec::new();
        let (round, progress) = &mut self.rounds[usize::from(of_cluster)];
        match event {
            ClusterEvent::Restarted => *round += 1,
            ClusterEvent::Refused(status) => *progress = Progress::Refused(status.message),
            ClusterEvent::Synced { .. } => {
                *progress = Progress::Ready;
                let round = *round;
                changed = self.retain(|written, seen| written.is_of_cluster() != of_cluster || seen == round);
            }
            ClusterEvent::Applied { object, .. } => {
                if let Some((node, uid, written)) = Written::read(&object) {
                    if !self.contains(&node, &uid) {
                        changed.push((node.clone(), uid.clone()));
                    }
                    self.insert(&node, uid, written);
                }
            }
            ClusterEvent::Deleted { object } => {
                if let Some((node, uid, _)) = Written::read(&object) {
                    if self.contains(&node, &uid) {
                        changed.push((node.clone(), uid.clone()));
                    }
                    self.remove(&node, &uid);
                }
            }
        }
        changed.retain(|_| is_known);
        changed
    }

    /// We wrote one.
    pub(super) fn wrote(&mut self, node: &NodeId, object: &Recorded, version: Option<ResourceVersion>) {
        let written = Written::new(object, version);
        self.insert(node, object.uid.clone(), written);
    }

    /// It is not there.
    pub(super) fn remove(&mut self, node: &NodeId, uid: &str) {
        if let Some(records) = self.nodes.get_mut(node) {
            self.count -= usize::from(records.remove(uid).is_some());
            if records.is_empty() {
                self.nodes.remove(node);
            }
        }
    }

    pub(super) fn contains(&self, node: &NodeId, uid: &str) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|records| records.contains_key(uid))
    }

    /// A node's records whose kinds are known.
    pub(super) fn of(&self, node: &NodeId, registry: &Registry) -> Vec<SyncRecord> {
        let records = self.nodes.get(node).into_iter().flatten();
        records
            .filter_map(|(uid, (written, _))| written.record(uid, registry))
            .collect()
    }

    pub(super) fn nodes(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().cloned().collect()
    }

    fn insert(&mut self, node: &NodeId, uid: Arc<str>, written: Written) {
        let round = self.rounds[usize::from(written.is_of_cluster())].0;
        if self.count >= self.max && !self.contains(node, &uid) {
            tracing::warn!(%node, limit = self.max, "there are more ObjectSyncs than are kept: raise records_max");
            return;
        }
        let records = self.nodes.entry(node.clone()).or_default();
        self.count += usize::from(records.insert(uid, (written, round)).is_none());
    }

    fn retain(&mut self, keep: impl Fn(&Written, u32) -> bool) -> Vec<(NodeId, Arc<str>)> {
        let mut gone = Vec::new();
        for (node, records) in &mut self.nodes {
            records.retain(|uid, (written, round)| {
                let stays = keep(written, *round);
                if !stays {
                    gone.push((node.clone(), uid.clone()));
                }
                stays
            });
        }
        self.nodes.retain(|_, records| !records.is_empty());
        self.count = self.nodes.values().map(HashMap::len).sum();
        gone
    }
}
