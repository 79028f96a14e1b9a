//! What the cloud has not heard of a device: the newest of each property, however often it changed.
//!
//! It is no queue. It follows from the twin itself, so it is written with the change that made it, is never more than the twin, and
//! needs no second write that a crash could part from the first.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::device::Device;
use super::name::DeviceId;
use super::property::Side;
use super::shape;

/// What the cloud is to hear of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Of which.
    pub id: DeviceId,
    /// Values of properties, with their versions; empty where none changed.
    pub twin: shape::Twins,
    /// Its state, where that changed.
    pub state: Option<shape::CloudState>,
    /// Which changes these are.
    pub(super) marks: Marks,
}

/// The changes that a report told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Of which incarnation of the device.
    uid: Arc<str>,
    properties: Vec<(String, Option<u64>, Option<u64>)>,
    state: Option<u64>,
}

/// A report of one of several devices in one message, between our own ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Of which device.
    pub(super) id: String,
    #[serde(skip_serializing_if = "shape::Twins::is_empty", default)]
    pub(super) twin: shape::Twins,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) device: Option<shape::CloudState>,
}

impl Device {
    /// What the cloud has not heard; None where it knows all.
    pub fn owed(&self) -> Option<Owed> {
        self.owed_as(false)
    }

    /// The same with both values of each property in it, also the one that the cloud knows: KubeEdge's cloud may have lost it.
    pub(super) fn owed_whole(&self) -> Option<Owed> {
        self.owed_as(true)
    }

    fn owed_as(&self, is_whole: bool) -> Option<Owed> {
        let mut owed = Owed {
            id: self.id.clone(),
            twin: shape::Twins::new(),
            state: self.state_owed.map(|_| shape::CloudState {
                name: self.id.name().into(),
                state: self.state.clone(),
                last_online_time: self.last_online.clone(),
            }),
            marks: Marks {
                uid: self.uid.clone(),
                properties: Vec::new(),
                state: self.state_owed,
            },
        };
        for (name, property) in &self.properties {
            let (expected, actual) = (&property.expected, &property.actual);
            if expected.owed.is_none() && actual.owed.is_none() {
                continue;
            }
            let is_said = |side: &Side| side.owed.is_some() || (is_whole && side.value.is_some());
            let value = |side: &Side| is_said(side).then(|| side.shape()).flatten();
            let version = |side: &Side| is_said(side).then(|| side.version.into());
            let told = shape::Twin {
                expected: value(expected),
                actual: value(actual),
                optional: Some(property.optional),
                metadata: Some(property.type_shape()),
                expected_version: version(expected),
                actual_version: version(actual),
            };
            owed.twin.insert(name.clone(), Some(told));
            owed.marks
                .properties
                .push((name.clone(), expected.owed, actual.owed));
        }
        (!owed.twin.is_empty() || owed.state.is_some()).then_some(owed)
    }

    /// Whether there is anything that the cloud has not heard.
    pub(super) fn owes(&self) -> bool {
        let mut properties = self.properties.values();
        self.state_owed.is_some()
            || properties.any(|property| property.expected.owed.is_some() || property.actual.owed.is_some())
    }

    /// When the oldest value came that the cloud has not heard: Unix time in milliseconds.
    pub(super) fn owed_since_ms(&self) -> Option<i64> {
        let sides = self
            .properties
            .values()
            .flat_map(|property| [&property.expected, &property.actual]);
        let owed = sides.filter(|side| side.owed.is_some());
        owed.filter_map(|side| Some(side.value.as_ref()?.timestamp_ms))
            .min()
    }

    /// The cloud has heard this, or never will. What changed since is still owed.
    pub(super) fn settle(&mut self, marks: &Marks) {
        if self.uid != marks.uid && !marks.uid.is_empty() {
            return;
        }
        let settle = |owed: &mut Option<u64>, told: Option<u64>| {
            if told.is_some() && *owed == told {
                *owed = None;
            }
        };
        for (name, expected, actual) in &marks.properties {
            if let Some(property) = self.properties.get_mut(name) {
                settle(&mut property.expected.owed, *expected);
                settle(&mut property.actual.owed, *actual);
            }
        }
        settle(&mut self.state_owed, marks.state);
    }
}

impl Owed {
    pub(super) fn line(&self) -> Line {
        Line {
            id: self.id.to_string(),
            twin: self.twin.clone(),
            device: self.state.clone(),
        }
    }
}
