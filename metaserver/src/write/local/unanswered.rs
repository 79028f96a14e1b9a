//! Writes that were put to the cloud, and of which nobody heard what became.
//!
//! The cloud may have made them or not. If it has, what it has is this node's own word, and a later write of this node is no conflict
//! with it: both are told in their order. So the states to which the node may have brought an object are kept until it hears of the
//! object again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hub_core::api::{ApiResponse, UpstreamError, Verb};
use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::ObjectKey;
use serde_json::Value;

use super::apply::Write;
use super::born::{birth, created_key};
use super::note::{Intent, Pending};
use crate::api::{Api, Asked};

/// The states that objects may have in the cloud by this node's doing, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<VecDeque<(ObjectKey, Value)>>);

impl Unanswered {
    /// One more, of at most `max` of all objects.
    pub(super) fn put(&self, key: &ObjectKey, state: Value, max: usize) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = (key.clone(), state);
        states.retain(|held| *held != new);
        states.push_back(new);
        let of_key = states.iter().filter(|(held, _)| held == key).count();
        if of_key > OF_AN_OBJECT_MAX {
            let oldest = states.iter().position(|(held, _)| held == key);
            oldest.and_then(|oldest| states.remove(oldest));
        }
        while states.len() > max {
            states.pop_front();
        }
    }

    /// Those of an object, oldest first.
    pub(super) fn of(&self, key: &ObjectKey) -> Vec<Value> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = states.iter().filter(|(held, _)| held == key);
        of_key.map(|(_, state)| state.clone()).collect()
    }

    /// The cloud has said what it has.
    pub(super) fn forget(&self, key: &ObjectKey) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|(held, _)| held != key);
    }
}

impl Api {
    /// Takes note of what became of a write that was put to the cloud, if it is of the kind that this node may have to make by itself.
    pub(crate) fn note_answer(
        &self,
        asked: &Asked,
        verb: Verb,
        body: &Bytes,
        answer: &Result<ApiResponse, UpstreamError>,
    ) {
        if self.authoritative() || !self.config.local_writes.knows(&asked.kind.resource, verb) {
            return;
        }
        let Some(key) = asked.key().or_else(|| created_key(asked, body).ok()) else {
            return;
        };
        match answer {
            Ok(answer) if answer.is_success() => self.local.unanswered.forget(&key),
            answer if is_open(answer) => {
                if let Some(state) = self.outcome(asked, verb, body, &key) {
                    self.remember(&key, state);
                }
            }
            _ => {}
        }
    }

    /// All states that the cloud's object may have by this node's doing.
    pub(super) fn own(&self, pending: &Pending) -> Vec<Value> {
        let mut own = pending.note.own.clone();
        own.extend(self.local.unanswered.of(&pending.copy.key));
        own
    }

    /// The cloud may have this now, by this node's doing.
    pub(super) fn remember(&self, key: &ObjectKey, state: Value) {
        // A deletion leaves nothing that could be compared: where the cloud has nothing, it was made.
        if !state.is_object() {
            return;
        }
        let max = self.config.local_writes.pending_max;
        self.local.unanswered.put(key, state, max);
    }

    /// What a write makes of the object as it is here, or as the write before it made it.
    fn outcome(&self, asked: &Asked, verb: Verb, body: &Bytes, key: &ObjectKey) -> Option<Value> {
        let status = match asked.subresource.as_deref() {
            None => false,
            Some("status") => true,
            Some(_) => return None,
        };
        if verb == Verb::Delete || crate::write::dry_run(&asked.query) {
            return None;
        }
        let held = || serde_json::from_slice(&self.store.get(key)?.served).ok();
        let current = self.local.unanswered.of(key).pop().or_else(held);
        let media = crate::write::media(&asked.content_type);
        let intent = match media {
            super::APPLY => Some(Intent::of(&asked.query, status, body).ok()?),
            _ => None,
        };
        let schema = intent.as_ref().and_then(|_| self.schema(&asked.kind));
        let write = Write {
            kind: &asked.kind,
            namespace: key.namespace.as_deref(),
            name: &key.name,
            verb,
            status,
            media,
            body,
            intent: intent.as_ref(),
            schema: schema.as_ref(),
        };
        write.apply(current.as_ref(), birth(SystemClock.unix_ms())).ok()
    }
}

/// Whether a request may have been executed, and nobody knows.
pub(super) fn is_open(answer: &Result<ApiResponse, UpstreamError>) -> bool {
    match answer {
        Ok(answer) => answer.code >= 500,
        Err(UpstreamError::Timeout | UpstreamError::Protocol(_)) => true,
        Err(UpstreamError::Unreachable | UpstreamError::Overloaded) => false,
    }
}

/// Who hears nothing does not go on writing to the cloud for long: it is soon found to be away.
pub(super) const OF_AN_OBJECT_MAX: usize = 4;
