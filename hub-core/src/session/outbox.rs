//! What is to be delivered: one slot a key, lanes, a window, resends and barriers.
//!
//! A slot lies under its *place*, the number of its enqueueing. So the first place is the oldest unsettled message, which
//! is all that a barrier must ask. Every change of a slot takes it out of all indexes and puts it back ([`Outbox::unlink`],
//! [`Outbox::link`]); no index can disagree with the slots, and no operation looks at more than a few of them. The trees
//! own no memory while they are empty and give it back as they are drained: an idle node costs nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::condition::LaneDepth;
use super::held::Held;
use super::pace::Pace;
use super::slot::{Class, Item, Slot, State};
use super::stamp::Stamp;
use super::{Event, Full, Lane, Outgoing, SessionConfig};
use crate::message::{Message, MessageId, Operation};

/// The outgoing half of a session. Nothing in it is lost but by expiry, cancelling, or a newer message of the same key.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    slots: BTreeMap<u64, Box<Slot>>,
    keys: BTreeMap<Arc<str>, u64>,
    /// The places of messages that were sent and may be answered.
    sent: BTreeMap<MessageId, u64>,
    /// What may be sent now, in order.
    turns: BTreeSet<(Class, Lane, u64)>,
    timers: BTreeSet<(Instant, u64)>,
    /// What the peer acknowledged.
    pub(super) held: Held,
    places: u64,
    in_flight: u32,
    /// Messages that wait behind a message of their own key.
    behind: u32,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    pub(super) fn queued(&self) -> usize {
        self.slots.len() - self.in_flight() + self.behind as usize
    }

    /// How long the message with this id has been under way. One that was sent again does not tell.
    pub(super) fn round_trip(
        &self,
        id: &MessageId,
        config: &SessionConfig,
        now: Instant,
    ) -> Option<Duration> {
        let slot = self.slots.get(self.sent.get(id)?)?;
        match (slot.state, slot.attempts) {
            (State::Flight(again), 1) => {
                Some(pause(config, 1).saturating_sub(again.saturating_duration_since(now)))
            }
            _ => None,
        }
    }

    /// Whether the message that would be sent next was sent before and not acknowledged in time.
    pub(super) fn resends(&self, config: &SessionConfig, pace: &Pace) -> bool {
        let next = self
            .next_turn(config, pace)
            .and_then(|(_, place, _)| self.slots.get(&place));
        next.is_some_and(|slot| slot.state == State::Due && slot.attempts > 0)
    }

    /// What is in each lane. Looks at every message: for when somebody asks.
    pub(super) fn lanes(&self, now: Instant) -> [LaneDepth; Lane::ALL.len()] {
        let mut lanes = [LaneDepth::default(); Lane::ALL.len()];
        for slot in self.slots.values() {
            let mut count = |item: &Item, in_flight: bool, refused: bool| {
                let lane = &mut lanes[item.lane as usize];
                lane.queued += usize::from(!in_flight);
                lane.in_flight += usize::from(in_flight);
                lane.refused += usize::from(refused);
                lane.oldest = lane
                    .oldest
                    .max(Some(now.saturating_duration_since(item.enqueued)));
            };
            count(
                &slot.item,
                slot.holds_window(),
                matches!(slot.state, State::Paused(_)),
            );
            if let Some(next) = &slot.next {
                count(next, false, false);
            }
        }
        lanes
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The lane of the message that would be sent next.
    pub(super) fn next_lane(&self, config: &SessionConfig, pace: &Pace) -> Option<Lane> {
        self.next_turn(config, pace).map(|(lane, ..)| lane)
    }

    /// Queues a message, if there are fewer than `slots_max` keys or it has a slot already. A `quiet` one causes no events.
    pub(super) fn send(
        &mut self,
        outgoing: Outgoing,
        quiet: bool,
        slots_max: usize,
        now: Instant,
    ) -> Result<(), Full> {
        let place = self.keys.get(&*outgoing.key).copied();
        let queued = place.and_then(|place| self.slots.get(&place)?.newest_version());
        let version = outgoing.version;
        if !is_newer(version, queued) || !is_newer(version, self.held.version(&outgoing.key)) {
            return Ok(());
        }
        if place.is_none() && self.slots.len() >= slots_max {
            return Err(Full(Box::new(outgoing)));
        }
        self.places += 1;
        let (key, mut item) = Item::new(outgoing, self.places, quiet, now);
        match place.and_then(|place| self.unlink(place)) {
            None => self.link(Box::new(Slot::new(key, item))),
            Some(mut slot) => {
                if slot.holds_window() {
                    if let Some(waiting) = &slot.next {
                        item.inherit(waiting);
                    }
                    slot.next = Some(Box::new(item));
                } else {
                    item.inherit(&slot.item);
                    self.sent.remove(&slot.item.message.header.id);
                    slot.replace(item);
                }
                self.link(slot);
            }
        }
        self.open_barrier();
        Ok(())
    }

    /// Takes back what is under a key, and forgets what was delivered under it.
    pub(super) fn cancel(&mut self, key: &str) {
        self.held.forget(key);
        let place = self.keys.get(key).copied();
        if let Some(slot) = place.and_then(|place| self.unlink(place)) {
            self.sent.remove(&slot.item.message.header.id);
            self.keys.remove(key);
            self.open_barrier();
        }
    }

    /// The connection is gone: what is in flight is to be sent again, in its old order, as soon as there is another.
    pub(super) fn detach(&mut self) {
        let places: Vec<u64> = self.sent.values().copied().collect();
        for place in places {
            let Some(mut slot) = self.unlink(place) else {
                continue;
            };
            if slot.holds_window() {
                slot.state = State::Due;
                slot.attempts = 0;
            }
            self.link(slot);
        }
    }

    /// The next message to send, with the content it may be a difference to. Behind one that `pace` does not allow yet all others wait:
    /// it is a matter of milliseconds, and what it says may have to come first.
    pub(super) fn transmit(
        &mut self,
        config: &SessionConfig,
        differences: bool,
        pace: &mut Pace,
        stamp: &mut Stamp,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<(Message, Option<Bytes>)> {
        loop {
            let (_, place, class) = self.next_turn(config, pace)?;
            if class == Class::Once && !pace.allows(&config.pace, now) {
                return None;
            }
            let mut slot = self.unlink(place)?;
            if slot.state == State::Due {
                self.take_over(&mut slot);
            }
            if slot.item.is_expired(now) {
                self.expire(slot, events);
                continue;
            }
            stamp.fill(&mut slot.item.message, now);
            let base = slot
                .item
                .previous
                .as_ref()
                .filter(|previous| differences && self.held.holds(&slot.key, previous))
                .cloned();
            let message = slot.item.message.clone();
            if slot.item.is_once() {
                pace.spend(&config.pace, now);
                self.finish(slot);
            } else {
                self.sent.insert(message.header.id.clone(), place);
                slot.attempts = slot.attempts.saturating_add(1);
                slot.with_base = base.is_some();
                slot.differences += u32::from(slot.with_base);
                slot.state = State::Flight(now + pause(config, slot.attempts));
                self.link(slot);
            }
            return Some((message, base));
        }
    }

    /// A reply came. Returns false when it answers nothing that was sent from here.
    pub(super) fn settle(
        &mut self,
        parent: &MessageId,
        reply: &Message,
        config: &SessionConfig,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> bool {
        let place = self.sent.get(parent).copied();
        let Some(slot) = place.and_then(|place| self.unlink(place)) else {
            return false;
        };
        if reply.route.operation == Operation::Error {
            self.refuse(slot, reply, config, events, now);
        } else {
            self.deliver(slot, reply, config, events, now);
        }
        true
    }

    /// What was sent with this id is given up, as if its time was over.
    pub(super) fn give_up(&mut self, id: &MessageId, events: &mut VecDeque<Event>) {
        let place = self.sent.get(id).copied();
        if let Some(slot) = place.and_then(|place| self.unlink(place)) {
            self.expire(slot, events);
        }
    }

    /// Does what is due by `now`.
    pub(super) fn handle_timeout(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        while let Some(&(at, place)) = self.timers.first() {
            if at > now {
                break;
            }
            let Some(mut slot) = self.unlink(place) else {
                self.timers.pop_first();
                continue;
            };
            if slot.next.as_ref().is_some_and(|next| next.is_expired(now)) {
                self.behind_dropped(&mut slot, events);
            }
            if slot.item.is_expired(now) {
                self.expire(slot, events);
                continue;
            }
            match slot.state {
                State::Flight(again) if again <= now => slot.state = State::Due,
                State::Paused(again) if again <= now => slot.state = State::Ready,
                _ => {}
            }
            self.link(slot);
        }
    }

    fn deliver(
        &mut self,
        slot: Box<Slot>,
        reply: &Message,
        config: &SessionConfig,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) {
        let item = &slot.item;
        if !item.quiet {
            let content = (item.message.route.operation != Operation::Delete)
                .then_some(item.message.content.bytes().as_ref());
            self.held
                .remember(&slot.key, item.version, content, config.bases_max);
            events.push_back(Event::Delivered {
                key: slot.key.clone(),
                version: item.version,
                id: item.message.header.id.clone(),
                answer: reply.content.clone(),
                operation: item.message.route.operation.clone(),
                resource_version: item.message.header.resource_version.clone(),
                lane: item.lane,
                took: now.saturating_duration_since(item.enqueued),
            });
        }
        self.finish(slot);
    }

    fn refuse(
        &mut self,
        mut slot: Box<Slot>,
        reply: &Message,
        config: &SessionConfig,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) {
        if slot.differences > 0 {
            // The peer lacks the content that the difference was to; the whole content helps at once. Where the whole is
            // under way already, this refuses an earlier send of it.
            slot.differences -= 1;
            if slot.with_base {
                slot.with_base = false;
                slot.item.previous = None;
                self.held.forget_content(&slot.key);
                slot.state = State::Due;
            }
        } else if slot.holds_window() {
            if !slot.item.quiet {
                let content = &reply.content;
                let reason = content
                    .as_string()
                    .unwrap_or_else(|| String::from_utf8_lossy(content.bytes()).into_owned());
                events.push_back(Event::Refused {
                    key: slot.key.clone(),
                    reason,
                });
            }
            slot.state = State::Paused(now + pause(config, slot.attempts));
            self.take_over(&mut slot);
        }
        self.link(slot);
    }

    fn expire(&mut self, slot: Box<Slot>, events: &mut VecDeque<Event>) {
        if !slot.item.quiet {
            events.push_back(Event::Expired {
                key: slot.key.clone(),
            });
        }
        self.finish(slot);
    }

    fn behind_dropped(&mut self, slot: &mut Slot, events: &mut VecDeque<Event>) {
        if let Some(next) = slot.next.take()
            && !next.quiet
        {
            events.push_back(Event::Expired {
                key: slot.key.clone(),
            });
        }
    }

    /// The newer message of a slot goes out in the place of the item, under an id of its own. A barrier may not: it waits
    /// until the item is settled.
    fn take_over(&mut self, slot: &mut Slot) {
        if let Some(mut next) = slot.next.take_if(|next| !next.is_barrier()) {
            self.sent.remove(&slot.item.message.header.id);
            next.place = slot.item.place;
            slot.replace(*next);
        }
    }

    /// The item of an unlinked slot is settled: the newer message has its turn, or the slot is gone.
    fn finish(&mut self, mut slot: Box<Slot>) {
        self.sent.remove(&slot.item.message.header.id);
        if let Some(next) = slot.next.take() {
            slot.replace(*next);
            self.link(slot);
        } else {
            self.keys.remove(&slot.key);
        }
        self.open_barrier();
    }

    /// A barrier that has become the oldest unsettled message may be sent.
    fn open_barrier(&mut self) {
        let Some((&place, slot)) = self.slots.first_key_value() else {
            return;
        };
        if slot.state == State::Blocked
            && let Some(mut slot) = self.unlink(place)
        {
            slot.state = State::Ready;
            self.link(slot);
        }
    }

    fn next_turn(&self, config: &SessionConfig, pace: &Pace) -> Option<(Lane, u64, Class)> {
        let in_flight = self.in_flight();
        let classes = [
            (Class::Free, true),
            (Class::Urgent, in_flight < pace.urgent_max(config)),
            (Class::Once, true),
            (Class::Windowed, in_flight < config.window),
        ];
        let open = classes.into_iter().filter(|(_, open)| *open);
        let turns = open.filter_map(|(class, _)| {
            let (found, lane, place) = *self.turns.range((class, Lane::Urgent, 0)..).next()?;
            (found == class).then_some((lane, place, class))
        });
        turns.min()
    }

    fn link(&mut self, slot: Box<Slot>) {
        let place = slot.item.place;
        match self.keys.get_mut(&slot.key) {
            Some(known) => *known = place,
            None => {
                self.keys.insert(slot.key.clone(), place);
            }
        }
        self.in_flight += u32::from(slot.holds_window());
        self.behind += u32::from(slot.next.is_some());
        self.turns.extend(slot.turn());
        self.timers.extend(slot.deadline().map(|at| (at, place)));
        self.slots.insert(place, slot);
    }

    fn unlink(&mut self, place: u64) -> Option<Box<Slot>> {
        let slot = self.slots.remove(&place)?;
        self.in_flight -= u32::from(slot.holds_window());
        self.behind -= u32::from(slot.next.is_some());
        if let Some(turn) = slot.turn() {
            self.turns.remove(&turn);
        }
        if let Some(at) = slot.deadline() {
            self.timers.remove(&(at, place));
        }
        Some(slot)
    }
}

impl Item {
    /// Takes the place of a message of the same key that was never sent. A barrier keeps its own place, as it must come
    /// after everything that was enqueued before it; what the peer held before either message is the base of both.
    fn inherit(&mut self, older: &Self) {
        if !self.is_barrier() {
            self.place = older.place;
            self.enqueued = older.enqueued;
        }
        if older.previous.is_some() {
            self.previous.clone_from(&older.previous);
        }
    }
}

/// Without a version there is no order: what comes later wins.
fn is_newer(version: Option<u64>, than: Option<u64>) -> bool {
    match (version, than) {
        (Some(version), Some(than)) => version > than,
        _ => true,
    }
}

/// How long to wait after the send with this number, counted from one.
fn pause(config: &SessionConfig, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let shortest = Duration::from_millis(1);
    config
        .resend
        .saturating_mul(1 << doublings)
        .min(config.resend_max)
        .max(shortest)
}
