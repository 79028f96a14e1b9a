//! Who was complained about, so that a peer that misbehaves for ever fills no log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Remembers complaints for a while; forgets all when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<HashMap<(String, &'static str), Instant>>);

impl Complaints {
    /// Whether this is worth a line: the first time, and again after some time.
    pub(crate) fn is_new(&self, who: &str, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        match known.insert((who.chars().take(253).collect(), reason), now) {
            Some(last) if now - last < QUIET => {
                known.insert((who.chars().take(253).collect(), reason), last);
                false
            }
            _ => true,
        }
    }
}

/// How many complaints are remembered.
const KEPT: usize = 4096;
/// How long the same complaint is not worth another line.
const QUIET: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_worth_one_line() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("edge-1", "identity"));
        assert!(!complaints.is_new("edge-1", "identity"));
        assert!(complaints.is_new("edge-1", "protocol") && complaints.is_new("edge-2", "identity"));
    }
}
