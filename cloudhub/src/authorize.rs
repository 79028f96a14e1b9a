//! A node touches only what is its own.
//!
//! Who asks is known from the connection's certificate, never from the message. The rules are those of Kubernetes' node authorizer
//! and NodeRestriction, as far as an edge needs them. Some of them depend on which pods a node runs; the downstream task knows.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use serde::Deserialize;
use tower::{Layer, Service, ServiceExt};

use hub_core::api::{ApiRequest, Reason, Status, Target, Verb};
use hub_core::message::{Message, Operation};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::scope::Scope;
use hub_core::selector::FieldSelector;
use hub_core::service::{BoxError, Reply, Request};

use crate::config::AuthorizationConfig;
use crate::downstream::{Client, Question};

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny,
    /// It depends on the node's pods.
    If(Question),
}

/// The node may not do this.
#[derive(Debug, thiserror::Error)]
#[error("node {node} may not {operation} {resource}")]
pub(crate) struct Forbidden {
    node: NodeId,
    operation: Operation,
    resource: String,
}

/// Decides, asking the downstream task where that is needed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorizer {
    config: Arc<AuthorizationConfig>,
    downstream: Client,
}

impl Authorizer {
    pub(crate) fn new(config: Arc<AuthorizationConfig>, downstream: Client) -> Self {
        Self { config, downstream }
    }

    /// Whether a node may have a request executed. The refusal is the answer of an API server.
    pub(crate) async fn check(&self, node: &NodeId, request: &ApiRequest) -> Result<(), Status> {
        match self.resolve(node, of_request(node, request, &self.config)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(forbidden(node, request)),
            Err(_) => Err(Status::failure(Reason::ServiceUnavailable, "the hub is stopping")),
        }
    }

    /// Whether a node may subscribe to a scope.
    pub(crate) async fn check_scope(&self, node: &NodeId, scope: &Scope) -> Result<(), Status> {
        let mut request = ApiRequest::resource(
            Verb::Watch,
            scope.resource.clone(),
            scope.namespace.as_deref(),
            scope.name.as_deref(),
        );
        if !scope.fields.is_empty() {
            request.query = form_urlencoded::Serializer::new(String::new())
                .append_pair("fieldSelector", &scope.fields)
                .finish();
        }
        self.check(node, &request).await
    }

    async fn resolve(&self, node: &NodeId, decision: Decision) -> Result<bool, crate::downstream::Stopping> {
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
            if !authorizer.resolve(&request.node, decision).await? {
                let route = &request.message.route;
                return Err(Forbidden {
                    node: request.node.clone(),
                    operation: route.operation.clone(),
                    resource: route.resource.to_string(),
                }
                .into());
            }
            inner.oneshot(request).await
        })
    }
}

/// The rules for messages. What is not listed is not of Kubernetes, and its handler decides.
fn of_message(node: &NodeId, message: &Message, config: &AuthorizationConfig) -> Decision {
    let Some(parts) = message.route.resource.parts() else {
        return Decision::Allow;
    };
    let key = |resource: &str| {
        parts
            .name
            .map(|name| ObjectKey::new(GroupVersionResource::core(resource), parts.namespace, name))
    };
    let only = |question: Option<Question>| question.map_or(Decision::Deny, Decision::If);
    match parts.kind {
        "node" | "nodestatus" | "nodepatch" => allow_if(parts.name == Some(node.as_str())),
        "lease" => allow_if(parts.namespace == Some(LEASES) && parts.name == Some(node.as_str())),
        "pod" if message.route.operation == Operation::Insert => {
            allow_if(is_own_mirror_pod(node, &message.content.document()))
        }
        "pod" | "podpatch" => only(key("pods").map(Question::Runs)),
        // Without a name its handler checks each pod that it reports.
        "podstatus" => key("pods").map_or(Decision::Allow, |pod| Decision::If(Question::Runs(pod))),
        "configmap" | "secret" if config.read_all_configs => Decision::Allow,
        "configmap" => only(key("configmaps").map(Question::References)),
        "secret" => only(key("secrets").map(Question::References)),
        "persistentvolumeclaim" => only(key("persistentvolumeclaims").map(Question::Claims)),
        "serviceaccounttoken" => only(key("serviceaccounts").map(Question::RunsAs)),
        _ => Decision::Allow,
    }
}

/// The rules for requests to the API.
fn of_request(node: &NodeId, request: &ApiRequest, config: &AuthorizationConfig) -> Decision {
    let Target::Resource {
        resource,
        namespace,
        name,
        subresource,
    } = &request.target
    else {
        return allow_if(request.verb.is_read());
    };
    let (verb, subresource) = (request.verb, subresource.as_deref());
    let me = Some(node.as_str());
    let named = || match verb {
        Verb::Create => body_name(&request.body),
        _ => name.as_deref().map(str::to_owned),
    };
    let key = |name: &Option<Arc<str>>| {
        name.as_ref().map(|name| ObjectKey {
            resource: resource.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        })
    };
    let only = |question: Option<Question>| question.map_or(Decision::Deny, Decision::If);
    let change = matches!(verb, Verb::Update | Verb::Patch);
    let is_core = resource.group.is_empty();
    if verb.is_read() {
        return match &*resource.resource {
            "configmaps" | "secrets" if is_core && !config.read_all_configs => {
                let name = name.clone().or_else(|| selected_name(&request.query));
                only(
                    key(&name)
                        .filter(|key| key.namespace.is_some())
                        .map(Question::References),
                )
            }
            // These are doors into other machines.
            _ => allow_if(subresource.is_none_or(|s| matches!(s, "status" | "scale" | "log"))),
        };
    }
    match (&*resource.group, &*resource.resource, subresource) {
        ("", "nodes", None | Some("status")) => {
            allow_if((change || verb == Verb::Create) && named().as_deref() == me)
        }
        ("coordination.k8s.io", "leases", None) => {
            allow_if(namespace.as_deref() == Some(LEASES) && named().as_deref() == me)
        }
        ("storage.k8s.io", "csinodes", None) => allow_if(named().as_deref() == me),
        ("", "pods", None) if verb == Verb::Create => allow_if(is_own_mirror_pod(node, &request.body)),
        ("", "pods", None) if verb == Verb::Delete => only(key(name).map(Question::Runs)),
        ("", "pods", Some("status")) if change => only(key(name).map(Question::Runs)),
        ("", "pods", Some("eviction")) if verb == Verb::Create => only(key(name).map(Question::Runs)),
        ("" | "events.k8s.io", "events", None) => allow_if(change || verb == Verb::Create),
        ("", "serviceaccounts", Some("token")) if verb == Verb::Create => {
            only(key(name).map(Question::RunsAs))
        }
        ("certificates.k8s.io", "certificatesigningrequests", None)
        | ("authentication.k8s.io", "tokenreviews", None)
        | ("authorization.k8s.io", "subjectaccessreviews" | "selfsubjectaccessreviews", None) => {
            allow_if(verb == Verb::Create)
        }
        (group, ..) => allow_if(config.write_groups.iter().any(|known| &**known == group)),
    }
}

fn allow_if(condition: bool) -> Decision {
    if condition {
        Decision::Allow
    } else {
        Decision::Deny
    }
}

fn forbidden(node: &NodeId, request: &ApiRequest) -> Status {
    let user = node.user_name();
    let Target::Resource {
        resource,
        namespace,
        name,
        subresource,
    } = &request.target
    else {
        let Target::Path(path) = &request.target else {
            return Status::failure(Reason::Forbidden, "forbidden");
        };
        let text = format!("forbidden: User {user:?} cannot {} path {path:?}", request.verb);
        return Status::failure(Reason::Forbidden, text);
    };
    let mut what = resource.resource.to_string();
    if let Some(subresource) = subresource {
        what = format!("{what}/{subresource}");
    }
    let shown = if resource.group.is_empty() {
        resource.resource.to_string()
    } else {
        format!("{}.{}", resource.resource, resource.group)
    };
    let name = name.as_deref().unwrap_or("");
    let about = if name.is_empty() {
        shown
    } else {
        format!("{shown} {name:?}")
    };
    let place = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let text = format!(
        "{about} is forbidden: User {user:?} cannot {} resource {what:?} in API group {:?} {place}: a node may only touch what is its own",
        request.verb, &*resource.group
    );
    Status::failure(Reason::Forbidden, text).about(&resource.group, &resource.resource, name)
}

fn body_name(body: &[u8]) -> Option<String> {
    Metadata::parse(body)
        .ok()
        .map(|metadata| metadata.name.into_owned())
}

/// The one name that a field selector asks for.
fn selected_name(query: &str) -> Option<Arc<str>> {
    let (_, text) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "fieldSelector")?;
    FieldSelector::parse(&text)
        .ok()?
        .required("metadata.name")
        .map(Into::into)
}

/// Whether this is the image of a pod that the node runs by its own manifest (NodeRestriction).
fn is_own_mirror_pod(node: &NodeId, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Pod {
        metadata: Annotated,
        spec: Bound,
    }
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bound {
        node_name: String,
    }
    serde_json::from_slice::<Pod>(body).is_ok_and(|pod| {
        pod.spec.node_name == node.as_str()
            && pod
                .metadata
                .annotations
                .contains_key("kubernetes.io/config.mirror")
    })
}

/// Where the leases of nodes live.
const LEASES: &str = "kube-node-lease";
