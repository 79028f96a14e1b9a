//! What one reader of the cluster gets to see: the scope it asked for, out of a watch that may show more.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::watch;

use hub_core::api::{Reason, Status};
use hub_core::object::{Metadata, Object};
use hub_core::scope::Scope;
use hub_core::selector::{FieldSelector, LabelSelector};

use super::collection::{Change, Reading};
use super::share::{Reader, Shares};
use crate::cluster::ClusterEvent;

/// What is in the scope, then what changes.
pub(super) fn follow(shares: Arc<Shares>, scope: Scope) -> impl Stream<Item = ClusterEvent> + Send {
    let follower = Follower {
        shares,
        scope,
        source: None,
        ready: VecDeque::new(),
        begun: false,
        ended: false,
    };
    futures::stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((event, follower))
    })
}

struct Follower {
    shares: Arc<Shares>,
    scope: Scope,
    source: Option<Source>,
    ready: VecDeque<ClusterEvent>,
    /// Whether all of the scope was named once.
    begun: bool,
    ended: bool,
}

struct Source {
    reader: Reader,
    changed: watch::Receiver<u64>,
    at: Option<u64>,
    filter: Filter,
}

impl Follower {
    async fn next(&mut self) -> Option<ClusterEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let Some(source) = &mut self.source else {
                match self.join() {
                    Ok(source) => self.source = Some(source),
                    Err(status) => self.refuse(status),
                }
                continue;
            };
            // What changes from here on wakes us.
            source.changed.mark_unchanged();
            match source.reader.collection.read(source.at, BATCH_MAX) {
                Reading::Nothing => {
                    if source.changed.changed().await.is_err() {
                        return None;
                    }
                }
                Reading::All { objects, at, as_of } => {
                    source.at = Some(at);
                    if std::mem::replace(&mut self.begun, true) {
                        self.ready.push_back(ClusterEvent::Restarted);
                    }
                    let filter = &source.filter;
                    self.ready
                        .extend(
                            objects
                                .into_iter()
                                .filter(|object| filter.contains(object))
                                .map(|object| ClusterEvent::Applied {
                                    object,
                                    previous: None,
                                }),
                        );
                    self.ready.push_back(ClusterEvent::Synced { as_of });
                }
                Reading::Changes(changes, at) => {
                    source.at = Some(at);
                    let filter = &source.filter;
                    self.ready
                        .extend(changes.into_iter().filter_map(|change| filter.step(change)));
                }
                Reading::Refused(status) => {
                    let wider = source.reader.scope != self.scope;
                    self.source = None;
                    if wider {
                        self.shares.only_parts(&self.scope.resource);
                    } else {
                        self.refuse(status);
                    }
                }
            }
        }
    }

    fn join(&self) -> Result<Source, Status> {
        let reader = self.shares.join(&self.scope)?;
        let filter = if reader.scope == self.scope {
            Filter::All
        } else {
            Filter::of(&self.scope)?
        };
        Ok(Source {
            changed: reader.collection.changed(),
            reader,
            at: None,
            filter,
        })
    }

    fn refuse(&mut self, status: Status) {
        self.ready.push_back(ClusterEvent::Refused(status));
        self.ended = true;
    }
}

/// What of a watch belongs to the scope.
enum Filter {
    /// The API server chose.
    All,
    Some {
        scope: Scope,
        labels: LabelSelector,
        fields: FieldSelector,
    },
}

impl Filter {
    fn of(scope: &Scope) -> Result<Self, Status> {
        let bad = |error: hub_core::selector::InvalidSelector| Status::failure(Reason::BadRequest, error.0);
        Ok(Self::Some {
            labels: LabelSelector::parse(&scope.labels).map_err(bad)?,
            fields: FieldSelector::parse(&scope.fields).map_err(bad)?,
            scope: scope.clone(),
        })
    }

    fn contains(&self, object: &Object) -> bool {
        let Self::Some {
            scope,
            labels,
            fields,
        } = self
        else {
            return true;
        };
        let labelled =
            || Metadata::parse(&object.body).is_ok_and(|metadata| labels.matches(&metadata.labels));
        scope.contains_key(&object.key)
            && (labels.is_empty() || labelled())
            && (fields.is_empty() || fields.matches(&object.body))
    }

    fn step(&self, change: Change) -> Option<ClusterEvent> {
        let Change {
            before,
            after,
            is_gone,
        } = change;
        let before = before.filter(|before| self.contains(before));
        if !is_gone && self.contains(&after) {
            return Some(ClusterEvent::Applied {
                object: after,
                previous: before.map(|before| before.body),
            });
        }
        let before = before?;
        // Gone from the scope, as it was when it was last in it.
        Some(ClusterEvent::Deleted {
            object: Object {
                version: after.version,
                ..if is_gone && before.uid == after.uid {
                    Object {
                        body: after.body,
                        ..before
                    }
                } else {
                    before
                }
            },
        })
    }
}

/// Changes taken at a time.
const BATCH_MAX: usize = 256;
