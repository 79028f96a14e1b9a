//! A durable Kubernetes in this process, for those who have no other.
//!
//! ```text
//!             reads, watches                         writes
//!                  │                                   │ Draft: read ahead of their turn
//!                  │                                   │ queue
//!            MemoryStore ◄──── after the commit ──── Writer ────► Log (SQLite)
//!                                                      │
//!                                        decide: create · update · patch · delete
//! ```
//!
//! It keeps objects as a kube-apiserver does: versions, uids, generations, conflicts, finalizers, grace periods, namespaces, custom
//! kinds with their schemas; objects of built-in kinds have the fields that their types have, and no others. It signs tokens of
//! service accounts and reviews them. Dependents go with their owner, before it, or stay, as the client wants. An object is shown in
//! every version of its kind. Namespaces have no more than their quotas let them, and what is in use stays. There are no other
//! controllers and no scheduler: nothing makes pods of a Deployment.
//!
//! A write goes through these rooms:
//!
//! ```text
//!   call     the request, taken apart                 every room speaks of it, refuses by `fault`,
//!    │                                                and reads and changes the one `state`
//!  decide    which code answers
//!    ├─ verbs          create, update, patch, delete: what any kind goes through
//!    │    ├─ kinds       built-in kinds: their fields, defaults, versions, and what they ask of their objects
//!    │    ├─ custom      kinds that a definition makes: schemas and rules
//!    │    └─ admission   what the rest of the cluster adds or forbids: quotas, limits, addresses, classes
//!    ├─ subresources   binding, eviction, scale, ...: doors to a part of an object
//!    ├─ identity       tokens and reviews: who somebody is, and what they may do
//!    └─ controllers    what follows a write by itself: dependents, namespaces, roles
//!
//!  reads     answered from memory, beside all this
//!  values    how Go and Kubernetes read and write values; knows of no object
//! ```

mod admission;
mod call;
mod config;
mod controllers;
mod custom;
mod decide;
mod draft;
mod fault;
mod identity;
mod kinds;
mod log;
mod open;
mod reads;
mod state;
mod store;
mod subresources;
mod values;
mod verbs;
mod writer;

use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hub_core::api::{ApiRequest, ApiResponse, Target, Upstream, UpstreamError, User};
use hub_core::discovery::Discovery;
use hub_core::object::{Object, ObjectKey};
use hub_core::rbac::{self, Attributes, Rbac};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{MemoryStore, ObjectStore};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

pub use config::EmbeddedConfig;
pub use open::OpenError;

use super::{Cluster, ClusterError, ClusterEvent};
use draft::Draft;
use identity::issuer::Issuer;
use reads::{follow, path, read};
use writer::{Job, Trouble};

/// A durable cluster in this process. Cheap to clone; all clones are the same cluster, which closes with the last of them.
#[derive(Clone)]
pub struct EmbeddedCluster {
    inner: Arc<Inner>,
}

struct Inner {
    memory: MemoryStore,
    rules: Arc<ArcSwap<Rbac>>,
    trouble: Trouble,
    discovery: Discovery,
    issuer: Arc<Issuer>,
    config: EmbeddedConfig,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    closed: CancellationToken,
}

impl EmbeddedCluster {
    /// The cluster as a service, for a metaServer in front of it.
    pub fn upstream(&self) -> Upstream {
        let cluster = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request| cluster.execute(request)))
    }

    /// Publishes the certificate, PEM, by which pods know the API of this cluster: in a ConfigMap of every namespace, as a controller
    /// of Kubernetes does. From then on new pods have the token of their account beside it, unless they say otherwise. Is to be said
    /// at each start, before pods come.
    pub async fn publish_authority(&self, pem: &str) -> Result<(), UpstreamError> {
        let (answer, answered) = oneshot::channel();
        self.submit(|| Job::Authority(pem.into(), answer))?;
        answered.await.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// Puts into the queue what is made once there is room for it.
    fn submit(&self, job: impl FnOnce() -> Job) -> Result<(), UpstreamError> {
        use mpsc::error::TrySendError;
        match self.inner.jobs.as_ref().map(mpsc::Sender::try_reserve) {
            Some(Ok(room)) => {
                room.send(job());
                Ok(())
            }
            Some(Err(TrySendError::Full(()))) => Err(UpstreamError::Overloaded),
            Some(Err(TrySendError::Closed(()))) | None => Err(UpstreamError::Unreachable),
        }
    }
}

impl Cluster for EmbeddedCluster {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        let closed = self.inner.closed.clone().cancelled_owned();
        follow::follow(self.inner.memory.clone(), scope)
            .take_until(closed)
            .boxed()
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        let stored = self.inner.memory.get(&key);
        futures::future::ready(Ok(stored.map(|stored| stored.object.clone()))).boxed()
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        let now = |answer| futures::future::ready(answer).boxed();
        let limit = self.inner.config.body_bytes_max;
        if request.body.len() > limit {
            return now(Ok(fault::too_large(limit).into()));
        }
        if request.verb.is_read() {
            if let Target::Path(path) = &request.target
                && let Some(document) = self.inner.issuer.document(path)
            {
                return now(Ok(document));
            }
            let memory = &self.inner.memory;
            return now(Ok(match &request.target {
                Target::Path(path) => path::read(&self.inner.discovery, memory.registry(), path, &request),
                Target::Resource { .. } => read::read(memory, &request),
            }));
        }
        let (answer, answered) = oneshot::channel();
        let read = || Job::Request {
            draft: Draft::of(&request, self.inner.memory.registry()),
            request: Box::new(request),
            answer,
        };
        if let Err(error) = self.submit(read) {
            return now(Err(error));
        }
        // The writer stopped over this request: nobody knows how far it came.
        async { answered.await.unwrap_or(Err(UpstreamError::Timeout)) }.boxed()
    }

    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        let nobody = User::default();
        let user = request.user.as_ref().unwrap_or(&nobody);
        let selected = rbac::selected_name(request);
        let wanted = Attributes::of(request, selected.as_deref());
        let allowed = self.inner.rules.load().allows(user, &wanted);
        futures::future::ready(allowed).boxed()
    }

    fn registry(&self) -> &Registry {
        self.inner.memory.registry()
    }
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmbeddedCluster(revision {})", self.inner.memory.revision())
    }
}

impl Drop for Inner {
    /// Waits until what was accepted is written.
    fn drop(&mut self) {
        self.closed.cancel();
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the embedded cluster's writer had panicked");
        }
    }
}
