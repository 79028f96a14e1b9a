//! Plays the edge's side of a recording against our cloud, and notes where our cloud says something else.

mod recording;
mod seed;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloudhub::CloudHubConfig;
use hub_core::message::{Content, Message, MessageId, Operation};
use serde_json::Value;

use recording::{Line, asked, is_put, parsed, read, told};
use seed::completed;

use crate::compare::differences;
use crate::kubectl;
use crate::world::{Edge, World};

pub(crate) struct Replay {
    name: String,
    node: String,
    world: World,
    edge: Option<Edge>,
    /// What the recorded cluster called things → what ours calls them.
    names: BTreeMap<String, String>,
    /// The recorded answers, by the question.
    answers: HashMap<MessageId, Message>,
    /// States that ours did not tell, by resource: told later, or passed over for good.
    untold: BTreeMap<String, String>,
    /// The state of each object that ours told last.
    last: BTreeMap<String, Value>,
    /// Our ids of questions that the recorded cloud did not answer.
    unanswered: HashMap<MessageId, String>,
    expected: fn(&str) -> bool,
    pub(crate) differences: BTreeSet<String>,
}

/// Plays one recording. `expected` says which differences need not be waited for.
pub(crate) async fn replay(name: &str, expected: fn(&str) -> bool) -> BTreeSet<String> {
    let (node, lines) = read(name);
    let answers = lines.iter().filter_map(|line| match line {
        Line::Down(message) => Some((message.header.parent_id.clone()?, message.clone())),
        _ => None,
    });
    let authority = lines.iter().find_map(|line| match line {
        Line::Down(message) if message.route.resource.as_str() == "k8s/ca.crt" => message.content.as_string(),
        _ => None,
    });
    let mut config = CloudHubConfig {
        instance_address: Some("192.0.2.2".into()),
        cluster_ca: authority.map(Into::into),
        ..CloudHubConfig::default()
    };
    // `featureGates.requireAuthorization`.
    config.downstream.policy = name.contains("authorization");
    let mut replay = Replay {
        name: name.to_owned(),
        node,
        world: World::with(config, |hub| hub),
        edge: None,
        names: BTreeMap::new(),
        answers: answers.collect(),
        untold: BTreeMap::new(),
        last: BTreeMap::new(),
        unanswered: HashMap::new(),
        expected,
        differences: BTreeSet::new(),
    };
    replay.seed(&lines).await;
    for (place, line) in lines.iter().enumerate() {
        replay.play(line, &lines, place).await;
    }
    replay.settle().await;
    let untold = std::mem::take(&mut replay.untold);
    replay.differences.extend(untold.into_values());
    replay.differences
}

impl Replay {
    async fn play(&mut self, line: &Line, lines: &[Line], place: usize) {
        match line {
            Line::Note(note) => kubectl::run(&self.world, note, |object| completed(object, lines)).await,
            Line::Opened => {
                self.settle().await;
                self.edge = None;
                self.edge = Some(self.world.stock(&self.node).await);
            }
            Line::Ended => {
                self.settle().await;
                self.edge = None;
            }
            // An edge acknowledges by itself.
            Line::Up(message) if message.is_reply() || message.route.operation == Operation::None => {}
            Line::Up(message) => self.up(message).await,
            Line::Down(message) if message.is_reply() => {}
            Line::Down(message) => {
                let again = |later: &Line| matches!(later, Line::Down(later) if later.route.resource == message.route.resource && !later.is_reply());
                let later = lines[place + 1..].iter().any(again);
                self.down(message, later).await;
            }
        }
    }

    /// The edge asks or reports; the answer is compared with the recorded one.
    async fn up(&mut self, message: &Message) {
        let mut ours = message.clone();
        ours.content = Content::from_json(self.translated(message.content.bytes()).into());
        if let Some(application) = self.application(&ours) {
            ours.content = application;
        }
        let Some(edge) = &mut self.edge else { return };
        let what = asked(message);
        let Some(recorded) = self.answers.get(&message.header.id).cloned() else {
            ours.header.id = MessageId::random();
            if message.route.operation != Operation::Keepalive {
                self.unanswered.insert(ours.header.id.clone(), what);
            }
            edge.send_frame(ours).await;
            return;
        };
        let answer = edge.ask(ours).await;
        self.compare("answer to", &what, &recorded, &answer);
    }

    /// The recorded cloud told something; ours tells it too, perhaps in another order where the objects are others.
    async fn down(&mut self, recorded: &Message, later: bool) {
        let what = told(recorded);
        let absent = format!("{} untold: {what}", self.name);
        let resource = recorded.route.resource.to_string();
        let is_new = !self.last.contains_key(&resource);
        let patience = match () {
            () if (self.expected)(&absent) => Duration::ZERO,
            // Newest wins: what a later state passes over need not be told.
            () if recorded.route.operation == Operation::Update && later && !is_new => QUIET,
            () => PATIENCE,
        };
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            self.sort_out();
            let passes_over = recorded.route.operation == Operation::Update;
            if let Some(place) = self.told(recorded, &what, passes_over)
                && let Some(edge) = &mut self.edge
            {
                let message = edge.seen.remove(place).unwrap();
                if passes_over {
                    // What was told before it were states on the way.
                    let mut index = 0;
                    edge.seen.retain(|earlier| {
                        index += 1;
                        index > place || told(earlier) != what
                    });
                }
                self.untold.remove(&resource);
                return self.compare("told", &what, recorded, &message);
            }
            let known = is_put(recorded) && self.is_same(recorded, &what, self.last.get(&resource));
            let Some(edge) = &mut self.edge else { return };
            match tokio::time::timeout_at(deadline, edge.try_receive()).await {
                Ok(Ok(message)) => edge.seen.push_back(message),
                Ok(Err(_)) => self.edge = None,
                // Told already: a repair of KubeEdge's says it once more.
                Err(_) if known => {
                    return;
                }
                Err(_) => {
                    // What is new to the node may be an update to the one and an insert to the other.
                    let other = |message: &Message| {
                        is_put(message) && message.route.resource == recorded.route.resource
                    };
                    match edge
                        .seen
                        .iter()
                        .rposition(other)
                        .filter(|_| is_put(recorded) && (is_new || !(passes_over && later)))
                    {
                        Some(place) => {
                            let message = edge.seen.remove(place).unwrap();
                            self.untold.remove(&resource);
                            self.compare("told", &what, recorded, &message);
                        }
                        None => drop(self.untold.insert(resource, absent)),
                    }
                    return;
                }
            }
        }
    }

    /// The message of ours that tells this. Of an object's states it must be the very same one: others are on the way.
    fn told(&self, recorded: &Message, what: &str, same: bool) -> Option<usize> {
        let seen = &self.edge.as_ref()?.seen;
        seen.iter().position(|message| {
            told(message) == what && (!same || self.is_same(recorded, what, Some(&parsed(message))))
        })
    }

    /// Whether this is the recorded state, but for differences that are expected.
    fn is_same(&self, recorded: &Message, what: &str, ours: Option<&Value>) -> bool {
        let state: Value = serde_json::from_str(&self.translated(recorded.content.bytes())).unwrap();
        let place = format!("{} told {what}", self.name);
        ours.is_some_and(|ours| {
            differences(&state, ours)
                .iter()
                .all(|difference| (self.expected)(&format!("{place}: {difference}")))
        })
    }

    /// What our cloud said beyond the recording.
    async fn settle(&mut self) {
        while let Some(edge) = &mut self.edge
            && let Ok(Ok(message)) = tokio::time::timeout(QUIET, edge.try_receive()).await
        {
            edge.seen.push_back(message);
        }
        self.sort_out();
        let Some(edge) = &mut self.edge else { return };
        for message in std::mem::take(&mut edge.seen) {
            self.differences
                .insert(format!("{} told besides: {}", self.name, told(&message)));
        }
    }

    /// Answers where the recorded cloud gave none.
    fn sort_out(&mut self) {
        let Some(edge) = &mut self.edge else { return };
        for message in std::mem::take(&mut edge.seen) {
            let asked = message
                .header
                .parent_id
                .as_ref()
                .and_then(|id| self.unanswered.get(id));
            match asked {
                Some(what) => {
                    let route = &message.route;
                    self.differences.insert(format!(
                        "{} answered besides: {what} with {}",
                        self.name, route.operation
                    ));
                }
                None => edge.seen.push_back(message),
            }
        }
    }

    fn compare(&mut self, how: &str, what: &str, recorded: &Message, ours: &Message) {
        let place = format!("{} {how} {what}", self.name);
        let (a, b) = (&recorded.route, &ours.route);
        for (field, a, b) in [
            ("source", &*a.source, &*b.source),
            ("group", &*a.group, &*b.group),
            ("operation", a.operation.as_str(), b.operation.as_str()),
            ("resource", a.resource.as_str(), b.resource.as_str()),
        ] {
            if a != b {
                self.differences.insert(format!("{place}: {field}: {a} → {b}"));
            }
        }
        let has = |message: &Message| message.header.resource_version.is_some();
        if has(recorded) != has(ours) {
            self.differences
                .insert(format!("{place}: version: {} → {}", has(recorded), has(ours)));
        }
        let (a, b): (Value, Value) = (parsed(recorded), parsed(ours));
        self.learn(&a, &b);
        if how == "told" {
            self.last.insert(ours.route.resource.to_string(), b.clone());
        }
        let body = |answer: &Value| -> Value {
            let bytes = answer["RespBody"]
                .as_str()
                .and_then(|text| BASE64.decode(text).ok());
            bytes
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default()
        };
        self.learn(&body(&a), &body(&b));
        let a = serde_json::from_str(&self.translated(a.to_string().as_bytes())).unwrap();
        for difference in differences(&a, &b) {
            self.differences.insert(format!("{place}: {difference}"));
        }
    }

    /// The uids and versions of an object that both clusters have.
    fn learn(&mut self, recorded: &Value, ours: &Value) {
        for (recorded, ours) in [(recorded, ours), (&recorded["Object"], &ours["Object"])] {
            for field in ["uid", "resourceVersion"] {
                let pair = (&recorded["metadata"][field], &ours["metadata"][field]);
                if let (Some(recorded), Some(ours)) = (pair.0.as_str(), pair.1.as_str()) {
                    self.names.insert(recorded.into(), ours.into());
                }
            }
        }
    }

    /// The content as it reads in our cluster.
    fn translated(&self, content: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(content).into_owned();
        for (recorded, ours) in &self.names {
            if recorded.len() > 20 {
                text = text.replace(recorded, ours);
            } else {
                let field = |version: &str| format!("\"resourceVersion\":\"{version}\"");
                text = text.replace(&field(recorded), &field(ours));
            }
        }
        text
    }

    /// A request to the API, with the objects in it as they read in our cluster.
    fn application(&self, message: &Message) -> Option<Content> {
        let mut application = parsed(message);
        for field in ["Option", "ReqBody"] {
            let bytes = BASE64.decode(application.get(field)?.as_str()?).ok()?;
            application[field] = BASE64.encode(self.translated(&bytes)).into();
        }
        Some(Content::encode(&application))
    }
}

/// Longer than anything here takes; only a difference waits for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing must come until a cloud is taken to have said all.
const QUIET: Duration = Duration::from_millis(150);
