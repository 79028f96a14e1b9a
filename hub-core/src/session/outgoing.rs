//! A message that goes out: its slot, its lane, and how it is looked after.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::Message;

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
