//! Which endpoint next, and when: pure, in virtual time.
//!
//! Targets are tried in turn, preferred transport first; the one that worked last goes before them. The pauses grow with each
//! round over all targets and shrink again only after a connection that lived longer than the longest pause, so a cloud that
//! lets nodes in and drops them at once is not stormed.

use std::time::{Duration, Instant};

use hub_core::backoff::Backoff;
use hub_core::random::{Random, share};
use hub_core::transport::TransportError;

/// How dials are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialConfig {
    /// The pauses after failures.
    pub backoff: Backoff,
    /// The pause once every target refuses this node.
    pub refused_pause: Duration,
}

/// Why a dial brought no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The link's fault, or the cloud's: it passes.
    Link,
    /// The cloud is busy and says when it will not be.
    RetryAfter(Duration),
    /// The cloud does not want this node (403): a person must do something.
    Refused,
}

impl From<&TransportError> for Failure {
    fn from(error: &TransportError) -> Self {
        match error {
            TransportError::Refused(rejection) => match rejection.retry_after_seconds {
                Some(seconds) => Self::RetryAfter(Duration::from_secs(seconds.into())),
                None if matches!(rejection.code, 401 | 403) => Self::Refused,
                None => Self::Link,
            },
            _ => Self::Link,
        }
    }
}

/// The next dial of a node with `targets` targets, named by their numbers. The seed must be the node's own.
#[derive(Debug, Clone)]
pub struct DialPlan {
    config: DialConfig,
    targets: usize,
    /// The targets of this round that are still to be tried, in order; the first is next.
    round: Vec<usize>,
    at: Instant,
    failures: u32,
    /// Targets in a row that refused this node.
    refusals: usize,
    /// The target that is connected, or was last.
    good: Option<usize>,
    since: Option<Instant>,
    random: Random,
}

impl DialPlan {
    /// A plan whose first dial is due at once.
    pub fn new(targets: usize, config: DialConfig, seed: u64, now: Instant) -> Self {
        let mut plan = Self {
            config,
            targets: targets.max(1),
            round: Vec::new(),
            at: now,
            failures: 0,
            refusals: 0,
            good: None,
            since: None,
            random: Random::new(seed),
        };
        plan.begin_round();
        plan
    }

    /// The target to dial, and when.
    pub fn next(&self) -> (usize, Instant) {
        (self.round.first().copied().unwrap_or_default(), self.at)
    }

    /// Whether all targets refuse this node.
    pub fn is_refused(&self) -> bool {
        self.refusals >= self.targets
    }

    /// The dial failed.
    pub fn failed(&mut self, failure: Failure, now: Instant) {
        self.refusals = if failure == Failure::Refused {
            self.refusals + 1
        } else {
            0
        };
        let random = self.random.number();
        let rounds = self.failures / u32::try_from(self.targets).unwrap_or(u32::MAX);
        let mut pause = self.config.backoff.pause(rounds, random);
        self.failures = self.failures.saturating_add(1);
        match failure {
            Failure::Link => {}
            Failure::RetryAfter(after) => {
                // Never earlier, and not all at the same instant.
                let after = after.min(RETRY_AFTER_MAX);
                pause = pause.max(after + after.mul_f64(0.25 * share(random)));
            }
            Failure::Refused if self.is_refused() => {
                pause = pause.max(self.config.refused_pause.mul_f64(0.75 + 0.5 * share(random)));
            }
            Failure::Refused => {}
        }
        self.at = now + pause;
        if !self.round.is_empty() {
            self.round.remove(0);
        }
        if self.round.is_empty() {
            self.good = None;
            self.begin_round();
        }
    }

    /// The dial succeeded.
    pub fn connected(&mut self, now: Instant) {
        self.refusals = 0;
        self.good = Some(self.next().0);
        self.since = Some(now);
    }

    /// The connection is gone.
    pub fn lost(&mut self, now: Instant) {
        self.end_life(now);
        let random = self.random.number();
        let rounds = self.failures / u32::try_from(self.targets).unwrap_or(u32::MAX);
        self.at = now + self.config.backoff.pause(rounds, random);
        self.failures = self.failures.saturating_add(1);
        self.begin_round();
    }

    /// The cloud ended the connection because it stops. Where the plan is not in trouble the next dial is due at once, within the
    /// shortest pause so that a fleet does not come in one instant, and the target that stops comes last.
    pub fn sent_away(&mut self, now: Instant) {
        self.end_life(now);
        let random = self.random.number();
        // Once in each long life. A cloud that takes a node and sends it away again and again is left alone like any other.
        let rounds = self.failures / u32::try_from(self.targets).unwrap_or(u32::MAX);
        self.at = now
            + match self.failures {
                0 => self.config.backoff.first.mul_f64(share(random)),
                _ => self.config.backoff.pause(rounds, random),
            };
        self.failures = self.failures.saturating_add(1);
        let stops = self.good.take();
        self.begin_round();
        self.round.sort_by_key(|target| Some(*target) == stops);
    }

    /// A long connection makes the pauses short again.
    fn end_life(&mut self, now: Instant) {
        let lived = self
            .since
            .take()
            .map(|since| now.saturating_duration_since(since));
        if lived.is_some_and(|lived| lived > self.config.backoff.max) {
            self.failures = 0;
        }
    }

    /// The connection stands, but the cloud says nothing on it: this target is as good as one that refuses.
    pub fn useless(&mut self, now: Instant) {
        self.since = None;
        self.good = None;
        self.failed(Failure::Refused, now);
    }

    /// What worked last goes first: a fallback that works is not left for a preferred target that may not answer.
    fn begin_round(&mut self) {
        let good = self.good;
        self.round = good
            .into_iter()
            .chain((0..self.targets).filter(|n| Some(*n) != good))
            .collect();
    }
}

/// A cloud cannot send a node away for longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use hub_core::transport::Rejection;

    use super::*;

    const CONFIG: DialConfig = DialConfig {
        backoff: Backoff {
            first: Duration::from_millis(500),
            max: Duration::from_secs(30),
        },
        refused_pause: Duration::from_secs(60),
    };

    fn plan(targets: usize, now: Instant) -> DialPlan {
        DialPlan::new(targets, CONFIG, 7, now)
    }

    /// Fails `n` times and gives the targets and the pauses in milliseconds.
    fn failures(plan: &mut DialPlan, failure: Failure, n: usize, now: Instant) -> Vec<(usize, u128)> {
        let mut now = now;
        (0..n)
            .map(|_| {
                let (target, at) = plan.next();
                let pause = at.saturating_duration_since(now).as_millis();
                now = now.max(at);
                plan.failed(failure, now);
                (target, pause)
            })
            .collect()
    }

    #[test]
    fn the_first_dial_is_at_once_and_the_pauses_double_up_to_the_longest() {
        let now = Instant::now();
        let dials = failures(&mut plan(1, now), Failure::Link, 10, now);
        let longest = [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        for ((target, pause), longest) in dials.into_iter().zip(longest) {
            assert_eq!(target, 0);
            assert!(pause >= longest / 2 && pause <= longest, "{pause} of {longest}");
        }
    }

    #[test]
    fn all_targets_are_tried_in_order_before_the_pauses_grow() {
        let now = Instant::now();
        let dials = failures(&mut plan(3, now), Failure::Link, 7, now);
        assert_eq!(
            dials.iter().map(|d| d.0).collect::<Vec<_>>(),
            [0, 1, 2, 0, 1, 2, 0]
        );
        assert!(dials[..4].iter().all(|d| d.1 <= 500) && dials[4..].iter().all(|d| d.1 >= 500));
    }

    #[test]
    fn what_worked_last_is_tried_first_and_then_the_preferred() {
        let now = Instant::now();
        let mut plan = plan(3, now);
        plan.failed(Failure::Link, now);
        plan.failed(Failure::Link, now);
        assert_eq!(plan.next().0, 2);
        plan.connected(now);
        plan.lost(now + Duration::from_secs(3600));
        let dials = failures(&mut plan, Failure::Link, 4, now);
        assert_eq!(dials.iter().map(|d| d.0).collect::<Vec<_>>(), [2, 0, 1, 0]);
    }

    #[test]
    fn only_a_long_connection_makes_the_pauses_short_again() {
        let now = Instant::now();
        for (lived, shortest, longest) in [(29, 4000, 8000), (31, 250, 500)] {
            let mut plan = plan(1, now);
            failures(&mut plan, Failure::Link, 4, now);
            plan.connected(now);
            let lost = now + Duration::from_secs(lived);
            plan.lost(lost);
            let pause = plan.next().1.saturating_duration_since(lost).as_millis();
            assert!((shortest..=longest).contains(&pause), "{pause} after {lived} s");
        }
    }

    #[test]
    fn a_cloud_that_stops_is_left_at_once_for_another_but_not_again_and_again() {
        let now = Instant::now();
        let mut plan = plan(3, now);
        plan.connected(now);
        plan.sent_away(now);
        let (target, at) = plan.next();
        assert_eq!((target, at <= now + CONFIG.backoff.first), (1, true));
        plan.connected(at);
        for _ in 0..12 {
            plan.sent_away(now);
            plan.connected(now);
        }
        assert!(plan.next().1 >= now + Duration::from_secs(4));
        let mut order = DialPlan::new(3, CONFIG, 7, now);
        order.connected(now);
        order.sent_away(now);
        let dials = failures(&mut order, Failure::Link, 3, now);
        assert_eq!(dials.iter().map(|d| d.0).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn a_busy_cloud_is_left_alone_for_as_long_as_it_says_but_not_for_ever() {
        let now = Instant::now();
        for (said, longest) in [(7, 9), (1_000_000, 750)] {
            let mut plan = plan(1, now);
            plan.failed(Failure::RetryAfter(Duration::from_secs(said)), now);
            let pause = plan.next().1.saturating_duration_since(now);
            assert!(pause >= Duration::from_secs(said.min(600)) && pause <= Duration::from_secs(longest));
        }
    }

    #[test]
    fn a_node_that_everybody_refuses_comes_back_slowly() {
        let now = Instant::now();
        let mut plan = plan(2, now);
        let dials = failures(&mut plan, Failure::Refused, 2, now);
        assert!(dials[1].1 <= 500, "another cloud may want it");
        assert!(plan.is_refused());
        let dials = failures(&mut plan, Failure::Refused, 3, now);
        assert!(
            dials[1..].iter().all(|d| (45_000..=75_000).contains(&d.1)),
            "{dials:?}"
        );
        plan.connected(now);
        assert!(!plan.is_refused());
    }

    #[test]
    fn a_target_that_takes_connections_and_says_nothing_comes_last_and_alone_it_comes_slowly() {
        let now = Instant::now();
        let mut two = plan(2, now);
        two.connected(now);
        two.useless(now);
        assert_eq!(two.next().0, 1);
        assert!(two.next().1 <= now + Duration::from_secs(1), "another may speak");
        let mut one = plan(1, now);
        one.connected(now);
        one.useless(now);
        assert!(one.next().1 >= now + Duration::from_secs(45));
    }

    #[test]
    fn a_fleet_is_spread_out() {
        let now = Instant::now();
        let pauses: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| {
                let mut plan = DialPlan::new(1, CONFIG, seed, now);
                plan.failed(Failure::Link, now);
                plan.next().1
            })
            .collect();
        assert!(pauses.len() > 90);
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |code, retry_after_seconds| {
            let reason = String::new();
            Failure::from(&TransportError::Refused(Rejection {
                code,
                reason,
                retry_after_seconds,
            }))
        };
        assert_eq!(refused(403, None), Failure::Refused);
        assert_eq!(refused(503, Some(5)), Failure::RetryAfter(Duration::from_secs(5)));
        assert_eq!(refused(500, None), Failure::Link);
        assert_eq!(
            Failure::from(&TransportError::Timeout("handshake")),
            Failure::Link
        );
    }
}
