//! Which devices of a stock edge wait for their DeviceModels.
//!
//! A stock edge handles messages side by side, and gives up a device whose model it does not know: the mapper never hears of it, not even
//! when the model comes (`edge/pkg/metamanager/process.go`, `edge/pkg/devicetwin/dtmanager/dmiworker.go`). So a device goes once its
//! model is acknowledged; an edge acknowledges what it has stored and handed on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hub_core::node::NodeId;
use hub_core::object::ObjectKey;

use super::dirty::{Dirty, Queue};
use super::index::Index;
use super::kinds::{Kind, kind};

/// The DeviceModels that were handed to a session and are not acknowledged, with their uids.
#[derive(Debug, Default)]
pub(super) struct Models {
    sent: HashMap<ObjectKey, Arc<str>>,
}

impl Models {
    /// An object was handed to the session. Of what is no model nothing is noted.
    pub(super) fn sent(&mut self, key: &ObjectKey, uid: &Arc<str>) {
        if kind(key) == Kind::Model {
            self.sent.insert(key.clone(), uid.clone());
        }
    }

    /// A model is acknowledged. Another one of its name may not be.
    pub(super) fn acknowledged(&mut self, key: &ObjectKey, uid: &str) {
        if self.sent.get(key).is_some_and(|sent| **sent == *uid) {
            self.sent.remove(key);
        }
    }

    /// Its acknowledgement will not come: it is deleted, or was not taken.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.sent.remove(key);
    }

    /// The node's devices in the queue that may not go: their model does not exist, is in the queue too, or is not acknowledged.
    pub(super) fn waiting(&self, index: &Index, node: &NodeId, queue: &Queue) -> BTreeMap<ObjectKey, Dirty> {
        let lacks = |model: &ObjectKey| {
            index.get(model).is_none() || queue.contains(model) || self.sent.contains_key(model)
        };
        let devices = queue
            .devices()
            .filter(|(device, _)| index.is_own(node, device) && index.models_of(device).any(lacks));
        devices.map(|(key, dirty)| (key.clone(), dirty.clone())).collect()
    }
}
