//! A Kubernetes API server as the cluster, through the `kube` crate.
//!
//! ```text
//!  watch(scope) ─► follow ─► share ─► reflect ──┐   one watch for all who want the same or a part of it
//!  execute(req) ─► execute ─────────────────────┤   in the name of the node
//!  get(key) ────────────────────────────────────┤
//!  registry() ◄── discovery ◄───────────────────┴─► door ─► kube::Client ─► API server
//! ```
//!
//! Objects are bytes: a list or an event is taken apart into slices, and none of Kubernetes' types is ever built. When the API server
//! is away, what was seen last is still there; nothing is deleted that the server did not say is gone.

mod collection;
mod config;
mod connect;
mod credentials;
mod discovery;
mod documents;
mod door;
mod execute;
mod follow;
mod metrics;
mod pace;
mod reflect;
mod review;
mod rights;
mod share;
mod silence;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use hub_core::api::{ApiRequest, ApiResponse, UpstreamError};
use hub_core::body;
use hub_core::object::{Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;

pub use config::KubeClusterConfig;
pub use connect::ConnectError;
pub use credentials::Credentials;
pub use rights::Right;

use super::{Cluster, ClusterError, ClusterEvent};
use collection::Collection;
use credentials::Source;
use discovery::Discovery;
use door::Door;
use review::Reviews;
use share::Shares;

/// A Kubernetes API server. Cheap to clone; all clones share their watches.
///
/// It starts whether or not the server can be reached: watches heal, and requests say that there is no answer.
#[derive(Clone)]
pub struct KubeCluster {
    door: Arc<Door>,
    registry: Registry,
    shares: Arc<Shares>,
    reviews: Arc<Reviews>,
    _tasks: Arc<[AbortOnDropHandle<()>]>,
}

impl KubeCluster {
    /// The cluster that `KUBECONFIG` or `~/.kube/config` names, or the one that this program runs in.
    pub async fn try_default() -> Result<Self, ConnectError> {
        Self::connect(Credentials::Inferred, KubeClusterConfig::default()).await
    }

    /// A cluster with these credentials and limits. Reads files, but waits for no server. What changes in the files is noticed.
    pub async fn connect(credentials: Credentials, config: KubeClusterConfig) -> Result<Self, ConnectError> {
        let (source, client) = Source::open(credentials, &config).await?;
        Ok(Self::start(client, config, Some(source)))
    }

    /// A cluster behind a client of your own. Give it no retries: they are made here. Must be called within a tokio runtime.
    pub fn new(client: ::kube::Client, config: KubeClusterConfig) -> Self {
        Self::start(client, config, None)
    }

    fn start(client: ::kube::Client, config: KubeClusterConfig, source: Option<Source>) -> Self {
        let registry = Registry::builtin();
        let door = Arc::new(Door::new(client, config));
        let shares = Arc::new(Shares::new(door.clone(), registry.clone()));
        let definitions = Arc::new(Collection::new(1, 0));
        let discovery = Discovery {
            door: door.clone(),
            registry: registry.clone(),
            streams: shares.streams.clone(),
            definitions: definitions.clone(),
            away: Default::default(),
        };
        let reflector = discovery::definitions(&shares, definitions);
        let review = door.clone();
        let mut tasks = vec![tokio::spawn(async move {
            futures::join!(discovery.run(reflector), rights::review(&review));
        })];
        tasks.extend(source.map(|source| tokio::spawn(source.follow(door.clone()))));
        Self {
            door,
            registry,
            shares,
            reviews: Arc::default(),
            _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect(),
        }
    }

    /// What this account may not do, but should: rules to add to its ClusterRole. Known once something needed it, or was reviewed.
    pub fn missing_rights(&self) -> Vec<Right> {
        self.door.rights.missing()
    }

    /// Makes the numbers of this connection visible.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.door.metrics.register(registry);
    }

    async fn read(door: Arc<Door>, key: ObjectKey) -> Result<Option<Object>, ClusterError> {
        let unreachable = |error: &dyn std::fmt::Display| ClusterError::Unreachable(error.to_string());
        let names = [key.namespace.as_deref(), Some(&*key.name)];
        if !names.into_iter().flatten().all(execute::is_segment) {
            return Ok(None);
        }
        let path = execute::path(&key.resource, key.namespace.as_deref(), Some(&key.name), None);
        let request = door::get(&path, "application/json").map_err(|error| unreachable(&error))?;
        let answer = door.call(request).await.map_err(|fault| unreachable(&fault))?;
        if answer.is_success() {
            let object = parse(&key, &answer.body);
            return object.map(Some).map_err(|error| unreachable(&error));
        }
        let refusal = answer.refusal();
        match answer.code {
            404 if refusal.is_status => Ok(None),
            403 if !door.is_settling() => {
                door.rights.report(Right::watch(&key.resource), &refusal.message);
                Err(ClusterError::Refused(refusal.to_status()))
            }
            400..=499 if refusal.is_status && !matches!(answer.code, 401 | 403 | 429) => {
                Err(ClusterError::Refused(refusal.to_status()))
            }
            code => Err(ClusterError::Unreachable(format!("{code} {}", refusal.message))),
        }
    }
}

impl Cluster for KubeCluster {
    /// Answers of 5xx count as silence. Watches are taken up again and again, so this is known even where no node asks anything.
    fn silence(&self) -> Option<Duration> {
        self.door.silence()
    }

    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        follow::follow(self.shares.clone(), scope).boxed()
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        Self::read(self.door.clone(), key).boxed()
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        let door = self.door.clone();
        async move { execute::execute(&door, request).await }.boxed()
    }

    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        let (door, reviews, request) = (self.door.clone(), self.reviews.clone(), request.clone());
        async move { reviews.allows(&door, &request).await }.boxed()
    }

    fn permits(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        let (door, reviews, request) = (self.door.clone(), self.reviews.clone(), request.clone());
        async move { reviews.permits(&door, &request).await }.boxed()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn parse(key: &ObjectKey, answer: &Bytes) -> Result<Object, wire::Garbage> {
    let body = body::kept(std::str::from_utf8(answer)?, &key.resource.api_version(), "")?;
    let object = Object::from_body(key.resource.clone(), body)?;
    if object.key != *key {
        return Err(wire::Garbage::Senseless(format!(
            "{} in place of {key}",
            object.key
        )));
    }
    Ok(object)
}
