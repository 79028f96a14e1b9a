//! The scopes that are watched in the cluster: each once, however many nodes want it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::{AbortHandle, Abortable};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};

use hub_core::api::Status;
use hub_core::object::ObjectKey;
use hub_core::scope::Scope;

use super::index::ScopeId;
use crate::cluster::{Cluster, ClusterEvent};

/// What a watch says. None at its end.
pub(crate) type ScopeEvent = (ScopeId, Option<ClusterEvent>);

/// See the [module](self).
pub(crate) struct Scopes {
    cluster: Arc<dyn Cluster>,
    streams: SelectAll<BoxStream<'static, ScopeEvent>>,
    ids: HashMap<Scope, ScopeId>,
    watched: HashMap<ScopeId, Watched>,
    count: u32,
    max: usize,
}

struct Watched {
    scope: Scope,
    state: State,
    /// After a restart: what was named since.
    seen: Option<HashSet<ObjectKey>>,
    abort: AbortHandle,
}

/// How far a watch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Its objects are being listed.
    Loading,
    /// All its objects are known.
    Synced,
    /// The cluster will not have it.
    Refused(String),
}

impl Scopes {
    pub(crate) fn new(cluster: Arc<dyn Cluster>, max: usize) -> Self {
        Self {
            cluster,
            streams: SelectAll::new(),
            ids: HashMap::new(),
            watched: HashMap::new(),
            count: 0,
            max,
        }
    }

    /// Watches a scope, if it is not watched yet. None when too many are.
    pub(crate) fn open(&mut self, scope: &Scope) -> Option<ScopeId> {
        if let Some(id) = self.ids.get(scope) {
            return Some(*id);
        }
        if self.watched.len() >= self.max {
            return None;
        }
        self.count = self.count.wrapping_add(1);
        let id = ScopeId(self.count);
        let (abort, registration) = AbortHandle::new_pair();
        self.ids.insert(scope.clone(), id);
        let watched = Watched {
            scope: scope.clone(),
            state: State::Loading,
            seen: None,
            abort,
        };
        self.watched.insert(id, watched);
        let events = self
            .cluster
            .watch(scope.clone())
            .map(move |event| (id, Some(event)));
        let events = events.chain(futures::stream::once(async move { (id, None) }));
        self.streams.push(Abortable::new(events, registration).boxed());
        Some(id)
    }

    /// Watches a scope anew whose watch has ended.
    pub(crate) fn reopen(&mut self, id: ScopeId) {
        let Some(watched) = self.watched.get_mut(&id) else {
            return;
        };
        let (abort, registration) = AbortHandle::new_pair();
        watched.abort = abort;
        watched.seen = Some(HashSet::new());
        let events = self
            .cluster
            .watch(watched.scope.clone())
            .map(move |event| (id, Some(event)));
        let events = events.chain(futures::stream::once(async move { (id, None) }));
        self.streams.push(Abortable::new(events, registration).boxed());
    }

    /// Ends a watch.
    pub(crate) fn close(&mut self, id: ScopeId) {
        if let Some(watched) = self.watched.remove(&id) {
            watched.abort.abort();
            if self.ids.get(&watched.scope) == Some(&id) {
                self.ids.remove(&watched.scope);
            }
        }
    }

    /// How far a scope is.
    pub(crate) fn state(&self, id: ScopeId) -> State {
        self.watched
            .get(&id)
            .map_or_else(|| State::Refused("no longer watched".into()), |w| w.state.clone())
    }

    pub(crate) fn scope(&self, id: ScopeId) -> Option<&Scope> {
        self.watched.get(&id).map(|watched| &watched.scope)
    }

    /// How many are watched.
    pub(crate) fn len(&self) -> usize {
        self.watched.len()
    }

    /// The next event of any watch. Never ends.
    pub(crate) async fn next(&mut self) -> ScopeEvent {
        match self.streams.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// An event that is there already.
    pub(crate) fn next_now(&mut self) -> Option<ScopeEvent> {
        self.streams.next().now_or_never().flatten()
    }

    /// An object of the scope was named.
    pub(crate) fn saw(&mut self, id: ScopeId, key: &ObjectKey) {
        if let Some(seen) = self
            .watched
            .get_mut(&id)
            .and_then(|watched| watched.seen.as_mut())
        {
            seen.insert(key.clone());
        }
    }

    /// The listing begins again.
    pub(crate) fn restarted(&mut self, id: ScopeId) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.seen = Some(HashSet::new());
        }
    }

    /// The listing is complete. After a restart, what was named since: everything else is gone.
    pub(crate) fn synced(&mut self, id: ScopeId) -> Option<HashSet<ObjectKey>> {
        let watched = self.watched.get_mut(&id)?;
        watched.state = State::Synced;
        watched.seen.take()
    }

    /// The cluster will not have it for now; it is asked again. Whether that is news.
    pub(crate) fn withheld(&mut self, id: ScopeId, status: &Status) -> bool {
        let refused = State::Refused(status.message.clone());
        self.watched
            .get_mut(&id)
            .is_some_and(|watched| std::mem::replace(&mut watched.state, refused.clone()) != refused)
    }

    /// The cluster will not have it. Who asks for it again starts a new watch.
    pub(crate) fn refused(&mut self, id: ScopeId, status: &Status) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.state = State::Refused(status.message.clone());
            self.ids.remove(&watched.scope);
        }
    }
}
