//! One end of a conversation that outlives its connections.
//!
//! A `Session` is a plain value, used at both ends. Messages and instants go in; frames, deadlines and events come out.
//! It touches no clock, socket, lock, task or randomness: `now` is an argument and ids come from a seed. So whole worlds of
//! sessions run in virtual time ([`testing::world`](crate::testing)).
//!
//! ```text
//!                    send · call · reply                      poll_transmit
//!   hub ────────────────────────────────► ┌──────────┐ ──────────────────────► wire
//!                                         │ outbox   │
//!        ack · nack (handler finished)    │ inbox    │       handle_message
//!   hub ────────────────────────────────► │ keepalive│ ◄────────────────────── wire
//!   hub ◄──────────────────────────────── └──────────┘ ◄── handle_timeout ──── the driver's one timer
//!                    poll_event                        ─── poll_timeout ─────►
//! ```

mod config;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use config::{KeepaliveConfig, SessionConfig};

use crate::message::{Message, MessageId};
use crate::transport::Outbound;

/// Which outgoing messages go first. Bulk can never make a healthy node look dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Leases, node status, answers that somebody waits for.
    Urgent,
    /// The node's own pods, and what they need.
    Own,
    /// Subscriptions, and everything else.
    Rest,
    /// Events.
    Bulk,
}

/// How an outgoing message is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Resent until the peer acknowledges it, over as many connections as it takes. A newer message with the same key
    /// takes its place. A refusal by the peer is tried again after a pause.
    Acked,
    /// As `Acked`, but dropped when it is older than this: answers that an asker would no longer wait for.
    AckedWithin(Duration),
    /// Sent once on the next connection, if there is one within this time; never resent. Same key: newest wins.
    Once(Duration),
    /// As `Acked`, and sent only after everything that was enqueued before it has been settled: the end of a snapshot.
    Barrier,
}

/// A message to be delivered.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What it is about. One slot a key: only the newest message of a key is kept.
    pub key: Arc<str>,
    /// The version of the object, for "newest wins": a message older than the one in its slot, or than the one last delivered
    /// from it, is ignored. None always counts as newer.
    pub version: Option<u64>,
    /// Which lane it goes in.
    pub lane: Lane,
    /// How it is looked after.
    pub delivery: Delivery,
    /// The message. A nil id or a zero timestamp is filled in by the session.
    pub message: Message,
    /// The content that this object had before. Used to send a difference if the peer acknowledged exactly that content.
    pub previous: Option<Bytes>,
}

/// The outbox has no slot left; here is the message back. Our move: slow down and try again.
#[derive(Debug, thiserror::Error)]
#[error("the outbox is full")]
pub struct Full(pub Box<Outgoing>);

/// Names a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// How a call ended.
#[derive(Debug, Clone)]
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
    /// A new message to handle: finish with [`Session::ack`], [`Session::nack`] or [`Session::reply`].
    Inbound(Message),
    /// The peer has settled this key at this version: it is acknowledged.
    Delivered {
        /// The key.
        key: Arc<str>,
        /// Its version.
        version: Option<u64>,
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

/// One end of a conversation. See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
}

#[expect(unused_variables, reason = "signatures first")]
impl Session {
    /// A session without a connection. `seed` makes its message ids: give each session its own random one.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        todo!()
    }

    // --- getters

    /// Whether a connection is attached.
    pub fn is_attached(&self) -> bool {
        todo!()
    }

    /// What it holds.
    pub fn depth(&self) -> Depth {
        todo!()
    }

    /// Whether nothing is queued, in flight, called or being handled.
    pub fn is_settled(&self) -> bool {
        todo!()
    }

    // --- the wire speaks

    /// A connection is there. Everything unacknowledged is sent (again) on it, in its old order.
    /// `wall_ms` is the Unix time in milliseconds at `now`, for the timestamps of messages.
    pub fn attach(&mut self, capabilities: crate::transport::Capabilities, wall_ms: i64, now: Instant) {
        todo!()
    }

    /// The connection is gone. Nothing is lost; calls end as timed out at their own deadlines.
    pub fn detach(&mut self, now: Instant) {
        todo!()
    }

    /// A message came.
    pub fn handle_message(&mut self, message: Message, now: Instant) {
        todo!()
    }

    /// A frame came, whatever it was: the peer is alive.
    pub fn heard(&mut self, now: Instant) {
        todo!()
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    // --- the hub speaks

    /// Queues a message.
    pub fn send(&mut self, outgoing: Outgoing, now: Instant) -> Result<(), Full> {
        todo!()
    }

    /// Takes back what is queued or in flight under a key.
    pub fn cancel(&mut self, key: &str) {
        todo!()
    }

    /// The peer is known to hold exactly this content under this key, so that the next version can be a difference.
    pub fn assume_held(&mut self, key: &str, version: Option<u64>, content: &Bytes) {
        todo!()
    }

    /// Asks, once, and reports the answer or its absence as [`Event::CallEnded`].
    pub fn call(&mut self, message: Message, lane: Lane, deadline: Instant, now: Instant) -> CallId {
        todo!()
    }

    /// The handler of an inbound message succeeded and has nothing to say: acknowledge, if the peer wants that.
    pub fn ack(&mut self, id: &MessageId, now: Instant) {
        todo!()
    }

    /// The handler failed: the peer is told why, and a resent copy will be handled anew.
    pub fn nack(&mut self, id: &MessageId, reason: &str, now: Instant) {
        todo!()
    }

    /// The handler's answer to a request. Whether the peer acknowledges it is decided by its class.
    pub fn reply(&mut self, id: &MessageId, answer: Message, lane: Lane, now: Instant) {
        todo!()
    }

    // --- what comes out

    /// The next frame for the wire, if one is due. None while detached.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outbound> {
        todo!()
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
}
