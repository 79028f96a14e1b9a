//! The history of one collection, bounded, so that a watch can begin in the past and a slow watcher can catch up.
//!
//! A plain value: no task, clock or lock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Stored;
use crate::object::Revision;

/// One step in the history of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When. Grows strictly within a collection.
    pub revision: Revision,
    /// What happened.
    pub kind: EventKind,
    /// The object now; of a deleted object its last state, with the revision of the deletion.
    pub stored: Arc<Stored>,
    /// The object before, so that a selector can tell who enters and who leaves.
    pub previous: Option<Arc<Stored>>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was not there before.
    Added,
    /// It was there, in another state.
    Modified,
    /// It is gone.
    Deleted,
}

/// The history asked for is no longer kept. The watcher's move: list again, and watch from there (410 Gone in Kubernetes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the history before revision {oldest} is no longer kept")]
pub struct Compacted {
    /// The oldest revision that a watch may begin after.
    pub oldest: Revision,
}

/// How much history a collection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Events.
    pub events_max: usize,
    /// Bytes that only the history keeps: states that newer ones have replaced. The newest event is kept whatever its size.
    pub bytes_max: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            events_max: 4096,
            bytes_max: 2 << 20,
        }
    }
}

/// The newest events of one collection.
#[derive(Debug)]
pub struct WatchLog {
    limits: LogLimits,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Everything after this revision is kept.
    oldest: Revision,
}

impl WatchLog {
    /// An empty history that begins at a revision.
    pub fn new(oldest: Revision, limits: LogLimits) -> Self {
        Self {
            limits,
            events: VecDeque::new(),
            bytes: 0,
            oldest,
        }
    }

    /// An empty history begins at this revision, or later.
    pub fn begins(&mut self, oldest: Revision) {
        if self.events.is_empty() {
            self.oldest = self.oldest.max(oldest);
        }
    }

    /// Appends an event and forgets the oldest ones over the limits. An event that is not newer than the last is ignored.
    pub fn push(&mut self, event: Arc<Event>) {
        if event.revision <= self.newest() {
            return;
        }
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.events.len() > 1
            && (self.events.len() > self.limits.events_max || self.bytes > self.limits.bytes_max)
        {
            if let Some(event) = self.events.pop_front() {
                self.bytes -= cost(&event);
                self.oldest = event.revision;
            }
        }
    }

    /// The events after a revision, oldest first.
    pub fn since(
        &self,
        after: Revision,
    ) -> Result<impl ExactSizeIterator<Item = &Arc<Event>> + use<'_>, Compacted> {
        if after < self.oldest {
            return Err(Compacted { oldest: self.oldest });
        }
        let first = self.events.partition_point(|event| event.revision <= after);
        Ok(self.events.range(first..))
    }

    /// The revision of the newest event, or where the history begins.
    pub fn newest(&self) -> Revision {
        self.events.back().map_or(self.oldest, |event| event.revision)
    }

    /// The oldest revision that a watch may begin after.
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Whether no event is kept.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// What the event costs beyond the live objects: its own struct, and the state that it replaced.
fn cost(event: &Event) -> usize {
    const STRUCT: usize = size_of::<Event>() + size_of::<Arc<Event>>();
    let replaced = event
        .previous
        .as_ref()
        .map_or(0, |old| old.served.len() + old.object.body.len());
    let last = match event.kind {
        EventKind::Deleted => event.stored.served.len(),
        EventKind::Added | EventKind::Modified => 0,
    };
    STRUCT + replaced + last
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::object::{GroupVersionResource, Object, ObjectKey};

    fn event(revision: u64, size: usize) -> Arc<Event> {
        let stored = Arc::new(Stored {
            object: Object {
                key: ObjectKey::new(GroupVersionResource::core("pods"), None, "a"),
                uid: "u".into(),
                version: "1".into(),
                body: Bytes::from(vec![b' '; size]),
            },
            revision: Revision(revision),
            served: Bytes::new(),
        });
        Arc::new(Event {
            revision: Revision(revision),
            kind: EventKind::Modified,
            stored: stored.clone(),
            previous: Some(stored),
        })
    }

    #[test]
    fn the_newest_event_is_kept_whatever_its_size() {
        let mut log = WatchLog::new(
            Revision(1),
            LogLimits {
                events_max: 0,
                bytes_max: 0,
            },
        );
        log.push(event(5, 10_000));
        log.push(event(6, 10_000));
        assert_eq!(log.since(Revision(5)).unwrap().len(), 1);
        let error = log.since(Revision(4)).err().unwrap();
        assert_eq!(error.oldest, Revision(5));
    }

    proptest! {
        /// Whatever is pushed and asked, the log answers as a list that forgets nothing, or says honestly that it forgot.
        #[test]
        fn the_log_agrees_with_a_list_that_keeps_everything(
            steps in prop::collection::vec((1u64..4, 0usize..400), 0..60),
            events_max in 1usize..20,
            bytes_max in 1usize..4000,
            asked in 0u64..200,
        ) {
            let limits = LogLimits { events_max, bytes_max };
            let mut log = WatchLog::new(Revision(10), limits);
            let mut naive = Vec::new();
            let mut revision = 10;
            for (step, size) in steps {
                revision += step;
                let event = event(revision, size);
                log.push(event.clone());
                naive.push(event);
            }
            prop_assert_eq!(log.newest(), Revision(revision));
            let kept = log.since(log.oldest()).unwrap().count();
            prop_assert!(kept <= events_max.max(1));
            prop_assert!(kept <= 1 || log.bytes <= bytes_max);
            let expected: Vec<_> = naive.iter().filter(|e| e.revision > Revision(asked)).cloned().collect();
            match log.since(Revision(asked)) {
                Ok(events) => prop_assert_eq!(events.cloned().collect::<Vec<_>>(), expected),
                Err(Compacted { oldest }) => {
                    prop_assert!(Revision(asked) < oldest);
                    let rest: Vec<_> = log.since(oldest).unwrap().cloned().collect();
                    prop_assert_eq!(&naive[naive.len() - rest.len()..], &rest[..]);
                }
            }
        }
    }
}
