//! What the sessions say, and what the handlers make of it.

use std::time::Duration;

use super::end::Handler;
use super::wire::Side;
use super::{Stored, World, name, version};
use crate::message::{Message, Operation};
use crate::session::{CallEnd, Event, Lane};

impl World {
    pub(super) fn event(&mut self, side: Side, event: Event) {
        match event {
            Event::Inbound(message) => self.inbound(side, message),
            Event::Delivered { key, version, .. } => self.delivered(side, &key, version),
            Event::Expired { key } => {
                self.tally.expired += 1;
                self.check(key.starts_with("passing"), "only what is passing expires");
            }
            Event::Refused { .. } => {
                let expected = self.harsh || self.tally.failed > 0;
                self.check(expected, "only a failed handler refuses");
            }
            Event::CallEnded(call, end) => {
                let known = self.end_mut(side).calls.remove(&call);
                let Some((deadline, number)) = known else {
                    self.fail("a call ends once");
                };
                self.check(self.now <= deadline.max(self.now), "a call ends in time");
                match end {
                    CallEnd::Answered(answer) => {
                        self.tally.answered += 1;
                        let own = answer.route.operation == Operation::Error
                            || answer.content.bytes().as_ref() == number.to_string().as_bytes();
                        self.check(own, "a call is answered with its own answer");
                    }
                    CallEnd::TimedOut => {
                        self.tally.unanswered += 1;
                        self.check(self.now == deadline, "a call times out at its deadline");
                    }
                    CallEnd::NotSent => self.tally.unanswered += 1,
                }
            }
            Event::Silent => {
                self.tally.silences += 1;
                self.lose_end(side);
            }
        }
    }

    pub(super) fn inbound(&mut self, side: Side, message: Message) {
        let id = message.header.id.clone();
        let now = self.now;
        let again = self
            .end(side)
            .handled
            .get(&id)
            .is_some_and(|at| now - *at < Duration::from_secs(120));
        self.check(!again, "a message is handled once");
        let idle = self.end_mut(side).running.insert(id);
        self.check(idle, "a message is not handled twice at once");
        if let Some(number) = name(&message).strip_prefix("barrier-") {
            self.tally.barriers += 1;
            let before = number
                .parse()
                .ok()
                .and_then(|number: u64| self.barriers.get(&number));
            for (key, version) in before.into_iter().flatten() {
                let stored = self.disk.get(key).is_some_and(|held| held.version >= *version);
                self.check(stored, "a barrier comes after what was queued before it");
            }
        }
        // An acknowledged answer is urgent.
        self.end_mut(side).urgent |= message.route.operation == Operation::Query;
        let takes = self.dice.time(self.handler_max.max(Duration::from_micros(1)));
        let fails = self.dice.percent(self.fails);
        self.end_mut(side).start(Handler { message, fails }, now + takes);
    }

    pub(super) fn finish(&mut self, side: Side, handler: Handler) {
        let now = self.now;
        let Handler { message, fails } = handler;
        let id = message.header.id.clone();
        self.end_mut(side).running.remove(&id);
        if fails {
            self.tally.failed += 1;
            self.end_mut(side).session.nack(&id, "failed", now);
            return;
        }
        self.end_mut(side).handled.insert(id.clone(), now);
        if message.route.operation == Operation::Query {
            let answer = message.response(message.content.clone());
            self.end_mut(side).session.reply(&id, answer, Lane::Urgent, now);
            return;
        }
        self.apply(side, &message);
        self.end_mut(side).session.ack(&id, now);
    }

    /// Writes what a message says; a store ignores a version it already passed.
    pub(super) fn apply(&mut self, side: Side, message: &Message) {
        let name = name(message);
        if side == Side::Cloud {
            if let Ok(number) = String::from_utf8_lossy(message.content.bytes()).parse::<u64>()
                && name.starts_with("report")
            {
                let newest = self.reported.entry(name).or_insert(0);
                *newest = number.max(*newest);
            }
            return;
        }
        let content = message.content.bytes().clone();
        if name.starts_with('o')
            && let Some(version) = version(&content)
            && self.disk.get(&name).is_none_or(|held| held.version < version)
        {
            self.disk.insert(name, Stored { version, content });
        }
    }

    pub(super) fn delivered(&mut self, side: Side, key: &str, version: Option<u64>) {
        match side {
            Side::Cloud if key.starts_with('o') => {
                self.tally.delivered += 1;
                let stored = self.disk.get(key).map(|held| held.version);
                self.check(stored >= version, "what is acknowledged is stored");
            }
            Side::Edge if key.starts_with("report") => {
                self.tally.reports += 1;
                let have = self.reported.get(key).copied();
                self.check(have >= version, "a report that is acknowledged has come");
            }
            _ => {}
        }
        if side == Side::Cloud {
            self.retry_backlog();
        }
    }
}
