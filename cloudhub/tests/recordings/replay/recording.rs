//! A recording: what it holds that can be played, and what a message of it says.

use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::{Message, Operation};
use hub_core::transport::{Capabilities, Received};
use serde_json::Value;

/// What a recording holds.
pub(super) enum Line {
    Note(String),
    Up(Message),
    Down(Message),
    /// A connection, by the name it has where there are several.
    Opened,
    Ended,
}

/// The node of a recording, and what it holds that can be played.
pub(super) fn read(name: &str) -> (String, Vec<Line>) {
    let path = format!(
        "{}/../hub-core/tests/captures/{name}.jsonl.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    let (mut node, mut lines) = (None, Vec::new());
    for line in std::str::from_utf8(&text).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(headers) = line["request"]["headers"].as_array() {
            let id = headers
                .iter()
                .find(|header| header[0] == "Node_id")
                .and_then(|header| header[1].as_str());
            node = node.or(id.map(str::to_owned));
            if line["note"].is_null() {
                lines.push(Line::Opened);
            }
        } else if let Some(payload) = line["payload"].as_str() {
            let Ok(Received::Whole(message)) = codec.decode(payload.to_owned().into()) else {
                continue;
            };
            lines.push(match line["dir"].as_str() {
                Some("edge->cloud") => Line::Up(message),
                _ => Line::Down(message),
            });
        } else if let Some(note) = line["note"].as_str() {
            lines.push(Line::Note(note.to_owned()));
        } else if line["event"] == "stream end" {
            lines.push(Line::Ended);
        }
    }
    (node.unwrap(), lines)
}

pub(super) fn is(message: &Message, operation: &str, part: &str) -> bool {
    message.route.operation.as_str() == operation && message.route.resource.as_str().contains(part)
}

pub(super) fn is_put(message: &Message) -> bool {
    matches!(message.route.operation, Operation::Insert | Operation::Update) && !message.is_reply()
}

/// What a message asks: of a request to the API, which.
pub(super) fn asked(message: &Message) -> String {
    let content = parsed(message);
    match (content["Verb"].as_str(), content["Key"].as_str()) {
        (Some(verb), Some(key)) => format!("{verb} {key}"),
        _ => told(message),
    }
}

pub(super) fn told(message: &Message) -> String {
    format!("{} {}", message.route.operation, message.route.resource)
}

pub(super) fn parsed(message: &Message) -> Value {
    serde_json::from_slice(message.content.bytes()).unwrap()
}
