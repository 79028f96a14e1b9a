//! What nodes report and ask, executed on the cluster as that node (tunnel specification §6.3).

mod answer;
mod api;
mod device;
mod device_status;
mod event;
mod lease;
mod marks;
mod node;
mod pod;
mod query;

use std::future::Future;
use std::sync::Arc;

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, UpstreamError};
use hub_core::application::SOURCE_EDGE;
use hub_core::message::{Operation, ResourceParts};
use hub_core::node::NodeId;
use hub_core::service::{BoxError, Matcher, Reply, Request, Router};

use crate::authorize::{self, Authorizer};
use crate::cluster::Cluster;
use crate::config::CloudHubConfig;
use crate::downstream::Client;
use crate::metrics::HubMetrics;
use crate::sessions::Sessions;

pub(crate) use answer::failed;
pub(crate) use marks::mark_nodes;

/// What the handlers work with.
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) downstream: Client,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) authorizer: Authorizer,
    pub(crate) config: Arc<CloudHubConfig>,
    pub(crate) metrics: Arc<HubMetrics>,
}

/// All handlers.
pub(crate) fn routes(upstream: &Arc<Upstream>) -> Router {
    let of = |kind: &str, operation: Operation| Matcher::any().kind(kind).operation(operation);
    let mut router = crate::sync::routes(upstream);
    router = route(router, Matcher::any().source(SOURCE_EDGE), upstream, api::handle);
    router = route(
        router,
        Matcher::any().prefix("membership/detail"),
        upstream,
        device::membership,
    );
    let report = |suffix| Matcher::any().prefix("device/").suffix(suffix);
    router = route(router, report("/twin/edge_updated"), upstream, device::twin);
    router = route(router, report("/state/update"), upstream, device::state);
    router = route(
        router,
        Matcher::any().prefix("twin/reports"),
        upstream,
        device::reports,
    );
    router = route(
        router,
        Matcher::any().prefix("k8s/ca.crt"),
        upstream,
        query::cluster_ca,
    );

    router = route(router, of("node", Operation::Insert), upstream, node::insert);
    router = route(router, of("node", Operation::Update), upstream, node::update);
    router = route(router, of("node", Operation::Query), upstream, query::object);
    router = route(
        router,
        of("nodepatch", Operation::Patch),
        upstream,
        node::patch_status,
    );
    router = route(
        router,
        Matcher::any().kind("nodestatus"),
        upstream,
        node::legacy_status,
    );

    router = route(router, of("lease", Operation::Insert), upstream, lease::insert);
    router = route(router, of("lease", Operation::Update), upstream, lease::update);
    router = route(router, of("lease", Operation::Query), upstream, lease::query);

    router = route(
        router,
        of("podpatch", Operation::Patch),
        upstream,
        pod::patch_status,
    );
    router = route(
        router,
        Matcher::any().kind("podstatus"),
        upstream,
        pod::legacy_status,
    );
    router = route(router, of("pod", Operation::Insert), upstream, pod::insert);
    router = route(router, of("pod", Operation::Delete), upstream, pod::delete);

    router = route(router, Matcher::any().kind("event"), upstream, event::handle);

    for kind in [
        "configmap",
        "secret",
        "persistentvolume",
        "persistentvolumeclaim",
        "volumeattachment",
    ] {
        router = route(router, of(kind, Operation::Query), upstream, query::object);
    }
    for operation in [Operation::Insert, Operation::Delete] {
        router = route(router, of("volumeattachment", operation), upstream, query::attach);
    }
    router = route(
        router,
        of("serviceaccounttoken", Operation::Query),
        upstream,
        query::token,
    );
    router = route(
        router,
        of("certificatesigningrequest", Operation::Insert),
        upstream,
        query::request_certificate,
    );
    route(
        router,
        of("certificatesigningrequest", Operation::Query),
        upstream,
        query::object,
    )
}

/// Adds a handler that works with [`Upstream`].
pub(crate) fn route<F, R>(router: Router, matcher: Matcher, upstream: &Arc<Upstream>, handler: F) -> Router
where
    F: Fn(Arc<Upstream>, Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    let upstream = upstream.clone();
    router.route(
        matcher,
        tower::service_fn(move |request| handler(upstream.clone(), request)),
    )
}

impl Upstream {
    /// Executes a request as the node. Where no answer is known, it is one that says so.
    async fn execute(&self, node: &NodeId, mut request: ApiRequest) -> ApiResponse {
        request.user = Some(authorize::user(node));
        self.executed(request).await
    }

    /// Executes a request as the hub itself.
    async fn execute_as_hub(&self, request: ApiRequest) -> ApiResponse {
        self.executed(request).await
    }

    async fn executed(&self, request: ApiRequest) -> ApiResponse {
        self.cluster.execute(request).await.unwrap_or_else(|error| {
            let reason = match error {
                UpstreamError::Unreachable | UpstreamError::Overloaded => Reason::ServiceUnavailable,
                UpstreamError::Timeout => Reason::Timeout,
                UpstreamError::Protocol(_) => Reason::InternalError,
            };
            Status::failure(reason, format!("the cluster gave no answer: {error}")).into()
        })
    }
}

/// The resource of a message, taken apart; an object's name is needed.
fn object_of(request: &Request) -> Result<(ResourceParts<'_>, &str), BoxError> {
    let resource = &request.message.route.resource;
    let parts = resource
        .parts()
        .ok_or_else(|| format!("{resource} names no object"))?;
    let name = parts.name.ok_or_else(|| format!("{resource} names no object"))?;
    Ok((parts, name))
}
