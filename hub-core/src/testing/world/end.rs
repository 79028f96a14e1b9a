//! One end of a world: a session and the handlers that run for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::message::{Message, MessageId};
use crate::session::{CallId, Session};

/// One process, as long as it lives.
#[derive(Debug)]
pub(super) struct End {
    pub(super) session: Session,
    /// The connection it believes in.
    pub(super) link: Option<u64>,
    /// When its socket takes frames again.
    pub(super) stalled_until: Instant,
    /// Calls without an end: deadline and number.
    pub(super) calls: BTreeMap<CallId, (Instant, u64)>,
    /// Messages whose handlers run.
    pub(super) running: BTreeSet<MessageId>,
    /// Messages whose handlers succeeded, and when.
    pub(super) handled: BTreeMap<MessageId, Instant>,
    /// Whether it ever sent what is urgent and acknowledged, which the window does not hold back.
    pub(super) urgent: bool,
    handlers: BTreeMap<(Instant, u64), Handler>,
    started: u64,
}

/// A handler and its fate.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) message: Message,
    pub(super) fails: bool,
}

impl End {
    pub(super) fn new(session: Session, now: Instant) -> Self {
        Self {
            session,
            link: None,
            stalled_until: now,
            calls: BTreeMap::new(),
            running: BTreeSet::new(),
            handled: BTreeMap::new(),
            urgent: false,
            handlers: BTreeMap::new(),
            started: 0,
        }
    }

    pub(super) fn start(&mut self, handler: Handler, ends: Instant) {
        self.started += 1;
        self.handlers.insert((ends, self.started), handler);
    }

    pub(super) fn next_handler(&self) -> Option<Instant> {
        self.handlers.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn finished_handler(&mut self, now: Instant) -> Option<Handler> {
        let first = self.handlers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
