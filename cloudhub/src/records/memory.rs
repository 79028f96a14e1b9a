//! Records that last as long as the process: for embedders without a disk, and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;

use super::{Recorded, RecordsConfig, RecordsError, SyncRecord, SyncRecords};

/// Records in memory. Cheap to clone; all clones are the same records, so a hub that is made anew in one process can go on with
/// those of its predecessor. After a restart of the process every stock edge is sent everything once.
#[derive(Debug, Clone)]
pub struct MemoryRecords {
    held: Arc<Mutex<Held>>,
    records_max: usize,
}

#[derive(Debug, Default)]
struct Held {
    nodes: BTreeMap<NodeId, BTreeMap<Recorded, Option<ResourceVersion>>>,
    count: usize,
}

impl Default for MemoryRecords {
    fn default() -> Self {
        Self::new(&RecordsConfig::default())
    }
}

impl MemoryRecords {
    /// No records yet. Of the limits, `records_max` counts here.
    pub fn new(config: &RecordsConfig) -> Self {
        Self {
            held: Arc::default(),
            records_max: config.records_max,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each statement leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn insert(
        &mut self,
        node: &NodeId,
        object: Recorded,
        max: usize,
    ) -> Result<&mut Option<ResourceVersion>, RecordsError> {
        use std::collections::btree_map::Entry;
        let full = self.count >= max;
        if full && !self.nodes.contains_key(node) {
            return Err(RecordsError::Full("records_max"));
        }
        match self.nodes.entry(node.clone()).or_default().entry(object) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(_) if full => Err(RecordsError::Full("records_max")),
            Entry::Vacant(place) => {
                self.count += 1;
                Ok(place.insert(None))
            }
        }
    }
}

impl SyncRecords for MemoryRecords {
    fn of(&self, node: &NodeId) -> BoxFuture<'static, Result<Vec<SyncRecord>, RecordsError>> {
        let held = self.held();
        let records = held.nodes.get(node).into_iter().flatten();
        let records = records.map(|(object, version)| SyncRecord {
            object: object.clone(),
            version: version.clone(),
        });
        ready(Ok(records.collect())).boxed()
    }

    fn nodes(&self) -> BoxFuture<'static, Result<BTreeSet<NodeId>, RecordsError>> {
        ready(Ok(self.held().nodes.keys().cloned().collect())).boxed()
    }

    fn intend(&self, node: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Result<(), RecordsError>> {
        let mut held = self.held();
        let mut intended = objects
            .into_iter()
            .map(|object| held.insert(node, object, self.records_max).map(drop));
        ready(intended.find(Result::is_err).unwrap_or(Ok(()))).boxed()
    }

    fn acked(&self, node: &NodeId, object: Recorded, version: ResourceVersion) {
        if let Ok(known) = self.held().insert(node, object, self.records_max) {
            *known = Some(version);
        }
    }

    fn forget(&self, node: &NodeId, object: Recorded) {
        let mut held = self.held();
        let Some(records) = held.nodes.get_mut(node) else {
            return;
        };
        let known = records.remove(&object).is_some();
        if records.is_empty() {
            held.nodes.remove(node);
        }
        held.count -= usize::from(known);
    }

    fn forget_node(&self, node: &NodeId) {
        let mut held = self.held();
        held.count -= held.nodes.remove(node).map_or(0, |records| records.len());
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}
