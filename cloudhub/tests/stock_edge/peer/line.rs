//! The connection of a Go edge, and what its tasks do on it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::{Ack, End, Habits, Seen};
use crate::metamanager::{self, Rows};
use crate::wire::{CLOSE, Cut, PING, PONG, Reader, TEXT, Writer};

/// What the tasks of a connection share.
pub(super) struct Line {
    pub(super) node: String,
    pub(super) habits: Mutex<Habits>,
    /// As the edge's `keeperLock`: one message at a time.
    pub(super) writer: tokio::sync::Mutex<Writer>,
    pub(super) asked: Mutex<HashMap<String, (Value, oneshot::Sender<Value>)>>,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) inbox: Mutex<VecDeque<Value>>,
    pub(super) arrived: Notify,
    pub(super) dropped: AtomicUsize,
    pub(super) heard: Mutex<Instant>,
    pub(super) ended: AtomicBool,
    pub(super) count: AtomicI64,
}

impl Line {
    /// Reads, answers pings, and puts messages into an inbox that drops its oldest (`pkg/viaduct/pkg/fifo/msgfifo.go`).
    pub(super) async fn read(self: Arc<Self>, mut reader: Reader) {
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

    pub(super) fn finish(&self, end: End) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.seen.send_modify(|seen| seen.end = Some(end));
        }
    }

    pub(super) fn arrive(&self, message: Value) {
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
    pub(super) async fn handle(self: Arc<Self>) {
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

    pub(super) async fn acknowledge(self: Arc<Self>, rule: Ack, parent: String, mut route: Value) {
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
    pub(super) async fn live(self: Arc<Self>, keepalive: Option<Duration>, pings: Option<Duration>) {
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

    pub(super) fn message(
        &self,
        source: &str,
        group: &str,
        operation: &str,
        resource: &str,
        content: Value,
    ) -> Value {
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

    pub(super) async fn send(&self, message: &Value) -> io::Result<()> {
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
