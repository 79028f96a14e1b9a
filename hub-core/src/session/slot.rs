//! The place of one key in the outbox: the message under way, and the newer one behind it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Delivery, Lane, Outgoing};
use crate::message::Message;

/// One key's place. At most one message of a key is in flight; at most one newer one waits behind it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Arc<str>,
    /// The message that is to be sent, or was.
    pub(super) item: Item,
    pub(super) state: State,
    /// Sends of the item so far; makes the pauses longer.
    pub(super) attempts: u32,
    /// Whether the item was last sent against content that the peer should hold.
    pub(super) with_base: bool,
    /// Sends of the item as a difference that were not refused yet.
    pub(super) differences: u32,
    /// A newer message, while the item was sent and is not settled.
    pub(super) next: Option<Box<Item>>,
}

/// Where the item of a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A barrier behind unsettled messages.
    Blocked,
    /// To be sent; holds no place in the window.
    Ready,
    /// Sent; holds a place in the window, and is sent again at the instant.
    Flight(Instant),
    /// Sent, and to be sent again now; keeps its place in the window.
    Due,
    /// Refused; holds no place in the window, and is tried again at the instant.
    Paused(Instant),
}

/// A message with what the outbox must know of it.
#[derive(Debug)]
pub(super) struct Item {
    /// Its place in the order of enqueueing.
    pub(super) place: u64,
    pub(super) version: Option<u64>,
    pub(super) lane: Lane,
    pub(super) delivery: Delivery,
    pub(super) message: Message,
    pub(super) previous: Option<Bytes>,
    /// Since when the peer lacks it, or what it took the place of.
    pub(super) enqueued: Instant,
    /// When nobody wants it any more.
    pub(super) expires: Option<Instant>,
    /// Whether its end concerns only the session itself.
    pub(super) quiet: bool,
}

/// What a message needs to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Nothing: it holds a place in the window.
    Free,
    /// A place in the window, or beyond it: it is urgent.
    Urgent,
    /// That the peer keeps up: it is not acknowledged.
    Once,
    /// A place in the window.
    Windowed,
}

impl Slot {
    pub(super) fn new(key: Arc<str>, item: Item) -> Self {
        let state = item.first_state();
        Self {
            key,
            item,
            state,
            attempts: 0,
            with_base: false,
            differences: 0,
            next: None,
        }
    }

    /// The version of the newest message under this key.
    pub(super) fn newest_version(&self) -> Option<u64> {
        self.next.as_deref().unwrap_or(&self.item).version
    }

    /// Whether the item was sent and may still be acknowledged.
    pub(super) fn holds_window(&self) -> bool {
        matches!(self.state, State::Flight(_) | State::Due)
    }

    /// Where it stands among the messages that are to be sent; None when it is not to be sent now.
    pub(super) fn turn(&self) -> Option<(Class, Lane, u64)> {
        let class = match self.state {
            State::Due => Class::Free,
            State::Ready if self.item.is_once() => Class::Once,
            State::Ready if self.item.lane == Lane::Urgent => Class::Urgent,
            State::Ready => Class::Windowed,
            State::Blocked | State::Flight(_) | State::Paused(_) => return None,
        };
        Some((class, self.item.lane, self.item.place))
    }

    /// The next instant at which something must happen to it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Flight(at) | State::Paused(at) => Some(at),
            _ => None,
        };
        let behind = self.next.as_ref().and_then(|next| next.expires);
        [own, self.item.expires, behind].into_iter().flatten().min()
    }

    /// Puts another message in the item's stead, to be sent for the first time.
    pub(super) fn replace(&mut self, item: Item) {
        self.state = item.first_state();
        self.item = item;
        self.attempts = 0;
        self.with_base = false;
        self.differences = 0;
    }
}

impl Item {
    pub(super) fn new(outgoing: Outgoing, place: u64, quiet: bool, now: Instant) -> (Arc<str>, Self) {
        let expires = match outgoing.delivery {
            Delivery::AckedWithin(within) | Delivery::Once(within) => now.checked_add(within),
            Delivery::Acked | Delivery::Barrier => None,
        };
        let item = Self {
            place,
            version: outgoing.version,
            lane: outgoing.lane,
            delivery: outgoing.delivery,
            message: outgoing.message,
            previous: outgoing.previous,
            enqueued: now,
            expires,
            quiet,
        };
        (outgoing.key, item)
    }

    pub(super) fn is_once(&self) -> bool {
        matches!(self.delivery, Delivery::Once(_))
    }

    pub(super) fn is_barrier(&self) -> bool {
        self.delivery == Delivery::Barrier
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    fn first_state(&self) -> State {
        if self.is_barrier() {
            State::Blocked
        } else {
            State::Ready
        }
    }
}
