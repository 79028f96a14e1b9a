//! A property of a device: what it should be, what it is, and what of both the cloud still has to hear.

use super::name::ValueType;
use super::shape;

/// A property.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Property {
    /// Its type; every value is of it.
    pub kind: ValueType,
    /// Whether an application may delete it.
    pub optional: bool,
    /// What it should be.
    pub expected: Side,
    /// What it is.
    pub actual: Side,
    /// It is deleted. What remains are the versions, so that no older change brings it back.
    pub deleted: bool,
    /// The desired value of the Device as it was seen last: only another one is news.
    pub(super) desired: Option<String>,
}

/// One of the two values of a property.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Side {
    /// The value; None where nobody said one.
    pub value: Option<Value>,
    /// How often it was changed.
    pub version: Version,
    /// The change that the cloud has not heard of, by the device's count.
    pub(super) owed: Option<u64>,
}

/// A value, and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value as text.
    pub text: String,
    /// Unix time in milliseconds. For people; nothing decides by it.
    pub timestamp_ms: i64,
}

/// How often each end changed a value. Both numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Changes of the cloud's.
    pub cloud: i64,
    /// Changes made here.
    pub edge: i64,
}

impl Property {
    /// What it should be, where that is something, and it is not that.
    pub fn delta(&self) -> Option<&str> {
        let expected = self
            .expected
            .text()
            .filter(|text| !text.is_empty() && !self.deleted)?;
        (self.actual.text().unwrap_or_default() != expected).then_some(expected)
    }

    /// In the shape of messages. Versions are for the cloud only.
    pub(super) fn shape(&self, versions: bool) -> shape::Twin {
        let version =
            |side: &Side| (versions && side.version != Version::default()).then(|| side.version.into());
        shape::Twin {
            expected: self.expected.shape(),
            actual: self.actual.shape(),
            optional: Some(self.optional),
            metadata: Some(self.type_shape()),
            expected_version: version(&self.expected),
            actual_version: version(&self.actual),
        }
    }

    /// Whether values, versions and type are the same; what is owed does not matter.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let side = |one: &Side, other: &Side| one.text() == other.text() && one.version == other.version;
        side(&self.expected, &other.expected)
            && side(&self.actual, &other.actual)
            && (self.kind, self.optional, self.deleted) == (other.kind, other.optional, other.deleted)
    }

    pub(super) fn type_shape(&self) -> shape::Type {
        let kind = if self.deleted { DELETED } else { self.kind.as_str() };
        shape::Type { kind: kind.into() }
    }
}

impl Side {
    /// The value's text.
    pub fn text(&self) -> Option<&str> {
        self.value.as_ref().map(|value| value.text.as_str())
    }

    /// Whether the cloud has not heard of it yet.
    pub fn is_waiting(&self) -> bool {
        self.owed.is_some()
    }

    pub(super) fn shape(&self) -> Option<shape::Value> {
        self.value.as_ref().map(|value| shape::Value {
            value: Some(value.text.clone()),
            metadata: Some(shape::Time {
                timestamp: value.timestamp_ms,
            }),
        })
    }

    /// A change made here: always newer than what was.
    pub(super) fn change(&mut self, text: Option<&str>, now_ms: i64, stamp: u64) {
        self.version.edge = self.version.edge.saturating_add(1);
        self.value = text.map(|text| Value::new(text, now_ms));
        self.owed = Some(stamp);
    }

    /// A change of the cloud's, which comes with its version. False where this end knows of something newer: then the cloud has to hear
    /// that (tunnel specification §9.4).
    pub(super) fn sync(&mut self, text: Option<&str>, version: Option<Version>, now_ms: i64) -> bool {
        let fresh = version
            .filter(|version| version.cloud >= self.version.cloud && version.edge >= self.version.edge);
        let Some(version) = fresh else { return false };
        self.version = version;
        self.value = text.map(|text| Value::new(text, now_ms));
        self.owed = None;
        true
    }
}

impl Value {
    fn new(text: &str, timestamp_ms: i64) -> Self {
        Self {
            text: text.into(),
            timestamp_ms,
        }
    }
}

impl From<Version> for shape::Version {
    fn from(version: Version) -> Self {
        let Version { cloud, edge } = version;
        Self { cloud, edge }
    }
}

impl From<shape::Version> for Version {
    fn from(version: shape::Version) -> Self {
        let shape::Version { cloud, edge } = version;
        Self { cloud, edge }
    }
}

/// The type of a property that is deleted.
pub(super) const DELETED: &str = "deleted";
