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

mod clockwork;
mod deeds;
mod dice;
mod end;
mod events;
mod mishaps;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::message::{Content, Message, Operation, Route};
use crate::session::{KeepaliveConfig, Lane, Outgoing, Session, SessionConfig};
use crate::transport::Capabilities;
use dice::Dice;
use end::End;
use wire::{Manners, Side, Wire};

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

/// Runs the world of a seed for so long: trouble, a good wire on which everything must agree, some quiet hours, and trouble again.
pub fn run_for(seed: u64, time: Duration) -> Tally {
    let _name = Name(seed);
    let mut world = World::new(seed);
    let (manners, fails, handler_max) = (world.wire.manners, world.fails, world.handler_max);
    while world.now - world.start < time {
        (world.wire.manners, world.fails, world.handler_max) = (manners, fails, handler_max);
        world.trouble();
        world.calm();
        let quiet = world.dice.time(QUIET_MAX);
        world.run_until(world.now + quiet);
        // Nothing falls apart by itself.
        world.calm();
    }
    world.tally
}

/// The longest time in which nothing happens in a world that lives long.
const QUIET_MAX: Duration = Duration::from_secs(2 * 3600);

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

    // --- what the cloud does

    // --- what the edge does

    // --- what befalls them

    // --- time

    // --- frames and events

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
