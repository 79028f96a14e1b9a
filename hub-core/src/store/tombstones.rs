//! Remembering, for a while, which objects are gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The newest deletions, by uid, each with its version.
///
/// A copy of a deleted object that arrives late is known by it and ignored: its version is lower, as a deletion has one of its own. What
/// was deleted because nobody here needed it any more has the version of its last state, and may come back in that. The oldest deletions are
/// forgotten first.
#[derive(Debug)]
pub(super) struct Tombstones {
    max: usize,
    versions: HashMap<Arc<str>, u64>,
    order: VecDeque<Arc<str>>,
}

impl Tombstones {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            versions: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn bury(&mut self, uid: Arc<str>, version: u64) {
        if let Some(known) = self.versions.get_mut(&uid) {
            *known = version.max(*known);
            return;
        }
        self.versions.insert(uid.clone(), version);
        self.order.push_back(uid);
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.versions.remove(&oldest);
            }
        }
    }

    /// The version of an object's deletion.
    pub(super) fn version(&self, uid: &str) -> Option<u64> {
        self.versions.get(uid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_deletion_is_forgotten_first_and_versions_only_grow() {
        let mut tombstones = Tombstones::new(2);
        tombstones.bury("a".into(), 5);
        tombstones.bury("a".into(), 3);
        tombstones.bury("b".into(), 1);
        assert_eq!(tombstones.version("a"), Some(5));
        tombstones.bury("c".into(), 1);
        assert_eq!(tombstones.version("a"), None);
        assert_eq!(tombstones.version("b"), Some(1));
        assert_eq!(tombstones.versions.len(), 2);
    }
}
