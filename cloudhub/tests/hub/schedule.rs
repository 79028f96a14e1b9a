//! Whatever happens, in whatever order, to the cluster, the cloud's process and the wire: in the end a stock edge holds what it
//! should, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloudhub::records::{FileRecords, RecordsConfig, SyncRecords};
use futures::{SinkExt, StreamExt};
use hub_core::api::{ApiRequest, Verb};
use hub_core::message::{Content, Message, MessageId, Operation, needs_ack};
use hub_core::object::GroupVersionResource;
use hub_core::random::Random;
use hub_core::transport::{Inbound, Outbound, Received, Transport};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::records::{quick, watch_services, watch_sync};
use crate::world::{World, config, node, pod, secret, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_edge_ends_with_the_truth_and_records_in_a_file() {
    run(|seed| Life::play(seed, Kept::File)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_edge_ends_with_the_truth_and_records_in_the_cluster() {
    run(|seed| Life::play(seed, Kept::Cluster)).await;
}

/// `SCHEDULE_SEED=7` plays one again.
async fn run<F: Future<Output = ()> + Send + 'static>(play: impl Fn(u64) -> F) {
    let only = std::env::var("SCHEDULE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..24, |seed: u64| seed..seed + 1);
    let plays: Vec<_> = seeds.map(|seed| (seed, tokio::spawn(play(seed)))).collect();
    for (seed, play) in plays {
        play.await
            .unwrap_or_else(|error| panic!("SCHEDULE_SEED={seed}: {error}"));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    File,
    Cluster,
}

/// The database of a stock edge: by resource, whatever the uid.
type Store = Arc<Mutex<BTreeMap<String, Value>>>;

struct Life {
    world: World,
    kept: Kept,
    lives: usize,
    store: Store,
    edge: Option<JoinHandle<()>>,
    random: Random,
}

impl Life {
    async fn play(seed: u64, kept: Kept) {
        let world = match kept {
            Kept::File => World::with(quick(), |hub| hub),
            Kept::Cluster => crate::object_sync::world().await,
        };
        let mut life = Self {
            world,
            kept,
            lives: 0,
            store: Store::default(),
            edge: None,
            random: Random::new(seed),
        };
        if kept == Kept::File {
            life.world.create("nodes", node("edge-1")).await;
        }
        life = life.next_life(false).await;
        life.connect(true).await;
        for _ in 0..40 {
            life = life.step().await;
        }
        life.connect(false).await;
        life.settle().await;
    }

    async fn step(mut self) -> Self {
        let name = format!("{}", self.random.below(3));
        let word = word(&mut self.random);
        match self.random.below(12) {
            0 | 1 => self.put("configmaps", config(&format!("c{name}"), &word)).await,
            2 => self.put("services", service(&format!("s{name}"))).await,
            3 => self.put("secrets", secret("door")).await,
            4 | 5 => {
                let config = format!("c{}", self.random.below(3));
                let pod = pod(&format!("p{name}"), "edge-1", &config, "door");
                self.put("pods", pod).await;
            }
            6 => self.remove("configmaps", &format!("c{name}")).await,
            7 => self.remove("pods", &format!("p{name}")).await,
            8 => self.remove("services", &format!("s{name}")).await,
            9 => self.disconnect().await,
            10 => {
                if self.random.below(2) == 0 {
                    self = self.next_life(true).await;
                }
            }
            _ => self.connect(true).await,
        }
        if self.random.below(3) == 0 {
            let pause = self.random.below(120);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self
    }

    /// Makes an object, or changes it; where it is a pod that is there, another takes its place.
    async fn put(&mut self, resource: &str, object: Value) {
        let gvr = GroupVersionResource::core(resource);
        let name = object["metadata"]["name"].as_str().unwrap();
        let create = ApiRequest::resource(Verb::Create, gvr.clone(), Some("default"), None)
            .with_body("application/json", object.to_string());
        if self.world.execute(create).await.code == 409 {
            let patch = json!({ "metadata": { "labels": { "word": word(&mut self.random) } } });
            self.world.patch(resource, Some("default"), name, patch).await;
        }
    }

    async fn remove(&self, resource: &str, name: &str) {
        let gvr = GroupVersionResource::core(resource);
        let delete = ApiRequest::resource(Verb::Delete, gvr, Some("default"), Some(name))
            .with_body("application/json", r#"{"gracePeriodSeconds":0}"#);
        let answer = self.world.execute(delete).await;
        assert!(answer.is_success() || answer.code == 404, "{answer:?}");
    }

    /// The cloud's process dies, and another begins with what the disk has.
    async fn next_life(mut self, crash: bool) -> Self {
        self.disconnect().await;
        let records: Arc<dyn SyncRecords> = match self.kept {
            Kept::Cluster => crate::object_sync::records(self.world.cluster.clone()),
            Kept::File => {
                let path = |life: usize| self.world.folder().join(format!("life-{life}.db"));
                let (from, to) = (path(self.lives), path(self.lives + 1));
                for end in ["", "-wal"].iter().filter(|_| crash) {
                    let of = |path: &std::path::Path| format!("{}{end}", path.display());
                    std::fs::copy(of(&from), of(&to)).unwrap();
                }
                let config = RecordsConfig {
                    gather: Duration::from_millis(30),
                    ..RecordsConfig::default()
                };
                Arc::new(FileRecords::open(&to, config).unwrap())
            }
        };
        self.lives += 1;
        self.world = self.world.killed(quick(), |hub| hub.with_records(records)).await;
        self
    }

    async fn disconnect(&mut self) {
        if let Some(edge) = self.edge.take() {
            edge.abort();
            let _ = edge.await;
        }
    }

    /// The edge connects, in place of an older connection of its. Where the wire is `bad`, it often does not say what it did, and
    /// sometimes it fails to store.
    async fn connect(&mut self, bad: bool) {
        self.disconnect().await;
        let edge = self.world.stock("edge-1").await;
        let random = Random::new(self.random.number());
        let (store, watch) = (self.store.clone(), watch_services(&edge.node));
        let transport = edge.transport;
        self.edge = Some(tokio::spawn(async move {
            serve(transport, store, watch_sync(&[watch]), bad, random).await;
        }));
    }

    /// Waits until the store equals the truth and nothing is under way that could change it.
    async fn settle(&self) {
        let truth = self.truth().await;
        let mut held = BTreeMap::new();
        for _ in 0..1500 {
            held = self.store.lock().unwrap().clone();
            let idle = self
                .world
                .hub
                .nodes()
                .await
                .first()
                .is_some_and(|node| node.depth.queued == 0 && node.depth.in_flight == 0);
            if idle && summary(&held) == summary(&truth) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "the edge holds {:#?}\nand should hold {:#?}",
            summary(&held),
            summary(&truth)
        );
    }

    async fn truth(&self) -> BTreeMap<String, Value> {
        let mut truth = BTreeMap::new();
        let (pods, configs) = (self.list("pods").await, self.list("configmaps").await);
        let named = |name: &Value| {
            pods.iter()
                .any(|pod| pod["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] == *name)
        };
        let needed = configs.iter().filter(|config| named(&config["metadata"]["name"]));
        let secrets = self.list("secrets").await;
        let secrets = secrets.iter().filter(|_| !pods.is_empty());
        let services = self.list("services").await;
        let nodes = self.list("nodes").await;
        for (kind, object) in needed
            .map(|o| ("configmap", o))
            .chain(secrets.map(|o| ("secret", o)))
            .chain(pods.iter().map(|o| ("pod", o)))
            .chain(services.iter().map(|o| ("service", o)))
            .chain(nodes.iter().map(|o| ("node", o)))
        {
            let metadata = &object["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or("null");
            let name = metadata["name"].as_str().unwrap();
            truth.insert(format!("{namespace}/{kind}/{name}"), object.clone());
        }
        truth
    }

    async fn list(&self, resource: &str) -> Vec<Value> {
        let request = ApiRequest::resource(Verb::List, GroupVersionResource::core(resource), None, None);
        let list = crate::world::body(&self.world.execute(request).await);
        list["items"].as_array().unwrap().clone()
    }
}

/// What is compared: uid and version of everything.
fn summary(objects: &BTreeMap<String, Value>) -> BTreeMap<&str, String> {
    let text = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{} {}", metadata["uid"], metadata["resourceVersion"])
    };
    objects
        .iter()
        .map(|(key, object)| (key.as_str(), text(object)))
        .collect()
}

/// A stock edge: stores, then acknowledges. It deletes by name, but pods only with the right uid.
async fn serve(
    mut transport: Box<dyn Transport>,
    store: Store,
    sync: Message,
    bad: bool,
    mut random: Random,
) {
    let mut sync = Some(sync);
    loop {
        if let Some(mut sync) = sync.take_if(|_| !bad || random.below(4) > 0) {
            sync.header.id = MessageId::random();
            if transport
                .send(Outbound::Message {
                    message: sync,
                    base: None,
                })
                .await
                .is_err()
            {
                return;
            }
        }
        let Some(Ok(frame)) = transport.next().await else {
            return;
        };
        let message = match frame {
            Inbound::Message(Received::Whole(message)) => message,
            Inbound::Closed(_) => return,
            _ => continue,
        };
        if !needs_ack(&message) {
            continue;
        }
        let luck = if bad { random.below(10) } else { 9 };
        let mut answer = match luck {
            0 => message.error("the database is locked"),
            _ => message.response(Content::ok()),
        };
        if luck != 0 {
            apply(&store, &message);
        }
        answer.header.id = MessageId::random();
        if !(1..=3).contains(&luck)
            && transport
                .send(Outbound::Message {
                    message: answer,
                    base: None,
                })
                .await
                .is_err()
        {
            return;
        }
    }
}

fn apply(store: &Store, message: &Message) {
    let key = message.route.resource.to_string();
    let object: Value = serde_json::from_slice(message.content.bytes()).unwrap();
    let mut store = store.lock().unwrap();
    match message.route.operation {
        Operation::Delete => {
            let is_pod = key.contains("/pod/");
            let other = |held: &Value| held["metadata"]["uid"] != object["metadata"]["uid"];
            if !(is_pod && store.get(&key).is_some_and(other)) {
                store.remove(&key);
            }
        }
        _ => drop(store.insert(key, object)),
    }
}

fn word(random: &mut Random) -> String {
    format!("w{}", random.below(1_000_000))
}
