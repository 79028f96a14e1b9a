//! Every message that real KubeEdge programs sent each other is understood, and written again as the same document.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeSet;

use bytes::Bytes;
use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::{Group, Kind, Message, Operation, Source, Subject};
use hub_core::transport::{Capabilities, Received};
use serde_json::Value;

/// Messages of the odd clients (recording 17) that are no messages on purpose.
fn is_odd(payload: &str) -> bool {
    serde_json::Deserializer::from_str(payload)
        .into_iter::<Value>()
        .next()
        .is_none_or(|first| first.is_err())
}

fn payloads() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "zst") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
        for line in std::str::from_utf8(&text).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Some(payload) = line["payload"].as_str() {
                found.push((name.clone(), payload.to_owned()));
            }
        }
    }
    assert!(found.len() > 1_000, "only {} messages found", found.len());
    found
}

fn decode(codec: &Codec, bytes: Bytes) -> Message {
    match codec.decode(bytes).unwrap() {
        Received::Whole(message) => message,
        Received::Patched(..) => panic!("no difference was sent"),
    }
}

#[test]
fn every_recorded_message_is_written_again_as_the_same_document() {
    let json = Codec::new(Capabilities::NONE, CodecLimits::default());
    let (mut identical, mut all) = (0, 0);
    for (name, payload) in payloads() {
        if is_odd(&payload) {
            assert!(json.decode(payload.into()).is_err());
            continue;
        }
        let message = decode(&json, payload.clone().into());
        let back = json.encode(&message, None).unwrap();
        let back = std::str::from_utf8(&back).unwrap();
        all += 1;
        if back == payload {
            identical += 1;
            continue;
        }
        // What bare test clients sent may differ in layout; the document may not.
        let first = |text: &str| {
            serde_json::Deserializer::from_str(text)
                .into_iter::<Value>()
                .next()
                .unwrap()
                .unwrap()
        };
        if name.starts_with("17-") {
            let (sent, again) = (first(&payload), first(back));
            assert_eq!(
                again["content"],
                *sent.get("content").unwrap_or(&Value::Null),
                "{payload}"
            );
        } else {
            assert_eq!(first(back), first(&payload), "{name}");
        }
    }
    assert!(
        identical * 100 > all * 97,
        "{identical} of {all} were written byte for byte"
    );
}

#[test]
fn every_recorded_message_is_understood() {
    let json = Codec::new(Capabilities::NONE, CodecLimits::default());
    let mut kinds = BTreeSet::new();
    for (name, payload) in payloads() {
        if is_odd(&payload) {
            continue;
        }
        let message = decode(&json, payload.into());
        let route = &message.route;
        // Bare test clients made words up, to see what a cloud says to that.
        let made_up = name.starts_with("17-")
            && (route.operation.as_str() == "dance"
                || ["node/x", "x", "default/teapot/x"].contains(&route.resource.as_str()));
        if made_up {
            continue;
        }
        assert!(
            !matches!(route.operation, Operation::Other(_))
                && !matches!(route.source(), Source::Other(_))
                && !matches!(route.group(), Group::Other(_)),
            "{name}: {route:?}"
        );
        match route.resource.subject() {
            // An edge that stops sends one message without anything in it.
            Subject::Other("") if route.operation == Operation::None => {}
            Subject::Other(_) => panic!("{name}: {route:?}"),
            // The events of watches bring any kind that a cluster has.
            Subject::Object {
                kind: Kind::Other(kind),
                ..
            } => {
                assert!(is_about_a_watch(&route.source()), "{name}: {route:?}");
                kinds.insert(kind.to_owned());
            }
            _ => {}
        }
    }
    assert!(kinds.len() < 3, "{kinds:?}");
}

/// Whether a watch brought it, or the repair of what a watch brought, which says `edgecontroller`.
fn is_about_a_watch(source: &Source<'_>) -> bool {
    matches!(source, Source::DynamicController | Source::EdgeController)
}

#[test]
fn every_recorded_message_survives_our_own_format() {
    let json = Codec::new(Capabilities::NONE, CodecLimits::default());
    let own = Codec::new(Capabilities::ALL, CodecLimits::default());
    let (mut before, mut after) = (0, 0);
    for (_, payload) in payloads() {
        if is_odd(&payload) {
            continue;
        }
        let message = decode(&json, payload.clone().into());
        let frame = own.encode(&message, None).unwrap();
        before += payload.len();
        after += frame.len();
        assert_eq!(decode(&own, frame), message);
    }
    assert!(after * 2 < before, "{before} bytes of JSON became {after}");
}
