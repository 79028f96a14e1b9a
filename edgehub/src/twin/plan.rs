//! When which device's report goes to the cloud. Pure: instants and randomness are arguments.
//!
//! ```text
//!                 next               done
//!   waiting ───────────► under way ──────────► nothing to tell
//!      ▲                  │  │  │
//!      │   changed since  │  │  └─ silent: nobody answered ──► until it changes, or the next connection
//!      ├──────────────────┘  └──── failed: the cloud could not ──► after a pause
//!      └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! A device has one report under way, so that a newer value never meets an older one on its way.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use hub_core::backoff::Backoff;

use super::name::DeviceId;

/// The devices with something to tell.
#[derive(Debug)]
pub(super) struct Plan {
    backoff: Backoff,
    /// In the order in which they go.
    waiting: VecDeque<DeviceId>,
    queued: HashSet<DeviceId>,
    /// And whether it changed since.
    under_way: HashMap<DeviceId, bool>,
    paused: BTreeSet<(Instant, DeviceId)>,
    failures: HashMap<DeviceId, u32>,
}

impl Plan {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            under_way: HashMap::new(),
            paused: BTreeSet::new(),
            failures: HashMap::new(),
        }
    }

    /// There is a new connection: whatever is owed may go, and nobody is to wait for an old failure.
    pub(super) fn connected(&mut self, owing: impl IntoIterator<Item = DeviceId>) {
        self.paused.clear();
        self.failures.clear();
        for id in owing {
            if !self.under_way.contains_key(&id) {
                self.queue(id);
            }
        }
    }

    /// A device has something new to tell.
    pub(super) fn changed(&mut self, id: DeviceId) {
        if let Some(changed) = self.under_way.get_mut(&id) {
            *changed = true;
        } else if !self.failures.contains_key(&id) {
            self.queue(id);
        }
    }

    /// Those that go next.
    pub(super) fn next(&mut self, max: usize) -> Vec<DeviceId> {
        let next: Vec<_> = self.waiting.drain(..max.min(self.waiting.len())).collect();
        for id in &next {
            self.queued.remove(id);
            self.under_way.insert(id.clone(), false);
        }
        next
    }

    /// The cloud has it, or will never take it; or there was nothing to tell.
    pub(super) fn done(&mut self, id: &DeviceId) {
        self.failures.remove(id);
        self.silent(id);
    }

    /// Nobody answered, several times.
    pub(super) fn silent(&mut self, id: &DeviceId) {
        if self.under_way.remove(id) == Some(true) {
            self.queue(id.clone());
        }
    }

    /// The cloud could not take it now.
    pub(super) fn failed(&mut self, id: &DeviceId, now: Instant, random: u64) {
        if self.under_way.remove(id).is_some() {
            let failures = self.failures.entry(id.clone()).or_default();
            let pause = self.backoff.pause(*failures, random);
            *failures += 1;
            self.paused.insert((now + pause, id.clone()));
        }
    }

    /// When a pause ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused.first().map(|(at, _)| *at)
    }

    /// Ends the pauses that are over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) {
            if let Some((_, id)) = self.paused.pop_first() {
                self.queue(id);
            }
        }
    }

    fn queue(&mut self, id: DeviceId) {
        if self.queued.insert(id.clone()) {
            self.waiting.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(name: &str) -> DeviceId {
        DeviceId::new("d", name).unwrap()
    }

    fn plan() -> Plan {
        Plan::new(Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
        })
    }

    #[test]
    fn a_device_has_one_report_under_way_and_the_next_follows_what_changed_since() {
        let mut plan = plan();
        plan.changed(id("a"));
        plan.changed(id("a"));
        plan.changed(id("b"));
        assert_eq!(plan.next(9), [id("a"), id("b")]);
        plan.changed(id("a"));
        assert!(plan.next(9).is_empty());
        plan.done(&id("a"));
        plan.done(&id("b"));
        assert_eq!(plan.next(9), [id("a")]);
        plan.done(&id("a"));
        assert!(plan.next(9).is_empty());
    }

    #[test]
    fn what_failed_waits_longer_each_time_whatever_changes_meanwhile() {
        let (mut plan, mut now) = (plan(), Instant::now());
        plan.changed(id("a"));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(plan.next(9).len(), 1);
            plan.failed(&id("a"), now, u64::MAX);
            plan.changed(id("a"));
            assert!(plan.next(9).is_empty());
            let at = plan.deadline().unwrap();
            let pause = (at - now).as_secs_f64();
            assert!(
                pause > 0.99 * f64::from(seconds) && pause <= f64::from(seconds),
                "{pause}"
            );
            now = at;
            plan.handle_timeout(now);
        }
        assert_eq!(plan.next(9).len(), 1);
        plan.failed(&id("a"), now, 0);
        plan.connected([id("a")]);
        assert_eq!(plan.next(9).len(), 1, "a new connection does not wait");
    }

    #[test]
    fn what_nobody_answers_is_left_alone_until_something_happens() {
        let mut plan = plan();
        plan.changed(id("a"));
        plan.next(9);
        plan.silent(&id("a"));
        assert!(plan.next(9).is_empty());
        assert_eq!(plan.deadline(), None);
        plan.changed(id("a"));
        assert_eq!(plan.next(9).len(), 1);
        plan.silent(&id("a"));
        plan.connected([id("a")]);
        assert_eq!(plan.next(9).len(), 1);
    }
}
