//! Following a collection.

use std::sync::Arc;

use tokio::sync::watch;

use super::state::Shared;
use super::{Compacted, Event};
use crate::object::{GroupVersionResource, Revision};

/// Follows one collection from a revision on.
///
/// It holds a position in the collection's history and nothing else: no queue is filled for it. A watcher that is too slow
/// finds its history [`Compacted`] and hurts nobody; one on a quiet collection is never woken by others.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    resource: GroupVersionResource,
    position: Revision,
    changed: watch::Receiver<Revision>,
}

impl Watch {
    pub(super) fn new(
        shared: Arc<Shared>,
        resource: GroupVersionResource,
        position: Revision,
        changed: watch::Receiver<Revision>,
    ) -> Self {
        Self {
            shared,
            resource,
            position,
            changed,
        }
    }

    /// The next event; waits for it. Dropping the future loses nothing.
    ///
    /// After [`Compacted`] the watch is of no more use: list, and watch from there.
    pub async fn next(&mut self) -> Result<Arc<Event>, Compacted> {
        loop {
            if let Some(event) = self.available(1)?.pop() {
                return Ok(event);
            }
            self.wait().await;
        }
    }

    /// All events that are there, at least one and at most `max`; waits for the first. Dropping the future loses nothing.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Arc<Event>>, Compacted> {
        loop {
            let events = self.available(max.max(1))?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.wait().await;
        }
    }

    /// The events that are there already, at most `max`.
    pub fn available(&mut self, max: usize) -> Result<Vec<Arc<Event>>, Compacted> {
        // Seen before it is read: a change in between wakes us once too often, never once too little.
        self.changed.mark_unchanged();
        let events = self.shared.since(&self.resource, self.position, max)?;
        if let Some(last) = events.last() {
            self.position = last.revision;
        }
        Ok(events)
    }

    /// The newest revision of the whole store, if every event up to it has been taken from this watch: what a bookmark may say.
    pub fn progress(&self) -> Option<Revision> {
        self.shared.progress(&self.resource, self.position)
    }

    async fn wait(&mut self) {
        if self.changed.changed().await.is_err() {
            // The collection lives as long as somebody watches it, so this does not happen; a silent watch harms nobody.
            std::future::pending::<()>().await;
        }
    }
}
