//! What a session tells its owner.

use std::sync::Arc;
use std::time::Duration;

use super::Lane;
use crate::message::{Content, Message, MessageId, Operation};
use crate::object::ResourceVersion;

/// Names a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// How a call ended.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "most ends are answers, and each is read once"
)]
pub enum CallEnd {
    /// With this answer, which may be an `error` message.
    Answered(Message),
    /// Without one, before its deadline.
    TimedOut,
    /// The session had no connection, or no room for another call; nothing was sent.
    NotSent,
}

/// What the owner of a session must know or do.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new message to handle: finish with [`Session::ack`](super::Session::ack), [`Session::nack`](super::Session::nack) or
    /// [`Session::reply`](super::Session::reply).
    Inbound(Message),
    /// The peer has settled this key at this version: it is acknowledged.
    Delivered {
        /// The key.
        key: Arc<str>,
        /// Its version.
        version: Option<u64>,
        /// The message that was acknowledged.
        id: MessageId,
        /// What the peer said to it; mostly nothing.
        answer: Content,
        /// What the acknowledged message asked for.
        operation: Operation,
        /// The version of the object that it carried, as the cloud wrote it.
        resource_version: Option<ResourceVersion>,
        /// The lane that it went in.
        lane: Lane,
        /// How long the peer lacked it: from its enqueueing, or that of what it took the place of.
        took: Duration,
    },
    /// The message was given up: its time was over.
    Expired {
        /// The key.
        key: Arc<str>,
    },
    /// The peer refused the message and it will be tried again; told so that somebody may look.
    Refused {
        /// The key.
        key: Arc<str>,
        /// What the peer said.
        reason: String,
    },
    /// A call ended.
    CallEnded(CallId, CallEnd),
    /// The peer was not heard for too long: the connection should be cut.
    Silent,
}

/// What the session holds, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Messages waiting to be sent.
    pub queued: usize,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Calls without an answer.
    pub calls: usize,
    /// Inbound messages whose handlers have not finished.
    pub handling: usize,
}
