//! What each stock edge acknowledged: so that one that comes back is sent what changed, and hears of what was deleted.
//!
//! A stock KubeEdge edge keeps what it was sent and never says what that is. The cloud must know, for longer than a session and
//! longer than its own process lives. Our own edges say themselves what they hold and need no records.
//!
//! ```text
//!   downstream ── intend ──► durable ──► first send ── ack ──► acked      (later, coalesced)
//!                                   └──► delete ────── ack ──► forget     (later, coalesced)
//! ```
//!
//! The order is what makes it safe. An object is recorded *before* it is first sent and forgotten only *after* its deletion was
//! acknowledged, so whatever a node may hold has a record, wherever a crash falls. What a crash loses are acknowledgements and
//! forgettings of the last moments: something is sent again, or a deletion is told twice.

mod file;
mod memory;
mod object_sync;
mod pending;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hub_core::node::NodeId;
use hub_core::object::{ObjectKey, ResourceVersion};

pub use file::{FileRecords, OpenRecordsError};
pub use memory::MemoryRecords;
pub use object_sync::ObjectSyncRecords;

/// An account of what each stock edge was sent and what it acknowledged (KubeEdge: ObjectSync).
///
/// No method may block. What [`intend`](Self::intend) promises is durable when its future is done; everything else is written some
/// time later, the newest of each object only.
pub trait SyncRecords: Send + Sync + 'static {
    /// All records of a node, those included that were told and are not written yet.
    fn of(&self, node: &NodeId) -> BoxFuture<'static, Result<Vec<SyncRecord>, RecordsError>>;

    /// The nodes that have records.
    fn nodes(&self) -> BoxFuture<'static, Result<BTreeSet<NodeId>, RecordsError>>;

    /// These are about to be sent to the node for the first time. Done when the records would survive a crash. Where there is a
    /// record already it stays as it is.
    ///
    /// Dropping the future does not take the records back: they are still written as soon as that is possible.
    fn intend(&self, node: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Result<(), RecordsError>>;

    /// The object is being sent to the node. Where several hubs serve the cluster another may have removed its record meanwhile, or is
    /// about to: without an acknowledgement it must be there all the same.
    fn sending(&self, node: &NodeId, object: Recorded) {
        let _ = (node, object);
    }

    /// The node acknowledged this version of an object.
    fn acked(&self, node: &NodeId, object: Recorded, version: ResourceVersion);

    /// The node acknowledged the deletion of an object.
    fn forget(&self, node: &NodeId, object: Recorded);

    /// The node is gone from the cluster.
    fn forget_node(&self, node: &NodeId);

    /// Nodes of which somebody else wrote or removed a record: another hub that serves the same cluster. Never ends.
    fn changed_by_others(&self) -> BoxStream<'static, NodeId> {
        futures::stream::pending().boxed()
    }

    /// Writes what was told so far. Done when it is written, or cannot be.
    fn flush(&self) -> BoxFuture<'static, ()>;

    /// Work that must be done while a hub serves, for records that have no thread of their own. Never ends.
    fn run(&self) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// Shared records are the same records.
impl<R: SyncRecords + ?Sized> SyncRecords for Arc<R> {
    fn of(&self, node: &NodeId) -> BoxFuture<'static, Result<Vec<SyncRecord>, RecordsError>> {
        (**self).of(node)
    }

    fn nodes(&self) -> BoxFuture<'static, Result<BTreeSet<NodeId>, RecordsError>> {
        (**self).nodes()
    }

    fn intend(&self, node: &NodeId, objects: Vec<Recorded>) -> BoxFuture<'static, Result<(), RecordsError>> {
        (**self).intend(node, objects)
    }

    fn sending(&self, node: &NodeId, object: Recorded) {
        (**self).sending(node, object);
    }

    fn acked(&self, node: &NodeId, object: Recorded, version: ResourceVersion) {
        (**self).acked(node, object, version);
    }

    fn forget(&self, node: &NodeId, object: Recorded) {
        (**self).forget(node, object);
    }

    fn forget_node(&self, node: &NodeId) {
        (**self).forget_node(node);
    }

    fn changed_by_others(&self) -> BoxStream<'static, NodeId> {
        (**self).changed_by_others()
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        (**self).flush()
    }

    fn run(&self) -> BoxFuture<'static, ()> {
        (**self).run()
    }
}

/// Which object a record is about. An object and its successor of the same name have two records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Recorded {
    /// Where it is.
    pub key: ObjectKey,
    /// Its `metadata.uid`, never empty.
    pub uid: Arc<str>,
    /// Its `kind`, such as `ConfigMap`. `apiVersion` is that of the key's collection.
    pub kind: Arc<str>,
}

/// What is recorded of one object on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRecord {
    /// The object.
    pub object: Recorded,
    /// The version that the node acknowledged. None when it was sent, perhaps, and not acknowledged (KubeEdge writes "0").
    pub version: Option<ResourceVersion>,
}

/// The records cannot be read or written now. Nothing of the hub stops: nodes are sent more than they need, and the records are
/// tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The disk failed. The operator's move.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// The cluster gives no answer. Tried again.
    #[error("the cluster gives no answer: {0}")]
    Unreachable(String),
    /// The cluster refuses to keep them. The operator's move.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// A limit is reached: its name.
    #[error("{0} is reached")]
    Full(&'static str),
    /// Whoever wrote them has stopped.
    #[error("the records are closed")]
    Closed,
}

/// The limits of sync records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsConfig {
    /// Records that wait to be written, over all nodes; each object of a node counts once. Acknowledgements beyond it are not
    /// written: what they were about is sent again some day.
    pub pending_max: usize,
    /// How long acknowledgements are gathered before they are written.
    pub gather: Duration,
    /// The longest pause between two attempts to write.
    pub retry_max: Duration,
    /// Records kept in memory, by those that keep them there.
    pub records_max: usize,
    /// Requests to the cluster's API at once, by those that write there.
    pub requests_max: usize,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self {
            pending_max: 131_072,
            gather: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            records_max: 1_000_000,
            requests_max: 16,
        }
    }
}
