//! What applications ask is put to the twins; what becomes of it, and what else happens to devices, is published.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use hub_core::message::MessageId;
use rumqttc::{AsyncClient, Publish, QoS, SubscribeFilter};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::config::{MqttConfig, Quality};
use super::presence;
use super::topic::{self, Address, Asked};
use crate::twin::shape::{self, Base};
use crate::twin::{
    Change, Changed, Changes, Device, DeviceId, DeviceState, Rejected, TwinChange, TwinError, Twins, Which,
};

/// The end of a change that was asked for, and the message that asked.
type Done = (Option<(String, Vec<u8>)>, Heard);

/// A message of an application.
pub(super) struct Heard {
    pub(super) message: Publish,
    /// On which connection it came. On another one its number means another message, or none.
    pub(super) connection: u64,
}

pub(super) struct Desk<'a> {
    twins: &'a Twins,
    config: &'a MqttConfig,
    client: AsyncClient,
    changes: Changes,
    /// In the order in which they were asked for.
    under_way: FuturesOrdered<BoxFuture<'a, Done>>,
    /// The number of the connection; None while there is none.
    connection: watch::Receiver<Option<u64>>,
    /// The changes that were taken last, by packet number and content: a broker that was lost before it heard of that sends them again,
    /// and whatever came between is newer.
    taken: VecDeque<(u16, u64)>,
    /// Names of devices of which applications speak without a namespace.
    short: HashSet<Arc<str>>,
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(flatten)]
    base: Base,
    attributes: &'a BTreeMap<String, shape::Attribute>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        twins: &'a Twins,
        config: &'a MqttConfig,
        client: AsyncClient,
        connection: watch::Receiver<Option<u64>>,
    ) -> Self {
        Self {
            changes: twins.changes(),
            twins,
            config,
            client,
            under_way: FuturesOrdered::new(),
            connection,
            taken: VecDeque::new(),
            short: HashSet::new(),
        }
    }

    /// Runs until the line is gone.
    pub(super) async fn run(mut self, mut hears: mpsc::Receiver<Heard>) {
        loop {
            let has_room = self.under_way.len() < self.config.handlers_max.max(1);
            // First what is done, so that a result comes before the document and the delta that follow from it.
            tokio::select! {
                biased;
                Some((answer, asked)) = self.under_way.next() => {
                    if let Some((topic, payload)) = answer {
                        self.publish(topic, payload, false).await;
                    }
                    self.confirm(&asked).await;
                }
                Ok(()) = self.connection.changed() => {
                    let is_up = self.connection.borrow_and_update().is_some();
                    if is_up {
                        self.greet().await;
                    }
                }
                change = self.changes.next() => match change {
                    Some(change) => self.tell(change).await,
                    None => return,
                },
                Some(message) = hears.recv(), if has_room => self.hear(message).await,
            }
        }
    }

    /// Says on a new connection what those may have missed who listen.
    async fn greet(&mut self) {
        let filters = topic::SUBSCRIPTIONS.map(|topic| SubscribeFilter::new(topic.into(), QoS::AtLeastOnce));
        if let Err(error) = self.client.subscribe_many(filters).await {
            tracing::error!(%error, "the MQTT broker is asked for nothing");
        }
        let connected = topic::connected(self.twins.node());
        self.publish(connected, presence(self.twins, "connected"), false)
            .await;
        self.tell_deltas().await;
    }

    async fn tell_deltas(&mut self) {
        for device in self.twins.list() {
            if !device.delta().is_empty() {
                self.delta(&device, &device.delta()).await;
            }
        }
    }

    async fn hear(&mut self, heard: Heard) {
        let message = &heard.message;
        let asked = match topic::parse(&message.topic, self.twins.node()) {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(topic = message.topic, %error, "a topic names no device");
                None
            }
        };
        match asked {
            Some(Asked::Update(_) | Asked::State(_)) if self.is_taken(message) => {
                // Confirmed after the first of the two.
                self.twins.metrics.message("repeated");
                self.under_way
                    .push_back(Box::pin(std::future::ready((None, heard))));
            }
            Some(Asked::Update(address)) => self.update(address, heard).await,
            Some(Asked::State(address)) => self.state(address, heard).await,
            Some(Asked::Get(address)) => {
                self.remember(&address);
                let payload = self.get(&address, &message.payload);
                self.publish(address.topic(topic::GET_RESULT), payload, false)
                    .await;
                self.confirm(&heard).await;
            }
            Some(Asked::Membership) => {
                let payload = self.membership(&message.payload);
                let topic = topic::of_node(self.twins.node(), topic::MEMBERSHIP_RESULT);
                self.publish(topic, payload, false).await;
                self.confirm(&heard).await;
            }
            None => self.confirm(&heard).await,
        }
    }

    /// Whether the broker sends a change again that was taken. One that was not is noted.
    fn is_taken(&mut self, message: &Publish) -> bool {
        let mut hasher = DefaultHasher::new();
        (&message.topic, &message.payload).hash(&mut hasher);
        let mark = (message.pkid, hasher.finish());
        let newest = self.taken.iter().rev().find(|(number, _)| *number == mark.0);
        if message.dup && newest == Some(&mark) {
            return true;
        }
        if self.taken.len() >= self.config.handlers_max.max(1) {
            self.taken.pop_front();
        }
        self.taken.push_back(mark);
        false
    }

    async fn update(&mut self, address: Address, heard: Heard) {
        self.remember(&address);
        let asked = serde_json::from_slice::<shape::TwinMessage>(&heard.message.payload);
        let (base, twin) = match asked {
            Ok(shape::TwinMessage {
                base,
                twin: Some(twin),
            }) => (base, Ok(twin)),
            Ok(shape::TwinMessage { base, twin: None }) => {
                (base, Err(TwinError::from(Rejected::NoTwin).to_string()))
            }
            Err(error) => (Base::default(), Err(malformed(&error))),
        };
        let topic = address.topic(topic::UPDATE_RESULT);
        let now_ms = self.twins.clock.unix_ms();
        let twin = match twin {
            Ok(twin) => twin,
            Err(reason) => {
                self.twins.metrics.refused("invalid");
                let answer = failure(base, now_ms, 400, reason);
                self.under_way
                    .push_back(Box::pin(async move { (Some((topic, answer)), heard) }));
                return;
            }
        };
        // It takes its place among the others now; its end may come later.
        let began = self
            .twins
            .begin_update(&address.which, &base.event_id, twin)
            .await;
        let twins = self.twins;
        self.under_way.push_back(Box::pin(async move {
            let answer = match began.await {
                Ok(changed) => result(base, &changed),
                Err(error) => failure(base, twins.clock.unix_ms(), error.code(), error.to_string()),
            };
            (Some((topic, answer)), heard)
        }));
    }

    async fn state(&mut self, address: Address, heard: Heard) {
        self.remember(&address);
        let asked = serde_json::from_slice::<shape::StateUpdate>(&heard.message.payload);
        let (base, state) = match asked {
            Ok(asked) => (
                asked.base,
                DeviceState::parse(&asked.state).map_err(|error| error.to_string()),
            ),
            Err(error) => (Base::default(), Err(malformed(&error))),
        };
        let topic = address.topic(topic::STATE_RESULT);
        let twins = self.twins;
        let state = match state {
            Ok(state) => state,
            Err(reason) => {
                let answer = failure(base, twins.clock.unix_ms(), 400, reason);
                self.under_way
                    .push_back(Box::pin(async move { (Some((topic, answer)), heard) }));
                return;
            }
        };
        let began = twins.begin_state(&address.which, state).await;
        self.under_way.push_back(Box::pin(async move {
            // What went well is told of as a change, whoever asked for it.
            let answer = began.await.err().map(|error| {
                (
                    topic,
                    failure(base, twins.clock.unix_ms(), error.code(), error.to_string()),
                )
            });
            (answer, heard)
        }));
    }

    fn get(&self, address: &Address, payload: &[u8]) -> Vec<u8> {
        let now_ms = self.twins.clock.unix_ms();
        let base = match serde_json::from_slice::<Base>(payload) {
            Ok(base) => base,
            Err(error) => return failure(Base::default(), now_ms, 400, malformed(&error)),
        };
        match self.twins.find(&address.which) {
            Ok(device) => json(&shape::TwinMessage {
                base: at(base, now_ms),
                twin: Some(device.twin()),
            }),
            Err(error) => failure(base, now_ms, error.code(), error.to_string()),
        }
    }

    fn membership(&self, payload: &[u8]) -> Vec<u8> {
        let now_ms = self.twins.clock.unix_ms();
        let base = match serde_json::from_slice::<Base>(payload) {
            Ok(base) => base,
            Err(error) => return failure(Base::default(), now_ms, 400, malformed(&error)),
        };
        let devices = self.twins.list();
        let answer = json(&shape::MembershipDetail {
            base: at(base.clone(), now_ms),
            devices: Some(devices.iter().map(shown).collect()),
        });
        if answer.len() < self.config.message_max {
            return answer;
        }
        let reason = format!("{} devices are too many for one message", devices.len());
        failure(base, now_ms, 500, reason)
    }

    async fn tell(&mut self, change: Change) {
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
    async fn publish_of(&mut self, id: &DeviceId, suffix: &str, payload: &[u8], retain: bool) {
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
    async fn publish(&mut self, topic: String, payload: Vec<u8>, retain: bool) {
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

    /// Tells the broker that a message was dealt with, on the connection on which it came. On another it comes again.
    async fn confirm(&mut self, heard: &Heard) {
        let mut connection = self.connection.clone();
        if *connection.borrow_and_update() != Some(heard.connection) {
            return;
        }
        let told = tokio::select! {
            biased;
            _ = connection.changed() => return,
            told = self.client.ack(&heard.message) => told,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "a message is not confirmed to the MQTT broker");
        }
    }

    fn remember(&mut self, address: &Address) {
        if let Some(name) = address.short()
            && self.short.len() < self.config.short_names_max
        {
            self.short.insert(name.clone());
        }
    }

    fn fresh(&self) -> Base {
        Base {
            event_id: MessageId::random().to_string(),
            timestamp: self.twins.clock.unix_ms(),
        }
    }
}

fn shown(device: &Device) -> shape::Device {
    shape::Device {
        id: device.id.to_string(),
        name: device.id.name().into(),
        description: device.description.clone(),
        state: device.state.clone(),
        last_online: device.last_online.clone(),
        attributes: (!device.attributes.is_empty()).then(|| {
            let attributes = device.attributes.iter();
            attributes
                .map(|(name, attribute)| (name.clone(), Some(attribute.clone())))
                .collect()
        }),
        twin: None,
    }
}

fn result(base: Base, changed: &Changed) -> Vec<u8> {
    json(&shape::TwinMessage {
        base: at(base, changed.timestamp_ms),
        twin: Some(changed.updated.result.clone()),
    })
}

fn failure(base: Base, now_ms: i64, code: u16, reason: String) -> Vec<u8> {
    json(&shape::Failure {
        base: at(base, now_ms),
        code,
        reason,
    })
}

fn at(base: Base, now_ms: i64) -> Base {
    Base {
        timestamp: now_ms,
        ..base
    }
}

fn malformed(error: &serde_json::Error) -> String {
    format!("Unmarshal update request body failed, please check the request: {error}")
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What a packet has beside topic and payload, at most.
const HEADER: usize = 16;
