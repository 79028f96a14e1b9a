//! What the owner of a session is told of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::{Content, Message, Operation};
use crate::object::ResourceVersion;
use crate::session::{Lane, Outgoing};
use crate::transport::{CloseReason, Peer, TransportError};

/// What the owner of a session learns from its driver. Called from the driver's task: must return at once.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn notice(&self, notice: Notice<'_>);

    /// The peer acknowledged a message under this key; [`Notice::Delivered`] follows. For those who keep account of what each
    /// peer holds: `version` is that of the object in the message.
    fn acknowledged(&self, key: &Arc<str>, operation: &Operation, version: Option<&ResourceVersion>) {
        let _ = (key, operation, version);
    }

    /// The peer acknowledged a message under this key, and this is what it said; [`Notice::Delivered`] follows.
    fn answered(&self, key: &Arc<str>, answer: &Content) {
        let _ = (key, answer);
    }

    /// The peer acknowledged a message of this lane, which it had lacked for this long; [`Notice::Delivered`] follows.
    fn took(&self, lane: Lane, took: Duration) {
        let _ = (lane, took);
    }

    /// The content that this end holds of the object a message is about, exactly as the peer sent it, so that a difference
    /// can be applied.
    fn held(&self, message: &Message) -> Option<Bytes> {
        let _ = message;
        None
    }
}

/// What happened in a session.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A connection is attached.
    Attached(&'a Peer),
    /// The connection is gone.
    Detached(&'a DetachReason),
    /// The peer settled this key at this version.
    Delivered(Arc<str>, Option<u64>),
    /// A message was given up: its time was over.
    Expired(Arc<str>),
    /// The peer refuses a message; it will be tried again.
    Refused(Arc<str>, String),
    /// What waits and what is unacknowledged changed by this much. All changes of a session sum up to nothing at its end.
    Depth {
        /// Messages waiting to be sent.
        queued: i64,
        /// Messages sent and not yet acknowledged.
        in_flight: i64,
        /// Sends again of what was not acknowledged in time.
        resent: u32,
    },
    /// The outbox is full: here is a message that was [pushed](crate::handle::SessionHandle::push).
    Overflow(Box<Outgoing>),
}

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum DetachReason {
    /// The link failed, or the peer broke the protocol.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer closed it.
    #[error("closed by the peer: {0:?}")]
    Closed(CloseReason),
    /// Nothing was heard for too long.
    #[error("nothing heard for too long")]
    Silence,
    /// The peer does not take what we send.
    #[error("the peer takes nothing any more")]
    WriteDeadline,
    /// A newer connection took over.
    #[error("a newer connection took over")]
    Superseded,
    /// This end ended it.
    #[error("stopped: {0:?}")]
    Stopped(CloseReason),
}
