//! What a [`MemoryStore`](super::MemoryStore) holds, and the one lock around it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::memory::RevisionSource;
use super::stage::Write;
use super::tombstones::Tombstones;
use super::{Compacted, Coverage, Event, EventKind, LogLimits, StoreLimits, Stored, WatchLog};
use crate::object::{GroupVersionResource, ObjectKey, Revision};
use crate::registry::Registry;
use crate::scope::Scope;

/// Namespace and name: the order of lists.
pub(super) type Name = (Option<Arc<str>>, Arc<str>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: StoreLimits,
    pub(super) source: RevisionSource,
    pub(super) registry: Registry,
    pub(super) scopes_changed: watch::Sender<u64>,
    /// Held by whoever prepares the next changes, so that readers wait for a publication only, never for its preparation.
    pub(super) writer: Mutex<()>,
    state: RwLock<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// Where histories begin, unless a collection's was changed later and no event of that is kept.
    pub(super) begin: Revision,
    pub(super) collections: HashMap<GroupVersionResource, Collection>,
    pub(super) tombstones: Tombstones,
    pub(super) scopes: BTreeMap<Scope, Coverage>,
    pub(super) objects: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Collection {
    pub(super) objects: BTreeMap<Name, Arc<Stored>>,
    log: WatchLog,
    changed: watch::Sender<Revision>,
}

impl Shared {
    pub(super) fn new(
        limits: StoreLimits,
        source: RevisionSource,
        registry: Registry,
        revision: Revision,
        begin: Revision,
    ) -> Self {
        Self {
            limits,
            source,
            registry,
            scopes_changed: watch::channel(0).0,
            writer: Mutex::new(()),
            state: RwLock::new(State {
                revision,
                begin,
                collections: HashMap::new(),
                tombstones: Tombstones::new(limits.tombstones_max),
                scopes: BTreeMap::new(),
                objects: 0,
                bytes: 0,
            }),
        }
    }

    /// The state of this instant. A writer that panicked has published all of a batch or nothing, so poison is no danger.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills a state that nobody reads yet.
    pub(super) fn restore(&mut self, fill: impl FnOnce(&mut State, LogLimits)) {
        let log = self.limits.log;
        fill(self.state.get_mut().unwrap_or_else(PoisonError::into_inner), log);
    }

    /// Makes prepared changes visible, all at the same instant, and wakes who follows the collections touched.
    pub(super) fn publish(&self, writes: &[Write], revision: Revision) {
        let mut touched: Vec<(watch::Sender<Revision>, Revision)> = Vec::new();
        let mut scopes = false;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.revision = state.revision.max(revision);
        for write in writes {
            scopes |= matches!(write, Write::Scope { .. });
            if let Some(changed) = state.publish(write, self.limits.log)
                && !touched.iter().any(|(known, _)| known.same_channel(&changed))
            {
                touched.push((changed, revision));
            }
        }
        drop(state);
        for (changed, revision) in touched {
            changed.send_replace(revision);
        }
        if scopes {
            self.scopes_changed.send_modify(|generation| *generation += 1);
        }
    }

    pub(super) fn follow(
        &self,
        resource: &GroupVersionResource,
        after: Revision,
    ) -> Result<watch::Receiver<Revision>, Compacted> {
        if let Some(collection) = self.read().collections.get(resource) {
            return collection.follow(after);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Collections that exist only because somebody once watched them would pile up.
        let begin = state.begin;
        state
            .collections
            .retain(|_, collection| collection.is_used(begin));
        state.collection(resource, self.limits.log).follow(after)
    }

    pub(super) fn since(
        &self,
        resource: &GroupVersionResource,
        after: Revision,
        max: usize,
    ) -> Result<Vec<Arc<Event>>, Compacted> {
        match self.read().collections.get(resource) {
            Some(collection) => Ok(collection.log.since(after)?.take(max).cloned().collect()),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn progress(&self, resource: &GroupVersionResource, position: Revision) -> Option<Revision> {
        let state = self.read();
        let collection = state.collections.get(resource);
        let newest = collection.map_or(state.begin, |collection| collection.log.newest());
        (newest <= position).then_some(state.revision)
    }
}

impl State {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Stored>> {
        let objects = &self.collections.get(&key.resource)?.objects;
        objects.get(&(key.namespace.clone(), key.name.clone()))
    }

    pub(super) fn holds(&self, resource: &GroupVersionResource) -> bool {
        self.collections
            .get(resource)
            .is_some_and(|collection| !collection.objects.is_empty())
    }

    pub(super) fn collection(
        &mut self,
        resource: &GroupVersionResource,
        limits: LogLimits,
    ) -> &mut Collection {
        let begin = self.begin;
        self.collections
            .entry(resource.clone())
            .or_insert_with(|| Collection {
                objects: BTreeMap::new(),
                log: WatchLog::new(begin, limits),
                changed: watch::channel(begin).0,
            })
    }

    /// The history of a collection begins at a revision, or later.
    pub(super) fn begins(&mut self, resource: &GroupVersionResource, revision: Revision, limits: LogLimits) {
        self.collection(resource, limits).log.begins(revision);
    }

    /// Puts an object without history.
    pub(super) fn insert(&mut self, stored: Arc<Stored>, limits: LogLimits) {
        let key = &stored.object.key;
        let name = (key.namespace.clone(), key.name.clone());
        let size = size(&stored);
        let old = self
            .collection(&key.resource.clone(), limits)
            .objects
            .insert(name, stored);
        self.bytes += size;
        match old {
            Some(old) => self.bytes -= self::size(&old),
            None => self.objects += 1,
        }
    }

    fn publish(&mut self, write: &Write, limits: LogLimits) -> Option<watch::Sender<Revision>> {
        let event = match write {
            Write::Put { stored, previous } => {
                self.insert(stored.clone(), limits);
                Event {
                    revision: stored.revision,
                    kind: match previous {
                        Some(_) => EventKind::Modified,
                        None => EventKind::Added,
                    },
                    stored: stored.clone(),
                    previous: previous.clone(),
                }
            }
            Write::Delete { stored, previous } => {
                let key = &stored.object.key;
                let name = (key.namespace.clone(), key.name.clone());
                let collection = self.collection(&key.resource, limits);
                if let Some(old) = collection.objects.remove(&name) {
                    self.objects -= 1;
                    self.bytes -= size(&old);
                }
                Event {
                    revision: stored.revision,
                    kind: EventKind::Deleted,
                    stored: stored.clone(),
                    previous: Some(previous.clone()),
                }
            }
            Write::Bury { uid, version } => {
                self.tombstones.bury(uid.clone(), *version);
                return None;
            }
            Write::Scope { scope, coverage } => {
                match coverage {
                    Some(coverage) => self.scopes.insert(scope.clone(), *coverage),
                    None => self.scopes.remove(scope),
                };
                return None;
            }
        };
        let resource = event.stored.object.key.resource.clone();
        let collection = self.collection(&resource, limits);
        collection.log.push(Arc::new(event));
        Some(collection.changed.clone())
    }
}

impl Collection {
    fn follow(&self, after: Revision) -> Result<watch::Receiver<Revision>, Compacted> {
        self.log.since(after).map(|_| self.changed.subscribe())
    }

    /// Whether it is more than one that was never touched, in a store whose histories begin there.
    fn is_used(&self, begin: Revision) -> bool {
        self.log.oldest() > begin
            || !self.objects.is_empty()
            || !self.log.is_empty()
            || self.changed.receiver_count() > 0
    }
}

/// What an object counts for in [`StoreLimits::bytes_max`].
pub(super) fn size(stored: &Stored) -> usize {
    stored.object.body.len() + stored.served.len()
}
