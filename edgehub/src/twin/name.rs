//! How devices, properties, types, values and states are named, and what is refused (KubeEdge `edge/pkg/devicetwin/dtcommon`).

use std::fmt;
use std::sync::Arc;

use hub_core::object::{GroupVersionResource, ObjectKey};

/// Which device: `<namespace>/<name>`. Both parts are checked; the text is safe in topics and in resources of messages.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// The text names no device, property, value, type or state. The sender's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not `<namespace>/<name>` in Kubernetes' letters.
    #[error(
        "{0:?} is not <namespace>/<name> of a device: lower-case letters, digits, '-' and '.', at most 253 characters each"
    )]
    Device(String),
    /// The name of a property.
    #[error("the property name {0:?} must be 1 to 128 letters, digits and - _ . , : / @ #")]
    Property(String),
    /// A value.
    #[error("the value of {property} must be at most 512 letters, digits and - _ . , : / @ #")]
    Value {
        /// Of which property.
        property: String,
    },
    /// A value that is not of its property's type.
    #[error("the value {value:?} of {property} is not of type {kind}")]
    Type {
        /// Of which property.
        property: String,
        /// The type.
        kind: ValueType,
        /// The value.
        value: String,
    },
    /// A type that nobody knows.
    #[error("the type {0:?} is none of string, int, integer, float, boolean")]
    UnknownType(String),
    /// A state that nobody knows.
    #[error("the state {0:?} is none of online, offline, ok, unknown, unhealthy")]
    State(String),
}

impl DeviceId {
    /// Checks both parts.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        let fits = |text: &str| {
            let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let bytes = text.as_bytes();
            bytes.len() <= 253
                && edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|&c| edge(Some(&c)) || c == b'-' || c == b'.')
        };
        if fits(namespace) && fits(name) {
            Ok(Self {
                namespace: namespace.into(),
                name: name.into(),
            })
        } else {
            Err(InvalidName::Device(shown(&format!("{namespace}/{name}"))))
        }
    }

    /// Takes `<namespace>/<name>` apart.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| InvalidName::Device(shown(text)))?;
        Self::new(namespace, name)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its Device is in the store.
    pub fn key(&self) -> ObjectKey {
        self.in_collection(super::kinds::devices())
    }

    /// Where something of its name is in another collection.
    pub(super) fn in_collection(&self, resource: &GroupVersionResource) -> ObjectKey {
        ObjectKey {
            resource: resource.clone(),
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
        }
    }

    /// The device that an object of the store is about.
    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        Self::new(key.namespace.as_deref()?, &key.name).ok()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The types that a property may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueType {
    /// Any text.
    #[default]
    String,
    /// A whole number of 64 bits.
    Int,
    /// The same, in its other spelling.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
}

impl ValueType {
    /// The type of this name; none is text.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text {
            "" | "string" => Ok(Self::String),
            "int" => Ok(Self::Int),
            "integer" => Ok(Self::Integer),
            "float" => Ok(Self::Float),
            "boolean" => Ok(Self::Boolean),
            other => Err(InvalidName::UnknownType(shown(other))),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
        }
    }

    fn takes(self, value: &str) -> bool {
        match self {
            Self::String => true,
            Self::Int | Self::Integer => value.parse::<i64>().is_ok(),
            Self::Float => value.parse::<f64>().is_ok(),
            Self::Boolean => matches!(value, "true" | "false"),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a device is there, as its mapper says (KubeEdge `mappers-go/pkg/common/const.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// It is there.
    Online,
    /// It is not.
    Offline,
    /// It is there and well.
    Ok,
    /// Nobody knows.
    Unknown,
    /// It is there and not well.
    Unhealthy,
}

impl DeviceState {
    /// The state of this name, in capitals or not.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.to_ascii_lowercase().as_str() {
            "online" => Ok(Self::Online),
            "offline" => Ok(Self::Offline),
            "ok" => Ok(Self::Ok),
            "unknown" => Ok(Self::Unknown),
            "unhealthy" => Ok(Self::Unhealthy),
            _ => Err(InvalidName::State(shown(text))),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// Whether the device answered.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Online | Self::Ok)
    }
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks the name of a property.
pub(super) fn check_property(name: &str) -> Result<(), InvalidName> {
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err(InvalidName::Property(shown(name)))
    }
}

/// Checks a value of a property. An empty one is allowed, as text.
pub(super) fn check_value(property: &str, kind: ValueType, value: &str) -> Result<(), InvalidName> {
    if value.len() > VALUE_MAX || !value.bytes().all(is_allowed) {
        return Err(InvalidName::Value {
            property: shown(property),
        });
    }
    if kind.takes(value) {
        return Ok(());
    }
    Err(InvalidName::Type {
        property: shown(property),
        kind,
        value: shown(value),
    })
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.,:/@#".contains(&byte)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Bytes of a property's name.
const NAME_MAX: usize = 128;
/// Bytes of a value.
const VALUE_MAX: usize = 512;
/// Characters of a sender's text in our reasons.
const SHOWN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_kubernetes_names_objects() {
        assert_eq!(
            DeviceId::parse("default/web-sensor").unwrap().to_string(),
            "default/web-sensor"
        );
        for odd in [
            "", "sensor", "/s", "d/", "d/s/t", "D/s", "d/s+", "d/#", "d/-s", "../s",
        ] {
            assert!(DeviceId::parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn names_and_values_are_of_kubeedge_s_alphabet_and_length() {
        assert!(check_property("a-B_0.,:/@#").is_ok());
        assert!(check_property(&"n".repeat(128)).is_ok());
        for odd in ["", "a b", "ä", "a\n", &"n".repeat(129)] {
            assert!(check_property(odd).is_err(), "{odd:?}");
        }
        assert!(check_value("p", ValueType::String, &"v".repeat(512)).is_ok());
        assert!(check_value("p", ValueType::String, "").is_ok());
        for odd in ["a b", "{}", &"v".repeat(513)] {
            assert!(check_value("p", ValueType::String, odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_value_is_of_its_type() {
        for (kind, good, bad) in [
            (ValueType::Int, "-7", "7.5"),
            (ValueType::Integer, "9223372036854775807", "9223372036854775808"),
            (ValueType::Float, "1e3", "warm"),
            (ValueType::Boolean, "true", "True"),
        ] {
            assert!(check_value("p", kind, good).is_ok(), "{kind} {good}");
            assert!(check_value("p", kind, bad).is_err(), "{kind} {bad}");
            assert!(
                check_value("p", kind, "").is_err(),
                "{kind}: nothing is no number"
            );
        }
        assert!(ValueType::parse("deleted").is_err());
        assert_eq!(DeviceState::parse("OnLine").unwrap(), DeviceState::Online);
        assert!(DeviceState::parse("asleep").is_err());
    }
}
