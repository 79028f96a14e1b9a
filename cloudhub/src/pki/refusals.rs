//! Who was refused lately: one log line a peer and window, and a brake for those that go on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Refusals by peer address within one window.
#[derive(Debug)]
pub(super) struct Refusals {
    window: Duration,
    peers_max: usize,
    since: Option<Instant>,
    counts: HashMap<IpAddr, u32>,
}

impl Refusals {
    pub(super) fn new(window: Duration, peers_max: usize) -> Self {
        Self {
            window,
            peers_max,
            since: None,
            counts: HashMap::new(),
        }
    }

    /// Counts a refusal of `peer`; how many there were in this window, this one included. Peers beyond the limit share one count.
    pub(super) fn count(&mut self, peer: IpAddr, now: Instant) -> u32 {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= self.window)
        {
            self.since = Some(now);
            self.counts.clear();
        }
        let full = self.counts.len() >= self.peers_max && !self.counts.contains_key(&peer);
        let key = if full { OTHERS } else { peer };
        let count = self.counts.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }
}

const OTHERS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_counts_for_itself_until_the_window_ends_or_the_table_is_full() {
        let mut refusals = Refusals::new(Duration::from_secs(60), 2);
        let start = Instant::now();
        let peer = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert_eq!(refusals.count(peer(1), start), 1);
        assert_eq!(refusals.count(peer(1), start), 2);
        assert_eq!(refusals.count(peer(2), start), 1);
        for n in 3..=200 {
            assert_eq!(refusals.count(peer(n), start), u32::from(n) - 2);
        }
        assert!(refusals.counts.len() <= 3);
        assert_eq!(refusals.count(peer(1), start + Duration::from_secs(60)), 1);
    }
}
