//! The next changes of the node's twins, worked out and not yet on the disk.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hub_core::object::{Object, ObjectKey};
use hub_core::store::{Change as StoreChange, ObjectStore};

use super::change::{Change, TwinChange};
use super::device::{Device, Updated};
use super::keeper::{Changed, FromCloud, TwinError, Which};
use super::kinds::{devices, twins};
use super::name::{DeviceId, DeviceState};
use super::owed::Marks;
use super::spec::Spec;
use super::{TwinConfig, record, shape};

/// Changes of several devices that will be written together.
pub(super) struct Stage<'a> {
    store: &'a dyn ObjectStore,
    config: &'a TwinConfig,
    now_ms: i64,
    /// None for one that is to be forgotten.
    staged: BTreeMap<DeviceId, Option<Device>>,
    told: Vec<Change>,
    rejected: usize,
    /// Counted when somebody asks.
    room: Option<usize>,
}

/// What a stage comes to.
pub(super) struct Outcome {
    /// For the store.
    pub(super) writes: Vec<StoreChange>,
    /// The devices as they will be.
    pub(super) devices: BTreeMap<DeviceId, Option<Device>>,
    /// For those who follow.
    pub(super) told: Vec<Change>,
    /// Desired values of Devices that cannot be.
    pub(super) rejected: usize,
}

impl<'a> Stage<'a> {
    pub(super) fn new(store: &'a dyn ObjectStore, config: &'a TwinConfig, now_ms: i64) -> Self {
        Self {
            store,
            config,
            now_ms,
            staged: BTreeMap::new(),
            told: Vec::new(),
            rejected: 0,
            room: None,
        }
    }

    /// A change made on this node.
    pub(super) fn update(
        &mut self,
        which: &Which,
        event_id: &Arc<str>,
        twin: &shape::Twins,
    ) -> Result<Changed, TwinError> {
        let mut device = self.find(which)?;
        let updated = device.update(twin, self.now_ms, self.config.properties_max)?;
        let updated = Arc::new(updated);
        let device = self.tell(device, event_id, &updated);
        Ok(Changed {
            device,
            updated,
            timestamp_ms: self.now_ms,
        })
    }

    /// A mapper says whether a device is there.
    pub(super) fn state(&mut self, which: &Which, state: DeviceState) -> Result<Arc<Device>, TwinError> {
        let mut device = self.find(which)?;
        device.set_state(state, &rfc3339(self.now_ms));
        let shown = Arc::new(device.clone());
        self.put(device);
        self.told.push(Change::State(shown.clone()));
        Ok(shown)
    }

    /// What KubeEdge's cloud says of devices beside the Devices themselves.
    pub(super) fn take_from_cloud(&mut self, said: &FromCloud) {
        match said {
            FromCloud::Twin(which, message) => self.sync(which, message),
            FromCloud::Attributes(which, attributes) => self.attributes(which, attributes),
            FromCloud::Membership { added, removed } => {
                for device in added {
                    self.join(device);
                }
                for device in removed {
                    self.leave(&device.id);
                }
            }
            FromCloud::Detail(devices) => {
                for device in devices {
                    self.join(device);
                }
                let there: HashSet<_> = devices.iter().map(|device| device.id.as_str()).collect();
                let all = known(self.store).map(|device| device.id.to_string());
                let gone: Vec<_> = all.filter(|id| !there.contains(id.as_str())).collect();
                for id in gone {
                    self.leave(&id);
                }
            }
        }
    }

    /// The Device of this key came, changed or went: what the store holds of it now decides.
    pub(super) fn follow(&mut self, key: &ObjectKey) {
        let Some(id) = DeviceId::of(key) else { return };
        let stored = self.store.get(key);
        let own = stored
            .as_ref()
            // As local clients see it: a wish of theirs is one, also while the cloud has not heard of it.
            .map(|stored| (&stored.object, Spec::of(&stored.served)))
            .filter(|(_, spec)| spec.node == self.config.node.as_str());
        let held = self.device(&id);
        let Some((object, spec)) = own else {
            // One of which only a membership message told may have no Device here at all.
            if held.is_some_and(|held| !held.uid.is_empty()) {
                self.forget(id);
            }
            return;
        };
        self.take(id, held, object, &spec);
    }

    /// The cloud has heard of these changes, or never will.
    pub(super) fn settle(&mut self, id: &DeviceId, marks: &Marks) {
        if let Some(mut device) = self.device(id) {
            device.settle(marks);
            self.put(device);
        }
    }

    pub(super) fn finish(self) -> Outcome {
        let writes = self.staged.iter().map(|(id, device)| match device {
            Some(device) => record::put(device),
            None => record::forget(id),
        });
        Outcome {
            writes: writes.collect(),
            told: self.told,
            rejected: self.rejected,
            devices: self.staged,
        }
    }

    fn take(&mut self, id: DeviceId, held: Option<Device>, object: &Object, spec: &Spec) {
        let same = |held: &Device| held.uid.is_empty() || *held.uid == *object.uid;
        if held.as_ref().is_some_and(|held| !same(held)) {
            // Another one of the same name: nothing of the old one is true of it.
            self.forget(id.clone());
        }
        let (mut device, is_new) = match held.filter(same) {
            Some(held) => (held, false),
            None => (Device::new(id.clone()), true),
        };
        let before = device.clone();
        device.uid = object.uid.clone();
        device.description.clone_from(&spec.description);
        let (updated, rejected) = device.desired(spec.desired(), self.now_ms, self.config.properties_max);
        self.rejected += rejected.len();
        for error in rejected {
            tracing::warn!(device = %id, %error, "a desired value of the Device cannot be what a property is");
        }
        self.told.push(if is_new {
            Change::Added(id)
        } else {
            Change::Spec(id)
        });
        if !updated.document.is_empty() {
            self.tell(device, &"".into(), &Arc::new(updated));
        } else if is_new || before.uid != device.uid || before.description != device.description {
            self.put(device);
        }
    }

    fn sync(&mut self, which: &Which, message: &shape::TwinMessage) {
        let (Ok(mut device), Some(twin)) = (self.find(which), &message.twin) else {
            return;
        };
        let updated = device.sync(twin, self.now_ms, self.config.properties_max);
        let event_id = message.base.event_id.as_str().into();
        if updated.document.is_empty() {
            // What is here may have to be told anew.
            self.put(device);
        } else {
            self.tell(device, &event_id, &Arc::new(updated));
        }
    }

    fn attributes(&mut self, which: &Which, changed: &BTreeMap<String, Option<shape::Attribute>>) {
        let Ok(mut device) = self.find(which) else { return };
        for (name, attribute) in changed {
            match attribute {
                Some(attribute) if device.attributes.len() < self.config.properties_max => {
                    device.attributes.insert(name.clone(), attribute.clone());
                }
                Some(_) => {}
                None => drop(device.attributes.remove(name)),
            }
        }
        self.told.push(Change::Attributes(device.id.clone()));
        self.put(device);
    }

    /// A membership message names a device of this node.
    fn join(&mut self, told: &shape::Device) {
        let Ok(id) = DeviceId::parse(&told.id) else {
            tracing::warn!(
                device = told.id,
                "the cloud names a device without a namespace, or with odd letters; it has no twin here"
            );
            return;
        };
        let held = self.device(&id);
        // Its Device says more, and says when it goes.
        if held.as_ref().is_none_or(|held| held.uid.is_empty()) {
            let is_new = held.is_none();
            if is_new && self.room() == 0 {
                tracing::warn!(device = %id, limit = self.config.devices_max, "there are too many devices");
                return;
            }
            if is_new {
                self.room = self.room.map(|room| room - 1);
            }
            let mut device = held.unwrap_or_else(|| Device::new(id.clone()));
            device.description.clone_from(&told.description);
            let changed = is_new || self.device(&id).is_some_and(|held| held != device);
            if changed {
                self.put(device);
            }
            if is_new {
                self.told.push(Change::Added(id.clone()));
            }
        }
        let which = Which::Id(id);
        if let Some(twin) = told.twin.as_ref().filter(|twin| !twin.is_empty()) {
            let message = shape::TwinMessage {
                twin: Some(twin.clone()),
                ..shape::TwinMessage::default()
            };
            self.sync(&which, &message);
        }
        if let Some(attributes) = told
            .attributes
            .as_ref()
            .filter(|attributes| !attributes.is_empty())
        {
            self.attributes(&which, attributes);
        }
    }

    /// How many more devices membership messages may tell of.
    fn room(&mut self) -> usize {
        let (store, max) = (self.store, self.config.devices_max);
        *self
            .room
            .get_or_insert_with(|| max.saturating_sub(store.list(twins(), None).objects.len()))
    }

    /// A membership message says that a device is none of this node's.
    fn leave(&mut self, id: &str) {
        let Ok(id) = DeviceId::parse(id) else { return };
        // A Device that is here goes with its own deletion, which is acknowledged; this message may be old.
        if self.device(&id).is_some_and(|held| held.uid.is_empty()) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: DeviceId) {
        self.told.push(Change::Removed(id.clone()));
        self.staged.insert(id, None);
    }

    fn put(&mut self, device: Device) {
        self.staged.insert(device.id.clone(), Some(device));
    }

    fn tell(&mut self, device: Device, event_id: &Arc<str>, updated: &Arc<Updated>) -> Arc<Device> {
        let shown = Arc::new(device.clone());
        self.put(device);
        self.told.push(Change::Twin(TwinChange {
            event_id: event_id.clone(),
            updated: updated.clone(),
            device: shown.clone(),
        }));
        shown
    }

    /// The device as it will be.
    fn device(&self, id: &DeviceId) -> Option<Device> {
        match self.staged.get(id) {
            Some(staged) => staged.clone(),
            None => held(self.store, id),
        }
    }

    fn find(&self, which: &Which) -> Result<Device, TwinError> {
        let id = which.resolve(self.store)?;
        self.device(&id).ok_or(TwinError::NoDevice)
    }
}

/// The twin of a device in the store.
pub(super) fn held(store: &dyn ObjectStore, id: &DeviceId) -> Option<Device> {
    record::read(&store.get(&id.in_collection(twins()))?.object)
}

/// All twins in the store.
pub(super) fn known(store: &dyn ObjectStore) -> impl Iterator<Item = Device> {
    let twins = store.list(twins(), None).objects;
    twins
        .into_iter()
        .filter_map(|stored| record::read(&stored.object))
}

/// The Devices in the store, and those whose twins are there.
pub(super) fn keys(store: &dyn ObjectStore) -> Vec<ObjectKey> {
    let here = store.list(devices(), None).objects;
    let mut keys: Vec<_> = here.iter().map(|stored| stored.object.key.clone()).collect();
    keys.extend(known(store).map(|device| device.id.key()));
    keys.sort();
    keys.dedup();
    keys
}

fn rfc3339(unix_ms: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000));
    let text = time.map(|time| time.format(&time::format_description::well_known::Rfc3339));
    text.ok().and_then(Result::ok).unwrap_or_default()
}
