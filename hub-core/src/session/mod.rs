//! One end of a conversation that outlives its connections.
//!
//! A `Session` is a plain value, used at both ends. Messages and instants go in; frames, deadlines and events come out.
//! It touches no clock, socket, lock, task or randomness: `now` is an argument and ids come from a seed. So whole worlds of
//! sessions run in virtual time (`testing::world`, feature `test-util`).
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

mod calls;
mod condition;
mod config;
mod event;
mod held;
mod inbox;
mod keepalive;
mod outbox;
mod outgoing;
mod pace;
mod slot;
mod stamp;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use condition::{Condition, LaneDepth};
pub use config::{KeepaliveConfig, SessionConfig};
pub use event::{CallEnd, CallId, Depth, Event};
pub use outgoing::{Delivery, Full, Lane, Outgoing};
pub use pace::PaceConfig;

use calls::Calls;
use inbox::{Arrival, Handling, Inbox};
use keepalive::{Keepalive, Sign};
use outbox::Outbox;
use pace::Pace;
use stamp::Stamp;

use crate::message::{Content, Message, MessageId, Operation, Route, needs_ack};
use crate::transport::{Capabilities, Outbound};

/// One end of a conversation. See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    stamp: Stamp,
    link: Option<Link>,
    outbox: Outbox,
    inbox: Inbox,
    calls: Calls,
    /// Acknowledgements, refusals and answers to control messages, for this connection only: a copy asks for them again.
    notes: VecDeque<Message>,
    events: VecDeque<Event>,
}

/// The connection that is attached.
#[derive(Debug)]
struct Link {
    capabilities: Capabilities,
    /// Sends again of what was not acknowledged in time.
    resent: u32,
    keepalive: Keepalive,
    pace: Pace,
}

impl Session {
    /// A session without a connection. `seed` makes its message ids: give each session its own random one.
    /// Sessions may share one config: pass an `Arc`.
    pub fn new(config: impl Into<Arc<SessionConfig>>, seed: u64) -> Self {
        Self {
            config: config.into(),
            stamp: Stamp::new(seed),
            link: None,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            calls: Calls::default(),
            notes: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    // --- getters

    /// Whether a connection is attached.
    pub fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// What it holds.
    pub fn depth(&self) -> Depth {
        Depth {
            queued: self.outbox.queued(),
            in_flight: self.outbox.in_flight(),
            calls: self.calls.len(),
            handling: self.inbox.len(),
        }
    }

    /// Sends again, on this connection, of what was not acknowledged in time.
    pub fn resent(&self) -> u32 {
        self.link.as_ref().map_or(0, |link| link.resent)
    }

    /// Whether nothing is queued, in flight, called or being handled.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_empty() && self.depth() == Depth::default() && self.notes.is_empty()
    }

    // --- the wire speaks

    /// A connection is there. Everything unacknowledged is sent (again) on it, in its old order.
    /// `wall_ms` is the Unix time in milliseconds at `now`, for the timestamps of messages.
    ///
    /// A connection that is attached already gives way to the new one.
    pub fn attach(&mut self, capabilities: Capabilities, wall_ms: i64, now: Instant) {
        self.outbox.detach();
        self.notes = VecDeque::new();
        self.stamp.set_wall(wall_ms, now);
        let stock = capabilities == Capabilities::NONE;
        self.link = Some(Link {
            capabilities,
            resent: 0,
            keepalive: Keepalive::new(&self.config.keepalive, stock, now),
            pace: Pace::new(&self.config, capabilities, now),
        });
    }

    /// The connection is gone. Nothing is lost; calls end as timed out at their own deadlines.
    pub fn detach(&mut self, _now: Instant) {
        self.link = None;
        self.notes = VecDeque::new();
        self.outbox.detach();
        self.calls.detach(&mut self.events);
    }

    /// A message came.
    pub fn handle_message(&mut self, message: Message, now: Instant) {
        self.heard(now);
        if let Some(parent) = message.header.parent_id.clone() {
            self.handle_reply(&parent, message, now);
            return;
        }
        match message.route.operation {
            Operation::Keepalive => {}
            Operation::Config | Operation::Ping | Operation::Pong => {
                self.note(message.response(Content::string("ack")), now);
            }
            _ => self.handle_arrival(message, now),
        }
    }

    /// A message came whose content cannot be made: it is a difference to what is not here. The peer is told and sends
    /// the whole, unless the message is a copy of one that was made before.
    pub fn refuse(&mut self, message: Message, reason: &str, now: Instant) {
        self.heard(now);
        if !message.is_reply() && self.inbox.knows(&message.header.id) {
            self.handle_arrival(message, now);
        } else {
            self.note(message.error(reason), now);
        }
    }

    /// A frame came, whatever it was: the peer is alive.
    pub fn heard(&mut self, now: Instant) {
        if let Some(link) = &mut self.link {
            link.keepalive.heard(now);
            self.inbox.forget_old(self.stamp.wall_since(), now);
        }
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.outbox.handle_timeout(&mut self.events, now);
        self.calls.handle_timeout(&mut self.events, now);
        let Some(link) = &mut self.link else { return };
        link.pace.handle_timeout(&self.config.pace, now);
        if link.keepalive.handle_timeout(&self.config.keepalive, now) {
            self.events.push_back(Event::Silent);
        }
    }

    // --- the hub speaks

    /// Queues a message.
    pub fn send(&mut self, outgoing: Outgoing, now: Instant) -> Result<(), Full> {
        self.outbox.send(outgoing, false, self.config.slots_max, now)
    }

    /// Takes back what is queued or in flight under a key, and forgets what was delivered under it: the next message
    /// of this key is sent whatever its version.
    pub fn cancel(&mut self, key: &str) {
        self.outbox.cancel(key);
    }

    /// The peer is known to hold exactly this content under this key, so that the next version can be a difference.
    pub fn assume_held(&mut self, key: &str, version: Option<u64>, content: &Bytes) {
        let limit = self.config.bases_max;
        self.outbox
            .held
            .remember(&key.into(), version, Some(content), limit);
    }

    /// The peer may have lost what it acknowledged, such as with its disk: every version counts as new again.
    pub fn forget_held(&mut self) {
        self.outbox.held.forget_all();
    }

    /// Asks, once, and reports the answer or its absence as [`Event::CallEnded`].
    pub fn call(&mut self, mut message: Message, lane: Lane, deadline: Instant, now: Instant) -> CallId {
        let call = self.calls.name();
        self.stamp.fill(&mut message, now);
        let room = self.calls.len() < self.config.calls_max && !self.calls.contains(&message.header.id);
        if room && self.is_attached() {
            self.calls.start(call, message, lane, deadline);
        } else {
            self.events.push_back(Event::CallEnded(call, CallEnd::NotSent));
        }
        call
    }

    /// The handler of an inbound message succeeded and has nothing to say: acknowledge, if the peer wants that.
    pub fn ack(&mut self, id: &MessageId, now: Instant) {
        if let Some(handling) = self.inbox.finish(id) {
            self.acknowledge(&handling, now);
            let limit = self.config.remembered_max;
            self.inbox.remember(id.clone(), None, limit, now);
        }
    }

    /// The handler failed: the peer is told why, and a resent copy will be handled anew.
    pub fn nack(&mut self, id: &MessageId, reason: &str, now: Instant) {
        if let Some(handling) = self.inbox.finish(id) {
            self.note(handling.message.error(reason), now);
        }
    }

    /// The handler's answer to a request. Whether the peer acknowledges it is decided by its class.
    ///
    /// Answers are wanted for 60 s. Where even the room that is kept for them is full, this one is dropped as if its
    /// handler had failed, and the asker asks again.
    pub fn reply(&mut self, id: &MessageId, mut answer: Message, lane: Lane, now: Instant) {
        if self.inbox.finish(id).is_none() {
            return;
        }
        answer.header.parent_id.get_or_insert_with(|| id.clone());
        self.stamp.fill(&mut answer, now);
        if self.send_answer(id, answer.clone(), lane, now).is_ok() {
            let limit = self.config.remembered_max;
            self.inbox.remember(id.clone(), Some(answer), limit, now);
        }
    }

    // --- what comes out

    /// The next frame for the wire, if one is due. None while detached.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outbound> {
        let link = self.link.as_mut()?;
        match link.keepalive.transmit() {
            Some(Sign::Ping) => return Some(Outbound::Ping),
            Some(Sign::Message) => return Some(whole(self.keepalive_message(now))),
            None => {}
        }
        if !self.notes.is_empty() && !link.pace.allows(&self.config.pace, now) {
            return None;
        }
        if let Some(note) = self.notes.pop_front() {
            link.pace.spend(&self.config.pace, now);
            if self.notes.is_empty() {
                self.notes = VecDeque::new();
            }
            return Some(whole(note));
        }
        let queued = self.outbox.next_lane(&self.config, &link.pace);
        if let Some(asked) = self.calls.next_lane()
            && queued.is_none_or(|queued| asked <= queued)
        {
            if !link.pace.allows(&self.config.pace, now) {
                return None;
            }
            link.pace.spend(&self.config.pace, now);
            return self.calls.transmit().map(whole);
        }
        let resends = self.outbox.resends(&self.config, &link.pace);
        let (message, base) = self.outbox.transmit(
            &self.config,
            link.capabilities.zstd,
            &mut link.pace,
            &mut self.stamp,
            &mut self.events,
            now,
        )?;
        link.resent = link.resent.saturating_add(u32::from(resends));
        Some(Outbound::Message { message, base })
    }

    /// A message that was handed out for the wire cannot be put on it, for its size or its content. Sending it again would
    /// not help, so it is given up; an asker whose answer it was is told why.
    pub fn give_up(&mut self, id: &MessageId, answers: Option<MessageId>, reason: &str, now: Instant) {
        self.outbox.give_up(id, &mut self.events);
        self.calls.give_up(id, &mut self.events);
        if let Some(parent) = answers {
            let route = Route::new("", "resource", Operation::Error, "");
            let mut message = Message::new(route, Content::string(reason));
            message.header.parent_id = Some(parent);
            self.note(message, now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keepalive = self
            .link
            .as_ref()
            .and_then(|link| link.keepalive.deadline(&self.config.keepalive));
        let pace = self
            .link
            .as_ref()
            .and_then(|link| link.pace.deadline(&self.config.pace));
        [self.outbox.deadline(), self.calls.deadline(), keepalive, pace]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    // --- inside

    fn handle_reply(&mut self, parent: &MessageId, reply: Message, now: Instant) {
        // Whatever it answers, a copy of a call's answer and an orphan included: else the peer sends it for ever (L5).
        let owed = self.config.acknowledges && needs_ack(&reply);
        let owed = owed.then(|| Handling::of(reply.clone()));
        if let Some(link) = &mut self.link
            && let Some(after) = self.outbox.round_trip(parent, &self.config, now)
        {
            link.keepalive.acknowledged(after);
        }
        let events = &mut self.events;
        if !self.outbox.settle(parent, &reply, &self.config, events, now) {
            // An orphan concerns nobody: late, or a copy.
            let _orphan = self.calls.answer(parent, reply, events);
        }
        if let Some(handling) = owed {
            self.acknowledge(&handling, now);
        }
    }

    fn handle_arrival(&mut self, message: Message, now: Instant) {
        match self.inbox.arrive(message) {
            Arrival::New(message) => self.events.push_back(Event::Inbound(message)),
            Arrival::Handling => {}
            Arrival::Acknowledged(handling) => self.acknowledge(&handling, now),
            Arrival::Answered(answer, handling) => {
                // Where there is no room, the next copy gets the answer. It is as urgent as an asker who asks again.
                let _ = self.send_answer(&handling.message.header.id, answer, Lane::Urgent, now);
            }
        }
    }

    /// Queues the answer to the message `id`, if it is not queued or in flight already. There is always room for the
    /// answers of as many handlers as may run, however many objects wait.
    fn send_answer(&mut self, id: &MessageId, answer: Message, lane: Lane, now: Instant) -> Result<(), Full> {
        let key = format!("answer/{id}");
        if self.outbox.contains(&key) {
            return Ok(());
        }
        let delivery = if needs_ack(&answer) && !self.config.acknowledges {
            Delivery::AckedWithin(ANSWER_WITHIN)
        } else {
            Delivery::Once(ANSWER_WITHIN)
        };
        let outgoing = Outgoing {
            key: key.into(),
            version: None,
            lane,
            delivery,
            message: answer,
            previous: None,
        };
        let room = self.config.slots_max.saturating_add(self.config.handling_max);
        self.outbox.send(outgoing, true, room, now)
    }

    fn acknowledge(&mut self, handling: &Handling, now: Instant) {
        let Some(link) = &self.link else { return };
        let reply = handling.message.is_reply();
        let wanted = match (link.capabilities.ack, self.config.acknowledges) {
            (true, _) if !reply => true,
            (_, acknowledges) => acknowledges && handling.needs_ack,
        };
        if !wanted {
            return;
        }
        if link.capabilities.bincode {
            self.push_note(compact_ack(&handling.message));
        } else {
            self.note(handling.message.response(Content::ok()), now);
        }
    }

    fn note(&mut self, mut message: Message, now: Instant) {
        self.stamp.fill(&mut message, now);
        self.push_note(message);
    }

    /// A peer that sends copies and does not read gets no more notes than this; the next copy asks for them again.
    fn push_note(&mut self, message: Message) {
        let limit = self
            .config
            .handling_max
            .saturating_add(self.config.remembered_max);
        if self.link.is_some() && self.notes.len() < limit {
            self.notes.push_back(message);
        }
    }

    fn keepalive_message(&mut self, now: Instant) -> Message {
        let route = Route::new("websocket", "resource", Operation::Keepalive, "node");
        let mut message = Message::new(route, Content::string("ping"));
        self.stamp.fill(&mut message, now);
        message
    }
}

fn whole(message: Message) -> Outbound {
    Outbound::Message { message, base: None }
}

/// An acknowledgement with nothing but the id of what it acknowledges; bincode packs this shape into 17 bytes.
fn compact_ack(message: &Message) -> Message {
    let nobody = Arc::<str>::default();
    let route = Route::new(nobody.clone(), nobody.clone(), Operation::Response, nobody);
    let mut ack = Message::new(route, Content::ok());
    ack.header.parent_id = Some(message.header.id.clone());
    ack
}

/// How long an asker waits for an answer: KubeEdge's `remoteQueryTimeout` (tunnel specification §4.5).
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
