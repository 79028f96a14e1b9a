//! The JSON of twins, on the wire to the cloud and on the topics of MQTT (KubeEdge `edge/pkg/devicetwin/dttype`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What every document begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// Whoever asked finds the answer by it.
    #[serde(default)]
    pub event_id: String,
    /// Unix time in milliseconds.
    #[serde(default)]
    pub timestamp: i64,
}

/// A property. What is left out is not spoken of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Twin {
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Value>,
    /// Whether an application may delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Type>,
    /// The version of `expected`; between edge and cloud only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<Version>,
    /// The version of `actual`; between edge and cloud only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_version: Option<Version>,
}

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Value {
    /// The value, as text whatever its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// When it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Time>,
}

impl Value {
    /// A value without a time; the twin gives it one.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: Some(value.into()),
            metadata: None,
        }
    }
}

/// When a value came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Time {
    /// Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

/// Of which type a property is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Type {
    /// One of the words of [`ValueType`](super::ValueType), or `deleted`; empty means `string`.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// How often each end changed a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Version {
    /// Changes of the cloud's that came here.
    #[serde(default)]
    pub cloud: i64,
    /// Changes made here.
    #[serde(default)]
    pub edge: i64,
}

/// An attribute: a fixed text of a device. Clouds before KubeEdge 1.15 sent them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attribute {
    /// The text.
    #[serde(default)]
    pub value: String,
    /// Whether it may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Type>,
}

/// A device, in messages of membership.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// `<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// When it was there last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_online: String,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, Option<Attribute>>>,
    /// Its properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<Twins>,
}

/// Properties by name; null where one is deleted.
pub type Twins = BTreeMap<String, Option<Twin>>;

/// Twins, asked for or answered. Without `twin` it is a question for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TwinMessage {
    /// Who asks, when.
    #[serde(flatten)]
    pub base: Base,
    /// The properties.
    #[serde(default)]
    pub twin: Option<Twins>,
}

/// What a change made of the properties that it touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document<'a> {
    /// Of which change.
    #[serde(flatten)]
    pub base: Base,
    /// Before and after.
    pub twin: &'a BTreeMap<String, Step>,
}

/// A property before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Step {
    /// None for one that was not there.
    pub last: Option<Twin>,
    /// None for one that is gone.
    pub current: Option<Twin>,
}

/// What should be otherwise than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeltaDocument<'a> {
    /// When.
    #[serde(flatten)]
    pub base: Base,
    /// All properties that should be something.
    pub twin: BTreeMap<&'a str, Twin>,
    /// Those that are not: what they should be.
    pub delta: &'a BTreeMap<String, String>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Of which question.
    #[serde(flatten)]
    pub base: Base,
    /// 400, 404, 409 or 500.
    pub code: u16,
    /// For people.
    pub reason: String,
}

/// Whether a device is there, said by a mapper.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateUpdate {
    /// Who says so, when.
    #[serde(flatten)]
    pub base: Base,
    /// One of the words of [`DeviceState`](super::DeviceState).
    #[serde(default)]
    pub state: String,
}

/// The state of a device, to the cloud and as the answer to its mapper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMessage {
    /// Of which change.
    #[serde(flatten)]
    pub base: Base,
    /// The state.
    pub device: CloudState,
}

/// The part of [`StateMessage`] with the state in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudState {
    /// The device's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// RFC 3339; when it was there last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_online_time: String,
}

/// Devices that came and went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MembershipUpdate {
    /// When.
    #[serde(flatten)]
    pub base: Base,
    /// Those that came.
    #[serde(default)]
    pub added_devices: Option<Vec<Device>>,
    /// Those that went.
    #[serde(default)]
    pub removed_devices: Option<Vec<Device>>,
}

/// All devices of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MembershipDetail {
    /// Of which question.
    #[serde(flatten)]
    pub base: Base,
    /// The devices.
    #[serde(default)]
    pub devices: Option<Vec<Device>>,
}

/// The question for all devices of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MembershipQuestion<'a> {
    /// Always `group_membership_event`.
    pub event_type: &'a str,
    /// A name for the question.
    pub event_id: String,
    /// The node.
    pub group_id: &'a str,
    /// Always `detail`.
    pub operation: &'a str,
    /// Unix time in milliseconds.
    pub timestamp: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
