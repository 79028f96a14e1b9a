//! Messages that were made once and may be wanted again: by the next list, by the other clients of a watch.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hub_core::object::{GroupVersionResource, Revision};

/// Messages by kind and revision of their objects, which no other state of any object has. Holds no more bytes than its limit;
/// what was not asked for while half of that was filled anew goes.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    new: HashMap<Key, Bytes>,
    new_bytes: usize,
    old: HashMap<Key, Bytes>,
}

/// The kind, and the revision.
type Key = (u64, Revision);

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            halves: Mutex::default(),
        }
    }

    /// The message of each revision that is kept.
    pub(crate) fn get(
        &self,
        kind: &GroupVersionResource,
        revisions: impl Iterator<Item = Revision>,
    ) -> Vec<Option<Bytes>> {
        let kind = hash(kind);
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        revisions
            .map(|revision| {
                let key = (kind, revision);
                if let Some(message) = halves.new.get(&key) {
                    return Some(message.clone());
                }
                let message = halves.old.remove(&key)?;
                halves.put(self.bytes_max, key, message.clone());
                Some(message)
            })
            .collect()
    }

    pub(crate) fn put(&self, kind: &GroupVersionResource, messages: impl Iterator<Item = (Revision, Bytes)>) {
        let kind = hash(kind);
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        for (revision, message) in messages {
            halves.put(self.bytes_max, (kind, revision), message);
        }
    }
}

impl Halves {
    fn put(&mut self, bytes_max: usize, key: Key, message: Bytes) {
        let bytes = message.len() + ENTRY_BYTES;
        if bytes > bytes_max / 2 {
            return;
        }
        if self.new_bytes + bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.new);
            self.new_bytes = 0;
        }
        if self.new.insert(key, message).is_none() {
            self.new_bytes += bytes;
        }
    }
}

fn hash(kind: &GroupVersionResource) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    hasher.finish()
}

/// What an entry takes beside its message, about.
const ENTRY_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes_at_the_limit() {
        let cache = Cache::new(20 * (ENTRY_BYTES + 36));
        let (message, kind) = (Bytes::from(vec![0; 36]), GroupVersionResource::core("pods"));
        let kept = |revision| cache.get(&kind, [Revision(revision)].into_iter())[0].is_some();
        for revision in 1..100 {
            cache.put(&kind, [(Revision(revision), message.clone())].into_iter());
            assert!(kept(1), "{revision}");
            let halves = cache.halves.lock().unwrap();
            assert!(halves.new.len() + halves.old.len() <= 20);
        }
        assert!(kept(99) && !kept(2));
    }

    #[test]
    fn what_is_larger_than_half_of_it_is_not_kept() {
        let (cache, kind) = (Cache::new(100), GroupVersionResource::core("pods"));
        cache.put(&kind, [(Revision(1), Bytes::from(vec![0; 100]))].into_iter());
        assert_eq!(cache.get(&kind, [Revision(1)].into_iter()), [None]);
    }
}
