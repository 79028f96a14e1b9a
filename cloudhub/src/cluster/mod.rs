//! The Kubernetes that the cloud half speaks for.
//!
//! [`Cluster`] is the only door: the hub watches scopes, reads objects by name, and executes requests on behalf of its nodes.
//! [`KubeCluster`] is a Kubernetes API server. [`EmbeddedCluster`] is a durable cluster in this process, for those who have no other.
//!
//! ```text
//!  downstream ── watch(scope) ──►┐            ┌── EmbeddedCluster (SQLite)
//!  upstream ──── execute(req) ──►│ Cluster  ──┤
//!  queries ───── get(key) ──────►┘            └── KubeCluster (a real API server)
//! ```

mod embedded;
#[cfg(feature = "kube")]
mod kube;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hub_core::api::{ApiRequest, ApiResponse, Status, UpstreamError};
use hub_core::object::{Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;

pub use embedded::{EmbeddedCluster, EmbeddedConfig, OpenError};
#[cfg(feature = "kube")]
pub use kube::{ConnectError, Credentials, KubeCluster, KubeClusterConfig, Right};

/// A Kubernetes cluster, as far as the hub needs one.
pub trait Cluster: Send + Sync + 'static {
    /// What is in a scope now, then [`Synced`](ClusterEvent::Synced), then what changes, until the stream is dropped.
    ///
    /// The stream heals itself: where changes may have been missed it begins again with
    /// [`Restarted`](ClusterEvent::Restarted). It ends only after [`Refused`](ClusterEvent::Refused), or with the cluster.
    /// Bodies are shared: a thousand watches of one object hold one copy of it.
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent>;

    /// One object, as new as the cluster has it. None when it does not exist.
    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>>;

    /// Executes any request but a watch as `request.user`. A failure that the cluster reports is an answer; an error means that no
    /// answer is known.
    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>>;

    /// Whether the cluster's own rules let `request.user` have this. Asked where the rules for nodes do not allow it.
    /// A cluster without rules of its own has nothing to add to those.
    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        let _ = request;
        Box::pin(futures::future::ready(false))
    }

    /// Whether the cluster's own rules let `request.user` have this, asked where it will not be executed in that name, so that no
    /// API server decides later. A cluster without rules of its own permits nothing.
    fn permits(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        self.allows(request)
    }

    /// For how long the cluster has answered nothing, or only that something is wrong with it. None while it is there; a cluster in this
    /// process always is.
    fn silence(&self) -> Option<Duration> {
        None
    }

    /// The kinds that the cluster has, kept up to date by it.
    fn registry(&self) -> &Registry;
}

/// Whoever holds a cluster with others.
impl<C: Cluster + ?Sized> Cluster for Arc<C> {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        (**self).watch(scope)
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        (**self).get(key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        (**self).execute(request)
    }

    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        (**self).allows(request)
    }

    fn permits(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        (**self).permits(request)
    }

    fn silence(&self) -> Option<Duration> {
        (**self).silence()
    }

    fn registry(&self) -> &Registry {
        (**self).registry()
    }
}

/// A step of a [watch](Cluster::watch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// The object is in the scope, and now looks like this.
    Applied {
        /// The object.
        object: Object,
        /// The body it had before, where the cluster knows it; for sending differences.
        previous: Option<Bytes>,
    },
    /// The object is gone, or does not match the scope any more.
    Deleted {
        /// Its last state, with the version that the deletion has.
        object: Object,
    },
    /// Changes may have been missed. All objects of the scope follow, then [`Synced`](Self::Synced); what was not named between
    /// the two is gone.
    Restarted,
    /// All objects of the scope have been named.
    Synced {
        /// The version of which they are, at least: what is not among them is gone since then at the latest. 0 where versions are no
        /// numbers.
        as_of: u64,
    },
    /// The cluster will not have this watch: the scope makes no sense, or is forbidden. The end of the stream.
    Refused(Status),
}

/// The object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The cluster cannot be reached. Its move: try again later.
    #[error("the cluster cannot be reached: {0}")]
    Unreachable(String),
    /// The cluster refuses. The caller's move.
    #[error("the cluster refused: {}", .0.message)]
    Refused(Status),
}
