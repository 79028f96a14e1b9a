//! What the mapper of a protocol should have: the node's devices with that protocol, and their models.

use std::collections::HashMap;
use std::sync::Arc;

use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey, Revision};
use hub_core::store::{ObjectStore, Stored};
use prost::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::convert::{Device, Model};
use super::plan::{Key, Kind, Wanted};
use super::v1beta1 as wire;

/// Reads the store, and remembers what it read until that changes.
pub(crate) struct Catalogue {
    store: Arc<dyn ObjectStore>,
    node: NodeId,
    protocol: Arc<str>,
    models: HashMap<ObjectKey, Option<u64>>,
    devices: HashMap<ObjectKey, Known>,
}

/// What a device was when it was read.
struct Known {
    revision: Revision,
    model: Option<(ObjectKey, Option<Revision>)>,
    /// None for devices that are none of this mapper's.
    hash: Option<u64>,
}

/// A thing as it is told, with the hash of that.
pub(crate) enum Thing {
    /// A model.
    Model(wire::DeviceModel, u64),
    /// A device.
    Device(wire::Device, u64),
}

impl Catalogue {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, node: NodeId, protocol: Arc<str>) -> Self {
        Self {
            store,
            node,
            protocol,
            models: HashMap::new(),
            devices: HashMap::new(),
        }
    }

    /// What the mapper should have now. A device whose model is not here waits for it.
    pub(crate) fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::new();
        let devices = self.store.list(&devices(), None).objects;
        let mut known = HashMap::with_capacity(self.devices.len());
        for stored in devices {
            let key = &stored.object.key;
            let entry = match self.devices.remove(key) {
                Some(entry) if entry.revision == stored.revision && self.is_current(&entry) => entry,
                _ => self.read(&stored),
            };
            if let (Some(hash), Some((model, _))) = (entry.hash, &entry.model)
                && let Some(Some(of_model)) = self.models.get(model)
            {
                wanted.insert(name(Kind::Model, model), *of_model);
                wanted.insert(name(Kind::Device, key), hash);
            }
            known.insert(key.clone(), entry);
        }
        self.devices = known;
        let used = |key: &ObjectKey| wanted.contains_key(&name(Kind::Model, key));
        self.models.retain(|key, _| used(key));
        wanted
    }

    /// A thing as it is now, if it is still the mapper's.
    pub(crate) fn thing(&self, key: &Key) -> Option<Thing> {
        let object = |resource| ObjectKey::new(resource, Some(&key.namespace), &key.name);
        match key.kind {
            Kind::Model => {
                let stored = self.store.get(&object(models()))?;
                let (model, hash) = model(&stored)?;
                Some(Thing::Model(model.wire, hash))
            }
            Kind::Device => {
                let stored = self.store.get(&object(devices()))?;
                let device = self.own(&stored)?;
                let of_model = self.store.get(&model_key(&stored, &device)?)?;
                let (model, seed) = model(&of_model)?;
                let device = device.with(&model);
                let hash = xxh3_64_with_seed(&device.encode_to_vec(), seed);
                Some(Thing::Device(device, hash))
            }
        }
    }

    fn is_current(&self, known: &Known) -> bool {
        let Some((model, revision)) = &known.model else {
            return true;
        };
        self.store.get(model).map(|model| model.revision) == *revision
    }

    fn read(&mut self, stored: &Stored) -> Known {
        let mut known = Known {
            revision: stored.revision,
            model: None,
            hash: None,
        };
        let Some(device) = self.own(stored) else {
            return known;
        };
        let Some(key) = model_key(stored, &device) else {
            return known;
        };
        let of_model = self.store.get(&key);
        known.model = Some((key.clone(), of_model.as_ref().map(|model| model.revision)));
        if let Some(of_model) = of_model {
            let read = model(&of_model);
            self.models.insert(key, read.as_ref().map(|(_, hash)| *hash));
            known.hash =
                read.map(|(model, seed)| xxh3_64_with_seed(&device.with(&model).encode_to_vec(), seed));
        }
        known
    }

    /// A device, if it is this node's and the mapper's.
    fn own(&self, stored: &Stored) -> Option<Device> {
        let device = device(stored, &self.node)?;
        (device.protocol() == &*self.protocol).then_some(device)
    }
}

impl Thing {
    pub(crate) fn hash(&self) -> u64 {
        let (Self::Model(_, hash) | Self::Device(_, hash)) = self;
        *hash
    }

    /// Its bytes on the wire.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Model(model, _) => model.encoded_len(),
            Self::Device(device, _) => device.encoded_len(),
        }
    }
}

/// A device that is bound to the node. The store may hold others, for clients that asked for them.
pub(crate) fn device(stored: &Stored, node: &NodeId) -> Option<Device> {
    match Device::read(&stored.served) {
        Ok(device) => (device.node == node.as_str()).then_some(device),
        Err(error) => {
            tracing::warn!(device = %stored.object.key, %error, "no mapper is told of a device that cannot be read");
            None
        }
    }
}

fn model(stored: &Stored) -> Option<(Model, u64)> {
    match Model::read(&stored.served) {
        Ok(model) => {
            let hash = xxh3_64(&model.wire.encode_to_vec());
            Some((model, hash))
        }
        Err(error) => {
            tracing::warn!(model = %stored.object.key, %error, "no mapper is told of a device model that cannot be read");
            None
        }
    }
}

fn model_key(device: &Stored, read: &Device) -> Option<ObjectKey> {
    Some(ObjectKey::new(
        models(),
        device.object.key.namespace.as_deref(),
        read.model()?,
    ))
}

fn name(kind: Kind, key: &ObjectKey) -> Key {
    Key {
        kind,
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
    }
}

/// The collection of devices.
pub(crate) fn devices() -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1beta1", "devices")
}

/// The collection of device models.
pub(crate) fn models() -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1beta1", "devicemodels")
}

const GROUP: &str = "devices.kubeedge.io";
