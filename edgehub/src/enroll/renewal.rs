//! When to renew the certificate: at a random point late in its life, then again and again until it works.
//!
//! A whole fleet that enrolled within a minute must not renew within a minute: each node draws its own point from 70 to 90 %
//! of the lifetime, and its own jitter.

use std::time::{Duration, SystemTime};

use hub_core::backoff::Backoff;
use hub_core::random::Random;

use super::Enrolled;

/// How renewals are spread and retried.
#[derive(Debug, Clone)]
pub struct RenewalConfig {
    /// The part of the lifetime before which nothing happens, in percent.
    pub earliest_percent: u32,
    /// The part of the lifetime by which the first attempt is made, in percent.
    pub latest_percent: u32,
    /// The pauses between failures. KubeEdge's grow from 2 to 32 s.
    pub retry: Backoff,
}

/// The next attempt. Pure: time and seed come from outside.
#[derive(Debug, Clone)]
pub struct RenewalPlan {
    config: RenewalConfig,
    random: Random,
    failures: u32,
    due: SystemTime,
    end: SystemTime,
}

impl Default for RenewalConfig {
    fn default() -> Self {
        Self {
            earliest_percent: 70,
            latest_percent: 90,
            retry: Backoff {
                first: Duration::from_secs(2),
                max: Duration::from_secs(300),
            },
        }
    }
}

impl RenewalPlan {
    /// The plan for a certificate; a new certificate gets a new plan.
    pub fn new(config: RenewalConfig, enrolled: &Enrolled, seed: u64) -> Self {
        Self::between(config, enrolled.not_before, enrolled.not_after, seed)
    }

    /// The plan for a certificate that is good from `begin` to `end`.
    pub fn between(config: RenewalConfig, begin: SystemTime, end: SystemTime, seed: u64) -> Self {
        let lifetime = end.duration_since(begin).unwrap_or_default();
        let mut plan = Self {
            random: Random::new(seed),
            failures: 0,
            due: begin,
            end,
            config,
        };
        let latest = plan.config.latest_percent.min(100);
        let earliest = plan.config.earliest_percent.min(latest);
        let share = plan.random.share();
        let percent = f64::from(earliest) + share * f64::from(latest - earliest);
        plan.due = begin + lifetime.mul_f64(percent / 100.0);
        plan
    }

    /// When to try. Past, when it is high time.
    pub fn due(&self) -> SystemTime {
        self.due
    }

    /// Whether no attempt can succeed any more: only a token helps.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now >= self.end
    }

    /// An attempt failed at `now`; says when the next is due.
    pub fn failed(&mut self, now: SystemTime) -> SystemTime {
        let random = self.random.number();
        let pause = self.config.retry.pause(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause;
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn plan(seed: u64) -> RenewalPlan {
        let begin = SystemTime::UNIX_EPOCH;
        RenewalPlan::between(RenewalConfig::default(), begin, begin + 100 * DAY, seed)
    }

    #[test]
    fn a_fleet_renews_between_70_and_90_percent_and_is_spread_out() {
        let days: Vec<_> = (0..1000)
            .map(|seed| plan(seed).due().duration_since(SystemTime::UNIX_EPOCH).unwrap())
            .collect();
        assert!(days.iter().all(|due| (70 * DAY..=90 * DAY).contains(due)));
        for day in 70..90 {
            let on_day = days
                .iter()
                .filter(|due| (day * DAY..(day + 1) * DAY).contains(*due))
                .count();
            assert!((20..=90).contains(&on_day), "{on_day} of 1000 on day {day}");
        }
    }

    #[test]
    fn failures_pause_twice_as_long_each_time_up_to_the_limit() {
        let mut plan = plan(7);
        let mut now = plan.due();
        for wanted in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            let pause = plan.failed(now).duration_since(now).unwrap().as_secs_f64();
            let wanted = f64::from(wanted);
            assert!((wanted * 0.5..=wanted).contains(&pause), "{pause} for {wanted}");
            now = plan.due();
        }
        assert!(!plan.is_over(now));
        assert!(plan.is_over(SystemTime::UNIX_EPOCH + 100 * DAY));
    }

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_due_at_once() {
        let at = SystemTime::UNIX_EPOCH + DAY;
        let plan = RenewalPlan::between(RenewalConfig::default(), at, SystemTime::UNIX_EPOCH, 1);
        assert_eq!(plan.due(), at);
        assert!(plan.is_over(at));
    }
}
