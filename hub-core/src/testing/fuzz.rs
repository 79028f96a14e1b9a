//! What fuzzing does to everything that reads a peer's bytes: no input may panic, and what was understood survives being written.
//!
//! Each function takes any bytes. The targets of `hub-core/fuzz` call them with what libFuzzer finds; an ordinary test calls them with the
//! corpus and with seeded mutations of it, so that they hold on every machine.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::application::Application;
use crate::catch_up::{Buckets, Complete, Differ, Have, Inventory, Versions};
use crate::codec::{Codec, CodecLimits, EncodeError};
use crate::message::{Content, Message, resource_version_number};
use crate::node::NodeId;
use crate::object::{GroupVersionResource, Metadata, Object, ObjectKey};
use crate::selector::{FieldSelector, LabelSelector};
use crate::store::with_resource_version;
use crate::transport::{Capabilities, Received, fuzz};

/// What is done to an input; it panics where something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name. Each has a file in `fuzz/fuzz_targets` and a folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("application", application),
    ("bincode_frame", bincode_frame),
    ("catch_up", catch_up),
    ("json_message", json_message),
    ("object", object),
    ("quic_frame", quic_frame),
    ("selectors", selectors),
    ("upgrade_head", upgrade_head),
    ("websocket_frame", websocket_frame),
];

/// KubeEdge's JSON: decode, encode, decode, and from then on nothing changes any more.
pub fn json_message(data: &[u8]) {
    let codec = Codec::new(Capabilities::NONE, LIMITS);
    let Some(message) = whole(&codec, Bytes::copy_from_slice(data)) else {
        return;
    };
    look_at(&message);
    let Some(frame) = encoded(&codec, &message) else {
        return;
    };
    let again = whole(&codec, frame.clone()).expect("what we write, we read");
    assert_eq!((&again.header, &again.route), (&message.header, &message.route));
    assert_eq!(encoded(&codec, &again).as_ref(), Some(&frame));

    // The same message between our own ends.
    let own = Codec::new(Capabilities::ALL, LIMITS);
    if let Some(frame) = encoded(&own, &message) {
        assert_eq!(whole(&own, frame).as_ref(), Some(&message));
    }
}

/// Our own format, differences included.
pub fn bincode_frame(data: &[u8]) {
    let codec = Codec::new(Capabilities::ALL, LIMITS);
    match codec.decode(Bytes::copy_from_slice(data)) {
        Err(_) => {}
        Ok(Received::Whole(message)) => {
            look_at(&message);
            if let Some(frame) = encoded(&codec, &message) {
                assert_eq!(whole(&codec, frame), Some(message));
            }
        }
        Ok(Received::Patched(message, patch)) => {
            look_at(&message);
            let _ = patch.apply(b"something else");
            if let Ok(content) = patch.apply(BASE) {
                assert!(content.len() <= LIMITS.message_max);
            }
        }
    }
}

/// The head of a WebSocket upgrade, request and answer.
pub fn upgrade_head(data: &[u8]) {
    fuzz::upgrade_head(data);
}

/// WebSocket frames, whole and in pieces.
pub fn websocket_frame(data: &[u8]) {
    fuzz::websocket_frame(data);
}

/// QUIC's frames, whole and in pieces.
pub fn quic_frame(data: &[u8]) {
    fuzz::quic_frame(data);
}

/// The first line as a label selector and as a field selector, the rest as the object that is selected.
pub fn selectors(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (selector, body) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(labels) = LabelSelector::parse(selector) {
        let wanted = labels.matches(&BTreeMap::new());
        assert!(wanted || !labels.is_empty(), "no condition, and nothing matches");
        if let Ok(metadata) = Metadata::parse(body.as_bytes()) {
            let _ = labels.matches(&metadata.labels);
        }
    }
    if let Ok(fields) = FieldSelector::parse(selector) {
        for field in fields.fields() {
            let _ = fields.required(field);
        }
        let wanted = fields.matches(body.as_bytes());
        assert!(wanted || !fields.is_empty(), "no condition, and nothing matches");
    }
}

/// KubeEdge's application as a request, as an answer, and as a question of our own again.
pub fn application(data: &[u8]) {
    let content = Content::from_json(Bytes::copy_from_slice(data));
    let Ok(application) = Application::from_content(&content) else {
        return;
    };
    let response = application.to_response();
    let _ = application.answered(&response).to_response();
    let Ok(request) = application.to_request() else {
        return;
    };
    let node = NodeId::new("edge-1").expect("a name");
    let asked = Application::request(&node, &request);
    let asked = Application::from_content(&asked.to_message().content).expect("what we write, we read");
    assert!(asked.to_request().is_ok(), "{request:?}");
}

/// A Kubernetes object: its metadata, and another version written into it.
pub fn object(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _ = Object::from_body(GroupVersionResource::core("pods"), body.clone());
    if Metadata::parse(&body).is_ok() {
        assert!(
            body.trim_ascii_start().starts_with(b"{"),
            "an object is an object"
        );
    }
    let spliced = with_resource_version(&body, 42);
    if spliced != body {
        let before = Metadata::parse(&body);
        let after = Metadata::parse(&spliced);
        if let (Ok(before), Ok(after)) = (before, after) {
            assert_eq!(after.resource_version, "42");
            assert_eq!((before.name, before.uid), (after.name, after.uid));
        }
    }
}

/// The conversation of a catch-up, whichever of its messages it is.
pub fn catch_up(data: &[u8]) {
    let mut mine = Inventory::default();
    for i in 0..20 {
        let key = ObjectKey::new(GroupVersionResource::core("pods"), Some("d"), &format!("p{i}"));
        mine.add(&key, "u", &i.to_string());
    }
    if let Ok(have) = serde_json::from_slice::<Have>(data) {
        mine.differing(&have);
        for scope in &have.scopes {
            scope.scope();
        }
    }
    if let Ok(differ) = serde_json::from_slice::<Differ>(data) {
        mine.buckets(&differ);
        mine.versions(&differ);
    }
    if let Ok(buckets) = serde_json::from_slice::<Buckets>(data) {
        mine.differing_buckets(&buckets);
    }
    if let Ok(versions) = serde_json::from_slice::<Versions>(data) {
        let difference = mine.difference(&versions);
        assert!(difference.send.len() + difference.same.len() <= 20 * versions.resources.len());
    }
    let _ = serde_json::from_slice::<Complete>(data);
}

/// What every receiver does with a message, whatever it says.
fn look_at(message: &Message) {
    let _ = resource_version_number(message);
    let _ = message.content.document();
    let _ = format!("{message:?}");
}

fn whole(codec: &Codec, frame: Bytes) -> Option<Message> {
    match codec.decode(frame) {
        Ok(Received::Whole(message)) => Some(message),
        _ => None,
    }
}

/// None for what is over the limit once it is written differently.
fn encoded(codec: &Codec, message: &Message) -> Option<Bytes> {
    match codec.encode(message, None) {
        Ok(frame) => Some(frame),
        Err(EncodeError::TooLarge { .. }) => None,
        Err(EncodeError::NotJson) => panic!("what was read as JSON is JSON"),
    }
}

/// Small, so that an input reaches them.
const LIMITS: CodecLimits = CodecLimits {
    message_max: 1 << 20,
    compress_min: 200,
};

/// The content that the differences in the corpus are to.
pub const BASE: &[u8] = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"d","uid":"u","resourceVersion":"7"},"data":{"colour":"green","text":"a difference is told against what both ends hold, and only against that"}}"#;
