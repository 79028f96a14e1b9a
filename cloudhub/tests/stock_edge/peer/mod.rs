//! A Go edge, played: what `edgecore` does on its own, and what may go wrong with it.

mod line;
mod requests;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_core::transport::Identity;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::cloud::{Cloud, PATIENCE};
use crate::metamanager::Rows;
use crate::metaserver::MetaServer;
use crate::wire::{self, BINARY, Cut, Reader, TEXT, Writer};

use line::Line;
pub(crate) use line::document;
pub(crate) use requests::{answer, applied, failure};

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
}
