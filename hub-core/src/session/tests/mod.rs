//! What holds of the small machines, each alone, and of the conversation that joins them.

mod calls;
mod conversation;
mod inbox;
mod keepalive;
mod outbox;
mod pace;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::message::needs_ack;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An object of the class that every edge acknowledges.
fn object(name: &str, content: &str) -> Message {
    Message::new(
        Route::new(
            "edgecontroller",
            "resource",
            Operation::Update,
            format!("default/configmap/{name}"),
        ),
        Content::from_json(Bytes::copy_from_slice(content.as_bytes())),
    )
}

fn push(key: &str, version: u64, lane: Lane, delivery: Delivery) -> Outgoing {
    Outgoing {
        key: key.into(),
        version: Some(version),
        lane,
        delivery,
        message: object(key, &format!("{{\"v\":{version}}}")),
        previous: None,
    }
}

fn acked(key: &str, version: u64) -> Outgoing {
    push(key, version, Lane::Rest, Delivery::Acked)
}

/// The version in a test object.
fn version_of(message: &Message) -> u64 {
    #[derive(serde::Deserialize)]
    struct Doc {
        v: u64,
    }
    message.content.decode::<Doc>("a test object").unwrap().v
}

fn name_of(message: &Message) -> String {
    message.route.resource.parts().unwrap().name.unwrap().to_owned()
}
