//! The recordings of bare clients that behave as no edge does (14 to 16, 18): their frames are sent as they were, nothing is
//! acknowledged but what they acknowledged, and what our cloud tells them is what KubeEdge's did.
//!
//! Waiting is left out: what is not acknowledged is sent again after 100 ms in place of 5 s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cloudhub::CloudHubConfig;
use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::{Message, MessageId, Operation};
use hub_core::transport::{Capabilities, Received};
use serde_json::Value;

use crate::compare::differences;
use crate::kubectl;
use crate::world::{Edge, Manners, World};

/// What happened to a connection of a recording.
enum Line {
    Note(String),
    Opened,
    Up(Message),
    Down(Message),
    Ended,
}

struct Play {
    name: String,
    node: String,
    world: World,
    edges: HashMap<String, Edge>,
    /// What our cloud said on each connection, in order.
    heard: HashMap<String, Vec<Message>>,
    /// The recorded ids of what KubeEdge's cloud told → those of ours.
    ids: HashMap<MessageId, MessageId>,
    /// The operation of each question.
    asked: HashMap<MessageId, String>,
    found: Vec<String>,
}

/// Plays a recording, and returns where our cloud said something else.
pub(crate) async fn play(name: &str) -> Vec<String> {
    let (node, lines) = read(name);
    let mut config = CloudHubConfig {
        instance_address: Some("192.0.2.2".into()),
        ..CloudHubConfig::default()
    };
    Arc::make_mut(&mut config.driver.session).resend = Duration::from_millis(100);
    let mut play = Play {
        name: name.to_owned(),
        node,
        world: World::with(config, |hub| hub),
        edges: HashMap::new(),
        heard: HashMap::new(),
        ids: HashMap::new(),
        asked: HashMap::new(),
        found: Vec::new(),
    };
    for (connection, line) in lines {
        play.line(connection, line).await;
    }
    play.found
}

impl Play {
    async fn line(&mut self, connection: String, line: Line) {
        match line {
            Line::Note(note) => kubectl::run(&self.world, &note, |_| None).await,
            Line::Opened => {
                let mut edge = self.world.stock(&self.node).await;
                edge.manners = Manners::Silent;
                self.edges.insert(connection, edge);
            }
            Line::Up(message) => self.up(&connection, message).await,
            Line::Down(message) if message.is_reply() => self.answered(&connection, &message).await,
            Line::Down(message) => self.told(&connection, &message).await,
            Line::Ended => self.ended(&connection).await,
        }
    }

    async fn up(&mut self, connection: &str, mut message: Message) {
        if let Some(ours) = message.header.parent_id.as_ref().and_then(|id| self.ids.get(id)) {
            message.header.parent_id = Some(ours.clone());
        }
        self.asked
            .insert(message.header.id.clone(), message.route.operation.to_string());
        // A connection that another took over can say nothing more.
        if let Some(edge) = self.edges.get_mut(connection) {
            edge.send_frame(message).await;
        }
    }

    async fn answered(&mut self, connection: &str, recorded: &Message) {
        let parent = recorded.header.parent_id.clone();
        let asked = parent
            .as_ref()
            .and_then(|id| self.asked.get(id))
            .cloned()
            .unwrap_or_default();
        let ours = self
            .until(connection, |message| message.header.parent_id == parent)
            .await;
        self.compare(&format!("answer to {asked}"), recorded, ours);
    }

    async fn told(&mut self, connection: &str, recorded: &Message) {
        if let Some(id) = self.ids.get(&recorded.header.id).cloned() {
            // Told once more, with the same id; or the newest state in its place, which has its own.
            let again = |heard: &[Message]| {
                let first = heard.iter().position(|message| message.header.id == id);
                let mut later = heard.iter().skip(first.unwrap_or_default() + 1);
                later.any(|message| {
                    message.header.id == id || message.route.resource == recorded.route.resource
                })
            };
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while !again(&self.heard[connection]) {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{}: told once only",
                    self.name
                );
                self.hear(connection).await;
            }
            return;
        }
        let state: Value = serde_json::from_slice(recorded.content.bytes()).unwrap();
        let (name, resource) = (self.name.clone(), recorded.route.resource.clone());
        let is_put = |operation: &Operation| matches!(operation, Operation::Insert | Operation::Update);
        let same = |message: &Message| {
            let alike = match is_put(&recorded.route.operation) {
                true => is_put(&message.route.operation),
                false => message.route.operation == recorded.route.operation,
            };
            let place = format!("{name} told {} {resource}", recorded.route.operation);
            let ours: Value = serde_json::from_slice(message.content.bytes()).unwrap();
            let mut all = differences(&state, &ours).into_iter();
            alike
                && message.route.resource == resource
                && all.all(|difference| crate::is_better(&format!("{place}: {difference}")))
        };
        let ours = self.until(connection, same).await;
        if let Some(ours) = &ours {
            self.ids
                .insert(recorded.header.id.clone(), ours.header.id.clone());
        }
        // The states on the way to it are another matter than a state that never comes.
        let latest = || {
            self.heard[connection]
                .iter()
                .rfind(|m| m.route.resource == resource)
                .cloned()
        };
        let ours = ours.or_else(latest);
        let told = format!("told {}", recorded.route.operation);
        self.compare(&told, recorded, ours);
    }

    async fn ended(&mut self, connection: &str) {
        let Some(mut edge) = self.edges.remove(connection) else {
            return;
        };
        let end = async { while edge.try_receive().await.is_ok() {} };
        if tokio::time::timeout(ENDED, end).await.is_err() {
            self.found.push(format!("{} goes on: {connection}", self.name));
        }
    }

    /// The first message of ours that is so.
    async fn until(&mut self, connection: &str, is: impl Fn(&Message) -> bool) -> Option<Message> {
        let waited = async {
            loop {
                let heard = self.heard.entry(connection.to_owned()).or_default();
                if let Some(found) = heard.iter().find(|message| is(message)) {
                    return found.clone();
                }
                self.hear(connection).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.ok()
    }

    async fn hear(&mut self, connection: &str) {
        let Some(edge) = self.edges.get_mut(connection) else {
            return std::future::pending().await;
        };
        match edge.try_receive().await {
            Ok(message) => self.heard.entry(connection.to_owned()).or_default().push(message),
            Err(_) => std::future::pending().await,
        }
    }

    fn compare(&mut self, how: &str, recorded: &Message, ours: Option<Message>) {
        let route = &recorded.route;
        let place = format!("{} {how} {}", self.name, route.resource);
        let Some(ours) = ours else {
            return self.found.push(format!("{place}: nothing"));
        };
        for (field, a, b) in [
            ("source", &*route.source, &*ours.route.source),
            ("group", &*route.group, &*ours.route.group),
            (
                "operation",
                route.operation.as_str(),
                ours.route.operation.as_str(),
            ),
        ] {
            if a != b {
                self.found.push(format!("{place}: {field}: {a} → {b}"));
            }
        }
        let value = |message: &Message| serde_json::from_slice(message.content.bytes()).unwrap();
        let differences = differences(&value(recorded), &value(&ours));
        self.found.extend(
            differences
                .iter()
                .map(|difference| format!("{place}: {difference}")),
        );
    }
}

/// The node of a recording, and what happened on which connection.
fn read(name: &str) -> (String, Vec<(String, Line)>) {
    let path = format!(
        "{}/../hub-core/tests/captures/{name}.jsonl.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    let (mut node, mut lines) = (String::new(), Vec::new());
    for line in std::str::from_utf8(&text).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let parsed = if let Some(headers) = line["request"]["headers"].as_array() {
            let id = headers.iter().find(|header| header[0] == "Node_id").unwrap();
            node = id[1].as_str().unwrap().to_owned();
            Line::Opened
        } else if let Some(payload) = line["payload"].as_str() {
            let Ok(Received::Whole(message)) = codec.decode(payload.to_owned().into()) else {
                panic!("{name}: {payload}");
            };
            match line["dir"].as_str() {
                Some("edge->cloud") => Line::Up(message),
                _ => Line::Down(message),
            }
        } else if line["event"] == "stream end" {
            Line::Ended
        } else {
            Line::Note(line["note"].as_str().unwrap_or_default().to_owned())
        };
        lines.push((line["connection"].as_str().unwrap_or_default().to_owned(), parsed));
    }
    (node, lines)
}

/// Longer than anything here takes; only a difference waits for so long.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an end may take.
const ENDED: Duration = Duration::from_secs(2);
