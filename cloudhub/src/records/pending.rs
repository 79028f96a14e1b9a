//! What was told and is not written yet: the newest of each object, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;

use super::{Recorded, RecordsError, SyncRecord};

/// What is to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It must be there. One that is stays as it is.
    Intend,
    /// It must be there, and say that nothing was acknowledged.
    Renew,
    /// This version was acknowledged.
    Acked(ResourceVersion),
    /// It must not be there.
    Forget,
}

/// A record's name, ordered so that those of a node lie together.
pub(super) type RecordKey = (NodeId, Recorded);

/// Hears once a record is written.
pub(super) type Waiter = oneshot::Sender<Result<(), RecordsError>>;

/// A change that waits to be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) change: Change,
    pub(super) waiters: Vec<Waiter>,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) entries: BTreeMap<RecordKey, Entry>,
    /// Nodes whose older records go before any entry is written.
    pub(super) nodes: BTreeSet<NodeId>,
}

impl Entry {
    /// Tells everybody who waits.
    pub(super) fn answer(&mut self, result: &Result<(), RecordsError>) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.nodes.is_empty()
    }

    /// The newest of each object stands. Beyond `max` objects it is not taken.
    pub(super) fn add(
        &mut self,
        key: RecordKey,
        change: Change,
        waiter: Option<Waiter>,
        max: usize,
    ) -> Result<(), RecordsError> {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.change = merge(&entry.change, change);
            entry.waiters.extend(waiter);
            return Ok(());
        }
        if self.entries.len() >= max {
            return Err(RecordsError::Full("pending_max"));
        }
        let waiters = waiter.into_iter().collect();
        self.entries.insert(key, Entry { change, waiters });
        Ok(())
    }

    /// A node is gone, and with it everything that was told of it until now.
    pub(super) fn forget_node(&mut self, node: &NodeId) {
        let keys: Vec<_> = self.of(node).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(mut entry) = self.entries.remove(&key) {
                entry.answer(&Ok(()));
            }
        }
        self.nodes.insert(node.clone());
    }

    /// What waits of a node.
    pub(super) fn of(&self, node: &NodeId) -> impl Iterator<Item = (&RecordKey, &Entry)> {
        let (node, first) = (node.clone(), least(node));
        self.entries
            .range(first..)
            .take_while(move |((of, _), _)| *of == node)
    }

    /// Puts back what could not be written, under what was told since.
    pub(super) fn put_back(&mut self, failed: Self) {
        for (key, mut old) in failed.entries {
            match self.entries.get_mut(&key) {
                Some(newer) => {
                    newer.change = merge(&old.change, newer.change.clone());
                    newer.waiters.append(&mut old.waiters);
                }
                // The node was forgotten since, and this with it.
                None if self.nodes.contains(&key.0) => {}
                None => drop(self.entries.insert(key, old)),
            }
        }
        self.nodes.extend(failed.nodes);
    }

    /// A node's records as they will be once this is written.
    pub(super) fn overlay(&self, node: &NodeId, written: Vec<SyncRecord>) -> Vec<SyncRecord> {
        let mut records: BTreeMap<Recorded, Option<ResourceVersion>> = BTreeMap::new();
        if !self.nodes.contains(node) {
            records.extend(written.into_iter().map(|record| (record.object, record.version)));
        }
        for ((_, object), entry) in self.of(node) {
            match &entry.change {
                Change::Intend => drop(records.entry(object.clone()).or_default()),
                Change::Renew => drop(records.insert(object.clone(), None)),
                Change::Acked(version) => drop(records.insert(object.clone(), Some(version.clone()))),
                Change::Forget => drop(records.remove(object)),
            }
        }
        let records = records.into_iter();
        records
            .map(|(object, version)| SyncRecord { object, version })
            .collect()
    }
}

/// What stands when one change follows another.
fn merge(old: &Change, new: Change) -> Change {
    match (old, new) {
        (Change::Forget | Change::Renew, Change::Intend) => Change::Renew,
        (Change::Acked(version), Change::Intend) => Change::Acked(version.clone()),
        (_, new) => new,
    }
}

/// The least key that a node can have.
fn least(node: &NodeId) -> RecordKey {
    use hub_core::object::{GroupVersionResource, ObjectKey};
    let key = ObjectKey::new(GroupVersionResource::new("", "", ""), None, "");
    let (uid, kind) = ("".into(), "".into());
    (node.clone(), Recorded { key, uid, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub_core::object::{GroupVersionResource, ObjectKey};

    fn key(node: &str, name: &str) -> RecordKey {
        let key = ObjectKey::new(GroupVersionResource::core("pods"), Some("d"), name);
        let (uid, kind) = (format!("u-{name}").into(), "Pod".into());
        (NodeId::new(node).unwrap(), Recorded { key, uid, kind })
    }

    fn versions(records: Vec<SyncRecord>) -> Vec<(String, Option<String>)> {
        let text = |record: SyncRecord| {
            let version = record.version.map(|version| version.to_string());
            (record.object.key.name.to_string(), version)
        };
        records.into_iter().map(text).collect()
    }

    #[test]
    fn the_newest_of_each_object_stands_and_an_intention_forgets_no_acknowledgement() {
        let mut pending = Pending::default();
        let (one, other) = (key("a", "p"), key("b", "p"));
        for change in [
            Change::Intend,
            Change::Acked("1".into()),
            Change::Acked("2".into()),
            Change::Intend,
        ] {
            pending.add(one.clone(), change, None, 9).unwrap();
        }
        pending.add(other.clone(), Change::Forget, None, 9).unwrap();
        pending.add(other.clone(), Change::Intend, None, 9).unwrap();
        assert_eq!(pending.entries[&one].change, Change::Acked("2".into()));
        assert_eq!(
            pending.entries[&other].change,
            Change::Renew,
            "what it acknowledged before counts no more"
        );
        let written = vec![SyncRecord {
            object: other.1.clone(),
            version: Some("9".into()),
        }];
        assert_eq!(
            versions(pending.overlay(&other.0, written)),
            [("p".to_owned(), None)]
        );
    }

    #[test]
    fn a_full_desk_takes_nothing_new_and_says_so() {
        let mut pending = Pending::default();
        pending.add(key("a", "p"), Change::Intend, None, 1).unwrap();
        pending.add(key("a", "p"), Change::Forget, None, 1).unwrap();
        let refused = pending.add(key("a", "q"), Change::Intend, None, 1);
        assert_eq!(refused, Err(RecordsError::Full("pending_max")));
    }

    #[test]
    fn what_could_not_be_written_yields_to_what_was_told_since() {
        let mut failed = Pending::default();
        for name in ["p", "q"] {
            failed
                .add(key("a", name), Change::Acked("1".into()), None, 9)
                .unwrap();
        }
        failed.add(key("b", "p"), Change::Intend, None, 9).unwrap();
        let mut pending = Pending::default();
        pending
            .add(key("a", "p"), Change::Acked("2".into()), None, 9)
            .unwrap();
        pending.forget_node(&key("b", "p").0);
        pending.put_back(failed);
        let records = versions(pending.overlay(&key("a", "p").0, Vec::new()));
        let expected = [("p", "2"), ("q", "1")];
        assert_eq!(
            records,
            expected.map(|(name, version)| (name.to_owned(), Some(version.to_owned())))
        );
        assert!(
            pending.overlay(&key("b", "p").0, Vec::new()).is_empty(),
            "that node is gone"
        );
    }
}
