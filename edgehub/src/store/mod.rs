//! The node's durable store: objects, scopes and the journal, in one SQLite file that is only a log.
//!
//! ```text
//!   get · list · watch · first          apply · append · remove
//!            │                                     │ bounded queue
//!            ▼                                     ▼
//!   MemoryStore, MemoryJournal ◄── publish ── writer thread ── one transaction a group ──► SQLite (WAL, FULL)
//!                                                                                            │ read only by open()
//! ```
//!
//! A change is on the disk first, then visible, then reported. What cannot be written is neither visible nor reported.

mod damage;
mod database;
mod history;
mod identity;
mod journal;
mod objects;
mod row;
mod trouble;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey, ResourceVersion, Revision};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{
    Change, Compacted, Coverage, Draft, Journal, JournalDepth, JournalEntry, JournalError, JournalId,
    JournalLimits, Listing, MemoryJournal, MemoryStore, ObjectStore, StoreError, StoreLimits, Stored, Watch,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use identity::IdentityError;

use database::Loaded;
use trouble::Trouble;
use writer::{Command, Writer};

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct EdgeStoreConfig {
    /// What it may hold.
    pub limits: StoreLimits,
    /// What its journal may hold.
    pub journal: JournalLimits,
    /// The largest file. A store at this size refuses what would make it grow.
    pub file_bytes_max: u64,
    /// Pages of 4 KiB in the write-ahead log before they move to the main file. More of them cost the flash fewer writes, and the
    /// next start more time.
    pub checkpoint_pages: u32,
    /// Bodies of at least this many bytes are compressed.
    pub compress_min: usize,
    /// Commands that wait for the disk; more wait at the door.
    pub queue_max: usize,
    /// Commands that share one transaction, and so one flush.
    pub group_max: usize,
    /// Damaged files that are kept for a look; the oldest is deleted first.
    pub damaged_max: usize,
}

impl Default for EdgeStoreConfig {
    fn default() -> Self {
        Self {
            limits: StoreLimits::default(),
            journal: JournalLimits::default(),
            file_bytes_max: 4 << 30,
            checkpoint_pages: 256,
            compress_min: 256,
            queue_max: 256,
            group_max: 64,
            damaged_max: 2,
        }
    }
}

/// The store cannot be opened. The operator's move. A damaged file is no reason: it is set aside and an empty store begins.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store {0} is in use by another process")]
    InUse(PathBuf),
    /// The path, the permissions or the disk.
    #[error("the store {path} cannot be opened: {reason}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// What a node says that it holds, when it meets the cloud again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which object.
    pub key: ObjectKey,
    /// Which incarnation.
    pub uid: Arc<str>,
    /// In which version of the cloud's.
    pub version: ResourceVersion,
}

/// The objects, scopes and unsent messages of one node, on its disk. Cheap to clone; all clones are the same store.
///
/// When the last clone is dropped, the store waits for its disk and closes cleanly.
#[derive(Debug, Clone)]
pub struct EdgeStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: MemoryStore,
    journal: MemoryJournal,
    instance: Arc<str>,
    trouble: Trouble,
    notice: Option<String>,
    /// None only while the store closes.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl EdgeStore {
    /// Opens the store in a file, or begins one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, EdgeStoreConfig::default())
    }

    /// [`open`](Self::open) with other limits. Blocks until everything is in memory.
    pub fn open_with(path: impl AsRef<Path>, config: EdgeStoreConfig) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let Loaded {
            database,
            restored,
            journal,
            notice,
        } = database::open(path, &config)?;
        let instance = database.identity.instance.clone();
        let source = hub_core::store::RevisionSource::Own;
        let objects = MemoryStore::restore(config.limits, Registry::builtin(), source, restored);
        let journal = MemoryJournal::restore(journal);
        let (commands, queue) = mpsc::channel(config.queue_max.max(1));
        let trouble = Trouble::default();
        let writer = Writer::new(
            database,
            objects.clone(),
            journal.clone(),
            trouble.clone(),
            config.group_max,
        );
        let writer = std::thread::Builder::new()
            .name("edge-store".into())
            .spawn(move || writer.run(queue))
            .map_err(|error| OpenError::Disk {
                path: path.into(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                objects,
                journal,
                instance,
                trouble,
                notice,
                commands: Some(commands),
                writer: Some(writer),
            }),
        })
    }

    /// The name of this store, random, made once. Another name means that what the node had was lost.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// Makes the store that of a node, for good. Fails when it is that of another: its objects are not this node's to see.
    pub async fn bind(&self, node: &NodeId) -> Result<(), IdentityError> {
        let node = node.clone();
        let bound = self.ask(move |reply| Command::Bind { node, reply }).await;
        bound.unwrap_or(Err(IdentityError::Closed))
    }

    /// What is here, in the cloud's versions.
    pub fn held(&self) -> Vec<Held> {
        let objects = self.inner.objects.objects();
        let held = objects.iter().map(|stored| Held {
            key: stored.object.key.clone(),
            uid: stored.object.uid.clone(),
            version: stored.object.version.clone(),
        });
        held.collect()
    }

    /// Hands a command to the writer and waits for its answer; None when the writer is gone.
    ///
    /// The future holds the store, so it stays open until the answer has come.
    fn ask<T, C>(&self, command: C) -> impl Future<Output = Option<T>> + Send + use<T, C>
    where
        T: Send + 'static,
        C: FnOnce(oneshot::Sender<T>) -> Command,
    {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let inner = self.inner.clone();
        async move {
            inner.commands.as_ref()?.send(command).await.ok()?;
            answer.await.ok()
        }
    }
}

impl ObjectStore for EdgeStore {
    fn revision(&self) -> Revision {
        self.inner.objects.revision()
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.inner.objects.get(key)
    }

    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing {
        self.inner.objects.list(resource, namespace)
    }

    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted> {
        self.inner.objects.watch(resource, after)
    }

    fn resources(&self) -> Vec<GroupVersionResource> {
        self.inner.objects.resources()
    }

    fn coverage(&self, scope: &Scope) -> Coverage {
        self.inner.objects.coverage(scope)
    }

    fn scopes(&self) -> Vec<(Scope, Coverage)> {
        self.inner.objects.scopes()
    }

    fn scopes_changed(&self) -> watch::Receiver<u64> {
        self.inner.objects.scopes_changed()
    }

    fn registry(&self) -> &Registry {
        self.inner.objects.registry()
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.inner.trouble.get()?;
        // Whether it is over is found out by trying; the answer is for the next who asks.
        if let Some(commands) = &self.inner.commands {
            let _ = commands.try_send(Command::Probe);
        }
        Some(trouble)
    }

    fn notice(&self) -> Option<String> {
        self.inner.notice.clone()
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        let applied = self.ask(move |reply| Command::Apply { changes, reply });
        applied
            .map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
            .boxed()
    }
}

impl Journal for EdgeStore {
    fn append(&self, draft: Draft) -> BoxFuture<'static, Result<JournalId, JournalError>> {
        let appended = self.ask(move |reply| Command::Append { draft, reply });
        appended
            .map(|answer| answer.unwrap_or(Err(JournalError::Closed)))
            .boxed()
    }

    fn first(&self, max: usize) -> Vec<JournalEntry> {
        self.inner.journal.first(max)
    }

    fn remove(&self, id: JournalId) -> BoxFuture<'static, Result<bool, JournalError>> {
        let removed = self.ask(move |reply| Command::Remove { id, reply });
        removed
            .map(|answer| answer.unwrap_or(Err(JournalError::Closed)))
            .boxed()
    }

    fn depth(&self) -> JournalDepth {
        self.inner.journal.depth()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.inner.journal.changed()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when nobody can ask it any more.
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(
                "the store's writer ended with a panic; the next start will read what it had written"
            );
        }
    }
}
