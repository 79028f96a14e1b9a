//! A twin as it stands in the node's store: a JSON array, shorter than objects and left alone by everybody who looks for metadata.

use std::collections::BTreeMap;

use hub_core::object::Object;
use hub_core::store::Change;
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::kinds::twins;
use super::name::{DeviceId, ValueType};
use super::property::{Property, Side, Value, Version};
use super::shape::Attribute;

/// The change that keeps a twin.
pub(super) fn put(device: &Device) -> Change {
    let properties = device.properties.iter();
    let properties = properties.map(|(name, property)| (name.clone(), of_property(property)));
    let record = Record(
        FORM,
        device.uid.to_string(),
        device.description.clone(),
        (
            device.state.clone(),
            device.last_online.clone(),
            device.state_owed,
        ),
        device.stamp,
        properties.collect(),
        device.attributes.clone(),
    );
    Change::Put(Object {
        key: device.id.in_collection(twins()),
        uid: "".into(),
        version: "".into(),
        // Texts, numbers, and maps whose keys are texts cannot fail.
        body: serde_json::to_vec(&record).unwrap_or_default().into(),
    })
}

/// The change that forgets the twin of a device.
pub(super) fn forget(id: &DeviceId) -> Change {
    Change::Delete {
        key: id.in_collection(twins()),
        uid: None,
        version: None,
    }
}

/// Reads what [`put`] kept. None where it is no twin that this program can read.
pub(super) fn read(object: &Object) -> Option<Device> {
    let id = DeviceId::of(&object.key)?;
    let Record(form, uid, description, (state, last_online, state_owed), stamp, properties, attributes) =
        serde_json::from_slice(&object.body).ok()?;
    let properties = properties
        .into_iter()
        .map(|(name, property)| Some((name, property.into_property()?)));
    (form == FORM).then_some(Device {
        id,
        uid: uid.into(),
        description,
        state,
        last_online,
        properties: properties.collect::<Option<_>>()?,
        attributes,
        stamp,
        state_owed,
    })
}

/// Form, uid, description, state with its time and what of it is owed, count of changes, properties, attributes.
#[derive(Serialize, Deserialize)]
struct Record(
    u8,
    String,
    String,
    (String, String, Option<u64>),
    u64,
    BTreeMap<String, PropertyRecord>,
    BTreeMap<String, Attribute>,
);

/// Type, whether optional, whether deleted, expected, actual, the Device's own wish.
#[derive(Serialize, Deserialize)]
struct PropertyRecord(String, bool, bool, SideRecord, SideRecord, Option<String>);

/// Value with its time, versions of cloud and edge, what is owed.
#[derive(Serialize, Deserialize)]
struct SideRecord(Option<(String, i64)>, i64, i64, Option<u64>);

fn of_property(property: &Property) -> PropertyRecord {
    let side = |side: &Side| {
        let value = side.value.as_ref();
        SideRecord(
            value.map(|value| (value.text.clone(), value.timestamp_ms)),
            side.version.cloud,
            side.version.edge,
            side.owed,
        )
    };
    PropertyRecord(
        property.kind.as_str().into(),
        property.optional,
        property.deleted,
        side(&property.expected),
        side(&property.actual),
        property.desired.clone(),
    )
}

impl PropertyRecord {
    fn into_property(self) -> Option<Property> {
        let Self(kind, optional, deleted, expected, actual, desired) = self;
        let side = |SideRecord(value, cloud, edge, owed)| Side {
            value: value.map(|(text, timestamp_ms)| Value { text, timestamp_ms }),
            version: Version { cloud, edge },
            owed,
        };
        Some(Property {
            kind: ValueType::parse(&kind).ok()?,
            optional,
            expected: side(expected),
            actual: side(actual),
            deleted,
            desired,
        })
    }
}

/// The form of the records of this program.
const FORM: u8 = 1;
