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
mod controllers;
mod custom;
mod decide;
mod draft;
mod fault;
mod identity;
mod kinds;
mod log;
mod reads;
mod state;
mod subresources;
mod values;
mod verbs;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hub_core::api::{ApiRequest, ApiResponse, Target, Upstream, UpstreamError, User, Verb};
use hub_core::discovery::Discovery;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::rbac::{self, Attributes, Rbac};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{
    Change, Compacted, Coverage, Listing, LogLimits, MemoryStore, ObjectStore, Restored, RevisionSource,
    StoreError, StoreLimits, Stored, Watch,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use super::{Cluster, ClusterError, ClusterEvent};
use admission::priority;
use controllers::flow;
use draft::Draft;
use identity::issuer::{self, Issuer};
use kinds::versions;
use reads::{component, follow, path, read};
use state::State;
use writer::{Job, Trouble, Writer};

/// The limits of an embedded cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Objects.
    pub objects_max: usize,
    /// Bytes of all bodies.
    pub bytes_max: usize,
    /// Bytes of the body of one request; more is answered with 413.
    pub body_bytes_max: usize,
    /// Writes waiting for the disk; more are refused as overload.
    pub queue_max: usize,
    /// Writes that share one commit.
    pub group_max: usize,
    /// What one rule of a custom kind (`x-kubernetes-validations`) may cost for one object, in steps: about one for each node of its
    /// expression that is evaluated, each element that is looked at and ten bytes of text. An object for which it costs more is refused.
    pub rule_steps_max: u64,
    /// What all rules of one object may.
    pub rules_steps_max: u64,
    /// The history of each collection, for watches.
    pub history: LogLimits,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            objects_max: 200_000,
            bytes_max: 1 << 30,
            body_bytes_max: 3 << 20,
            queue_max: 1024,
            group_max: 256,
            // Some tens of milliseconds of the writer.
            rule_steps_max: 500_000,
            rules_steps_max: 2_000_000,
            history: LogLimits::default(),
        }
    }
}

/// The cluster could not be opened. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written, is no database, or is held by another process.
    #[error("cannot open the cluster's file {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// The key of service account tokens in the file is none.
    #[error("cannot use the cluster's file {path}: {why}")]
    Key {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The operating system gives no thread.
    #[error("cannot start the cluster's writer: {0}")]
    Thread(#[from] std::io::Error),
}

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
    /// Opens the cluster that is kept in a file, or makes a new one there with the namespaces every cluster has.
    ///
    /// Reads the whole file, so it blocks for a moment. One process at a time may have it open.
    pub fn open(path: &Path, config: EmbeddedConfig) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File {
            path: path.display().to_string(),
            source,
        };
        let unusable = |error: issuer::KeyError| OpenError::Key {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        let (mut log, contents) = log::Log::open(path).map_err(failed)?;
        let key = match contents.token_key {
            Some(key) => key,
            None => {
                let key = issuer::new_key().map_err(unusable)?;
                log.keep_token_key(&key).map_err(failed)?;
                key
            }
        };
        let issuer = Arc::new(Issuer::new(&key).map_err(unusable)?);
        let revisions = contents.objects.iter().map(|object| {
            let revision = Revision(object.version.number().unwrap_or_default());
            (object.clone(), revision)
        });
        let memory = MemoryStore::restore(
            memory_limits(config.history),
            Registry::builtin(),
            RevisionSource::Version,
            Restored {
                revision: Revision(contents.revision),
                // A watch that has seen the last change of its collection goes on.
                begin: Revision(contents.begin),
                deletions: contents.deletions,
                objects: revisions.collect(),
                scopes: Vec::new(),
                tombstones: Vec::new(),
            },
        );
        let state = State::new(
            memory.registry().clone(),
            contents.objects,
            memory.revision().0,
            &config,
        );
        let rules = Arc::new(ArcSwap::from_pointee(state.rules()));
        let trouble = Trouble::default();
        let mut writer = Writer {
            state,
            rules: rules.clone(),
            trouble: trouble.clone(),
            log,
            issuer: issuer.clone(),
            memory: memory.clone(),
            group_max: config.group_max,
        };
        if contents.revision == 0 {
            for namespace in FIRST_NAMESPACES {
                decide::decide(&mut writer.state, &issuer, &new_namespace(namespace), None);
            }
            writer.commit().map_err(failed)?;
        }
        // What a kube-apiserver puts right at each start (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`).
        let absent = |object: &&Object| memory.get(&object.key).is_none();
        let mut lacking: Vec<ApiRequest> = rbac::bootstrap().iter().filter(absent).map(new_object).collect();
        let classes = priority::bootstrap().chain(flow::bootstrap());
        let classes = classes.filter(|(key, _)| memory.get(key).is_none());
        lacking.extend(classes.map(|(key, body)| {
            ApiRequest::resource(Verb::Create, key.resource, None, None)
                .with_body("application/json", body.to_string())
        }));
        if !lacking.is_empty() {
            for request in &lacking {
                decide::decide(&mut writer.state, &issuer, request, None);
            }
            writer.commit().map_err(failed)?;
        }
        versions::agree_all(&mut writer.state);
        writer.commit().map_err(failed)?;
        let (jobs, queue) = mpsc::channel(config.queue_max.max(1));
        let writer = std::thread::Builder::new()
            .name("embedded-cluster".into())
            .spawn(move || writer.run(queue))?;
        let inner = Inner {
            memory,
            rules,
            trouble,
            discovery: Discovery::default(),
            issuer,
            config,
            jobs: Some(jobs),
            writer: Some(writer),
            closed: CancellationToken::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

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

/// The cluster's own limits are checked before a write; the memory in front of it takes what is durable.
fn memory_limits(log: LogLimits) -> StoreLimits {
    StoreLimits {
        objects_max: usize::MAX >> 1,
        bytes_max: usize::MAX >> 1,
        log,
        ..StoreLimits::default()
    }
}

fn new_namespace(name: &str) -> ApiRequest {
    let target = Target::Resource {
        resource: GroupVersionResource::core("namespaces"),
        namespace: None,
        name: None,
        subresource: None,
    };
    let body = serde_json::json!({"metadata": {"name": name}}).to_string();
    ApiRequest::new(Verb::Create, target).with_body("application/json", body)
}

fn new_object(object: &Object) -> ApiRequest {
    ApiRequest::resource(Verb::Create, object.key.resource.clone(), None, None)
        .with_body("application/json", object.body.clone())
}

const FIRST_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
