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
            devices,
            batched: true,
            attempts: 0,
        }
    }

    /// The messages of KubeEdge's edges: one for the values of a device, one for its state.
    pub(super) fn single(device: Owed, now_ms: i64) -> Self {
        let id = &device.id;
        let mut messages = Vec::new();
        if !device.twin.is_empty() {
            let content = shape::TwinMessage {
                base: base(now_ms),
                twin: Some(device.twin.clone()),
            };
            let resource = format!("device/{id}/twin/edge_updated");
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
            batched: false,
            attempts: 0,
        }
    }

    /// The messages that were not answered yet.
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The first message is answered.
    pub(super) fn answered(&mut self) {
        self.messages.remove(0);
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

/// Values and states of several devices.
const BATCH: &str = "twin/reports";
pub(super) const MEMBERSHIP_DETAIL: &str = "membership/detail";
