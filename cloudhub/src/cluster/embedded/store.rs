//! The cluster as the store of a metaServer.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::api::UpstreamError;
use hub_core::object::{GroupVersionResource, ObjectKey, Revision};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{Change, Compacted, Coverage, Listing, ObjectStore, StoreError, Stored, Watch};
use tokio::sync::{oneshot, watch};

use super::EmbeddedCluster;
use super::reads::component;
use super::writer::Job;

/// So that a metaServer can serve the cluster as it serves a node's store. Everything is here, always.
impl ObjectStore for EmbeddedCluster {
    fn revision(&self) -> Revision {
        self.inner.memory.revision()
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        component::get(key).or_else(|| self.inner.memory.get(key))
    }

    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing {
        component::list(resource).unwrap_or_else(|| self.inner.memory.list(resource, namespace))
    }

    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted> {
        self.inner.memory.watch(resource, after)
    }

    fn resources(&self) -> Vec<GroupVersionResource> {
        self.inner.memory.resources()
    }

    fn coverage(&self, _scope: &Scope) -> Coverage {
        Coverage::Complete
    }

    fn scopes(&self) -> Vec<(Scope, Coverage)> {
        Vec::new()
    }

    fn scopes_changed(&self) -> watch::Receiver<u64> {
        self.inner.memory.scopes_changed()
    }

    fn registry(&self) -> &Registry {
        self.inner.memory.registry()
    }

    /// Whoever asks has the disk tried again, so that health comes back though nobody writes.
    fn trouble(&self) -> Option<String> {
        let trouble = self.inner.trouble.load_full()?;
        // A full queue tries the disk too.
        let _ = self.submit(|| Job::Probe);
        Some(format!("the disk takes no changes: {trouble}"))
    }

    /// Takes objects over as they are, each with a new version of this cluster's own; the versions given are ignored.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let failed = match self.submit(|| Job::Changes(changes, answer)) {
            Ok(()) => return async { answered.await.unwrap_or(Err(StoreError::Closed)) }.boxed(),
            Err(UpstreamError::Overloaded) => StoreError::Full("queue_max"),
            Err(_) => StoreError::Closed,
        };
        futures::future::ready(Err(failed)).boxed()
    }
}
