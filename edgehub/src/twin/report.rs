//! The messages in which devices' values and states go up, and what their answers mean.

use std::collections::BTreeMap;

use hub_core::handle::CallError;
use hub_core::message::{Content, Group, Message, MessageId, Operation, Route, Source};
use serde::{Deserialize, Serialize};

use super::name::DeviceId;
use super::owed::{Line, Owed};
use super::shape;

/// What goes up at a time, and stays as it is until it is answered: a copy is known by its ids.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) devices: Vec<Owed>,
    /// One after the other.
    messages: Vec<Message>,
    /// Whether the first message goes once more, under another id, when it is confirmed.
    repeats: bool,
    /// Whether several devices are in one message.
    pub(super) batched: bool,
    /// How often nobody answered.
    pub(super) attempts: u32,
}

/// How it ended for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The cloud has it.
    Told,
    /// The cloud will never take it.
    Refused(String),
    /// The cloud cannot take it now.
    Failed(String),
    /// Nobody answered in time, or it was not sent.
    Open,
}

/// The answer to several devices in one message, where not all went well.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Answer {
    /// Why the cloud will never take the report of a device.
    refused: BTreeMap<String, String>,
    /// Why it cannot take it now.
    failed: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Batch {
    #[serde(flatten)]
    base: shape::Base,
    devices: Vec<Line>,
}

impl Report {
    /// One message for all of them; between our own ends.
    pub(super) fn batch(devices: Vec<Owed>, now_ms: i64) -> Self {
        let batch = Batch {
            base: base(now_ms),
            devices: devices.iter().map(Owed::line).collect(),
        };
        Self {
            messages: vec![message(BATCH, Content::encode(&batch), now_ms)],
            repeats: false,
            devices,
            batched: true,
            attempts: 0,
        }
    }

    /// The messages of KubeEdge's edges: one for the values of a device, one for its state. `is_first`: with a property in it that this
    /// cloud has not confirmed before. KubeEdge's cloud makes room for such a one in a copy, confirms, and forgets the value
    /// (`findOrCreateTwinByName` in `cloud/pkg/devicecontroller/controller/upstream.go`); told again it takes it.
    pub(super) fn single(device: Owed, is_first: bool, now_ms: i64) -> Self {
        let id = &device.id;
        let mut messages = Vec::new();
        let repeats = is_first && !device.twin.is_empty();
        if !device.twin.is_empty() {
            let content = shape::TwinMessage {
                base: base(now_ms),
                twin: Some(device.twin.clone()),
            };
            let resource = format!("device/{id}{VALUES}");
            messages.push(message(&resource, Content::encode(&content), now_ms));
        }
        if let Some(state) = &device.state {
            let content = shape::StateMessage {
                base: base(now_ms),
                device: state.clone(),
            };
            // KubeEdge's edges send this one as text.
            let text = serde_json::to_string(&content).unwrap_or_default();
            let resource = format!("device/{id}/state/update");
            messages.push(message(&resource, Content::string(&text), now_ms));
        }
        Self {
            devices: vec![device],
            messages,
            repeats,
            batched: false,
            attempts: 0,
        }
    }

    /// What is to be sent now.
    pub(super) fn message(&self) -> Option<&Message> {
        self.messages.first()
    }

    /// There is another connection, perhaps to a cloud that knows nothing of this.
    pub(super) fn reconnected(&mut self) {
        let is_of_values = |message: &Message| message.route.resource.as_str().ends_with(VALUES);
        self.repeats = self.messages.first().is_some_and(is_of_values);
    }

    /// The cloud has taken the first message. Whether there is more to send.
    pub(super) fn goes_on(&mut self) -> bool {
        if !std::mem::take(&mut self.repeats) {
            self.messages.remove(0);
        } else if let Some(again) = self.messages.first_mut() {
            again.header.id = MessageId::random();
        }
        !self.messages.is_empty()
    }

    /// What an answer means for a device.
    pub(super) fn end(&self, id: &DeviceId, answer: &Result<Message, CallError>) -> End {
        let Ok(answer) = answer else { return End::Open };
        let text = || answer.content.as_string().unwrap_or_default();
        match answer.route.operation {
            // Only what comes to the twins ends the asking (docs/protocol.md).
            Operation::Error if answer.route.group() == Group::Twin => End::Refused(text()),
            Operation::Error => End::Failed(text()),
            _ if !self.batched || answer.content.is_ok() => End::Told,
            _ => {
                let id = id.to_string();
                match answer
                    .content
                    .decode::<Answer>("what became of the devices of a report")
                {
                    Ok(mut answer) => match (answer.refused.remove(&id), answer.failed.remove(&id)) {
                        (Some(reason), _) => End::Refused(reason),
                        (None, Some(reason)) => End::Failed(reason),
                        (None, None) => End::Told,
                    },
                    Err(error) => End::Failed(error.to_string()),
                }
            }
        }
    }
}

/// The question that a KubeEdge edge asks on every connection: which devices are mine.
pub(super) fn membership_question(node: &str, now_ms: i64) -> Message {
    let question = shape::MembershipQuestion {
        event_type: "group_membership_event",
        event_id: MessageId::random().to_string(),
        group_id: node,
        operation: "detail",
        timestamp: now_ms,
    };
    let text = serde_json::to_string(&question).unwrap_or_default();
    let route = Route::new(
        Source::Twin.as_str(),
        Group::Resource.as_str(),
        Operation::Get,
        MEMBERSHIP_DETAIL,
    );
    Message::new(route, Content::string(&text))
}

fn message(resource: &str, content: Content, now_ms: i64) -> Message {
    let route = Route::new(
        Source::Twin.as_str(),
        Group::Resource.as_str(),
        Operation::Update,
        resource,
    );
    let mut message = Message::new(route, content);
    message.header.id = MessageId::random();
    message.header.timestamp_ms = now_ms;
    message
}

fn base(now_ms: i64) -> shape::Base {
    shape::Base {
        event_id: MessageId::random().to_string(),
        timestamp: now_ms,
    }
}

/// What is said of the values of a device.
const VALUES: &str = "/twin/edge_updated";
/// Values and states of several devices.
const BATCH: &str = "twin/reports";
pub(super) const MEMBERSHIP_DETAIL: &str = "membership/detail";
