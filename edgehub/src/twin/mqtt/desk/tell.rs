//! What happens to devices is published.

use std::collections::BTreeMap;

use rumqttc::QoS;
use serde::Serialize;

use super::super::config::Quality;
use super::super::topic;
use super::{Desk, json, shown};
use crate::twin::shape::{self, Base};
use crate::twin::{Change, Device, DeviceId, TwinChange, Which};

impl Desk<'_> {
    pub(super) async fn tell(&mut self, change: Change) {
        match change {
            Change::Twin(TwinChange {
                event_id,
                updated,
                device,
            }) => {
                let base = Base {
                    event_id: event_id.to_string(),
                    timestamp: self.twins.clock.unix_ms(),
                };
                let document = json(&shape::Document {
                    base,
                    twin: &updated.document,
                });
                self.publish_of(&device.id, topic::UPDATE_DOCUMENT, &document, self.config.retain)
                    .await;
                if !updated.delta.is_empty() {
                    self.delta(&device, &updated.delta).await;
                } else if self.config.retain {
                    // Whoever comes later must not hear of a wish that has been fulfilled.
                    self.publish_of(&device.id, topic::UPDATE_DELTA, b"", true).await;
                }
            }
            Change::State(device) => {
                let state = shape::StateMessage {
                    base: self.fresh(),
                    device: shape::CloudState {
                        name: device.id.name().into(),
                        state: device.state.clone(),
                        last_online_time: device.last_online.clone(),
                    },
                };
                self.publish_of(&device.id, topic::STATE_RESULT, &json(&state), false)
                    .await;
            }
            Change::Attributes(id) => {
                if let Some(device) = self.twins.get(&id) {
                    let attributes = Attributes {
                        base: self.fresh(),
                        attributes: &device.attributes,
                    };
                    self.publish_of(&id, topic::ATTRIBUTES, &json(&attributes), false)
                        .await;
                }
            }
            Change::Added(id) => {
                let added = self.twins.get(&id).map(|device| shown(&device));
                self.membership_updated(added, None).await;
            }
            Change::Removed(id) => {
                self.short.remove(id.name());
                let removed = shape::Device {
                    id: id.to_string(),
                    name: id.name().into(),
                    ..shape::Device::default()
                };
                if self.config.retain {
                    for suffix in [topic::UPDATE_DOCUMENT, topic::UPDATE_DELTA] {
                        self.publish_of(&id, suffix, b"", true).await;
                    }
                }
                self.membership_updated(None, Some(removed)).await;
            }
            Change::Missed => self.tell_deltas().await,
            Change::Spec(_) | Change::Model { .. } | Change::ModelRemoved { .. } => {}
        }
    }

    async fn membership_updated(&mut self, added: Option<shape::Device>, removed: Option<shape::Device>) {
        let update = shape::MembershipUpdate {
            base: self.fresh(),
            added_devices: added.map(|device| vec![device]),
            removed_devices: removed.map(|device| vec![device]),
        };
        let topic = topic::of_node(self.twins.node(), topic::MEMBERSHIP_UPDATED);
        self.publish(topic, json(&update), false).await;
    }

    async fn delta(&mut self, device: &Device, delta: &BTreeMap<String, String>) {
        let wanted = device.properties.iter().filter(|(_, property)| {
            !property.deleted && property.expected.text().is_some_and(|text| !text.is_empty())
        });
        let document = shape::DeltaDocument {
            base: self.fresh(),
            twin: wanted
                .map(|(name, property)| (name.as_str(), property.shape(false)))
                .collect(),
            delta,
        };
        self.publish_of(
            &device.id,
            topic::UPDATE_DELTA,
            &json(&document),
            self.config.retain,
        )
        .await;
    }

    /// Publishes on a topic of a device, in both forms where somebody uses the short one.
    pub(super) async fn publish_of(&mut self, id: &DeviceId, suffix: &str, payload: &[u8], retain: bool) {
        self.publish(topic::of_device(id, suffix), payload.to_vec(), retain)
            .await;
        let is_meant = |name: &str| {
            self.twins
                .find(&Which::Name(name.into()))
                .is_ok_and(|named| named.id == *id)
        };
        if self.short.contains(id.name()) && is_meant(id.name()) {
            self.publish(topic::of_name(id.name(), suffix), payload.to_vec(), retain)
                .await;
        }
    }

    /// Waits where the broker is slow or away: there is nothing else to do for it.
    pub(super) async fn publish(&mut self, topic: String, payload: Vec<u8>, retain: bool) {
        let quality = match self.config.quality {
            Quality::AtMostOnce => QoS::AtMostOnce,
            Quality::AtLeastOnce => QoS::AtLeastOnce,
            Quality::ExactlyOnce => QoS::ExactlyOnce,
        };
        let is_long = payload.len() + topic.len() + HEADER >= self.config.message_max;
        self.twins
            .metrics
            .message(if is_long { "too_long" } else { "published" });
        if is_long {
            tracing::warn!(
                topic,
                bytes = payload.len(),
                "a message is too long for the MQTT broker and is not published"
            );
            return;
        }
        if let Err(error) = self.client.publish(topic, quality, retain, payload).await {
            tracing::debug!(%error, "a message is not published");
        }
    }

    pub(super) async fn tell_deltas(&mut self) {
        for device in self.twins.list() {
            if !device.delta().is_empty() {
                self.delta(&device, &device.delta()).await;
            }
        }
    }
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(flatten)]
    base: Base,
    attributes: &'a BTreeMap<String, shape::Attribute>,
}

/// What a packet has beside topic and payload, at most.
const HEADER: usize = 16;
