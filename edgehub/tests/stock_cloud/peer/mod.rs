//! A stock cloud: CloudHub, EdgeController, DynamicController and SyncController, as the recordings and their sources show them.
//!
//! It shares no code with our own cloud, nor with our codec: documents are [`Value`]s, and frames are bytes.

pub mod api;
pub mod ca;
mod dynamic_controller;
mod edge_controller;
pub mod https;
mod session;
pub mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use hub_core::transport::Endpoint;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub use dynamic_controller::decoded;
pub use edge_controller::CLUSTER_CA;

use api::{Api, part};
use ca::Ca;

/// The cloud, while its tasks run. Dropping it leaves them to the runtime's end.
#[derive(Clone)]
pub struct StockCloud(Arc<Inner>);

pub struct Inner {
    pub ca: Ca,
    /// Ports 10000 and 10002.
    pub tunnel: Endpoint,
    pub https: Endpoint,
    pub config: PeerConfig,
    state: Mutex<State>,
    /// Counts what happened, so that tests wait for states.
    changed: watch::Sender<u64>,
    applications: mpsc::UnboundedSender<(u64, Value)>,
}

/// How the cloud is, and how fast its clocks run.
#[derive(Clone)]
pub struct PeerConfig {
    /// Between two sends of a message (5 s).
    pub resend: Duration,
    /// Sends before an attempt is given up (5).
    pub sends: u32,
    /// The rounds of the SyncController (5 s).
    pub sync: Duration,
    /// Without a keepalive the session ends (30 s).
    pub keepalive: Duration,
    /// The names in the server's certificate.
    pub names: Vec<&'static str>,
    /// An old program, or one that was told so.
    pub only_tls12: bool,
    /// How far the cloud's clock is ahead.
    pub clock_ahead: Duration,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            resend: Duration::from_millis(100),
            sends: 5,
            sync: Duration::from_millis(50),
            keepalive: Duration::from_secs(30),
            names: vec!["", "127.0.0.1"],
            only_tls12: false,
            clock_ahead: Duration::ZERO,
        }
    }
}

/// What the cloud does not do, for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moods {
    /// New connections get no session: they stay open, are read, and hear nothing.
    pub rejecting: bool,
    /// DynamicController is off, as it is by default.
    pub no_applications: bool,
    /// Answers are executed and not sent.
    pub mute: bool,
    /// Nothing is read, not even pings.
    pub stuck: bool,
    /// Pings get no pong.
    pub no_pongs: bool,
    /// The next message ends in its middle, and the connection with it.
    pub breaks: bool,
    /// Watch events get lost.
    pub loses_events: bool,
    /// It is older than the patches of a node's status, and than leases.
    pub old: bool,
    /// This node may list nothing.
    pub forbids_lists: bool,
    /// SyncController rests.
    pub no_repair: bool,
    /// Answers take this long.
    pub slow_answers: Option<Duration>,
}

/// What the cloud knows and heard.
#[derive(Default)]
pub struct State {
    pub api: Api,
    pub moods: Moods,
    /// The upgrade requests: first line, headers as spelled, and what TLS says.
    pub upgrades: Vec<Upgrade>,
    /// Every message, in order.
    pub heard: Vec<Heard>,
    /// Message ids that the edge acknowledged, in order.
    pub acknowledged: Vec<String>,
    /// Ids of messages that were sent, once for each time.
    pub sent: Vec<String>,
    /// Attempts that were given up.
    pub given_up: Vec<String>,
    /// What the watches of this node listen for, by application id.
    pub listeners: BTreeMap<String, Value>,
    /// Certificates that were issued; and what was asked on port 10002.
    pub issued: u64,
    pub asked: Vec<https::Asked>,
    pub pings: u64,
    /// Sync records: versions by uid, with the route.
    records: BTreeMap<String, (String, String)>,
    /// The pool of the session: what is to be delivered, by uid.
    pool: VecDeque<String>,
    stored: BTreeMap<String, Value>,
    /// What needs no acknowledgement.
    plain: VecDeque<Value>,
    session: Option<u64>,
    connections: u64,
    ids: u64,
}

#[derive(Debug, Clone)]
pub struct Upgrade {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub certificates: usize,
    pub at: Instant,
}

#[derive(Debug, Clone)]
pub struct Heard {
    pub connection: u64,
    pub message: Value,
    pub at: Instant,
}

impl Heard {
    pub fn operation(&self) -> &str {
        self.message["route"]["operation"].as_str().unwrap_or_default()
    }

    pub fn resource(&self) -> &str {
        self.message["route"]["resource"].as_str().unwrap_or_default()
    }

    pub fn is(&self, operation: &str, resource: &str) -> bool {
        self.operation() == operation && self.resource() == resource
    }
}

impl std::ops::Deref for StockCloud {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl StockCloud {
    pub async fn start() -> Self {
        Self::with(PeerConfig::default()).await
    }

    pub async fn with(config: PeerConfig) -> Self {
        let (tunnel, https) = (listener().await, listener().await);
        let (applications, queue) = mpsc::unbounded_channel();
        let cloud = Self(Arc::new(Inner {
            ca: Ca::new(),
            tunnel: endpoint(&tunnel),
            https: endpoint(&https),
            config,
            state: Mutex::default(),
            changed: watch::channel(0).0,
            applications,
        }));
        tokio::spawn(session::accept(cloud.clone(), tunnel));
        tokio::spawn(https::serve(cloud.clone(), https));
        tokio::spawn(session::applications(cloud.clone(), queue));
        tokio::spawn(synchronize(cloud.clone()));
        cloud
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The cloud's wall clock.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.config.clock_ahead
    }

    pub fn mood(&self, change: impl FnOnce(&mut Moods)) {
        change(&mut self.state().moods);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Waits until something is so, and gives what is found.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = found(&self.state()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.state();
                let heard: Vec<_> = state
                    .heard
                    .iter()
                    .map(|h| format!("{} {}", h.operation(), h.resource()))
                    .collect();
                panic!("waited too long for {what}; heard {heard:?}")
            }
        }
    }

    /// Waits for the nth message of this kind, from 0.
    pub async fn hear_nth(&self, n: usize, operation: &str, resource: &str) -> Heard {
        let what = format!("{operation} {resource}");
        self.until(&what, |state| {
            state
                .heard
                .iter()
                .filter(|h| h.is(operation, resource))
                .nth(n)
                .cloned()
        })
        .await
    }

    pub async fn hear(&self, operation: &str, resource: &str) -> Heard {
        self.hear_nth(0, operation, resource).await
    }

    /// An object changes in the cluster, and EdgeController pushes it.
    pub fn apply(&self, route: &str, object: Value) -> Value {
        let object = self.state().api.put(route, object);
        // Nodes and secrets are always updated.
        let known = self.state().records.contains_key(uid(&object));
        let updated = known || ["node", "secret"].contains(&part(route, 1));
        let operation = if updated { "update" } else { "insert" };
        self.push(operation, route, &object);
        object
    }

    /// An object of which EdgeController knows nothing changes in the cluster; those who watch its kind hear of it.
    pub fn change(&self, route: &str, object: Option<Value>) {
        let (operation, object) = match object {
            Some(object) => {
                let mut state = self.state();
                let operation = if state.api.objects.contains_key(route) {
                    "update"
                } else {
                    "insert"
                };
                (operation, state.api.put(route, object))
            }
            None => ("delete", self.state().api.delete(route).unwrap()),
        };
        self.event(operation, route, &object);
    }

    fn event(&self, operation: &str, route: &str, object: &Value) {
        let plural = api::by_word(part(route, 1)).map(|kind| kind.plural);
        let watched = {
            let state = self.state();
            !state.moods.loses_events
                && state.listeners.values().any(|application| {
                    let key = application["Key"].as_str().unwrap();
                    Some(part(key, 3)) == plural && [part(route, 0), "null"].contains(&part(key, 4))
                })
        };
        if watched {
            self.enqueue("dynamiccontroller", operation, route, object);
        }
    }

    pub fn push(&self, operation: &str, route: &str, object: &Value) {
        self.enqueue("edgecontroller", operation, route, object);
    }

    /// The dispatcher's decision (`message_dispatcher.go`).
    pub fn enqueue(&self, source: &str, operation: &str, route: &str, object: &Value) {
        let mut state = self.state();
        let uid = uid(object).to_owned();
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let deletes = operation == "delete" || object["metadata"]["deletionTimestamp"].is_string();
        if !deletes {
            if version.is_empty() {
                return;
            }
            if let Some(stored) = state.stored.get(&uid) {
                let stored_version = stored["header"]["resourceversion"].as_str().unwrap_or_default();
                if stored["route"]["operation"] == "delete" || number(&version) <= number(stored_version) {
                    return;
                }
            } else if let Some((_, acknowledged)) = state.records.get(&uid) {
                if number(&version) <= number(acknowledged) {
                    return;
                }
            } else {
                state.records.insert(uid.clone(), (route.into(), "0".into()));
            }
        }
        let mut message = state.message(source, operation, route, object.clone());
        if !version.is_empty() {
            message["header"]["resourceversion"] = version.into();
        }
        state.stored.insert(uid.clone(), message);
        if !state.pool.contains(&uid) {
            state.pool.push_back(uid);
        }
        drop(state);
        self.tell();
    }

    /// Sends a message that needs no acknowledgement, or is to be sent once whatever it is.
    pub fn send(&self, message: Value) {
        self.state().plain.push_back(message);
        self.tell();
    }

    /// A message of the cloud's, with an id of its own.
    pub fn message(&self, source: &str, operation: &str, route: &str, content: Value) -> Value {
        self.state().message(source, operation, route, content)
    }

    /// Waits until the edge has acknowledged what is in the pool.
    pub async fn delivered(&self) {
        self.until("the acknowledgements", |state| {
            state.pool.is_empty().then_some(())
        })
        .await;
    }

    /// The connection of this moment ends: a bare end of the stream, without a close frame.
    pub fn cut(&self) {
        self.state().session = None;
        self.tell();
    }

    /// The program is started anew: nothing in memory is left.
    pub fn restart(&self) {
        self.state().listeners.clear();
        self.cut();
    }

    /// The Node is deleted in the cluster: that ends the session, and the sync records go.
    pub fn delete_node(&self, node: &str) {
        let mut state = self.state();
        state.api.delete(&format!("null/node/{node}"));
        state.records.clear();
        drop(state);
        self.cut();
    }
}

impl State {
    fn message(&mut self, source: &str, operation: &str, route: &str, content: Value) -> Value {
        self.ids += 1;
        json!({
            "header": { "msg_id": format!("00000000-0000-4000-8000-{:012x}", self.ids), "timestamp": 1_795_325_356_182_i64 },
            "route": { "source": source, "group": "resource", "operation": operation, "resource": route },
            "content": content,
        })
    }
}

/// SyncController: all records, again and again (`cloud/pkg/synccontroller/objectsync.go`).
async fn synchronize(cloud: StockCloud) {
    loop {
        tokio::time::sleep(cloud.config.sync).await;
        let mut repairs = Vec::new();
        {
            let state = cloud.state();
            if state.session.is_none() || state.moods.no_repair {
                continue;
            }
            for (uid, (route, version)) in &state.records {
                match state.api.by_uid(uid) {
                    None => {
                        let namespace = Some(part(route, 0)).filter(|n| *n != "null");
                        let mut metadata =
                            json!({ "name": part(route, 2), "uid": uid, "creationTimestamp": null });
                        if let Some(namespace) = namespace {
                            metadata["namespace"] = namespace.into();
                        }
                        repairs.push(("delete", route.clone(), json!({ "metadata": metadata })));
                    }
                    Some(object) => {
                        let now = object["metadata"]["resourceVersion"].as_str().unwrap();
                        if now.parse::<u64>().unwrap_or(0) > version.parse::<u64>().unwrap_or(0) {
                            // Custom objects lack their kind here.
                            let object = match part(route, 1) {
                                "widget" => api::untyped(object),
                                _ => object.clone(),
                            };
                            repairs.push(("update", route.clone(), object));
                        }
                    }
                }
            }
        }
        for (operation, route, object) in repairs {
            cloud.push(operation, &route, &object);
        }
    }
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn endpoint(listener: &TcpListener) -> Endpoint {
    Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap()
}
