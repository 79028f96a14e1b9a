//! Questions that wait for their answers. Each ends exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::{CallEnd, CallId, Event, Lane};
use crate::message::{Message, MessageId};

/// The calls of a session.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Not yet sent, in the order of sending. A call's number is its age.
    queue: BTreeMap<(Lane, u64), Message>,
    waiting: BTreeMap<MessageId, (u64, Lane, Instant)>,
    deadlines: BTreeMap<(Instant, u64), MessageId>,
    ids: u64,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    /// The lane of the call that would be sent next.
    pub(super) fn next_lane(&self) -> Option<Lane> {
        self.queue.first_key_value().map(|((lane, _), _)| *lane)
    }

    /// Names a call.
    pub(super) fn name(&mut self) -> CallId {
        self.ids += 1;
        CallId(self.ids)
    }

    /// Queues the message of a call; it has its id.
    pub(super) fn start(&mut self, call: CallId, message: Message, lane: Lane, deadline: Instant) {
        let id = message.header.id.clone();
        self.queue.insert((lane, call.0), message);
        self.deadlines.insert((deadline, call.0), id.clone());
        self.waiting.insert(id, (call.0, lane, deadline));
    }

    /// Whether a call with this message is under way already.
    pub(super) fn contains(&self, id: &MessageId) -> bool {
        self.waiting.contains_key(id)
    }

    /// The next question to send.
    pub(super) fn transmit(&mut self) -> Option<Message> {
        self.queue.pop_first().map(|(_, message)| message)
    }

    /// A reply came. Returns it when it answers no call.
    pub(super) fn answer(
        &mut self,
        parent: &MessageId,
        reply: Message,
        events: &mut VecDeque<Event>,
    ) -> Option<Message> {
        let Some((call, lane, deadline)) = self.waiting.remove(parent) else {
            return Some(reply);
        };
        self.deadlines.remove(&(deadline, call));
        self.queue.remove(&(lane, call));
        events.push_back(Event::CallEnded(CallId(call), CallEnd::Answered(reply)));
        None
    }

    /// The question with this id never reached the wire.
    pub(super) fn give_up(&mut self, id: &MessageId, events: &mut VecDeque<Event>) {
        if let Some((call, _, deadline)) = self.waiting.remove(id) {
            self.deadlines.remove(&(deadline, call));
            events.push_back(Event::CallEnded(CallId(call), CallEnd::NotSent));
        }
    }

    /// The connection is gone: what was not sent never will be. What was sent may be answered over the next connection.
    pub(super) fn detach(&mut self, events: &mut VecDeque<Event>) {
        while let Some(((_, call), message)) = self.queue.pop_first() {
            if let Some((_, _, deadline)) = self.waiting.remove(&message.header.id) {
                self.deadlines.remove(&(deadline, call));
            }
            events.push_back(Event::CallEnded(CallId(call), CallEnd::NotSent));
        }
    }

    /// Ends the calls whose deadlines have come.
    pub(super) fn handle_timeout(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        while let Some(due) = self.deadlines.first_entry() {
            let (at, call) = *due.key();
            if at > now {
                break;
            }
            let end = match self.waiting.remove(&due.remove()) {
                Some((_, lane, _)) if self.queue.remove(&(lane, call)).is_some() => CallEnd::NotSent,
                _ => CallEnd::TimedOut,
            };
            events.push_back(Event::CallEnded(CallId(call), end));
        }
    }
}
