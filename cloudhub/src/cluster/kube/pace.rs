//! How fast requests leave: a steady rate, and a burst after a quiet time (the generic cell rate algorithm).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two requests.
    interval: Duration,
    /// How far ahead of the steady rate one may be.
    tolerance: Duration,
    /// When the steady rate would let the next one go.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// 0 a second means as fast as one likes.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.max(1) - 1),
            next: Mutex::new(None),
        }
    }

    /// When a request that comes now may go.
    pub(super) fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = next.map_or(now, |next| next.max(now));
        *next = Some(steady + self.interval);
        steady.checked_sub(self.tolerance).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let (pace, start) = (Pace::new(10, 3), Instant::now());
        let waits: Vec<_> = (0..6).map(|_| (pace.turn(start) - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        let later = start + Duration::from_secs(60);
        let waits: Vec<_> = (0..4).map(|_| (pace.turn(later) - later).as_millis()).collect();
        assert_eq!(
            waits,
            [0, 0, 0, 100],
            "quiet time is not saved up beyond the burst"
        );
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (pace, start) = (Pace::new(0, 0), Instant::now());
        assert!((0..1000).all(|_| pace.turn(start) == start));
    }
}
