//! What a node holds of its cluster: objects, their history, and what must still reach the cloud.
//!
//! [`ObjectStore`] and [`Journal`] are the two traits; [`MemoryStore`] and [`MemoryJournal`] implement them in memory. EdgeHub's
//! SQLite store keeps a `MemoryStore` in front and a log behind; CloudHub's embedded cluster does the same.
//! The metaServer reads through `ObjectStore` only, so it serves either.

mod journal;
mod journal_table;
mod local;
mod memory;
mod splice;
mod stage;
mod state;
mod tombstones;
mod watch;
mod watch_log;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use journal::{
    Draft, Journal, JournalDepth, JournalEntry, JournalError, JournalId, JournalLimits, MemoryJournal,
};
pub use journal_table::{Appended, JournalTable};
pub use local::{LocalCopy, NODE_ONLY};
pub use memory::{MemoryStore, Restored, RevisionSource, StoreLimits};
pub use splice::with_resource_version;
pub use stage::{Staged, Write};
pub use watch::Watch;
pub use watch_log::{Compacted, Event, EventKind, LogLimits, WatchLog};

use crate::object::{GroupVersionResource, Object, ObjectKey, ResourceVersion, Revision};
use crate::registry::Registry;
use crate::scope::Scope;

/// One object in a store, with our own revision of it. Shared by all readers.
#[derive(PartialEq, Eq)]
pub struct Stored {
    /// The object as the cloud has it.
    pub object: Object,
    /// When it came to be what it is, in this store's own time.
    pub revision: Revision,
    /// The body as local clients see it, that of a [`LocalCopy`] where there is one: `metadata.resourceVersion` is the revision. Ready to be written to a socket.
    pub served: Bytes,
}

/// Without the bodies: Secrets and tokens are among them.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} #{}", self.object, self.revision.0)
    }
}

/// A step of a store from one state to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object is now this. Ignored when the store already passed that version of the same uid.
    Put(Object),
    /// The object, if this very incarnation of it is held, is now this. For answers that may come after the deletion of what they
    /// are about: nobody would delete it a second time.
    Refresh(Object),
    /// The object is gone. Ignored when the store holds another uid, or a newer version than `version`.
    Delete {
        /// Which.
        key: ObjectKey,
        /// Which incarnation; None for any.
        uid: Option<Arc<str>>,
        /// The version that the deletion has, where the sender knows it.
        version: Option<ResourceVersion>,
    },
    /// Somebody wants this scope held from now on.
    Want(Scope),
    /// All of a wanted scope is here; until the next outage what is missing does not exist.
    Complete(Scope),
    /// Nobody wants the scope any more.
    Drop(Scope),
}

/// How much of a scope a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Nobody asked for it: what is here of it is here by chance.
    Absent,
    /// Wanted, not yet complete.
    Loading,
    /// Complete: what is not here does not exist, or did not when the cloud was last heard.
    Complete,
}

/// A collection at one instant.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The instant. A [`watch`](ObjectStore::watch) from here misses nothing.
    pub revision: Revision,
    /// The objects, ordered by namespace and name.
    pub objects: Vec<Arc<Stored>>,
}

/// The change is not durable. The disk's move: it must not be acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk refused: full, damaged or gone.
    #[error("the store could not write: {0}")]
    Disk(String),
    /// A limit of the store's configuration is reached.
    #[error("the store is full: {0}")]
    Full(&'static str),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// The objects that a node, or an embedded cluster, holds. Reads never wait for a disk.
pub trait ObjectStore: Send + Sync + 'static {
    /// The newest revision. Never 0.
    fn revision(&self) -> Revision;

    /// One object.
    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>>;

    /// A collection, or one namespace of it.
    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing;

    /// The changes of a collection after a revision. Fails when they are no longer kept.
    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted>;

    /// The collections that hold at least one object.
    fn resources(&self) -> Vec<GroupVersionResource>;

    /// How much of a scope is here.
    fn coverage(&self, scope: &Scope) -> Coverage;

    /// The scopes that are wanted, each with whether it is complete.
    fn scopes(&self) -> Vec<(Scope, Coverage)>;

    /// Changes whenever [`scopes`](Self::scopes) does.
    fn scopes_changed(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The kinds known here: the built-in ones and those of the CustomResourceDefinitions in the store, kept up to date by it.
    fn registry(&self) -> &Registry;

    /// Why changes are refused at the moment, for an operator; None while they are taken. Reads go on in any case.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// What an operator should know of a store that works, such as that it had to begin anew.
    fn notice(&self) -> Option<String> {
        None
    }

    /// Applies changes in order, all or none, and resolves once they are durable. Readers and watches see them no later.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>>;
}
