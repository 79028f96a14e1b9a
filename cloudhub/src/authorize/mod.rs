//! A node touches only what is its own.
//!
//! Who asks is known from the connection's certificate, never from the message. What the [`rules`] do not allow, the cluster's own
//! rules may: a role bound to the group `system:nodes`, or to one node's user. A request may also be made for one of the node's
//! [`callers`].

mod callers;
mod claims;
mod rules;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{Layer, Service, ServiceExt};

use hub_core::api::{ApiRequest, Reason, Status, Target, User, Verb};
use hub_core::message::Operation;
use hub_core::node::{NODES_GROUP, NodeId};
use hub_core::rbac::{self, Attributes};
use hub_core::scope::Scope;
use hub_core::service::{BoxError, Reply, Request};

use crate::cluster::{Cluster, ClusterError};
use crate::config::AuthorizationConfig;
use crate::downstream::{Client, Question};
use crate::metrics::HubMetrics;
use callers::account_of;
use claims::is_bound_to;
use rules::{Decision, of_message, of_request};

/// The node may not do this.
#[derive(Debug, thiserror::Error)]
#[error("node {node} may not {operation} {resource}")]
pub(crate) struct Forbidden {
    node: NodeId,
    operation: Operation,
    resource: String,
}

/// Who a node is for the cluster.
pub(crate) fn user(node: &NodeId) -> User {
    User {
        name: node.user_name(),
        groups: vec![NODES_GROUP.into(), "system:authenticated".into()],
        ..User::default()
    }
}

/// Decides, asking the downstream task where that is needed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorizer {
    config: Arc<AuthorizationConfig>,
    downstream: Client,
    cluster: Arc<dyn Cluster>,
    metrics: Arc<HubMetrics>,
}

impl Authorizer {
    pub(crate) fn new(
        config: Arc<AuthorizationConfig>,
        downstream: Client,
        cluster: Arc<dyn Cluster>,
        metrics: Arc<HubMetrics>,
    ) -> Self {
        Self {
            config,
            downstream,
            cluster,
            metrics,
        }
    }

    /// Whether a node may have a request executed. The refusal is the answer of an API server.
    pub(crate) async fn check(&self, node: &NodeId, request: &ApiRequest) -> Result<(), Status> {
        if self.config.unrestricted_requests {
            return Ok(());
        }
        match self.resolve(node, of_request(node, request, &self.config)).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let mut request = request.clone();
                request.user = Some(user(node));
                if self.cluster.allows(&request).await {
                    return Ok(());
                }
                Err(forbidden(node, &request))
            }
            Err(_) => Err(Status::failure(Reason::ServiceUnavailable, "the hub is stopping")),
        }
    }

    /// Whether a node may subscribe to a scope: for itself, or because a service account as which one of its pods runs may list and
    /// watch it. The node could have that account's token, and so gains nothing.
    pub(crate) async fn check_scope(&self, node: &NodeId, scope: &Scope) -> Result<(), Status> {
        let request = |verb| {
            let (namespace, name) = (scope.namespace.as_deref(), scope.name.as_deref());
            let mut request = ApiRequest::resource(verb, scope.resource.clone(), namespace, name);
            if !scope.fields.is_empty() {
                request.query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("fieldSelector", &scope.fields)
                    .finish();
            }
            request
        };
        let Err(refused) = self.check(node, &request(Verb::Watch)).await else {
            return Ok(());
        };
        for account in self.downstream.accounts(node).await.unwrap_or_default() {
            let Some(account) = account_of(node, &account) else {
                continue;
            };
            let list = self.permitted(&account, &request(Verb::List)).await;
            if list.is_ok() && self.permitted(&account, &request(Verb::Watch)).await.is_ok() {
                return Ok(());
            }
        }
        Err(refused)
    }

    /// Whether a node may send a message. A denial is final, so it may not come of what this instance has not heard yet: of a pod
    /// that another instance told the node about, the cluster itself says whose it is.
    async fn may_send(&self, node: &NodeId, decision: Decision) -> Result<bool, BoxError> {
        let pod = match &decision {
            Decision::If(Question::Runs(pod)) => Some(pod.clone()),
            _ => None,
        };
        if self.resolve(node, decision).await? {
            return Ok(true);
        }
        let Some(pod) = pod else { return Ok(false) };
        match self.cluster.get(pod).await {
            Ok(found) => Ok(found.is_none_or(|pod| is_bound_to(node, &pod.body))),
            Err(ClusterError::Refused(_)) => Ok(false),
            Err(error @ ClusterError::Unreachable(_)) => Err(error.into()),
        }
    }

    pub(crate) fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }

    pub(crate) async fn resolve(
        &self,
        node: &NodeId,
        decision: Decision,
    ) -> Result<bool, crate::downstream::Stopping> {
        match decision {
            Decision::Allow => Ok(true),
            Decision::Deny => Ok(false),
            Decision::If(question) => self.downstream.holds(node, question).await,
        }
    }
}

impl<S> Layer<S> for Authorizer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize {
            inner,
            authorizer: self.clone(),
        }
    }
}

/// Lets messages pass that their node may send.
#[derive(Clone)]
pub(crate) struct Authorize<S> {
    inner: S,
    authorizer: Authorizer,
}

impl<S> Service<Request> for Authorize<S>
where
    S: Service<Request, Response = Reply, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (inner, authorizer) = (self.inner.clone(), self.authorizer.clone());
        Box::pin(async move {
            let decision = of_message(&request.node, &request.message, &authorizer.config);
            if !authorizer.may_send(&request.node, decision).await? {
                let route = &request.message.route;
                let forbidden = Forbidden {
                    node: request.node.clone(),
                    operation: route.operation.clone(),
                    resource: route.resource.to_string(),
                };
                // An answer, and no failure of the handler, which the edge would take for a reason to try again.
                let status = Status::failure(Reason::Forbidden, forbidden.to_string());
                return crate::upstream::failed(&authorizer.metrics, &request, &status.into());
            }
            inner.oneshot(request).await
        })
    }
}

fn forbidden(node: &NodeId, request: &ApiRequest) -> Status {
    let why = match request.target {
        Target::Resource { .. } => "a node may only touch what is its own",
        Target::Path(_) => "",
    };
    rbac::denial(&user(node), &Attributes::of(request, None), why)
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;

    use super::*;

    #[test]
    fn a_refusal_reads_as_an_api_server_writes_it() {
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        let delete = ApiRequest::resource(Verb::Delete, deployments, Some("d"), Some("web"));
        let status = forbidden(&NodeId::new("edge-1").unwrap(), &delete);
        assert_eq!(status.code, 403);
        assert!(status.message.starts_with(
            "deployments.apps \"web\" is forbidden: User \"system:node:edge-1\" cannot delete resource \"deployments\" in API group \"apps\" in the namespace \"d\""
        ), "{}", status.message);
    }
}
