//! Records in a file of our own, written by one thread.
//!
//! Whoever tells something leaves it in memory and goes on. The thread takes everything that is there and writes it in one
//! transaction: at once when somebody waits for it, or else after a moment of gathering.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;
use tokio::sync::oneshot;

use super::pending::{Change, Pending, Waiter};
use super::table::Table;
use super::{Recorded, RecordsConfig, RecordsError, SyncRecord, SyncRecords};

/// Records in a durable file: the default of a hub that is alone with its nodes. Closing it (dropping the last use) writes what
/// waits.
pub struct FileRecords {
    shared: Arc<Shared>,
    config: RecordsConfig,
    thread: Option<JoinHandle<()>>,
}

/// The file of records cannot be used. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum OpenRecordsError {
    /// It cannot be read or written, is no database, or is held by another process.
    #[error("cannot open the sync records {path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// The operating system gives no thread.
    #[error("cannot start the writer of the sync records: {0}")]
    Thread(#[from] std::io::Error),
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
}

/// What the thread is to do.
#[derive(Default)]
struct Desk {
    pending: Pending,
    /// When the oldest of it was told.
    since: Option<Instant>,
    /// Whether somebody waits.
    urgent: bool,
    /// Who waits for everything to be written.
    flushes: Vec<Waiter>,
    questions: Vec<Question>,
    closed: bool,
}

enum Question {
    Of(NodeId, oneshot::Sender<Result<Vec<SyncRecord>, RecordsError>>),
    Nodes(oneshot::Sender<Result<BTreeSet<NodeId>, RecordsError>>),
}

impl FileRecords {
    /// Opens the file, or makes it. One process at a time may have it open.
    pub fn open(path: &Path, config: RecordsConfig) -> Result<Self, OpenRecordsError> {
        let table = Table::open(path).map_err(|source| OpenRecordsError::File {
            path: path.display().to_string(),
            source,
        })?;
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            table,
            shared: shared.clone(),
            gather: config.gather,
            backoff: Backoff {
                first: FIRST_RETRY,
                max: config.retry_max,
            },
            failures: 0,
            again: None,
        };
        let thread = std::thread::Builder::new()
            .name("sync-records".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            config,
            thread: Some(thread),
        })
    }

    fn tell(&self, node: &NodeId, object: Recorded, change: Change) {
        let mut desk = self.shared.desk();
        let told = desk
            .pending
            .add((node.clone(), object), change, None, self.config.pending_max);
        if let Err(error) = told {
            tracing::warn!(%node, %error, "a sync record is not kept: something will be sent again");
        }
        desk.since.get_or_insert_with(Instant::now);
        self.shared.bell.notify_one();
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, RecordsError>>) -> Question,
    ) -> BoxFuture<'static, Result<T, RecordsError>> {
        let (answer, answered) = oneshot::channel();
        self.shared.desk().questions.push(question(answer));
        self.shared.bell.notify_one();
        async { answered.await.unwrap_or(Err(RecordsError::Closed)) }.boxed()
    }
}

impl SyncRecords for FileRecords {
    fn of(&self, node: &NodeId) -> BoxFuture<'static, Result<Vec<SyncRecord>, RecordsError>> {
        let node = node.clone();
        self.ask(|answer| Question::Of(node, answer))
    }

    fn nodes(&self) -> BoxFuture<'static, Result<BTreeSet<NodeId>, RecordsError>> {
        self.ask(Question::Nodes)
    }

    fn intend(&self, node: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Result<(), RecordsError>> {
        let mut waits = Vec::with_capacity(objects.len());
        {
            let mut desk = self.shared.desk();
            for object in objects {
                let (written, wait) = oneshot::channel();
                let key = (node.clone(), object);
                let max = self.config.pending_max;
                match desk.pending.add(key, Change::Intend, Some(written), max) {
                    Ok(()) => waits.push(wait),
                    Err(error) => return futures::future::ready(Err(error)).boxed(),
                }
            }
            desk.urgent = true;
            desk.since.get_or_insert_with(Instant::now);
        }
        self.shared.bell.notify_one();
        async move {
            for wait in waits {
                wait.await.unwrap_or(Err(RecordsError::Closed))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn acked(&self, node: &NodeId, object: Recorded, version: ResourceVersion) {
        self.tell(node, object, Change::Acked(version));
    }

    fn forget(&self, node: &NodeId, object: Recorded) {
        self.tell(node, object, Change::Forget);
    }

    fn forget_node(&self, node: &NodeId) {
        let mut desk = self.shared.desk();
        desk.pending.forget_node(node);
        desk.since.get_or_insert_with(Instant::now);
        self.shared.bell.notify_one();
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let (written, wait) = oneshot::channel();
        {
            let mut desk = self.shared.desk();
            desk.flushes.push(written);
            desk.urgent = true;
        }
        self.shared.bell.notify_one();
        wait.map(drop).boxed()
    }
}

impl std::fmt::Debug for FileRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.shared.desk().pending.entries.len();
        write!(f, "FileRecords({waiting} waiting)")
    }
}

impl Drop for FileRecords {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.bell.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the sync records had panicked");
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Each statement leaves it whole.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    table: Table,
    shared: Arc<Shared>,
    gather: Duration,
    backoff: Backoff,
    failures: u32,
    /// After a failure: when to try again.
    again: Option<Instant>,
}

/// What the thread took from the desk.
struct Work {
    pending: Option<Pending>,
    flushes: Vec<Waiter>,
    questions: Vec<Question>,
    closed: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let work = self.next();
            if let Some(pending) = work.pending {
                self.write(pending);
            }
            for question in work.questions {
                self.answer(question);
            }
            for flush in work.flushes {
                let _ = flush.send(Ok(()));
            }
            if work.closed {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    fn next(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut desk = shared.desk();
        loop {
            let now = Instant::now();
            let waiting = !desk.pending.is_empty();
            let gathered = desk.since.map(|since| since + self.gather);
            let due = match self.again {
                Some(again) => again,
                None if desk.urgent => now,
                None => gathered.unwrap_or(now),
            };
            let write = waiting && (due <= now || desk.closed);
            let flush = !desk.flushes.is_empty() && (write || !waiting || self.again.is_some());
            if write || flush || !desk.questions.is_empty() || desk.closed {
                let pending = write.then(|| {
                    (desk.since, desk.urgent) = (None, false);
                    std::mem::take(&mut desk.pending)
                });
                return Work {
                    pending,
                    flushes: if flush {
                        std::mem::take(&mut desk.flushes)
                    } else {
                        Vec::new()
                    },
                    questions: std::mem::take(&mut desk.questions),
                    closed: desk.closed,
                };
            }
            desk = if waiting {
                let (desk, _) = shared
                    .bell
                    .wait_timeout(desk, due.saturating_duration_since(now))
                    .unwrap_or_else(PoisonError::into_inner);
                desk
            } else {
                shared.bell.wait(desk).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn write(&mut self, mut pending: Pending) {
        let written = self.table.write(&pending);
        let result = written.map_err(|error| RecordsError::Disk(error.to_string()));
        for entry in pending.entries.values_mut() {
            entry.answer(&result);
        }
        match result {
            Ok(()) => (self.failures, self.again) = (0, None),
            Err(error) => {
                let pause = self.backoff.pause(self.failures, u64::MAX);
                if self.failures == 0 {
                    tracing::error!(%error, "the sync records cannot be written: free or repair the disk; until then a deletion may be missed by a node that is away");
                }
                self.failures = self.failures.saturating_add(1);
                self.again = Some(Instant::now() + pause);
                let mut desk = self.shared.desk();
                desk.pending.put_back(pending);
                desk.since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Answers with what is written and what waits.
    fn answer(&self, question: Question) {
        let failed = |error: rusqlite::Error| RecordsError::Disk(error.to_string());
        match question {
            Question::Of(node, answer) => {
                let written = self.table.of(&node).map_err(failed);
                let desk = self.shared.desk();
                let _ = answer.send(written.map(|written| desk.pending.overlay(&node, written)));
            }
            Question::Nodes(answer) => {
                let nodes = self.table.nodes().map_err(failed);
                let desk = self.shared.desk();
                let _ = answer.send(nodes.map(|mut nodes| {
                    nodes.retain(|node| !desk.pending.nodes.contains(node));
                    nodes.extend(desk.pending.entries.keys().map(|(node, _)| node.clone()));
                    nodes
                }));
            }
        }
    }
}

/// The pause after a first failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
