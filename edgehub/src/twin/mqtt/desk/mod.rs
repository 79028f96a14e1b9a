//! What applications ask is put to the twins; what becomes of it, and what else happens to devices, is published.

mod tell;

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use hub_core::message::MessageId;
use rumqttc::{AsyncClient, Publish, QoS, SubscribeFilter};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::config::MqttConfig;
use super::presence;
use super::topic::{self, Address, Asked};
use crate::twin::shape::{self, Base};
use crate::twin::{Changed, Changes, Device, DeviceState, Rejected, TwinError, Twins};

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
