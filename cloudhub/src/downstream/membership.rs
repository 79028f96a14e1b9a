//! What a stock edge is told of the devices that join it and leave it.
//!
//! Only a membership message makes a stock edge keep a twin of a device, or drop it; the Device and its DeviceModel go to the mapper
//! beside it (KubeEdge `cloud/pkg/devicecontroller/controller/downstream.go`, `edge/pkg/devicetwin/dtmanager/membership.go`). The
//! message is not acknowledged. What is lost with a connection is made good by the answer to `membership/detail`, which the edge asks
//! on every connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use hub_core::clock::{Clock, SystemClock};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::object::{Object, ObjectKey};
use hub_core::session::{Delivery, Lane, Outgoing};

use super::dirty::Dirty;
use super::index::Index;
use super::kinds::{DEVICE_CONTROLLER, Kind, kind};
use super::references::Facts;

/// The devices that a node was told to have, with their uids.
#[derive(Debug, Default)]
pub(super) struct Membership {
    told: BTreeMap<ObjectKey, Arc<str>>,
}

/// What membership messages said, to be taken back where they found no room.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The slots of the messages.
    slots: Vec<Arc<str>>,
    before: Vec<(ObjectKey, Option<Arc<str>>)>,
}

impl Membership {
    /// The messages that belong before what the node is about to be told.
    pub(super) fn follow<'a>(
        &mut self,
        index: &Index,
        node: &NodeId,
        given: impl IntoIterator<Item = (&'a ObjectKey, &'a Dirty)>,
    ) -> (Vec<Outgoing>, Told) {
        let (mut added, mut removed, mut told) = (Vec::new(), Vec::new(), Told::default());
        let devices = given.into_iter().filter(|(key, _)| kind(key) == Kind::Device);
        for (key, dirty) in devices {
            let now = index.get(key).filter(|_| index.is_own(node, key));
            let known = self.told.get(key).cloned();
            let was_own = |gone: &&Arc<Object>| {
                Facts::of(gone, false).is_some_and(|facts| facts.node.as_ref() == Some(node))
            };
            let gone = dirty.gone.as_ref().filter(was_own).map(|gone| gone.uid.clone());
            let left = known
                .clone()
                .or(gone)
                .filter(|uid| now.is_none_or(|now| now.uid != *uid));
            if left.is_some() {
                let last = dirty.gone.as_ref().map_or(&b"{}"[..], |gone| &gone.body);
                removed.push(Device::new(key, last));
            }
            if let Some(now) = now.filter(|_| left.is_some() || (dirty.fresh && known.is_none())) {
                added.push(Device::new(key, &now.body));
            }
            let before = match now {
                Some(now) => self.told.insert(key.clone(), now.uid.clone()),
                None => self.told.remove(key),
            };
            told.before.push((key.clone(), before));
        }
        let messages: Vec<_> = [(None, Some(removed)), (Some(added), None)]
            .into_iter()
            .filter(|(added, removed)| added.iter().chain(removed).any(|devices| !devices.is_empty()))
            .map(|(added_devices, removed_devices)| message(added_devices, removed_devices))
            .collect();
        told.slots = messages.iter().map(|message| message.key.clone()).collect();
        (messages, told)
    }

    /// Forgets what was told with messages that found no room. Returns the devices that are to be told again.
    pub(super) fn take_back(&mut self, told: Told, left: impl Fn(&str) -> bool) -> Vec<ObjectKey> {
        if !told.slots.iter().any(|slot| left(slot)) {
            return Vec::new();
        }
        let mut again = Vec::new();
        for (key, before) in told.before {
            match before {
                Some(uid) => self.told.insert(key.clone(), uid),
                None => self.told.remove(&key),
            };
            again.push(key);
        }
        again
    }
}

/// KubeEdge `cloud/pkg/devicecontroller/types/device.go`.
#[derive(Debug, Serialize)]
struct Update {
    event_id: String,
    timestamp: i64,
    added_devices: Option<Vec<Device>>,
    removed_devices: Option<Vec<Device>>,
}

#[derive(Debug, Serialize)]
struct Device {
    id: String,
    name: Arc<str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

impl Device {
    fn new(key: &ObjectKey, body: &[u8]) -> Self {
        let labels = serde_json::from_slice(body)
            .map_or_else(|_| BTreeMap::new(), |Labelled { metadata }| metadata.labels);
        Self {
            id: format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name),
            name: key.name.clone(),
            description: labels.get("description").cloned().unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: Labels,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn message(added_devices: Option<Vec<Device>>, removed_devices: Option<Vec<Device>>) -> Outgoing {
    let event_id = Uuid::new_v4().to_string();
    let update = Update {
        timestamp: SystemClock.unix_ms(),
        event_id: event_id.clone(),
        added_devices,
        removed_devices,
    };
    let route = Route::new(DEVICE_CONTROLLER, "twin", Operation::Update, "membership");
    Outgoing {
        // Each says something of its own: a newer one does not replace it.
        key: format!("membership#{event_id}").into(),
        version: None,
        lane: Lane::Own,
        delivery: Delivery::Once(SENT_WITHIN),
        message: Message::new(route, Content::encode(&update)),
        previous: None,
    }
}

/// After that long without a connection, what the edge asks on the next one says the same.
const SENT_WITHIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::index::ScopeId;
    use super::super::kinds::devices;
    use super::*;

    const DEVICES: ScopeId = ScopeId(1);

    fn device(node: &str, uid: &str, version: u64) -> Object {
        let body = format!(
            r#"{{"metadata":{{"name":"t","namespace":"d","uid":"{uid}","resourceVersion":"{version}","labels":{{"description":"a thermometer"}}}},
                "spec":{{"nodeName":"{node}"}}}}"#
        );
        Object::from_body(devices(), body.into()).unwrap()
    }

    struct Bench {
        index: Index,
        membership: Membership,
        node: NodeId,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                index: Index::default(),
                membership: Membership::default(),
                node: NodeId::new("edge-1").unwrap(),
            }
        }

        /// `+` or `-` for each message.
        fn told(&mut self, fresh: bool, gone: Option<Object>) -> String {
            let (messages, _) = self.follow(fresh, gone);
            let signs = messages.iter().map(|message| {
                let update: serde_json::Value = message.message.content.decode("an update").unwrap();
                assert!(update["added_devices"].is_null() != update["removed_devices"].is_null());
                if update["added_devices"].is_null() {
                    '-'
                } else {
                    '+'
                }
            });
            signs.collect()
        }

        fn follow(&mut self, fresh: bool, gone: Option<Object>) -> (Vec<Outgoing>, Told) {
            let dirty = Dirty {
                fresh,
                gone: gone.map(Arc::new),
                ..Dirty::default()
            };
            let key = ObjectKey::new(devices(), Some("d"), "t");
            self.membership.follow(&self.index, &self.node, [(&key, &dirty)])
        }
    }

    #[test]
    fn a_node_hears_of_a_device_when_it_joins_and_when_it_leaves_and_not_between() {
        let mut bench = Bench::new();
        bench.index.apply(DEVICES, device("edge-1", "a", 1));
        assert_eq!(bench.told(true, None), "+");
        bench.index.apply(DEVICES, device("edge-1", "a", 2));
        assert_eq!(bench.told(false, None), "");
        assert_eq!(bench.told(true, None), "", "told anew, and known");
        bench.index.apply(DEVICES, device("edge-2", "a", 3));
        assert_eq!(bench.told(false, Some(device("edge-1", "a", 2))), "-");
        assert_eq!(
            bench.told(false, Some(device("edge-2", "a", 3))),
            "",
            "it was another's"
        );
        bench.index.apply(DEVICES, device("edge-1", "a", 4));
        assert_eq!(bench.told(true, None), "+");
        bench.index.apply(DEVICES, device("edge-1", "b", 5));
        assert_eq!(
            bench.told(true, Some(device("edge-1", "a", 4))),
            "-+",
            "another of the same name"
        );
    }

    #[test]
    fn what_was_there_before_this_session_is_not_told_but_its_end_is() {
        let mut bench = Bench::new();
        bench.index.apply(DEVICES, device("edge-1", "a", 1));
        assert_eq!(bench.told(false, None), "");
        let last = device("edge-1", "a", 1);
        bench.index.remove(DEVICES, &last.key.clone(), None);
        assert_eq!(bench.told(false, Some(last.clone())), "-");
        let mut new = Bench::new();
        assert_eq!(new.told(false, Some(last)), "-", "to be sure");
    }

    #[test]
    fn what_found_no_room_is_told_again() {
        let mut bench = Bench::new();
        bench.index.apply(DEVICES, device("edge-1", "a", 1));
        let (messages, told) = bench.follow(true, None);
        let slot = messages[0].key.clone();
        let again = bench.membership.take_back(told, |left| left == &*slot);
        assert_eq!(again.len(), 1);
        assert_eq!(bench.told(true, None), "+");
        let (_, told) = bench.follow(true, None);
        assert!(
            bench.membership.take_back(told, |_| true).is_empty(),
            "nothing was said"
        );
    }
}
