//! One node, its cloud, and everything that may happen between them, by seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hub_core::backoff::Backoff;
use hub_core::store::Change;

use super::super::device::Device;
use super::super::owed::Owed;
use super::super::plan::Plan;
use super::super::record;
use super::super::shape::Value;
use super::{MAX, actual, device, expected, one};

/// Properties with the version at which somebody wished for them, and what.
type Wishes = BTreeMap<String, (u64, u64)>;

/// A cloud that keeps what it is told, and the order in which it was.
#[derive(Default)]
struct Cloud {
    reported: BTreeMap<String, u64>,
    observed: BTreeMap<String, u64>,
    desired: Wishes,
    version: u64,
}

impl Cloud {
    fn hear(&mut self, owed: &Owed) {
        for (name, twin) in &owed.twin {
            let twin = twin.as_ref().unwrap();
            let number = |value: &Option<Value>| {
                value
                    .as_ref()
                    .and_then(|v| v.value.as_ref())
                    .map(|v| v.parse().unwrap())
            };
            if let Some(actual) = number(&twin.actual) {
                let before = self.reported.insert(name.clone(), actual).unwrap_or_default();
                assert!(before <= actual, "{name}: {actual} after {before}");
            }
            if let Some(expected) = number(&twin.expected) {
                self.observed.insert(name.clone(), expected);
            }
        }
    }
}

/// One node with a device, and everything that may happen to it. Values are numbers that only grow, so an older one is seen.
struct World {
    seed: u64,
    now: Instant,
    edge: Device,
    plan: Plan,
    cloud: Cloud,
    /// The Device's versions on their way down, any of them late or twice.
    down: Vec<(u64, Wishes)>,
    /// The newest version that the edge's store has.
    held: u64,
    /// The report under way: it stays as it is until it is answered.
    up: Option<Owed>,
    connected: bool,
    value: u64,
    wished: BTreeMap<String, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(8),
        };
        Self {
            seed,
            now: Instant::now(),
            edge: device(),
            plan: Plan::new(backoff),
            cloud: Cloud::default(),
            down: Vec::new(),
            held: 0,
            up: None,
            connected: false,
            value: 0,
            wished: BTreeMap::new(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn property(&mut self) -> String {
        format!("p{}", self.random(3))
    }

    fn step(&mut self) {
        self.value += 1;
        let (name, value) = (self.property(), self.value);
        match self.random(12) {
            0..=2 => {
                self.edge
                    .update(&one(&name, actual(&value.to_string())), 0, MAX)
                    .unwrap();
                self.plan.changed(self.edge.id.clone());
            }
            3 => {
                self.edge
                    .update(&one(&name, expected(&value.to_string())), 0, MAX)
                    .unwrap();
                self.plan.changed(self.edge.id.clone());
            }
            4 => {
                self.cloud.version += 1;
                self.cloud.desired.insert(name, (self.cloud.version, value));
                self.down.push((self.cloud.version, self.cloud.desired.clone()));
            }
            5 => {
                self.connected = !self.connected;
                if self.connected {
                    let owing = self.edge.owes().then(|| self.edge.id.clone());
                    self.plan.connected(owing);
                }
            }
            6 => self.restart(),
            _ => self.carry(),
        }
    }

    /// The program ends at once and begins anew with what is on the disk; nothing else is left.
    fn restart(&mut self) {
        let Change::Put(object) = record::put(&self.edge) else {
            panic!("a record is put");
        };
        let read = record::read(&object).unwrap();
        assert_eq!(read, self.edge);
        self.edge = read;
        self.up = None;
        let plan = World::new(0).plan;
        self.plan = plan;
        self.connected = false;
    }

    /// Something arrives, or does not.
    fn carry(&mut self) {
        if !self.connected {
            return;
        }
        if !self.down.is_empty() && self.random(2) == 0 {
            let at = self.random(self.down.len() as u64) as usize;
            let (version, desired) = self.down[at].clone();
            if self.random(3) > 0 {
                self.down.remove(at);
            }
            self.apply(version, &desired);
            return;
        }
        self.plan.handle_timeout(self.now);
        if self.up.is_none() && !self.plan.next(1).is_empty() {
            self.up = self.edge.owed();
            if self.up.is_none() {
                let id = self.edge.id.clone();
                self.plan.done(&id);
            }
        }
        let Some(owed) = self.up.clone() else { return };
        match self.random(5) {
            0 => {}
            // It came, and the answer is lost: it is sent again as it is.
            1 => self.cloud.hear(&owed),
            2 => {
                let random = self.random(1 << 30);
                self.plan.failed(&owed.id, self.now, random);
                self.up = None;
                self.now += Duration::from_secs(3);
            }
            _ => {
                self.cloud.hear(&owed);
                self.edge.settle(&owed.marks);
                if self.edge.owes() {
                    self.plan.changed(owed.id.clone());
                }
                self.plan.done(&owed.id);
                self.up = None;
            }
        }
    }

    /// The store takes no version that it has passed.
    fn apply(&mut self, version: u64, desired: &Wishes) {
        if version <= self.held {
            return;
        }
        self.held = version;
        let texts: Vec<_> = desired
            .iter()
            .map(|(name, (_, value))| (name.clone(), value.to_string()))
            .collect();
        let wishes = texts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str(), "int"));
        let (_, rejected) = self.edge.desired(wishes, 0, MAX);
        assert!(rejected.is_empty());
        for (name, (_, value)) in desired {
            let before = self.wished.insert(name.clone(), *value).unwrap_or_default();
            assert!(before <= *value, "{name}: wish {value} after {before}");
        }
        self.plan.changed(self.edge.id.clone());
    }

    fn settle(&mut self) {
        let owing = self.edge.owes().then(|| self.edge.id.clone());
        self.connected = true;
        self.plan.connected(owing);
        let newest = (self.cloud.version, self.cloud.desired.clone());
        self.apply(newest.0, &newest.1);
        for _ in 0..1000 {
            self.carry();
            self.now += Duration::from_secs(1);
        }
        assert!(!self.edge.owes() && self.up.is_none(), "it settles");
        for (name, property) in &self.edge.properties {
            let number = |text: Option<&str>| text.map(|text| text.parse::<u64>().unwrap());
            assert_eq!(
                number(property.actual.text()),
                self.cloud.reported.get(name).copied(),
                "{name}"
            );
            assert_eq!(
                number(property.expected.text()),
                self.cloud.observed.get(name).copied(),
                "{name}"
            );
        }
        for (name, (_, value)) in &self.cloud.desired {
            let expected: u64 = self.edge.properties[name]
                .expected
                .text()
                .unwrap()
                .parse()
                .unwrap();
            assert!(
                expected == *value || self.edge.properties[name].expected.version.edge > 0,
                "{name}"
            );
        }
    }
}

#[test]
fn after_any_cuts_restarts_and_changes_at_both_ends_both_agree_and_nothing_older_replaced_a_newer() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
        println!("seed {seed}");
        world.settle();
    }
}
