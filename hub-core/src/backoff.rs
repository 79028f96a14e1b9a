//! How long to wait before trying again: exponential, with jitter, so that many nodes do not come back as one.

use std::time::Duration;

use crate::random::share;

/// Growing pauses between attempts. A plain value: the randomness is an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first pause.
    pub first: Duration,
    /// The longest pause at all.
    pub max: Duration,
}

impl Backoff {
    /// The pause before attempt `attempt` (the first retry is 0): uniformly between half of `first × 2^attempt` and all of it,
    /// at most `max`. `random` is any 64 random bits.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        let full = self
            .first
            .saturating_mul(2u32.saturating_pow(attempt.min(31)))
            .min(self.max);
        full.mul_f64(0.5 + share(random) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_secs(30),
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        let longest: Vec<u64> = (0..7)
            .map(|attempt| BACKOFF.pause(attempt, u64::MAX).as_secs_f64().round() as u64)
            .collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 30, 30]);
        assert!(BACKOFF.pause(u32::MAX, u64::MAX) <= BACKOFF.max);
    }

    #[test]
    fn no_pause_is_shorter_than_half_of_the_longest() {
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let pause = BACKOFF.pause(2, random);
            assert!(
                pause >= Duration::from_secs(2) && pause <= Duration::from_secs(4),
                "{pause:?}"
            );
        }
    }
}
