//! Whole worlds in virtual time: a cluster that changes, an edge with a disk, two sessions, and a bad wire between them.
//!
//! A world is made of a seed alone. It is first troubled (cuts, half-open links, outages, stalled sockets, slow and failing handlers, full
//! outboxes, restarts of either end, and in the harsher half of all worlds lost, copied and reordered frames), then its
//! wire is good, and then it must settle in time. What it checks:
//!
//! - *Safety.* What is acknowledged is stored. A barrier arrives after everything that was queued before it. A message is
//!   handled once, unless its handler failed or its end restarted. Each call ends once, with its own answer. A limit is
//!   a limit. A deadline, once handled, is over.
//! - *Liveness.* Once the wire is good, both sessions are settled within [`SETTLES_WITHIN`], and each store holds the
//!   newest of everything.
//!
//! A failure panics with the seed.

mod dice;
mod end;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::content_hash;
use crate::message::{Content, Message, Operation, Route};
use crate::session::{CallEnd, Delivery, Event, KeepaliveConfig, Lane, Outgoing, Session, SessionConfig};
use crate::transport::{Capabilities, Outbound};
use dice::Dice;
use end::{End, Handler};
use wire::{Frame, Manners, Side, Wire};

/// The virtual time in which a world must settle once its wire is good: a silence, a redial, the longest resend pause,
/// and every object in its turn where the window is one and the wire slow. Less than the time after which a session
/// forgets what it handled, so that no copy is handled again in place of being acknowledged.
pub const SETTLES_WITHIN: Duration = Duration::from_secs(100);

/// What happened in a world, to see that worlds do meet what they are made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that the cloud knows to be stored.
    pub delivered: u64,
    /// Frames that were sent as differences.
    pub differences: u64,
    /// Differences that did not apply.
    pub refused_differences: u64,
    /// Handlers that failed.
    pub failed: u64,
    /// Barriers that arrived.
    pub barriers: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that ended otherwise.
    pub unanswered: u64,
    /// Reports of the edge that the cloud acknowledged.
    pub reports: u64,
    /// Messages given up in time.
    pub expired: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections given up for silence.
    pub silences: u64,
    /// Restarts of either end.
    pub restarts: u64,
    /// Messages given back by a full outbox.
    pub full: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.differences += other.differences;
        self.refused_differences += other.refused_differences;
        self.failed += other.failed;
        self.barriers += other.barriers;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.reports += other.reports;
        self.expired += other.expired;
        self.connections += other.connections;
        self.silences += other.silences;
        self.restarts += other.restarts;
        self.full += other.full;
    }
}

/// Runs the world of a seed to its end. Panics, with the seed, when the world is not as it must be.
pub fn run(seed: u64) -> Tally {
    let _name = Name(seed);
    let mut world = World::new(seed);
    world.trouble();
    world.calm();
    world.tally
}

/// Tells which world it was, whatever panics in it.
struct Name(u64);

impl Drop for Name {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("This was world {0}. Replay it with WORLD_SEED={0}", self.0);
        }
    }
}

/// An object as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    version: u64,
    content: Bytes,
}

type Store = BTreeMap<String, Stored>;

struct World {
    seed: u64,
    dice: Dice,
    start: Instant,
    now: Instant,
    capabilities: Capabilities,
    /// Limits of the two ends, in the order of [`Side`].
    configs: [SessionConfig; 2],
    ends: [End; 2],
    wire: Wire,
    /// Whether the wire loses, copies and reorders frames.
    harsh: bool,
    connections: u64,
    /// When the edge may dial again.
    dial_at: Instant,
    /// Chance of trouble in place of work, in percent, and the longest time until the edge dials again.
    troubles: u64,
    redial_max: Duration,
    /// Chance that a handler fails, and the longest it takes.
    fails: u64,
    handler_max: Duration,

    /// The newest of every object in the cluster.
    cluster: Store,
    /// The edge's disk.
    disk: Store,
    /// Objects that a full outbox gave back.
    backlog: BTreeSet<String>,
    /// What was queued before each barrier.
    barriers: BTreeMap<u64, BTreeMap<String, u64>>,
    /// What this cloud process has queued with an acknowledgement.
    queued: BTreeMap<String, u64>,
    /// The newest report of each of the edge's subjects, and what the cloud has of them.
    reports: BTreeMap<String, u64>,
    reported: BTreeMap<String, u64>,
    counter: u64,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let harsh = dice.percent(50);
        let manners = Manners {
            delay_max: Duration::from_millis([2, 40, 400, 1500][dice.below(4) as usize]),
            reorders: harsh,
            drops: if harsh { dice.below(40) } else { 0 },
            copies: if harsh { dice.below(40) } else { 0 },
        };
        let capabilities = if dice.percent(60) {
            Capabilities::ALL
        } else {
            Capabilities::NONE
        };
        let mut configs = [SessionConfig::cloud(), SessionConfig::edge()];
        for config in &mut configs {
            config.window = [1, 2, 8, 64][dice.below(4) as usize];
            config.slots_max = [2, 4, 16, 65_536][dice.below(4) as usize];
            config.calls_max = [1, 4, 64][dice.below(3) as usize];
            config.bases_max = [0, 2, 4096][dice.below(3) as usize];
            config.resend = Duration::from_millis([500, 2000][dice.below(2) as usize]);
            config.resend_max = Duration::from_secs([4, 10][dice.below(2) as usize]);
        }
        configs[0].keepalive = KeepaliveConfig::Expect {
            silence_max: Duration::from_secs(8),
        };
        configs[1].keepalive = KeepaliveConfig::Send {
            interval: Duration::from_secs(3),
            silence_max: Duration::from_secs(12),
        };
        let start = Instant::now();
        let fails = if dice.percent(50) { dice.below(40) } else { 0 };
        let handler_max = Duration::from_millis([0, 10, 1000, 20_000][dice.below(4) as usize]);
        let troubles = [0, 1, 3, 8][dice.below(4) as usize];
        let redial_max = Duration::from_millis([20, 500, 5000][dice.below(3) as usize]);
        let ends = [Side::Cloud, Side::Edge].map(|side| {
            let config = configs[side as usize].clone();
            End::new(Session::new(config, dice.number()), start)
        });
        Self {
            seed,
            dice,
            start,
            now: start,
            capabilities,
            configs,
            ends,
            wire: Wire::new(manners),
            harsh,
            connections: 0,
            dial_at: start,
            troubles,
            redial_max,
            fails,
            handler_max,
            cluster: Store::new(),
            disk: Store::new(),
            backlog: BTreeSet::new(),
            barriers: BTreeMap::new(),
            queued: BTreeMap::new(),
            reports: BTreeMap::new(),
            reported: BTreeMap::new(),
            counter: 0,
            tally: Tally::default(),
        }
    }

    // --- the two halves of a world's life

    fn trouble(&mut self) {
        let until = self.now + Duration::from_secs(10) + self.dice.time(Duration::from_secs(290));
        let pause = Duration::from_millis([50, 400, 4000][self.dice.below(3) as usize]);
        let mut acts = 0;
        while self.now < until && acts < 400 {
            let next = self.now + self.dice.time(pause);
            self.run_until(next.min(until));
            self.act();
            acts += 1;
        }
    }

    fn calm(&mut self) {
        self.wire.manners.drops = 0;
        self.wire.manners.copies = 0;
        self.wire.swallows = [false; 2];
        for end in &mut self.ends {
            end.stalled_until = self.now;
        }
        self.fails = 0;
        self.handler_max = self.handler_max.min(Duration::from_secs(1));
        self.dial_at = self.dial_at.min(self.now);
        let good_since = self.now;
        let limit = good_since + SETTLES_WITHIN;
        while !self.is_settled() {
            if self.now >= limit {
                let missing: Vec<_> = self
                    .cluster
                    .iter()
                    .filter(|(k, v)| self.disk.get(*k) != Some(v))
                    .collect();
                self.fail(&format!(
                    "not settled: cloud {:?}, edge {:?}, missing {missing:?}",
                    self.ends[0].session.depth(),
                    self.ends[1].session.depth(),
                ));
            }
            self.run_until(self.now + Duration::from_secs(1));
        }
        self.check(self.cluster == self.disk, "the disk is the cluster");
        if self.capabilities.ack {
            let come = |(subject, number)| self.reported.get(subject) >= Some(number);
            self.check(self.reports.iter().all(come), "every report has come");
        }
        for side in [Side::Cloud, Side::Edge] {
            self.check(self.end(side).calls.is_empty(), "every call has ended");
        }
    }

    fn is_settled(&self) -> bool {
        self.backlog.is_empty()
            && self
                .ends
                .iter()
                .all(|end| end.session.is_settled() && end.link.is_some())
    }

    /// One thing happens.
    fn act(&mut self) {
        if self.dice.percent(self.troubles) {
            self.befall();
            return;
        }
        match self.dice.below(100) {
            0..50 => self.change(),
            50..55 => (0..20).for_each(|_| self.change()),
            55..62 => self.barrier(),
            62..72 => self.call(Side::Edge),
            72..76 => self.call(Side::Cloud),
            76..90 => self.report(),
            _ => self.passing(),
        }
        self.pump();
    }

    // --- what the cloud does

    fn change(&mut self) {
        let key = format!("o{}", self.dice.below(12));
        self.counter += 1;
        let version = self.counter;
        let content = Bytes::from(format!("{{\"v\":{version}}}"));
        let old = self.cluster.insert(key.clone(), Stored { version, content });
        self.push(&key, old.map(|old| old.content));
    }

    fn push(&mut self, key: &str, previous: Option<Bytes>) {
        let Some(newest) = self.cluster.get(key).cloned() else {
            return;
        };
        let outgoing = Outgoing {
            key: key.into(),
            version: Some(newest.version),
            lane: [Lane::Own, Lane::Rest, Lane::Bulk][content_hash(key.as_bytes()) as usize % 3],
            delivery: Delivery::Acked,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                key,
                newest.content,
            ),
            previous,
        };
        if self.send(Side::Cloud, outgoing) {
            self.queued.insert(key.to_owned(), newest.version);
            self.backlog.remove(key);
        } else {
            self.tally.full += 1;
            self.backlog.insert(key.to_owned());
        }
    }

    fn retry_backlog(&mut self) {
        if let Some(key) = self.backlog.first().cloned() {
            self.push(&key, None);
        }
    }

    fn barrier(&mut self) {
        self.counter += 1;
        let number = self.counter;
        let outgoing = Outgoing {
            key: "barrier".into(),
            version: None,
            lane: Lane::Rest,
            delivery: Delivery::Barrier,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                &format!("barrier-{number}"),
                Bytes::from_static(b"{}"),
            ),
            previous: None,
        };
        if self.send(Side::Cloud, outgoing) {
            self.barriers.insert(number, self.queued.clone());
        }
    }

    /// A message that is not wanted for ever.
    fn passing(&mut self) {
        self.counter += 1;
        let within = self.dice.time(Duration::from_secs(20));
        let delivery = if self.dice.percent(50) {
            Delivery::Once(within)
        } else {
            Delivery::AckedWithin(within)
        };
        let name = format!("passing-{}", self.counter);
        let side = if self.dice.percent(70) {
            Side::Cloud
        } else {
            Side::Edge
        };
        let outgoing = Outgoing {
            key: name.as_str().into(),
            version: None,
            lane: if self.dice.percent(50) {
                Lane::Urgent
            } else {
                Lane::Bulk
            },
            delivery,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                &name,
                Bytes::from_static(b"{}"),
            ),
            previous: None,
        };
        self.send(side, outgoing);
    }

    // --- what the edge does

    fn report(&mut self) {
        if !self.capabilities.ack {
            return;
        }
        self.counter += 1;
        let subject = format!("report-{}", self.dice.below(4));
        if self.send_report(&subject, self.counter) {
            self.reports.insert(subject, self.counter);
        }
    }

    fn send_report(&mut self, subject: &str, number: u64) -> bool {
        let outgoing = Outgoing {
            key: subject.into(),
            version: Some(number),
            lane: Lane::Rest,
            delivery: Delivery::Acked,
            message: message(
                "edged",
                Operation::Update,
                "podstatus",
                subject,
                Bytes::from(number.to_string()),
            ),
            previous: None,
        };
        self.send(Side::Edge, outgoing)
    }

    fn call(&mut self, side: Side) {
        self.counter += 1;
        // The one kind of answer is acknowledged, the other is not.
        let (source, kind) = if self.dice.percent(50) {
            ("edged", "configmap")
        } else {
            ("edgecontroller", "lease")
        };
        let question = message(
            source,
            Operation::Query,
            kind,
            &format!("call-{}", self.counter),
            Bytes::from(self.counter.to_string()),
        );
        let deadline = self.now + self.dice.time(Duration::from_secs(30));
        let (now, number) = (self.now, self.counter);
        let end = self.end_mut(side);
        let call = end.session.call(question, Lane::Urgent, deadline, now);
        end.calls.insert(call, (deadline, number));
    }

    // --- what befalls them

    fn befall(&mut self) {
        match self.dice.below(20) {
            0..6 => self.cut(),
            6 => {
                self.cut();
                self.dial_at = self.now + self.dice.time(Duration::from_secs(150));
            }
            7..11 => {
                let both = self.dice.percent(50);
                let side = self.dice.below(2) as usize;
                self.wire.swallows = [both || side == 0, both || side == 1];
            }
            11..14 => {
                let until = self.now + self.dice.time(Duration::from_secs(6));
                let side = if self.dice.percent(50) {
                    Side::Cloud
                } else {
                    Side::Edge
                };
                self.end_mut(side).stalled_until = until;
            }
            14 => self.restart(Side::Edge),
            15 | 16 => self.restart(Side::Cloud),
            17 => self.lose_end(Side::Cloud),
            _ => self.lose_end(Side::Edge),
        }
        self.pump();
    }

    fn cut(&mut self) {
        self.wire.cut();
        self.lose_end(Side::Cloud);
        self.lose_end(Side::Edge);
    }

    /// One end notices that its connection is gone.
    fn lose_end(&mut self, side: Side) {
        let now = self.now;
        let end = self.end_mut(side);
        if end.link.take().is_some() {
            end.session.detach(now);
            if side == Side::Edge {
                self.dial_at = self.dial_at.max(now + self.dice.time(self.redial_max));
            }
        }
    }

    fn restart(&mut self, side: Side) {
        self.tally.restarts += 1;
        self.cut();
        let session = Session::new(self.configs[side as usize].clone(), self.dice.number());
        *self.end_mut(side) = End::new(session, self.now);
        match side {
            Side::Edge => {
                // Its journal has what it must still report.
                for (subject, number) in self.reports.clone() {
                    if !self.send_report(&subject, number) {
                        self.reports.remove(&subject);
                        self.reported.remove(&subject);
                    }
                }
            }
            Side::Cloud => {
                self.queued.clear();
                self.barriers.clear();
                self.backlog = self.cluster.keys().cloned().collect();
                self.catch_up();
            }
        }
    }

    /// A new cloud process compares the cluster with what the edge says it holds, or knows nothing of it.
    fn catch_up(&mut self) {
        if self.capabilities.resume {
            for (key, held) in &self.disk {
                let session = &mut self.ends[Side::Cloud as usize].session;
                session.assume_held(key, Some(held.version), &held.content);
                if self.cluster.get(key) == Some(held) {
                    self.backlog.remove(key);
                }
            }
        }
        for key in self.backlog.clone() {
            let previous = self.disk.get(&key).map(|held| held.content.clone());
            self.push(&key, previous);
        }
    }

    fn connect(&mut self) {
        self.connections += 1;
        self.tally.connections += 1;
        self.wire.cut();
        let wall = 1_700_000_000_000;
        for end in &mut self.ends {
            // The edge is without one here; the cloud's old connection may not have been missed yet.
            end.link = Some(self.connections);
            end.session.attach(self.capabilities, wall, self.now);
        }
    }

    // --- time

    fn run_until(&mut self, until: Instant) {
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

    fn step(&mut self) {
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
    fn pump(&mut self) {
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

    // --- frames and events

    fn transmit(&mut self, from: Side, frame: Outbound) {
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
    fn watch_window(&self, from: Side) {
        let in_flight = self.end(from).session.depth().in_flight;
        let window = self.configs[from as usize].window;
        self.check(self.end(from).urgent || in_flight <= window, "the window is kept");
    }

    fn receive(&mut self, to: Side, connection: u64, frame: Frame) {
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

    fn event(&mut self, side: Side, event: Event) {
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

    fn inbound(&mut self, side: Side, message: Message) {
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

    fn finish(&mut self, side: Side, handler: Handler) {
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
    fn apply(&mut self, side: Side, message: &Message) {
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

    fn delivered(&mut self, side: Side, key: &str, version: Option<u64>) {
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

    // --- small things

    fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    fn send(&mut self, side: Side, outgoing: Outgoing) -> bool {
        let now = self.now;
        let end = self.end_mut(side);
        end.urgent |= outgoing.lane == Lane::Urgent;
        end.session.send(outgoing, now).is_ok()
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!(
            "world {} after {:?}: this does not hold: {what}",
            self.seed,
            self.now - self.start
        )
    }
}

fn message(source: &str, operation: Operation, kind: &str, name: &str, content: Bytes) -> Message {
    Message::new(
        Route::new(source, "resource", operation, format!("default/{kind}/{name}")),
        Content::from_json(content),
    )
}

fn name(message: &Message) -> String {
    let parts = message.route.resource.parts();
    parts.and_then(|parts| parts.name).unwrap_or_default().to_owned()
}

/// The version in the content of an object.
fn version(content: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(content).ok()?;
    text.strip_prefix("{\"v\":")?.strip_suffix('}')?.parse().ok()
}
