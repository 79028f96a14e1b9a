//! Watching a scope of the embedded cluster.

use std::collections::VecDeque;

use futures::Stream;
use futures::future::Either;
use hub_core::api::Status;
use hub_core::object::{Metadata, Object};
use hub_core::scope::Scope;
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::store::{Event, EventKind, MemoryStore, ObjectStore, Stored, Watch, with_resource_version};

use crate::cluster::ClusterEvent;
use crate::cluster::embedded::{call, fault};

/// What is in the scope, then what changes. A reader that falls behind what the history keeps begins again.
pub(in crate::cluster::embedded) fn follow(
    memory: MemoryStore,
    scope: Scope,
) -> impl Stream<Item = ClusterEvent> + Send {
    match Follower::new(memory, scope) {
        Ok(follower) => Either::Left(futures::stream::unfold(follower, |mut follower| async {
            let event = follower.next().await;
            Some((event, follower))
        })),
        Err(status) => Either::Right(futures::stream::iter([ClusterEvent::Refused(status)])),
    }
}

struct Follower {
    memory: MemoryStore,
    scope: Scope,
    labels: LabelSelector,
    fields: FieldSelector,
    watch: Option<Watch>,
    restarted: bool,
    ready: VecDeque<ClusterEvent>,
}

impl Follower {
    fn new(memory: MemoryStore, scope: Scope) -> Result<Self, Status> {
        let bad = |error: hub_core::selector::InvalidSelector| fault::bad_request(error.0);
        let (labels, fields) = match memory.registry().by_resource(&scope.resource) {
            Some(kind) => call::selectors(&kind, &scope.labels, &scope.fields)?,
            // Nothing of a kind that does not exist yet is there; its definition may come.
            None => (
                LabelSelector::parse(&scope.labels).map_err(bad)?,
                FieldSelector::parse(&scope.fields).map_err(bad)?,
            ),
        };
        Ok(Self {
            memory,
            scope,
            labels,
            fields,
            watch: None,
            restarted: false,
            ready: VecDeque::new(),
        })
    }

    async fn next(&mut self) -> ClusterEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            match &mut self.watch {
                None => self.begin(),
                Some(watch) => match watch.next_batch(BATCH_MAX).await {
                    Ok(events) => {
                        for event in events {
                            let step = self.step(&event);
                            self.ready.extend(step);
                        }
                    }
                    Err(_) => self.watch = None,
                },
            }
        }
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.restarted, true) {
            self.ready.push_back(ClusterEvent::Restarted);
        }
        let listing = self
            .memory
            .list(&self.scope.resource, self.scope.namespace.as_deref());
        for stored in &listing.objects {
            if self.contains(stored) {
                self.ready.push_back(ClusterEvent::Applied {
                    object: stored.object.clone(),
                    previous: None,
                });
            }
        }
        self.ready.push_back(ClusterEvent::Synced {
            as_of: listing.revision.0,
        });
        // Compacted in the same instant: the next round lists again.
        self.watch = self.memory.watch(&self.scope.resource, listing.revision).ok();
    }

    fn step(&self, event: &Event) -> Option<ClusterEvent> {
        let previous = event
            .previous
            .as_deref()
            .filter(|previous| self.contains(previous));
        let is_in = event.kind != EventKind::Deleted && self.contains(&event.stored);
        match (previous, is_in) {
            (previous, true) => Some(ClusterEvent::Applied {
                object: event.stored.object.clone(),
                previous: previous.map(|previous| previous.object.body.clone()),
            }),
            (Some(previous), false) => Some(ClusterEvent::Deleted {
                object: Object {
                    version: event.revision.to_string().into(),
                    // As in an API server's DELETED: the last state, with the version of the deletion.
                    body: with_resource_version(&previous.object.body, event.revision.0),
                    ..previous.object.clone()
                },
            }),
            (None, false) => None,
        }
    }

    fn contains(&self, stored: &Stored) -> bool {
        let body = &stored.object.body;
        let labelled = || Metadata::parse(body).is_ok_and(|metadata| self.labels.matches(&metadata.labels));
        self.scope.contains_key(&stored.object.key)
            && (self.labels.is_empty() || labelled())
            && (self.fields.is_empty() || self.fields.matches(body))
    }
}

/// Events taken at a time.
const BATCH_MAX: usize = 256;
