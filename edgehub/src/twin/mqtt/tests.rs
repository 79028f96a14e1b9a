//! A node between a broker that is lost, applications, a mapper and a cloud, in virtual time, by seed.
//!
//! The store is the disk: it outlives the program. The broker keeps what is not confirmed, in order, and sends it again; or it is lost
//! with all that it kept. Every value is said once, so one that comes back after another took its place is seen.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::registry::Registry;
use hub_core::store::{Change as StoreChange, MemoryStore, ObjectStore, StoreLimits};
use rumqttc::{AsyncClient, Publish, QoS, Request};
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::MqttConfig;
use super::desk::{Desk, Heard};
use crate::twin::keeper::Command;
use crate::twin::owed::Owed;
use crate::twin::{Change, Changes, DeviceId, TwinConfig, TwinHub, Twins, Value, devices};

/// What happens at a node, and what must never happen there.
struct World {
    seed: u64,
    store: MemoryStore,
    program: Program,
    broker: Broker,
    cloud: Cloud,
    /// The last value said, by anybody.
    value: u64,
    /// What was seen of each side of each property, the newest last.
    seen: BTreeMap<(String, bool), Vec<String>>,
    /// Values that the broker did not know to be taken when the program ended: they may be taken once more.
    may_return: HashSet<String>,
    met: Met,
}

/// The program, which ends at any time and begins anew.
struct Program {
    twins: Twins,
    changes: Changes,
    requests: flume::Receiver<Request>,
    heard: mpsc::Sender<Heard>,
    connection: watch::Sender<Option<u64>>,
    connections: u64,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Broker {
    up: bool,
    /// For the node, not confirmed, with whether it was sent at all, and on this connection.
    queue: VecDeque<(Publish, bool, bool)>,
    packets: u16,
    /// What was confirmed, and is to be looked for among what was taken.
    confirmed: Vec<Publish>,
    /// The newest delta that applications heard.
    delta: Option<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Cloud {
    version: u64,
    wish: u64,
    /// The report under way: it stays as it is until it is answered.
    up: Option<Owed>,
    /// What was heard of each side of each property.
    heard: BTreeMap<(String, bool), Vec<String>>,
}

/// What the worlds met, or they would prove nothing.
#[derive(Debug, Default)]
struct Met {
    lost_brokers: usize,
    repeated: usize,
    restarts: usize,
    lost_answers: usize,
}

fn lamp() -> DeviceId {
    DeviceId::parse("home/lamp").unwrap()
}

impl Program {
    fn start(store: &MemoryStore) -> Self {
        let node = NodeId::new("edge-1").unwrap();
        let hub = TwinHub::new(TwinConfig::new(node.clone()), Arc::new(store.clone()));
        let twins = hub.handle();
        let (client, requests) = flume::bounded(50);
        let (heard, hears) = mpsc::channel(64);
        let connection = watch::Sender::new(None);
        let (of_desk, connected) = (twins.clone(), connection.subscribe());
        let mut tasks = JoinSet::new();
        tasks.spawn(hub.keeper.run());
        tasks.spawn(async move {
            let config = MqttConfig::new(&node, "broker").unwrap();
            let client = AsyncClient::from_senders(client);
            Desk::new(&of_desk, &config, client, connected).run(hears).await;
        });
        Self {
            changes: twins.changes(),
            twins,
            requests,
            heard,
            connection,
            connections: 0,
            tasks,
        }
    }
}

impl Broker {
    /// An application says something to the node, to be delivered at least once.
    fn publish(&mut self, twin: &Json) {
        self.packets = self.packets % 200 + 1;
        let mut message = Publish::new(
            "$hw/events/device/home/lamp/twin/update",
            QoS::AtLeastOnce,
            json!({ "event_id": "e", "twin": twin }).to_string(),
        );
        message.pkid = self.packets;
        self.queue.push_back((message, false, false));
    }

    /// What client libraries do when a connection is gone: confirmations are dropped, the rest waits.
    fn cut(&mut self, program: &Program) {
        self.up = false;
        program.connection.send_replace(None);
        let waiting: Vec<_> = program.requests.drain().collect();
        self.take(
            waiting
                .into_iter()
                .filter(|request| !matches!(request, Request::PubAck(_))),
        );
        self.queue.iter_mut().for_each(|(_, _, now)| *now = false);
    }

    fn take(&mut self, requests: impl Iterator<Item = Request>) {
        for request in requests {
            match request {
                Request::PubAck(ack) => {
                    let at = self
                        .queue
                        .iter()
                        .position(|(message, ..)| message.pkid == ack.pkid);
                    self.confirmed.extend(
                        at.and_then(|at| self.queue.remove(at))
                            .map(|(message, ..)| message),
                    );
                }
                Request::Publish(message) if message.topic.ends_with("/twin/update/delta") => {
                    let said: Json = serde_json::from_slice(&message.payload).unwrap();
                    self.delta = Some(serde_json::from_value(said["delta"].clone()).unwrap());
                }
                _ => {}
            }
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        Self {
            seed,
            program: Program::start(&store),
            store,
            broker: Broker::default(),
            cloud: Cloud::default(),
            value: 0,
            seen: BTreeMap::new(),
            may_return: HashSet::new(),
            met: Met::default(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        let seed = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = seed.wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn next(&mut self) -> String {
        self.value += 1;
        self.value.to_string()
    }

    async fn step(&mut self) {
        match self.random(16) {
            // `both` is measured by the application and by the mapper.
            0..=2 => {
                let value = self.next();
                let name = if self.random(2) == 0 { "app" } else { "both" };
                self.broker
                    .publish(&json!({ name: { "actual": { "value": value } } }));
            }
            3 => {
                let value = self.next();
                self.broker
                    .publish(&json!({ "wish": { "expected": { "value": value } } }));
            }
            4..=6 => {
                let value = self.next();
                let name = if self.random(2) == 0 { "mapper" } else { "both" };
                let twins = self.program.twins.clone();
                let report = async move {
                    let _ = twins.report(&lamp(), [(name, Value::new(value))]).await;
                };
                let mapper = tokio::spawn(report);
                if self.random(4) == 0 {
                    // The mapper ends before it is answered.
                    tokio::task::yield_now().await;
                    mapper.abort();
                }
            }
            7 => self.wish().await,
            8 => self.broker.cut(&self.program),
            9 => {
                self.broker.cut(&self.program);
                // Applications begin anew with it. It counts anew, so that a number means another message.
                self.broker = Broker {
                    packets: self.broker.packets.saturating_sub(1),
                    ..Broker::default()
                };
                self.met.lost_brokers += 1;
                if self.random(2) == 0 {
                    let value = self.next();
                    self.broker
                        .publish(&json!({ "app": { "actual": { "value": value } } }));
                    self.connect();
                }
            }
            10 => self.restart().await,
            11 | 12 if !self.broker.up => self.connect(),
            _ => {}
        }
        if self.random(3) > 0 {
            self.deliver();
        }
        if self.random(3) == 0 {
            self.report().await;
        }
        if self.random(4) > 0 {
            self.rest().await;
        }
    }

    /// Until nobody has anything to do.
    async fn rest(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.broker.up {
            // Sometimes the broker is slow.
            let slow = self.random(3) == 0;
            let taken: Vec<_> = self
                .program
                .requests
                .try_iter()
                .take(if slow { 2 } else { 50 })
                .collect();
            self.broker.take(taken.into_iter());
        }
        while let Some(Some(change)) = futures::FutureExt::now_or_never(self.program.changes.next()) {
            let Change::Twin(change) = change else { continue };
            for (name, step) in &change.updated.document {
                let step = step.current.as_ref().unwrap();
                for (side, is_actual) in [(&step.expected, false), (&step.actual, true)] {
                    let Some(value) = side.as_ref().and_then(|side| side.value.as_ref()) else {
                        continue;
                    };
                    note(&mut self.seen, name, is_actual, value, &self.may_return);
                }
            }
        }
        for message in std::mem::take(&mut self.broker.confirmed) {
            for value in values(&message) {
                let taken = self.seen.values().any(|values| values.contains(&value));
                assert!(taken, "{value} is confirmed to the broker and was not taken");
            }
        }
    }

    fn connect(&mut self) {
        self.broker.up = true;
        self.program.connections += 1;
        let number = self.program.connections;
        self.program.connection.send_replace(Some(number));
    }

    fn deliver(&mut self) {
        if !self.broker.up {
            return;
        }
        let connection = self.program.connections;
        for (message, before, now) in self.broker.queue.iter_mut().take(8).filter(|(_, _, now)| !now) {
            message.dup = *before;
            self.met.repeated += usize::from(*before);
            let heard = Heard {
                message: message.clone(),
                connection,
            };
            if self.program.heard.try_send(heard).is_err() {
                break;
            }
            (*before, *now) = (true, true);
        }
    }

    async fn restart(&mut self) {
        self.met.restarts += 1;
        self.rest().await;
        self.program.tasks.shutdown().await;
        // What was not sent yet is gone with the program.
        self.program.requests.drain();
        self.broker.cut(&self.program);
        let sent = self.broker.queue.iter().filter(|(_, before, _)| *before);
        self.may_return
            .extend(sent.flat_map(|(message, ..)| values(message)));
        self.program = Program::start(&self.store);
        // What was under way is told again, perhaps newer.
        self.cloud.up = None;
    }

    async fn wish(&mut self) {
        self.cloud.wish = self.next().parse().unwrap();
        self.cloud.version += 1;
        let body = json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
            "metadata": { "name": "lamp", "namespace": "home", "uid": "u", "resourceVersion": self.cloud.version.to_string() },
            "spec": { "nodeName": "edge-1", "properties": [
                { "name": "wish", "desired": { "value": self.cloud.wish.to_string() } } ] } });
        let device = Object::from_body(devices().clone(), body.to_string().into()).unwrap();
        self.store.apply(vec![StoreChange::Put(device)]).await.unwrap();
    }

    /// A report goes up, or does not; its answer comes, or does not.
    async fn report(&mut self) {
        let fate = self.random(4);
        let held = self.program.twins.get(&lamp());
        let Some(owed) = self.cloud.up.clone().or_else(|| held?.owed()) else {
            return;
        };
        self.cloud.up = Some(owed.clone());
        if fate == 0 {
            return;
        }
        for (name, twin) in &owed.twin {
            let twin = twin.as_ref().unwrap();
            for (side, is_actual) in [(&twin.expected, false), (&twin.actual, true)] {
                let Some(value) = side.as_ref().and_then(|side| side.value.as_ref()) else {
                    continue;
                };
                note(&mut self.cloud.heard, name, is_actual, value, &self.may_return);
            }
        }
        if fate == 1 {
            self.met.lost_answers += 1;
            return;
        }
        let settled = vec![(owed.id.clone(), owed.marks.clone())];
        let twins = &self.program.twins;
        twins.ask(|reply| Command::Settle(settled, reply)).await.unwrap();
        self.cloud.up = None;
    }

    /// Everybody is there again, and says one thing more.
    async fn settle(&mut self) {
        self.broker.cut(&self.program);
        self.connect();
        for _ in 0..200 {
            self.deliver();
            self.rest().await;
        }
        let delta = self.program.twins.get(&lamp()).unwrap().delta();
        if !delta.is_empty() {
            assert_eq!(
                self.broker.delta,
                Some(delta),
                "applications know what should be otherwise"
            );
        }
        let (app, both) = (self.next(), self.next());
        self.broker
            .publish(&json!({ "app": { "actual": { "value": app } } }));
        for _ in 0..200 {
            self.deliver();
            self.rest().await;
        }
        assert!(
            self.broker.queue.is_empty(),
            "everything is confirmed to the broker"
        );
        let values = [("both", Value::new(&both)), ("mapper", Value::new(&both))];
        self.program.twins.report(&lamp(), values).await.unwrap();
        for _ in 0..200 {
            self.report().await;
            self.rest().await;
        }
        let device = self.program.twins.get(&lamp()).unwrap();
        assert_eq!(device.owed(), None, "the cloud has heard everything");
        let of = |name: &str| device.properties[name].actual.text().map(str::to_owned);
        assert_eq!(
            (of("app"), of("both"), of("mapper")),
            (Some(app), Some(both.clone()), Some(both))
        );
        let ends = |log: &BTreeMap<(String, bool), Vec<String>>| -> BTreeSet<(String, bool, String)> {
            let newest = log
                .iter()
                .filter_map(|((name, side), values)| Some((name.clone(), *side, values.last()?.clone())));
            newest.collect()
        };
        assert_eq!(ends(&self.seen), ends(&self.cloud.heard), "both ends agree");
        self.program.tasks.shutdown().await;
    }
}

/// The values that a message of an application says.
fn values(message: &Publish) -> Vec<String> {
    let said: Json = serde_json::from_slice(&message.payload).unwrap();
    let twins = said["twin"].as_object().unwrap().values();
    let values = twins.flat_map(|twin| [&twin["actual"]["value"], &twin["expected"]["value"]]);
    values.filter_map(Json::as_str).map(str::to_owned).collect()
}

/// A value that another replaced never comes back.
fn note(
    log: &mut BTreeMap<(String, bool), Vec<String>>,
    name: &str,
    is_actual: bool,
    value: &str,
    may_return: &HashSet<String>,
) {
    let values = log.entry((name.into(), is_actual)).or_default();
    if values.last().is_some_and(|last| last == value) {
        return;
    }
    let returns = values.iter().any(|seen| seen == value);
    assert!(
        !returns || may_return.contains(value),
        "{name}: {value} is there again after {values:?}"
    );
    values.push(value.into());
}

#[test]
fn whatever_is_lost_no_value_comes_back_and_all_ends_agree() {
    let count = std::env::var("WORLDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    let one = std::env::var("WORLD_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut met = Met::default();
    for seed in one.map_or(0..count, |seed: u64| seed..seed + 1) {
        println!("seed {seed}");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let world = runtime.block_on(async {
            let mut world = World::new(seed);
            world.wish().await;
            world.rest().await;
            for _ in 0..150 {
                world.step().await;
            }
            world.settle().await;
            world
        });
        met.lost_brokers += world.met.lost_brokers;
        met.repeated += world.met.repeated;
        met.restarts += world.met.restarts;
        met.lost_answers += world.met.lost_answers;
    }
    let counts = [met.lost_brokers, met.repeated, met.restarts, met.lost_answers];
    assert!(
        one.is_some() || counts.iter().all(|count| *count > 100),
        "{met:?}"
    );
}
