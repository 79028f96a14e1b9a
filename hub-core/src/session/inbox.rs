//! What the peer asks and reports: each message is handled once, its copies are answered from memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::message::{Content, Message, MessageId, needs_ack};

/// The incoming half of a session.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    handling: BTreeMap<MessageId, Box<Handling>>,
    /// What is finished, with the answer that was given, if there was one.
    finished: BTreeMap<MessageId, Option<Box<Message>>>,
    /// The finished ones from old to new, with the instant since which the peer has had its chance to hear of it.
    order: VecDeque<(MessageId, Instant)>,
    /// Bytes of content of the remembered answers.
    answer_bytes: usize,
}

/// An inbound message whose handler runs.
#[derive(Debug)]
pub(super) struct Handling {
    /// The message without its content.
    pub(super) message: Message,
    /// Whether a KubeEdge edge acknowledges it.
    pub(super) needs_ack: bool,
}

/// What to do with an inbound message.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "new messages are the rule")]
pub(super) enum Arrival {
    /// It is new: handle it.
    New(Message),
    /// Its handler runs: the end of that will answer both.
    Handling,
    /// It was acknowledged: do so again.
    Acknowledged(Handling),
    /// It was answered: say this again.
    Answered(Message, Handling),
}

/// Answers kept for copies of their questions; a question whose answer is over this is handled again.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long a connection must last after an end was told until no copy can come any more; twice the longest usual pause
/// between two resends.
const REMEMBERED_FOR: Duration = Duration::from_secs(120);

impl Inbox {
    pub(super) fn len(&self) -> usize {
        self.handling.len()
    }

    /// Whether the message has come before, as far as remembered.
    pub(super) fn knows(&self, id: &MessageId) -> bool {
        self.handling.contains_key(id) || self.finished.contains_key(id)
    }

    /// A message came that answers nothing.
    pub(super) fn arrive(&mut self, message: Message) -> Arrival {
        let id = &message.header.id;
        if *id == MessageId::NIL {
            return Arrival::New(message);
        }
        if self.handling.contains_key(id) {
            return Arrival::Handling;
        }
        match self.finished.get(id) {
            Some(None) => Arrival::Acknowledged(Handling::of(message)),
            Some(Some(answer)) => Arrival::Answered((**answer).clone(), Handling::of(message)),
            None => {
                let handling = Handling::of(message.clone());
                self.handling.insert(id.clone(), Box::new(handling));
                Arrival::New(message)
            }
        }
    }

    /// The handler has finished. None when no handler of this id runs.
    pub(super) fn finish(&mut self, id: &MessageId) -> Option<Box<Handling>> {
        self.handling.remove(id)
    }

    /// Copies of this message need not be handled; `answer` is what to say to them in place of an acknowledgement.
    pub(super) fn remember(&mut self, id: MessageId, answer: Option<Message>, limit: usize, now: Instant) {
        let bytes = answer.as_ref().map_or(0, |answer| answer.content.bytes().len());
        if limit == 0 || self.answer_bytes + bytes > ANSWER_BYTES_MAX {
            return;
        }
        self.answer_bytes += bytes;
        self.order.push_back((id.clone(), now));
        self.finished.insert(id, answer.map(Box::new));
        while self.order.len() > limit {
            self.forget_oldest();
        }
    }

    /// Forgets what no copy can come of any more, on a connection that stands since `attached`.
    pub(super) fn forget_old(&mut self, attached: Option<Instant>, now: Instant) {
        while let Some((_, since)) = self.order.front() {
            if now.saturating_duration_since(attached.map_or(*since, |attached| attached.max(*since)))
                < REMEMBERED_FOR
            {
                break;
            }
            self.forget_oldest();
        }
        if self.order.is_empty() {
            self.order = VecDeque::new();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, _)) = self.order.pop_front()
            && let Some(Some(answer)) = self.finished.remove(&id)
        {
            self.answer_bytes -= answer.content.bytes().len();
        }
    }
}

impl Handling {
    pub(super) fn of(mut message: Message) -> Self {
        let needs_ack = needs_ack(&message);
        message.content = Content::null();
        Self { message, needs_ack }
    }
}
