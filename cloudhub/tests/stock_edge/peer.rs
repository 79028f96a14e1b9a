//! A Go edge, played: what `edgecore` does on its own, and what may go wrong with it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::transport::Identity;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::cloud::{Cloud, PATIENCE};
use crate::metamanager::{self, Rows};
use crate::metaserver::MetaServer;
use crate::wire::{self, BINARY, CLOSE, Cut, PING, PONG, Reader, TEXT, Writer};

/// What the edge does in place of its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    Ok,
    /// Nothing at all.
    Never,
    Twice,
    /// With a source and a group that nobody knows.
    Foreign,
    /// `error`, as when its database is broken.
    Error,
    /// This much later.
    After(Duration),
}

/// Which one, by message and by how often it came.
type AckRule = dyn Fn(&Value, usize) -> Ack + Send + Sync;

/// How the edge behaves from the first byte on.
#[derive(Clone)]
pub(crate) struct Habits {
    /// `modules.edgeHub.heartbeat`. None never says that it lives.
    pub(crate) keepalive: Option<Duration>,
    /// WebSocket pings of edges after v1.23: each so often, and an end when nothing came for twice as long.
    pub(crate) pings: Option<Duration>,
    /// How long the database takes for one message.
    pub(crate) slow: Duration,
    pub(crate) ack: Arc<AckRule>,
    /// The edge's clock is ahead by this many milliseconds.
    pub(crate) clock_ms: i64,
    /// Does not read from its socket.
    pub(crate) deaf: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(15)),
            pings: None,
            slow: Duration::ZERO,
            ack: Arc::new(|_, _| Ack::Ok),
            clock_ms: 0,
            deaf: false,
        }
    }
}

impl Habits {
    pub(crate) fn acking(ack: impl Fn(&Value, usize) -> Ack + Send + Sync + 'static) -> Self {
        Self {
            ack: Arc::new(ack),
            ..Self::default()
        }
    }
}

/// What the edge has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All messages in order, and when they came.
    pub(crate) log: Vec<(Instant, Value)>,
    /// Its database.
    pub(crate) rows: Rows,
    /// Its metaServer.
    pub(crate) metaserver: MetaServer,
    /// Pongs.
    pub(crate) pongs: usize,
    /// How the connection ended.
    pub(crate) end: Option<End>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// With a Close frame: its code, or 0.
    Closed(u16),
    /// Without.
    Cut,
    /// By the edge itself, for nothing came.
    Silent,
}

impl Seen {
    /// The messages about a resource that answer nothing.
    pub(crate) fn pushed(&self, resource: &str) -> Vec<&Value> {
        self.log
            .iter()
            .map(|(_, message)| message)
            .filter(|message| {
                message["route"]["resource"] == resource && message["header"].get("parent_msg_id").is_none()
            })
            .collect()
    }

    pub(crate) fn has(&self, resource: &str) -> bool {
        self.rows.contains_key(resource)
    }
}

/// A Go edge that is connected.
pub(crate) struct StockEdge {
    pub(crate) node: String,
    pub(crate) answer: wire::Answer,
    line: Arc<Line>,
    seen: watch::Receiver<Seen>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// What the tasks of a connection share.
struct Line {
    node: String,
    habits: Mutex<Habits>,
    /// As the edge's `keeperLock`: one message at a time.
    writer: tokio::sync::Mutex<Writer>,
    asked: Mutex<HashMap<String, (Value, oneshot::Sender<Value>)>>,
    seen: watch::Sender<Seen>,
    inbox: Mutex<VecDeque<Value>>,
    arrived: Notify,
    dropped: AtomicUsize,
    heard: Mutex<Instant>,
    ended: AtomicBool,
    count: AtomicI64,
}

impl StockEdge {
    /// Connects as a node with a certificate of its own.
    pub(crate) async fn join(cloud: &Cloud, node: &str) -> Self {
        Self::with(cloud, node, Habits::default()).await
    }

    pub(crate) async fn with(cloud: &Cloud, node: &str, habits: Habits) -> Self {
        Self::resume(cloud, node, habits, cloud.ca.node(node), Rows::new()).await
    }

    /// Connects with what an earlier connection left in the database.
    pub(crate) async fn resume(
        cloud: &Cloud,
        node: &str,
        habits: Habits,
        identity: Identity,
        rows: Rows,
    ) -> Self {
        let head = wire::upgrade(cloud.address, node);
        let dialled = wire::dial(cloud.address, cloud.ca.certificate(), identity, &head);
        let (answer, reader, writer) = tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap();
        assert_eq!(answer.code, 101, "{}", answer.head);
        Self::on(node, answer, reader, writer, habits, rows)
    }

    /// Becomes an edge on a connection that stands.
    pub(crate) fn on(
        node: &str,
        answer: wire::Answer,
        reader: Reader,
        writer: Writer,
        habits: Habits,
        rows: Rows,
    ) -> Self {
        let (sender, seen) = watch::channel(Seen {
            rows,
            ..Seen::default()
        });
        let line = Arc::new(Line {
            node: node.to_owned(),
            writer: tokio::sync::Mutex::new(writer),
            asked: Mutex::default(),
            seen: sender,
            inbox: Mutex::default(),
            arrived: Notify::new(),
            dropped: AtomicUsize::new(0),
            heard: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            count: AtomicI64::new(0),
            habits: Mutex::new(habits.clone()),
        });
        let mut tasks = Vec::new();
        let mut spawn = |task: futures::future::BoxFuture<'static, ()>| {
            tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
        };
        if !habits.deaf {
            spawn(Box::pin(line.clone().read(reader)));
        } else {
            // Its end of the socket stays open.
            spawn(Box::pin(async move {
                let _reader = reader;
                std::future::pending().await
            }));
        }
        spawn(Box::pin(line.clone().handle()));
        spawn(Box::pin(line.clone().live(habits.keepalive, habits.pings)));
        Self {
            node: node.to_owned(),
            answer,
            line,
            seen,
            tasks,
        }
    }

    /// Cuts the connection without a word and returns the database.
    pub(crate) async fn cut(mut self) -> Rows {
        let tasks = std::mem::take(&mut self.tasks);
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        std::mem::take(&mut self.line.seen.send_replace(Seen::default()).rows)
    }

    pub(crate) fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.line.habits.lock().unwrap());
    }

    pub(crate) fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }

    /// Waits until what was seen is so.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&Seen) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.seen.wait_for(|seen| done(seen)))
            .await
            .is_ok();
        let last: Vec<_> = self
            .seen()
            .log
            .iter()
            .rev()
            .take(5)
            .map(|(_, m)| m["route"].to_string())
            .collect();
        assert!(
            waited,
            "in time; rows {:?}, end {:?}, last {last:?}",
            self.seen().rows.keys(),
            self.seen().end
        );
    }

    /// A client of its metaServer watches from now on.
    pub(crate) fn listen(&self) {
        self.line.seen.send_modify(|seen| seen.metaserver.listen());
    }

    /// How the connection ends.
    pub(crate) async fn end(&mut self) -> End {
        self.until(|seen| seen.end.is_some()).await;
        self.seen().end.clone().unwrap()
    }

    /// Messages that its inbox lost.
    pub(crate) fn dropped(&self) -> usize {
        self.line.dropped.load(Ordering::Relaxed)
    }

    // --- what it says

    pub(crate) async fn send(&self, message: &Value) -> io::Result<()> {
        self.line.send(message).await
    }

    /// A document as it is, cut in some way.
    pub(crate) async fn text(&self, document: &str, cut: Cut) -> io::Result<()> {
        self.line
            .writer
            .lock()
            .await
            .document(TEXT, document.as_bytes(), cut)
            .await
    }

    pub(crate) async fn binary(&self, document: &str) -> io::Result<()> {
        self.line
            .writer
            .lock()
            .await
            .document(BINARY, document.as_bytes(), Cut::Go)
            .await
    }

    pub(crate) async fn frame(&self, fin: bool, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.line.writer.lock().await.frame(fin, opcode, payload).await
    }

    pub(crate) async fn half_frame(&self, payload: &[u8]) -> io::Result<()> {
        self.line.writer.lock().await.half_frame(payload).await
    }

    /// A message of its own.
    pub(crate) fn message(
        &self,
        source: &str,
        group: &str,
        operation: &str,
        resource: &str,
        content: Value,
    ) -> Value {
        self.line.message(source, group, operation, resource, content)
    }

    /// Expects the answer to a message that is sent in some way of the test's own.
    pub(crate) fn expect(&self, message: &Value) -> oneshot::Receiver<Value> {
        let (answer, answered) = oneshot::channel();
        let id = message["header"]["msg_id"].as_str().unwrap().to_owned();
        self.line
            .asked
            .lock()
            .unwrap()
            .insert(id, (message.clone(), answer));
        answered
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&self, message: Value) -> Value {
        let answered = self.expect(&message);
        self.send(&message).await.unwrap();
        answer(answered).await
    }

    /// As kubelet asks, through MetaManager.
    pub(crate) async fn edged(&self, operation: &str, resource: &str, content: Value) -> Value {
        self.ask(self.message("edged", "meta", operation, resource, content))
            .await
    }

    /// Registers the node and reports it, as on its first start.
    pub(crate) async fn register(&self) {
        let name = self.node.clone();
        let made = self
            .edged("insert", &format!("null/node/{name}"), metamanager::node(&name))
            .await;
        assert_eq!(made["content"]["Err"], Value::Null, "{made}");
        self.edged("patch", &format!("null/nodepatch/{name}"), "{}".into())
            .await;
    }

    /// Bytes as they are.
    pub(crate) async fn raw(&self, bytes: &[u8]) {
        self.line.writer.lock().await.raw(bytes).await.unwrap();
    }

    /// Renews the lease, or makes it.
    pub(crate) async fn renew(&self, operation: &str, renewed: &str) -> Value {
        let resource = format!("kube-node-lease/lease/{}", self.node);
        self.edged(operation, &resource, metamanager::lease(&self.node, renewed))
            .await
    }

    /// The message that asks for an application (`pkg/metaserver/application.go`).
    pub(crate) fn application(
        &self,
        verb: &str,
        key: &str,
        option: &Value,
        body: Option<&Value>,
        subresource: &str,
    ) -> Value {
        let (option, body) = (option.to_string(), body.map(Value::to_string));
        let mut hash = Sha256::new();
        for part in [
            &*self.node,
            key,
            verb,
            &option,
            body.as_deref().unwrap_or(""),
            subresource,
        ] {
            hash.update(part.as_bytes());
        }
        let id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let content = json!({ "ID": id, "Key": key, "Verb": verb, "Nodename": self.node, "Option": BASE64.encode(option),
            "ReqBody": body.map(|body| BASE64.encode(body)), "Subresource": subresource, "RespBody": null, "Status": "InApplying",
            "Reason": "", "Error": { "ErrStatus": { "metadata": {} } }, "Timestamp": "0001-01-01T00:00:00Z" });
        self.message("metaserver", "dynamiccontroller", "null", "null", content)
    }

    /// Asks the API through the tunnel. The body that came back, or the `Status`.
    pub(crate) async fn api(
        &self,
        verb: &str,
        key: &str,
        option: Value,
        body: Option<Value>,
    ) -> Result<Value, Value> {
        let answer = self
            .ask(self.application(verb, key, &option, body.as_ref(), ""))
            .await;
        applied(&answer)
    }

    /// Says which watches it still wants.
    pub(crate) async fn watch_sync(&self, watches: &[&Value]) -> Value {
        let wanted: serde_json::Map<_, _> = watches
            .iter()
            .map(|watch| {
                (
                    watch["content"]["ID"].as_str().unwrap().to_owned(),
                    watch["content"].clone(),
                )
            })
            .collect();
        let message = self.message(
            "metaserver",
            "dynamiccontroller",
            "null",
            "watchapp/sync",
            wanted.into(),
        );
        self.ask(message).await
    }
}

/// The answer to what was asked.
pub(crate) async fn answer(answered: oneshot::Receiver<Value>) -> Value {
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("an answer in time")
        .expect("the connection stands")
}

/// Why it failed, in whichever of the forms that a Go edge understands. None when it did not.
pub(crate) fn failure(answer: &Value) -> Option<String> {
    let content = &answer["content"];
    if answer["route"]["operation"] == "error" {
        return content.as_str().map(str::to_owned);
    }
    let status = content
        .get("ErrStatus")
        .or_else(|| content.get("Err")?.get("ErrStatus"))?;
    // An empty one reads as success.
    let filled = status["status"] == "Failure" && status["code"].as_u64().is_some_and(|code| code >= 400);
    filled.then(|| status["message"].to_string())
}

/// What an application was answered: its body, or its error.
pub(crate) fn applied(answer: &Value) -> Result<Value, Value> {
    let route = &answer["route"];
    assert_eq!(
        (
            &route["source"],
            &route["group"],
            &route["operation"],
            &route["resource"]
        ),
        (
            &json!("dynamiccontroller"),
            &json!("resource"),
            &json!("applicationResponse"),
            &json!("ignore/Application/ignore")
        ),
        "{answer}"
    );
    let application = &answer["content"];
    if application["Status"] != "Approved" {
        assert_eq!(application["Status"], "Rejected", "{application}");
        return Err(application["Error"]["ErrStatus"].clone());
    }
    let body = application["RespBody"].as_str().unwrap_or_default();
    let body = BASE64.decode(body).expect("base64");
    Ok(serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

impl Line {
    /// Reads, answers pings, and puts messages into an inbox that drops its oldest (`pkg/viaduct/pkg/fifo/msgfifo.go`).
    async fn read(self: Arc<Self>, mut reader: Reader) {
        let mut document = Vec::new();
        let end = loop {
            let Ok(frame) = reader.frame().await else {
                break End::Cut;
            };
            *self.heard.lock().unwrap() = Instant::now();
            match frame.opcode {
                PING => drop(self.writer.lock().await.frame(true, PONG, &frame.payload).await),
                PONG => self.seen.send_modify(|seen| seen.pongs += 1),
                CLOSE => {
                    let code = frame
                        .payload
                        .first_chunk()
                        .map_or(0, |code| u16::from_be_bytes(*code));
                    break End::Closed(code);
                }
                _ => {
                    document.extend(frame.payload);
                    if frame.fin {
                        let message: Value = serde_json::from_slice(&document).expect("JSON");
                        document.clear();
                        self.arrive(message);
                    }
                }
            }
        };
        self.finish(end);
    }

    fn finish(&self, end: End) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.seen.send_modify(|seen| seen.end = Some(end));
        }
    }

    fn arrive(&self, message: Value) {
        let mut inbox = self.inbox.lock().unwrap();
        if inbox.len() == INBOX {
            inbox.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        inbox.push_back(message);
        drop(inbox);
        self.arrived.notify_one();
    }

    /// EdgeHub's dispatch and MetaManager.
    async fn handle(self: Arc<Self>) {
        let mut times: HashMap<String, usize> = HashMap::new();
        loop {
            let next = self.inbox.lock().unwrap().pop_front();
            let Some(message) = next else {
                self.arrived.notified().await;
                continue;
            };
            let id = message["header"]["msg_id"].as_str().unwrap().to_owned();
            let parent = message["header"]["parent_msg_id"].as_str().map(str::to_owned);
            let habits = self.habits.lock().unwrap().clone();
            if !habits.slow.is_zero() {
                tokio::time::sleep(habits.slow).await;
            }
            let mut ack = None;
            if let Some(parent) = parent {
                let waiting = self.asked.lock().unwrap().remove(&parent);
                let consumed = waiting.as_ref().map(|(question, _)| question.clone());
                self.seen.send_modify(|seen| {
                    seen.log.push((Instant::now(), message.clone()));
                    if consumed.as_ref().is_some_and(metamanager::is_acknowledged) {
                        metamanager::consume(&mut seen.rows, &message);
                    }
                });
                if let Some((question, answer)) = waiting {
                    if metamanager::is_acknowledged(&question) {
                        let mut route = message["route"].clone();
                        route["operation"] = "response".into();
                        ack = Some(route);
                    }
                    let _ = answer.send(message.clone());
                }
                // A late answer is dropped with a warning, and without an acknowledgement.
            } else {
                let count = times.entry(id.clone()).or_default();
                *count += 1;
                let kept = (habits.ack)(&message, *count) != Ack::Error;
                self.seen.send_modify(|seen| {
                    seen.log.push((Instant::now(), message.clone()));
                    if kept {
                        seen.metaserver.inject(&message);
                        ack = metamanager::apply(&mut seen.rows, &message);
                    } else {
                        ack = metamanager::apply(&mut Rows::new(), &message);
                    }
                });
            }
            if let Some(route) = ack {
                let rule = (habits.ack)(&message, times.get(&id).copied().unwrap_or(1));
                self.clone().acknowledge(rule, id, route).await;
            }
        }
    }

    async fn acknowledge(self: Arc<Self>, rule: Ack, parent: String, mut route: Value) {
        let response = |route: Value| {
            let mut message = self.message("", "", "", "", "OK".into());
            message["header"]["parent_msg_id"] = parent.clone().into();
            message["route"] = route;
            message
        };
        match rule {
            Ack::Ok => drop(self.send(&response(route)).await),
            Ack::Never => {}
            Ack::Twice => {
                let _ = self.send(&response(route.clone())).await;
                let _ = self.send(&response(route)).await;
            }
            Ack::Foreign => {
                route["source"] = "somebody".into();
                route["group"] = "elsewhere".into();
                let _ = self.send(&response(route)).await;
            }
            Ack::Error => {
                route["operation"] = "error".into();
                route["source"] = "metamanager".into();
                let mut message = response(route);
                message["content"] = "insert or update meta failed, disk full".into();
                let _ = self.send(&message).await;
            }
            Ack::After(pause) => {
                let (line, message) = (self.clone(), response(route));
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let _ = line.send(&message).await;
                });
            }
        }
    }

    /// Says that it lives: at once, and again and again.
    async fn live(self: Arc<Self>, keepalive: Option<Duration>, pings: Option<Duration>) {
        let beat = async {
            let Some(pause) = keepalive else {
                return std::future::pending().await;
            };
            loop {
                let message = self.message("websocket", "resource", "keepalive", "node", "ping".into());
                if self.habits.lock().unwrap().keepalive.is_some() && self.send(&message).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        };
        let ping = async {
            let Some(pause) = pings else {
                return std::future::pending().await;
            };
            loop {
                tokio::time::sleep(pause).await;
                if self.heard.lock().unwrap().elapsed() >= pause * 2 {
                    self.finish(End::Silent);
                    return;
                }
                let _ = self.writer.lock().await.frame(true, PING, &[]).await;
            }
        };
        tokio::join!(beat, ping);
    }

    fn message(&self, source: &str, group: &str, operation: &str, resource: &str, content: Value) -> Value {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let timestamp = now.as_millis() as i64 + self.habits.lock().unwrap().clock_ms;
        let mut hash = Sha256::new();
        hash.update(format!("{}{number}{}", self.node, now.as_nanos()));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        json!({ "header": { "msg_id": id.to_string(), "timestamp": timestamp },
            "route": { "source": source, "group": group, "operation": operation, "resource": resource }, "content": content })
    }

    async fn send(&self, message: &Value) -> io::Result<()> {
        self.writer
            .lock()
            .await
            .document(TEXT, document(message).as_bytes(), Cut::Go)
            .await
    }
}

/// As Go's encoder writes it: fields in the order of its structs, `<`, `>` and `&` escaped, a newline at the end.
pub(crate) fn document(message: &Value) -> String {
    let fields = |part: &str, order: &[&str]| {
        let fields = order.iter().filter_map(|name| {
            let value = message[part].get(*name)?;
            Some(format!("\"{name}\":{value}"))
        });
        fields.collect::<Vec<_>>().join(",")
    };
    let header = fields(
        "header",
        &["msg_id", "parent_msg_id", "timestamp", "resourceversion"],
    );
    let route = fields("route", &["source", "group", "operation", "resource"]);
    let text = format!(
        "{{\"header\":{{{header}}},\"route\":{{{route}}},\"content\":{}}}\n",
        message["content"]
    );
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// `comm.MessageFiFoSizeMax`.
const INBOX: usize = 100;
