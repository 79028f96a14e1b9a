//! How many calls a second mappers may make.

use std::time::Instant;

/// Grants calls at a rate, and a number of them at once after silence.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second),
            burst,
            left: burst,
            at: now,
        }
    }

    /// Whether a call may be made now.
    pub(crate) fn grant(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.per_second).min(self.burst);
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_the_rate() {
        let mut now = Instant::now();
        let mut rate = Rate::new(10, 3, now);
        let mut granted = |now| (0..5).filter(|_| rate.grant(now)).count();
        assert_eq!(granted(now), 3);
        now += Duration::from_millis(250);
        assert_eq!(granted(now), 2);
        now += Duration::from_secs(3600);
        assert_eq!(granted(now), 3, "no more than a burst is saved");
    }
}
