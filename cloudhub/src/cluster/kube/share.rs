//! Which watches are held at the API server, and who reads them: one for all who want the same or a part of it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use hub_core::api::{Reason, Status};
use hub_core::object::GroupVersionResource;
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::selector::FieldSelector;

use super::collection::{Collection, Shared};
use super::door::Door;
use super::execute::is_segment;
use super::reflect::Reflector;

/// See the [module](self).
pub(super) struct Shares {
    door: Arc<Door>,
    registry: Registry,
    /// Whether the server streams lists.
    pub(super) streams: Arc<AtomicBool>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    watches: HashMap<Scope, Watch>,
    /// Resources that may not be watched as a whole.
    parts_only: HashSet<GroupVersionResource>,
}

struct Watch {
    collection: Shared,
    readers: Arc<watch::Sender<usize>>,
    _task: AbortOnDropHandle<()>,
}

/// A reader of a watch. The watch is kept for as long as it has one, and a while longer.
pub(super) struct Reader {
    /// What is watched: all that was asked for, perhaps more.
    pub(super) scope: Scope,
    pub(super) collection: Shared,
    readers: Arc<watch::Sender<usize>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.send_modify(|readers| *readers -= 1);
    }
}

impl Shares {
    pub(super) fn new(door: Arc<Door>, registry: Registry) -> Self {
        Self {
            door,
            registry,
            streams: Arc::new(AtomicBool::new(false)),
            held: Mutex::default(),
        }
    }

    /// Reads a scope, from a watch that is there or from a new one.
    pub(super) fn join(self: &Arc<Self>, scope: &Scope) -> Result<Reader, Status> {
        let names = [scope.namespace.as_deref(), scope.name.as_deref()];
        if !names.into_iter().flatten().all(is_segment) {
            return Err(Status::failure(
                Reason::BadRequest,
                "the scope holds no valid names",
            ));
        }
        let mut held = self.held();
        let by_us = self.can_select(scope);
        let serving = held
            .watches
            .keys()
            .find(|watched| **watched == *scope || (by_us && watched.covers(scope)));
        let wanted = match serving {
            Some(watched) => watched.clone(),
            None => self.choose(&held, scope, by_us),
        };
        if !held.watches.contains_key(&wanted) {
            if held.watches.len() >= self.door.config.watches_max {
                return Err(Status::failure(
                    Reason::TooManyRequests,
                    "too many watches are held",
                ));
            }
            held.watches.insert(wanted.clone(), self.begin(wanted.clone()));
        }
        let watch = held
            .watches
            .get(&wanted)
            .ok_or_else(|| Status::failure(Reason::InternalError, "the watch is gone"))?;
        watch.readers.send_modify(|readers| *readers += 1);
        Ok(Reader {
            scope: wanted,
            collection: watch.collection.clone(),
            readers: watch.readers.clone(),
        })
    }

    /// The resource may not be watched as a whole: from now on only parts are asked for.
    pub(super) fn only_parts(&self, resource: &GroupVersionResource) {
        self.held().parts_only.insert(resource.clone());
    }

    /// Only what is asked for, or all of the resource where many parts of it are wanted.
    fn choose(&self, held: &Held, scope: &Scope, by_us: bool) -> Scope {
        let narrow = held
            .watches
            .keys()
            .filter(|watched| watched.resource == scope.resource)
            .count();
        if by_us
            && narrow >= self.door.config.narrow_watches_max
            && !held.parts_only.contains(&scope.resource)
        {
            Scope::all(scope.resource.clone())
        } else {
            scope.clone()
        }
    }

    /// Whether we can tell what belongs to the scope as the API server does.
    fn can_select(&self, scope: &Scope) -> bool {
        let Ok(fields) = FieldSelector::parse(&scope.fields) else {
            return false;
        };
        let kind = self.registry.by_resource(&scope.resource);
        fields.fields().all(|field| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || kind
                    .as_ref()
                    .is_some_and(|kind| kind.selectable_fields.iter().any(|known| &**known == field))
        }) && hub_core::selector::LabelSelector::parse(&scope.labels).is_ok()
    }

    fn begin(self: &Arc<Self>, scope: Scope) -> Watch {
        let collection = Arc::new(Collection::new(
            self.door.config.history_max,
            self.door.config.history_bytes_max,
        ));
        let readers = Arc::new(watch::Sender::new(0));
        let reflector = self.reflector(scope.clone(), collection.clone(), false);
        let shown = collection.clone();
        let (shares, mut count, linger) = (
            Arc::downgrade(self),
            readers.subscribe(),
            self.door.config.watch_linger,
        );
        let watched = Watched(self.door.clone());
        watched.0.metrics.watches.inc();
        let task = tokio::spawn(async move {
            let _watched = watched;
            let abandoned = async {
                loop {
                    if count.wait_for(|readers| *readers == 0).await.is_err() {
                        return;
                    }
                    match tokio::time::timeout(linger, count.wait_for(|readers| *readers > 0)).await {
                        Ok(Ok(_)) => {}
                        Err(_) if !Self::end(&shares, &scope) => {}
                        _ => return,
                    }
                }
            };
            tokio::select! {
                status = reflector.run() => {
                    // First out of the table: who asks again starts a new watch.
                    if let Some(shares) = shares.upgrade() {
                        shares.held().watches.remove(&scope);
                    }
                    shown.refuse(status);
                }
                () = abandoned => {}
            }
        });
        Watch {
            collection,
            readers,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What keeps a collection up to date.
    pub(super) fn reflector(&self, scope: Scope, collection: Shared, metadata_only: bool) -> Reflector {
        Reflector {
            door: self.door.clone(),
            scope,
            collection,
            registry: self.registry.clone(),
            streams: self.streams.clone(),
            metadata_only,
        }
    }

    /// Nobody came back. False when somebody did in the last moment.
    fn end(shares: &Weak<Self>, scope: &Scope) -> bool {
        let Some(shares) = shares.upgrade() else {
            return true;
        };
        let mut held = shares.held();
        if held
            .watches
            .get(scope)
            .is_some_and(|watch| *watch.readers.borrow() > 0)
        {
            return false;
        }
        // The task is aborted with it, at its next await: never before this returns.
        held.watches.remove(scope);
        true
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a watch for as long as it lives.
struct Watched(Arc<Door>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.metrics.watches.dec();
    }
}
