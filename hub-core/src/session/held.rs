//! What the peer is known to hold: the last acknowledged version and content of each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::content_hash;

/// Remembers a version and a hash a key, never the content; the oldest are forgotten first.
///
/// To forget is always safe: the next version then goes out whole, and an old version is ignored by the peer's store.
#[derive(Debug, Default)]
pub(super) struct Held {
    keys: BTreeMap<Arc<str>, Known>,
    ages: BTreeMap<u64, Arc<str>>,
    clock: u64,
}

#[derive(Debug)]
struct Known {
    version: Option<u64>,
    hash: Option<u64>,
    age: u64,
}

impl Held {
    /// The peer holds this of `key`; no content where the object is deleted. At most `limit` keys are remembered.
    pub(super) fn remember(
        &mut self,
        key: &Arc<str>,
        version: Option<u64>,
        content: Option<&[u8]>,
        limit: usize,
    ) {
        if limit == 0 {
            return;
        }
        self.clock += 1;
        let known = Known {
            version,
            hash: content.map(content_hash),
            age: self.clock,
        };
        if let Some(old) = self.keys.insert(key.clone(), known) {
            self.ages.remove(&old.age);
        }
        self.ages.insert(self.clock, key.clone());
        while self.keys.len() > limit {
            if let Some((_, oldest)) = self.ages.pop_first() {
                self.keys.remove(&oldest);
            }
        }
    }

    /// The version last acknowledged, as far as remembered.
    pub(super) fn version(&self, key: &str) -> Option<u64> {
        self.keys.get(key)?.version
    }

    /// Whether the peer holds exactly this content.
    pub(super) fn holds(&self, key: &str, content: &[u8]) -> bool {
        self.keys
            .get(key)
            .and_then(|known| known.hash)
            .is_some_and(|hash| hash == content_hash(content))
    }

    /// The content is not there after all; the version stays.
    pub(super) fn forget_content(&mut self, key: &str) {
        if let Some(known) = self.keys.get_mut(key) {
            known.hash = None;
        }
    }

    /// Nothing is known of this key any more.
    pub(super) fn forget(&mut self, key: &str) {
        if let Some(known) = self.keys.remove(key) {
            self.ages.remove(&known.age);
        }
    }

    /// Nothing is known any more.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let mut held = Held::default();
        let keys: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        held.remember(&keys[0], Some(1), Some(b"1"), 2);
        held.remember(&keys[1], Some(1), Some(b"1"), 2);
        held.remember(&keys[0], Some(2), Some(b"2"), 2);
        held.remember(&keys[2], Some(1), Some(b"1"), 2);
        assert_eq!(held.version("b"), None, "b was the oldest");
        assert!(held.holds("a", b"2") && !held.holds("a", b"1"));
        assert!(held.holds("c", b"1"));
        assert_eq!((held.keys.len(), held.ages.len()), (2, 2));
    }

    #[test]
    fn a_deleted_object_leaves_its_version_and_no_content() {
        let mut held = Held::default();
        held.remember(&"a".into(), Some(5), None, 2);
        assert_eq!(held.version("a"), Some(5));
        assert!(!held.holds("a", b"null"));
        held.forget("a");
        assert_eq!(held.version("a"), None);
        assert!(held.ages.is_empty());
    }
}
