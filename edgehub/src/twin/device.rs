//! The twin of a device: a plain value. Changes go in, with the time; what follows from them comes out.
//!
//! ```text
//!   an application   update ──►┌────────┐──► what became of it, for its result and its document
//!   a mapper         state  ──►│ Device │──► delta: what should be otherwise
//!   the cloud        sync, ───►│        │──► owed: what the cloud has not heard of, newest per property
//!                    desired   └────────┘◄── settle: it has
//! ```
//!
//! Nothing here knows a disk, a socket or a clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::name::{DeviceId, DeviceState, InvalidName, ValueType, check_property, check_value};
use super::property::{DELETED, Property};
use super::shape::{self, Step};

/// The twin of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Which incarnation: the uid of its Device. Empty while only a membership message told of it.
    pub uid: Arc<str>,
    /// What people call it.
    pub description: String,
    /// Whether it is there, as its mapper said; empty while nobody did.
    pub state: String,
    /// When it was there last: RFC 3339, or empty.
    pub last_online: String,
    /// Its properties.
    pub properties: BTreeMap<String, Property>,
    /// Fixed texts, which clouds before KubeEdge 1.15 send.
    pub attributes: BTreeMap<String, shape::Attribute>,
    /// Counts changes, so that a confirmation is known to be of the newest one or not.
    pub(super) stamp: u64,
    /// The change of the state that the cloud has not heard of.
    pub(super) state_owed: Option<u64>,
}

/// A change was not made. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A name, a type or a value. The sender's move.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The message says nothing about a property. The sender's move.
    #[error("update twin error, key:twin does not exist")]
    NoTwin,
    /// `expected` or `actual` without a value. The sender's move.
    #[error("{0} has an expected or actual part without a value")]
    NoValue(String),
    /// Nothing to delete.
    #[error("there is no property {0} to delete")]
    NoProperty(String),
    /// It may not be deleted.
    #[error("the property {0} is not optional")]
    NotOptional(String),
    /// There is no room for another property.
    #[error("a device has at most {0} properties")]
    Full(usize),
}

/// What a change made of a device's properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Updated {
    /// The properties that were changed, as the answer to whoever did it; null for those that are deleted.
    pub result: shape::Twins,
    /// The same, before and after.
    pub document: BTreeMap<String, Step>,
    /// What should be otherwise than it is, of all properties.
    pub delta: BTreeMap<String, String>,
}

impl Device {
    /// A device without properties.
    pub fn new(id: DeviceId) -> Self {
        Self {
            id,
            uid: "".into(),
            description: String::new(),
            state: String::new(),
            last_online: String::new(),
            properties: BTreeMap::new(),
            attributes: BTreeMap::new(),
            stamp: 0,
            state_owed: None,
        }
    }

    /// What should be otherwise than it is.
    pub fn delta(&self) -> BTreeMap<String, String> {
        let delta = self.properties.iter();
        delta
            .filter_map(|(name, property)| Some((name.clone(), property.delta()?.to_owned())))
            .collect()
    }

    /// The properties in the shape of messages, without versions and without those that are deleted.
    pub fn twin(&self) -> shape::Twins {
        let there = self.properties.iter().filter(|(_, property)| !property.deleted);
        there
            .map(|(name, property)| (name.clone(), Some(property.shape(false))))
            .collect()
    }

    /// A change made on this node: all of it, or nothing. It is newer than whatever was here.
    pub fn update(
        &mut self,
        twin: &shape::Twins,
        now_ms: i64,
        properties_max: usize,
    ) -> Result<Updated, Rejected> {
        let mut next = self.clone();
        next.stamp += 1;
        let mut updated = Updated::default();
        for (name, change) in twin {
            check_property(name)?;
            let last = next.shown(name);
            let result = match change {
                None => {
                    next.delete(name, now_ms)?;
                    None
                }
                Some(change) => Some(next.change(name, change, now_ms, properties_max)?),
            };
            let current = next.shown(name);
            updated.result.insert(name.clone(), result);
            updated.document.insert(name.clone(), Step { last, current });
        }
        updated.delta = next.delta();
        *self = next;
        Ok(updated)
    }

    /// Changes of the cloud's that come with versions (`cloud_updated`, and membership of clouds before KubeEdge 1.15). What this
    /// end knows better, and what is no value at all, is not taken.
    pub fn sync(&mut self, twin: &shape::Twins, now_ms: i64, properties_max: usize) -> Updated {
        self.stamp += 1;
        let mut updated = Updated::default();
        for (name, change) in twin {
            let Some(change) = change.as_ref().filter(|_| check_property(name).is_ok()) else {
                continue;
            };
            let last = self.shown(name);
            if self.sync_one(name, change, now_ms, properties_max) {
                let current = self.shown(name);
                updated.document.insert(name.clone(), Step { last, current });
            }
        }
        updated.delta = self.delta();
        updated
    }

    /// What the Device itself asks for, all properties of it. A desired value that is another than before is the cloud's newest word, and
    /// becomes what is expected here; one that is gone leaves nothing expected. What is no value at all is named in the second part of the result, and not taken.
    pub fn desired<'a>(
        &mut self,
        desired: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        now_ms: i64,
        properties_max: usize,
    ) -> (Updated, Vec<Rejected>) {
        let (mut updated, mut rejected) = (Updated::default(), Vec::new());
        self.stamp += 1;
        let mut wishes: BTreeMap<&str, _> = BTreeMap::new();
        for (name, value, kind) in desired {
            wishes.insert(name, (value, kind));
        }
        let wished = |property: &Property| property.desired.as_deref().is_some_and(|text| !text.is_empty());
        let known = self.properties.iter();
        let given_up =
            known.filter(|(name, property)| wished(property) && !wishes.contains_key(name.as_str()));
        let given_up: Vec<_> = given_up.map(|(name, _)| name.clone()).collect();
        wishes.extend(given_up.iter().map(|name| (name.as_str(), ("", ""))));
        for (name, (value, kind)) in wishes {
            let seen = self
                .properties
                .get(name)
                .and_then(|known| known.desired.as_deref());
            if seen == Some(value) {
                continue;
            }
            let last = self.shown(name);
            match self.desire(name, value, kind, now_ms, properties_max) {
                Ok(true) => {
                    let current = self.shown(name);
                    updated.document.insert(name.into(), Step { last, current });
                }
                Ok(false) => {}
                Err(error) => rejected.push(error),
            }
        }
        updated.delta = self.delta();
        (updated, rejected)
    }

    /// Whether the device is there, as its mapper says.
    pub fn set_state(&mut self, state: DeviceState, now_rfc3339: &str) {
        self.stamp += 1;
        self.state = state.as_str().into();
        // KubeEdge's cloud writes what it is told, so an empty time would take away the last one. The last one stays.
        if state.is_there() {
            self.last_online = now_rfc3339.into();
        }
        self.state_owed = Some(self.stamp);
    }

    fn change(
        &mut self,
        name: &str,
        change: &shape::Twin,
        now_ms: i64,
        properties_max: usize,
    ) -> Result<shape::Twin, Rejected> {
        let kind = change
            .metadata
            .as_ref()
            .map(|metadata| ValueType::parse(&metadata.kind))
            .transpose()?;
        let stamp = self.stamp;
        let property = self.property(name, properties_max)?;
        if property.deleted {
            property.kind = kind.unwrap_or_default();
            property.deleted = false;
            property.optional = change.optional.unwrap_or(true);
        } else if change.optional == Some(false) {
            // One that must stay does not become one that may go.
            property.optional = false;
        }
        for (value, is_actual) in [(&change.expected, false), (&change.actual, true)] {
            let Some(value) = value else { continue };
            let text = value
                .value
                .as_deref()
                .ok_or_else(|| Rejected::NoValue(name.into()))?;
            check_value(name, property.kind, text)?;
            let side = if is_actual {
                &mut property.actual
            } else {
                &mut property.expected
            };
            side.change(Some(text), now_ms, stamp);
        }
        Ok(shape::Twin {
            expected: change.expected.as_ref().and_then(|_| property.expected.shape()),
            actual: change.actual.as_ref().and_then(|_| property.actual.shape()),
            optional: Some(property.optional),
            metadata: Some(property.type_shape()),
            ..shape::Twin::default()
        })
    }

    fn delete(&mut self, name: &str, now_ms: i64) -> Result<(), Rejected> {
        let stamp = self.stamp;
        let property = self.properties.get_mut(name).filter(|property| !property.deleted);
        let property = property.ok_or_else(|| Rejected::NoProperty(name.into()))?;
        if !property.optional {
            return Err(Rejected::NotOptional(name.into()));
        }
        property.deleted = true;
        property.expected.change(None, now_ms, stamp);
        property.actual.change(None, now_ms, stamp);
        Ok(())
    }

    /// Whether anything was changed.
    fn sync_one(&mut self, name: &str, change: &shape::Twin, now_ms: i64, properties_max: usize) -> bool {
        let kind = change
            .metadata
            .as_ref()
            .map_or("", |metadata| metadata.kind.as_str());
        let deletes = kind == DELETED;
        let Ok(kind) = ValueType::parse(if deletes { "" } else { kind }) else {
            return false;
        };
        let stamp = self.stamp;
        let is_new = !self.properties.contains_key(name);
        let Ok(property) = self.property(name, properties_max) else {
            return false;
        };
        let before = property.clone();
        if property.deleted {
            property.kind = kind;
        }
        let version = |version: Option<shape::Version>| version.map(Into::into);
        // Of each value by itself: whether the cloud has to hear what is here instead.
        let mut rejected = [false; 2];
        let sides = [
            (&mut property.expected, &change.expected, change.expected_version),
            (&mut property.actual, &change.actual, change.actual_version),
        ];
        if deletes {
            for ((side, _, given), rejected) in sides.into_iter().zip(&mut rejected) {
                // A deletion needs no version.
                let given = version(given).or(Some(side.version));
                *rejected = !side.sync(None, given, now_ms);
            }
            if rejected == [false; 2] {
                property.deleted = true;
            } else {
                // Half a property helps nobody.
                *property = before.clone();
                rejected = [true; 2];
            }
        } else {
            let mut any = false;
            for ((side, value, given), rejected) in sides.into_iter().zip(&mut rejected) {
                let Some(text) = value.as_ref().and_then(|value| value.value.as_deref()) else {
                    continue;
                };
                if check_value(name, property.kind, text).is_ok() {
                    *rejected = !side.sync(Some(text), version(given), now_ms);
                    any |= !*rejected;
                }
            }
            let speaks_of_values = change.expected.is_some() || change.actual.is_some();
            if any || (!speaks_of_values && rejected == [false; 2]) {
                property.deleted = false;
                property.optional &= change.optional.unwrap_or(property.optional);
            }
        }
        for (side, rejected) in [&mut property.expected, &mut property.actual]
            .into_iter()
            .zip(rejected)
        {
            if rejected && (side.value.is_some() || property.deleted) {
                side.owed = Some(stamp);
            }
        }
        let (is_deleted, changed) = (property.deleted, !property.is_as(&before));
        if is_new && is_deleted && !deletes {
            self.properties.remove(name);
            return false;
        }
        changed || is_new
    }

    fn desire(
        &mut self,
        name: &str,
        value: &str,
        kind: &str,
        now_ms: i64,
        properties_max: usize,
    ) -> Result<bool, Rejected> {
        check_property(name)?;
        let kind = ValueType::parse(&kind.to_ascii_lowercase())?;
        let known = self.properties.get(name).filter(|property| !property.deleted);
        let is_new = known.is_none();
        if value.is_empty() && known.is_none_or(|known| known.desired.is_none()) {
            // Nobody asks for anything, or for nothing that was asked for before.
            return Ok(false);
        }
        if !value.is_empty() {
            check_value(name, known.map_or(kind, |known| known.kind), value)?;
        }
        let stamp = self.stamp;
        let property = self.property(name, properties_max)?;
        if is_new {
            property.kind = kind;
            property.deleted = false;
            // The Device has it: no application may delete it.
            property.optional = false;
        }
        property.desired = Some(value.into());
        let version = property.expected.version;
        let version = super::property::Version {
            cloud: version.cloud.saturating_add(1),
            ..version
        };
        property.expected.sync(Some(value), Some(version), now_ms);
        // The cloud is to see that its wish has come.
        property.expected.owed = Some(stamp);
        Ok(true)
    }

    /// The property; a new one is one that is deleted.
    fn property(&mut self, name: &str, properties_max: usize) -> Result<&mut Property, Rejected> {
        if !self.properties.contains_key(name) && self.properties.len() >= properties_max {
            // What is deleted, and known to be so in the cloud, makes room.
            let is_over = |property: &Property| {
                property.deleted && property.expected.owed.is_none() && property.actual.owed.is_none()
            };
            let over = self.properties.iter().find(|(_, property)| is_over(property));
            let over = over
                .map(|(name, _)| name.clone())
                .ok_or(Rejected::Full(properties_max))?;
            self.properties.remove(&over);
        }
        let new = || Property {
            deleted: true,
            optional: true,
            ..Property::default()
        };
        Ok(self.properties.entry(name.into()).or_insert_with(new))
    }

    fn shown(&self, name: &str) -> Option<shape::Twin> {
        let property = self.properties.get(name).filter(|property| !property.deleted)?;
        Some(property.shape(false))
    }
}
