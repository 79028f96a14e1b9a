//! What stock edges acknowledge, on its way into the sync records.
//!
//! The acknowledgement of an object is recorded at once. That of a deletion goes through the downstream task: only it knows whether
//! the object was sent again since, so that the record of what the node holds now is not the one that is forgotten. Those of objects
//! go both ways: devices wait for their model, and the answer to a watch for what it shows first.

use std::sync::{Arc, OnceLock};

use hub_core::message::Operation;
use hub_core::node::NodeId;
use hub_core::object::{ObjectKey, ResourceVersion};
use hub_core::registry::Registry;
use tokio::sync::mpsc;

use super::outgoing;
use crate::records::{Recorded, SyncRecords};
use crate::sessions::SessionId;

/// A node acknowledged that an object is deleted, or that it holds it.
#[derive(Debug)]
pub(crate) struct Acked {
    pub(super) node: NodeId,
    pub(super) session: SessionId,
    pub(super) key: ObjectKey,
    pub(super) uid: Arc<str>,
    /// Whether it is a deletion.
    pub(super) deleted: bool,
}

/// See the [module](self). Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Account {
    records: Arc<OnceLock<Arc<dyn SyncRecords>>>,
    registry: Registry,
    /// Holds at most what was handed to the sessions: as many as their outboxes have slots.
    acked: mpsc::UnboundedSender<Acked>,
}

impl Account {
    pub(crate) fn new(registry: Registry) -> (Self, mpsc::UnboundedReceiver<Acked>) {
        let (acked, receiver) = mpsc::unbounded_channel();
        let account = Self {
            records: Arc::default(),
            registry,
            acked,
        };
        (account, receiver)
    }

    /// Where it is kept, from now on.
    pub(crate) fn keep(&self, records: Arc<dyn SyncRecords>) {
        let _ = self.records.set(records);
    }

    /// A stock edge acknowledged what was sent under this key of its outbox.
    pub(crate) fn acknowledged(
        &self,
        node: &NodeId,
        session: SessionId,
        slot: &str,
        operation: &Operation,
        version: Option<&ResourceVersion>,
    ) {
        let Some((key, uid)) = outgoing::object_of(slot) else {
            return;
        };
        let deleted = match operation {
            Operation::Delete => true,
            Operation::Insert | Operation::Update => false,
            _ => return,
        };
        if !deleted
            && let Some(version) = version
            && let Some(object) = recorded(&self.registry, &key, &uid)
            && let Some(records) = self.records.get()
        {
            records.acked(node, object, version.clone());
        }
        let acked = Acked {
            node: node.clone(),
            session,
            key,
            uid,
            deleted,
        };
        let _ = self.acked.send(acked);
    }
}

/// The name of an object's record. None for what cannot have one: no uid, or a kind that the cluster does not have.
pub(super) fn recorded(registry: &Registry, key: &ObjectKey, uid: &Arc<str>) -> Option<Recorded> {
    if uid.is_empty() {
        return None;
    }
    let kind = registry.by_resource(&key.resource)?;
    Some(Recorded {
        key: key.clone(),
        uid: uid.clone(),
        kind: kind.kind.clone(),
    })
}
