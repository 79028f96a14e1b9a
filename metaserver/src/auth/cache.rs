//! What was found out about tokens, by their hash, for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// A token's hash: tokens themselves are kept nowhere.
pub(super) type Hash = [u8; 32];

/// A bounded memory of tokens.
pub(super) struct Cache<T> {
    max: usize,
    kept: Mutex<HashMap<Hash, (T, Instant)>>,
}

pub(super) fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

impl<T: Clone> Cache<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            kept: Mutex::default(),
        }
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<T> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, until) = kept.get(hash)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    /// Over the limit everything is forgotten: it is only ever a shortcut.
    pub(super) fn put(&self, hash: Hash, value: T, life: Duration) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.max {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() >= self.max {
            kept.clear();
        }
        if self.max > 0 {
            kept.insert(hash, (value, now + life));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_remembers_for_its_time_and_never_more_than_it_may() {
        let cache = Cache::new(2);
        for (at, token) in ["a", "b", "c"].iter().enumerate() {
            cache.put(hash(token), at, Duration::from_secs(1));
            assert!(cache.kept.lock().unwrap().len() <= 2);
        }
        assert_eq!(cache.get(&hash("c")), Some(2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get(&hash("c")), None);
        let none = Cache::new(0);
        none.put(hash("a"), 1, Duration::from_secs(1));
        assert_eq!(none.get(&hash("a")), None);
    }
}
