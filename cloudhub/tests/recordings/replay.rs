//! Plays the edge's side of a recording against our cloud, and notes where our cloud says something else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloudhub::CloudHubConfig;
use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::{Content, Message, MessageId, Operation};
use hub_core::transport::{Capabilities, Received};
use serde_json::{Value, json};

use crate::compare::differences;
use crate::kubectl;
use crate::world::{Edge, World};

/// What a recording holds.
enum Line {
    Note(String),
    Up(Message),
    Down(Message),
    /// A connection, by the name it has where there are several.
    Opened,
    Ended,
}

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

    /// What the recorded cluster had when the recording began.
    async fn seed(&mut self, lines: &[Line]) {
        for (kind, plural) in [
            ("Device", "devices"),
            ("DeviceModel", "devicemodels"),
            ("DeviceStatus", "devicestatuses"),
        ] {
            let definition = json!({
                "kind": "CustomResourceDefinition",
                "metadata": { "name": format!("{plural}.devices.kubeedge.io") },
                "spec": { "group": "devices.kubeedge.io", "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
                    "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                        "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
            });
            kubectl::apply(&self.world, definition).await;
        }
        if self.name.contains("authorization") {
            self.seed_rights(lines).await;
        }
        // What nobody creates in the recording was there, as it was first seen.
        let created = |resource: &str| {
            lines.iter().any(|line| match line {
                Line::Note(note) if note.contains("kubectl apply") => {
                    let object = note
                        .split_once(" <<< ")
                        .and_then(|(_, json)| serde_json::from_str::<Value>(json).ok());
                    let object = object.unwrap_or_default();
                    let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
                    resource
                        == format!(
                            "default/{}/{}",
                            kind.unwrap_or_default().to_lowercase(),
                            name.unwrap_or_default()
                        )
                }
                Line::Up(message) => {
                    let application = parsed(message);
                    let body = application["ReqBody"]
                        .as_str()
                        .and_then(|text| BASE64.decode(text).ok())
                        .unwrap_or_default();
                    let object: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let name = object["metadata"]["name"].as_str().unwrap_or("?");
                    let made = application["Verb"] == "create" || application["Verb"] == "patch";
                    made && resource.starts_with("default/configmap/") && resource.ends_with(name)
                }
                _ => false,
            })
        };
        let mut seen = BTreeSet::new();
        for line in lines {
            let Line::Down(message) = line else { continue };
            let resource = message.route.resource.as_str();
            let kept = ["/configmap/", "/secret/", "/pod/", "/devicemodel/"]
                .iter()
                .any(|kind| resource.contains(kind));
            let mut object = parsed(message);
            if resource.contains("/devicemodel/") && !message.is_reply() {
                // Where a watch or a repair brought it, KubeEdge leaves these out.
                object["kind"] = "DeviceModel".into();
                object["apiVersion"] = "devices.kubeedge.io/v1beta1".into();
            }
            if kept && object["kind"].is_string() && !created(resource) && seen.insert(resource.to_owned()) {
                kubectl::apply(&self.world, bare(object.clone())).await;
                let kind = object["kind"].as_str().unwrap().to_lowercase();
                let ours =
                    kubectl::read(&self.world, &kind, object["metadata"]["name"].as_str().unwrap()).await;
                self.learn(&object, &ours);
            }
        }
        let binding = json!({
            "kind": "ClusterRoleBinding", "metadata": { "name": "nodes-may-everything" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
        });
        let role = json!({ "kind": "ClusterRole", "metadata": { "name": "cluster-admin" },
            "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }, { "nonResourceURLs": ["*"], "verbs": ["*"] }] });
        if !self.name.contains("authorization") {
            // A stock cloud asks nobody whether a node may, by default.
            kubectl::apply(&self.world, role).await;
            kubectl::apply(&self.world, binding).await;
        }
        let registers = lines
            .iter()
            .any(|line| matches!(line, Line::Up(message) if is(message, "insert", "/node/")));
        if !registers {
            // As it was first seen.
            let node = lines.iter().find_map(|line| match line {
                Line::Down(message)
                    if message.route.resource.as_str() == format!("null/node/{}", self.node)
                        && !message.is_reply() =>
                {
                    Some(parsed(message))
                }
                Line::Down(message) if asked(message) == format!("get /core/v1/nodes/null/{}", self.node) => {
                    let body = BASE64.decode(parsed(message)["RespBody"].as_str()?).ok()?;
                    serde_json::from_slice(&body).ok()
                }
                _ => None,
            });
            let node = node.unwrap_or_else(|| json!({ "kind": "Node", "metadata": { "name": self.node } }));
            kubectl::apply(&self.world, bare(node)).await;
        }
        let lease = lines.iter().find_map(|line| match line {
            Line::Up(message) if is(message, "insert", "/lease/") => Some(None),
            Line::Up(message) if is(message, "update", "/lease/") => Some(Some(parsed(message))),
            _ => None,
        });
        if let Some(Some(lease)) = lease {
            let mut ours = bare(lease.clone());
            ours["kind"] = "Lease".into();
            kubectl::apply(&self.world, ours).await;
            let ours = self
                .world
                .read(
                    "coordination.k8s.io/v1/leases",
                    Some("kube-node-lease"),
                    &self.node,
                )
                .await;
            self.learn(&lease, &ours);
        }
        if !matches!(lines.first(), Some(Line::Opened)) {
            // The recording begins on a connection that was open: what ours tells at its begin was told before.
            self.edge = Some(self.world.stock(&self.node).await);
            while let Some(edge) = &mut self.edge
                && matches!(tokio::time::timeout(QUIET, edge.try_receive()).await, Ok(Ok(_)))
            {}
        }
    }
}

impl Replay {
    /// The kind in which a node is told what service accounts may do, and what those of the recorded cluster might.
    async fn seed_rights(&mut self, lines: &[Line]) {
        let definition = json!({
            "kind": "CustomResourceDefinition",
            "metadata": { "name": "serviceaccountaccesses.policy.kubeedge.io" },
            "spec": { "group": "policy.kubeedge.io", "scope": "Namespaced",
                "names": { "plural": "serviceaccountaccesses", "singular": "serviceaccountaccess", "kind": "ServiceAccountAccess" },
                "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
        });
        kubectl::apply(&self.world, definition).await;
        let told = lines.iter().find_map(|line| match line {
            Line::Down(message) if is(message, "update", "/serviceaccountaccess/") => Some(parsed(message)),
            _ => None,
        });
        for access in told.iter().flat_map(|told| {
            told["spec"]["accessClusterRoleBinding"]
                .as_array()
                .into_iter()
                .flatten()
        }) {
            let mut binding = access["clusterRoleBinding"].clone();
            binding["kind"] = "ClusterRoleBinding".into();
            let role = json!({ "kind": "ClusterRole", "metadata": { "name": binding["roleRef"]["name"] }, "rules": access["rules"] });
            kubectl::apply(&self.world, role).await;
            kubectl::apply(&self.world, binding).await;
        }
    }
}

fn is(message: &Message, operation: &str, part: &str) -> bool {
    message.route.operation.as_str() == operation && message.route.resource.as_str().contains(part)
}

fn is_put(message: &Message) -> bool {
    matches!(message.route.operation, Operation::Insert | Operation::Update) && !message.is_reply()
}

/// What a message asks: of a request to the API, which.
fn asked(message: &Message) -> String {
    let content = parsed(message);
    match (content["Verb"].as_str(), content["Key"].as_str()) {
        (Some(verb), Some(key)) => format!("{verb} {key}"),
        _ => told(message),
    }
}

fn told(message: &Message) -> String {
    format!("{} {}", message.route.operation, message.route.resource)
}

fn parsed(message: &Message) -> Value {
    serde_json::from_slice(message.content.bytes()).unwrap()
}

/// Without what a server gives.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            metadata.remove(field);
        }
    }
    object
}

/// A pod with the volumes that the recorded cluster's admission gave it.
fn completed(object: &Value, lines: &[Line]) -> Option<Value> {
    if object["kind"] != "Pod" {
        return None;
    }
    let resource = format!("default/pod/{}", object["metadata"]["name"].as_str()?);
    let recorded = lines.iter().find_map(|line| match line {
        Line::Down(message) if message.route.resource.as_str() == resource && !message.is_reply() => {
            Some(parsed(message))
        }
        _ => None,
    })?;
    let mut object = object.clone();
    if recorded["spec"]["volumes"].is_array() {
        object["spec"]["volumes"] = recorded["spec"]["volumes"].clone();
    }
    for (index, container) in recorded["spec"]["containers"].as_array()?.iter().enumerate() {
        if container["volumeMounts"].is_array() {
            object["spec"]["containers"][index]["volumeMounts"] = container["volumeMounts"].clone();
        }
    }
    Some(object)
}

/// The node of a recording, and what it holds that can be played.
fn read(name: &str) -> (String, Vec<Line>) {
    let path = format!(
        "{}/../hub-core/tests/captures/{name}.jsonl.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    let (mut node, mut lines) = (None, Vec::new());
    for line in std::str::from_utf8(&text).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(headers) = line["request"]["headers"].as_array() {
            let id = headers
                .iter()
                .find(|header| header[0] == "Node_id")
                .and_then(|header| header[1].as_str());
            node = node.or(id.map(str::to_owned));
            if line["note"].is_null() {
                lines.push(Line::Opened);
            }
        } else if let Some(payload) = line["payload"].as_str() {
            let Ok(Received::Whole(message)) = codec.decode(payload.to_owned().into()) else {
                continue;
            };
            lines.push(match line["dir"].as_str() {
                Some("edge->cloud") => Line::Up(message),
                _ => Line::Down(message),
            });
        } else if let Some(note) = line["note"].as_str() {
            lines.push(Line::Note(note.to_owned()));
        } else if line["event"] == "stream end" {
            lines.push(Line::Ended);
        }
    }
    (node.unwrap(), lines)
}

/// Longer than anything here takes; only a difference waits for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing must come until a cloud is taken to have said all.
const QUIET: Duration = Duration::from_millis(150);
