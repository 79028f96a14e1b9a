//! What those who follow the devices of a node are told.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::device::{Device, Updated};
use super::name::DeviceId;

/// Something happened, and is on the disk.
#[derive(Debug, Clone)]
pub enum Change {
    /// A device came to this node.
    Added(DeviceId),
    /// The Device in the cloud says something else now.
    Spec(DeviceId),
    /// A device left this node, or is deleted.
    Removed(DeviceId),
    /// A DeviceModel came or changed.
    Model {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A DeviceModel is gone.
    ModelRemoved {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// Properties of a device changed, here or in the cloud.
    Twin(TwinChange),
    /// A device's attributes changed in the cloud.
    Attributes(DeviceId),
    /// A mapper said whether a device is there.
    State(Arc<Device>),
    /// Whoever follows was too slow, and missed some of these. Look at all devices anew.
    Missed,
}

/// Properties of a device changed.
#[derive(Debug, Clone)]
pub struct TwinChange {
    /// The `event_id` of whoever changed them; empty where nobody gave one.
    pub event_id: Arc<str>,
    /// What changed, and what should be otherwise than it is.
    pub updated: Arc<Updated>,
    /// The device after the change.
    pub device: Arc<Device>,
}

/// Follows the devices of a node. Bounded: who is too slow is told that it [missed](Change::Missed) something.
#[derive(Debug)]
pub struct Changes {
    receiver: broadcast::Receiver<Change>,
}

impl Changes {
    pub(super) fn new(receiver: broadcast::Receiver<Change>) -> Self {
        Self { receiver }
    }

    /// The next change; waits for it. None when the twins are over. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        match self.receiver.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
