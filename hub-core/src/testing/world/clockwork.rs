//! The passing of time: which moment is next, and which frames cross the wire in it.

use std::time::Instant;

use super::wire::{Frame, Side};
use super::{World, name};
use crate::codec::content_hash;
use crate::transport::Outbound;

impl World {
    pub(super) fn run_until(&mut self, until: Instant) {
        let mut steps = 0;
        let mut instant = self.now;
        loop {
            self.pump();
            let mut next = until;
            for end in &self.ends {
                let stalled = (end.stalled_until > self.now).then_some(end.stalled_until);
                next = [
                    Some(next),
                    end.session.poll_timeout(),
                    end.next_handler(),
                    stalled,
                ]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(until);
            }
            next = self.wire.next().map_or(next, |at| at.min(next));
            if self.end(Side::Edge).link.is_none() {
                next = next.min(self.dial_at);
            }
            self.now = next.max(self.now);
            if self.now >= until {
                self.now = until;
                self.retry_backlog();
                self.pump();
                return;
            }
            steps += 1;
            if self.now > instant {
                (instant, steps) = (self.now, 0);
            }
            self.check(steps < 10_000, "time goes on");
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        let now = self.now;
        for side in [Side::Cloud, Side::Edge] {
            let session = &mut self.end_mut(side).session;
            if session.poll_timeout().is_some_and(|at| at <= now) {
                session.handle_timeout(now);
                let later = session.poll_timeout().is_none_or(|at| at > now);
                self.check(later, "a deadline that was handled is over");
            }
            while let Some(handler) = self.end_mut(side).finished_handler(now) {
                self.finish(side, handler);
            }
        }
        if self.end(Side::Edge).link.is_none() && self.dial_at <= now {
            self.connect();
        }
        while let Some((to, connection, frame)) = self.wire.receive(now) {
            if self.end(to).link == Some(connection) {
                self.receive(to, connection, frame);
            }
        }
    }

    /// Takes all events and frames that are there.
    pub(super) fn pump(&mut self) {
        loop {
            let mut idle = true;
            for side in [Side::Cloud, Side::Edge] {
                while let Some(event) = self.end_mut(side).session.poll_event() {
                    idle = false;
                    self.event(side, event);
                }
                let now = self.now;
                while self.end(side).stalled_until <= now {
                    let Some(frame) = self.end_mut(side).session.poll_transmit(now) else {
                        break;
                    };
                    idle = false;
                    self.transmit(side, frame);
                }
                let limits = &self.configs[side as usize];
                let depth = self.end(side).session.depth();
                self.check(depth.calls <= limits.calls_max, "calls are limited");
            }
            if idle {
                return;
            }
        }
    }

    pub(super) fn transmit(&mut self, from: Side, frame: Outbound) {
        let connection = self.end(from).link;
        self.check(connection.is_some(), "nothing is sent without a connection");
        if let Outbound::Message { base: Some(_), .. } = &frame {
            self.tally.differences += 1;
        }
        self.watch_window(from);
        let frame = Frame::Sent(Box::new(frame));
        self.wire.send(
            from.other(),
            connection.unwrap_or(0),
            frame,
            &mut self.dice,
            self.now,
        );
    }

    /// The window is kept, but for what is urgent.
    pub(super) fn watch_window(&self, from: Side) {
        let in_flight = self.end(from).session.depth().in_flight;
        let window = self.configs[from as usize].window;
        self.check(self.end(from).urgent || in_flight <= window, "the window is kept");
    }

    pub(super) fn receive(&mut self, to: Side, connection: u64, frame: Frame) {
        let now = self.now;
        match frame {
            Frame::Pong => self.end_mut(to).session.heard(now),
            Frame::Sent(frame) => match *frame {
                Outbound::Ping => {
                    self.end_mut(to).session.heard(now);
                    self.wire
                        .send(to.other(), connection, Frame::Pong, &mut self.dice, now);
                }
                Outbound::Close(_) => self.lose_end(to),
                Outbound::Message { message, base: None } => {
                    self.end_mut(to).session.handle_message(message, now);
                }
                Outbound::Message {
                    message,
                    base: Some(base),
                } => {
                    let held = self
                        .disk
                        .get(&name(&message))
                        .map(|held| content_hash(&held.content));
                    if held == Some(content_hash(&base)) {
                        self.end_mut(to).session.handle_message(message, now);
                    } else {
                        self.tally.refused_differences += 1;
                        self.end_mut(to).session.refuse(message, "another base", now);
                    }
                }
            },
        }
    }
}
