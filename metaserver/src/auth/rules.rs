//! The cluster's roles and bindings, as far as they are here, in the form in which requests are decided.

use std::sync::{Arc, Mutex, PoisonError};

use hub_core::object::GroupVersionResource;
use hub_core::rbac::{self, Rbac};
use hub_core::scope::Scope;
use hub_core::store::{ObjectStore, Watch};

/// The roles of a store, kept up to date by whoever asks for them: a role that is taken away is gone with the next request.
#[derive(Default)]
pub(super) struct Rules {
    known: Mutex<Option<Known>>,
}

struct Known {
    rbac: Arc<Rbac>,
    watches: Vec<Watch>,
}

impl Rules {
    /// What the store says now.
    pub(super) fn of(&self, store: &dyn ObjectStore) -> Arc<Rbac> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *known
            && known.watches.iter_mut().all(is_quiet)
        {
            return known.rbac.clone();
        }
        let made = Known::of(store);
        let rbac = made.rbac.clone();
        // A collection that could not be followed would never tell.
        *known = Some(made).filter(|made| made.watches.len() == collections().len());
        rbac
    }
}

impl Known {
    fn of(store: &dyn ObjectStore) -> Self {
        let (mut objects, mut watches) = (Vec::new(), Vec::new());
        for resource in collections() {
            let listing = store.list(&resource, None);
            watches.extend(store.watch(&resource, listing.revision).ok());
            objects.extend(listing.objects);
        }
        Self {
            rbac: Arc::new(Rbac::new(objects.iter().map(|stored| &stored.object))),
            watches,
        }
    }
}

/// What must be here for a decision.
pub(super) fn scopes() -> impl Iterator<Item = Scope> {
    collections().into_iter().map(Scope::all)
}

fn collections() -> [GroupVersionResource; 4] {
    ["clusterroles", "clusterrolebindings", "roles", "rolebindings"]
        .map(|resource| GroupVersionResource::new(rbac::GROUP, "v1", resource))
}

fn is_quiet(watch: &mut Watch) -> bool {
    watch.available(1).is_ok_and(|events| events.is_empty())
}
