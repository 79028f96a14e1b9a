//! A node touches only what is its own.
//!
//! Who asks is known from the connection's certificate, never from the message. The rules are those of Kubernetes' node authorizer
//! and NodeRestriction, as far as an edge needs them. Some of them depend on which pods a node runs; the downstream task knows.
//! What they do not allow, the cluster's own rules may: a role bound to the group `system:nodes`, or to one node's user.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use tower::{Layer, Service, ServiceExt};

use hub_core::api::{ApiRequest, Reason, Status, Target, User, Verb};
use hub_core::message::{Kind, Message, Operation, Subject};
use hub_core::node::{NODES_GROUP, NodeId};
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::rbac::{self, Attributes};
use hub_core::scope::Scope;
use hub_core::selector::FieldSelector;
use hub_core::service::{BoxError, Reply, Request};

use crate::cluster::Cluster;
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
}

impl Authorizer {
    pub(crate) fn new(
        config: Arc<AuthorizationConfig>,
        downstream: Client,
        cluster: Arc<dyn Cluster>,
    ) -> Self {
        Self {
            config,
            downstream,
            cluster,
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
            if !authorizer.resolve(&request.node, decision).await? {
                let route = &request.message.route;
                let forbidden = Forbidden {
                    node: request.node.clone(),
                    operation: route.operation.clone(),
                    resource: route.resource.to_string(),
                };
                if request.capabilities.ack {
                    // Between our own ends a refusal has one form.
                    return Err(forbidden.into());
                }
                let status = Status::failure(Reason::Forbidden, forbidden.to_string());
                return crate::upstream::failed(&request, &status.into());
            }
            inner.oneshot(request).await
        })
    }
}

/// The rules for messages. What is not listed is not of Kubernetes, or only the object says whose it is: its handler decides.
fn of_message(node: &NodeId, message: &Message, config: &AuthorizationConfig) -> Decision {
    let Subject::Object {
        namespace,
        kind,
        name,
    } = message.route.resource.subject()
    else {
        return Decision::Allow;
    };
    let key = |resource: &str| {
        name.map(|name| ObjectKey::new(GroupVersionResource::core(resource), namespace, name))
    };
    let only = |question: Option<Question>| question.map_or(Decision::Deny, Decision::If);
    match kind {
        Kind::Node | Kind::NodeStatus | Kind::NodePatch => allow_if(name == Some(node.as_str())),
        Kind::Lease => allow_if(namespace == Some(LEASES) && name == Some(node.as_str())),
        Kind::Pod if message.route.operation == Operation::Insert => {
            allow_if(is_own_mirror_pod(node, &message.content.document()))
        }
        Kind::Pod | Kind::PodPatch => only(key("pods").map(Question::Runs)),
        // Without a name its handler checks each pod that it reports.
        Kind::PodStatus => key("pods").map_or(Decision::Allow, |pod| Decision::If(Question::Runs(pod))),
        Kind::ConfigMap | Kind::Secret if config.read_all_configs => Decision::Allow,
        Kind::ConfigMap => only(key("configmaps").map(Question::References)),
        Kind::Secret => only(key("secrets").map(Question::References)),
        Kind::PersistentVolumeClaim => only(key("persistentvolumeclaims").map(Question::Claims)),
        Kind::ServiceAccountToken => only(key("serviceaccounts").map(Question::RunsAs)),
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
        // What its mappers should do, as KubeEdge's nodes may say too; not whose the device is.
        ("devices.kubeedge.io", "devices", None)
            if change && &*resource.version == "v1beta1" && keeps_device(node, request) =>
        {
            only(key(name).map(Question::Runs))
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
    let why = match request.target {
        Target::Resource { .. } => "a node may only touch what is its own",
        Target::Path(_) => "",
    };
    rbac::denial(&user(node), &Attributes::of(request, None), why)
}

/// Whether a device that is the node's is so after a change. An apply could make a new one.
fn keeps_device(node: &NodeId, request: &ApiRequest) -> bool {
    if request.content_type.starts_with("application/apply-patch") {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return false;
    };
    let of_object = |body: &Value| match (&body["spec"], request.verb) {
        (Value::Object(spec), verb) => match spec.get("nodeName") {
            Some(named) => *named == node.as_str(),
            None => verb == Verb::Patch,
        },
        (_, verb) => verb == Verb::Patch && body.get("spec").is_none(),
    };
    match &body {
        Value::Array(steps) => steps.iter().all(|step| {
            let path = step["path"].as_str().unwrap_or_default();
            let below = |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
            // A step out of a place takes it away there.
            let from_spec = step["from"]
                .as_str()
                .is_some_and(|from| from.starts_with("/spec"));
            !from_spec && (below("/metadata") || below("/spec/properties") || below("/spec/methods"))
        }),
        Value::Object(_) => of_object(&body),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use hub_core::message::{Content, Route};

    fn node() -> NodeId {
        NodeId::new("edge-1").unwrap()
    }

    fn request(verb: Verb, group: &str, path: &str, body: &str) -> ApiRequest {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty() && *part != "-");
        let (namespace, resource, name, subresource) = (next(), next().unwrap(), next(), next());
        let mut request = ApiRequest::resource(
            verb,
            GroupVersionResource::new(group, "v1", resource),
            namespace,
            name,
        )
        .with_body("application/json", body.to_owned());
        if let Some(subresource) = subresource {
            request = request.with_subresource(subresource);
        }
        request.query = query.into();
        request
    }

    fn key(resource: &str) -> ObjectKey {
        ObjectKey::new(GroupVersionResource::core(resource), Some("d"), "x")
    }

    #[test]
    fn requests_to_the_api() {
        use Decision::{Allow, Deny, If};
        let mirror = r#"{"metadata":{"name":"m","annotations":{"kubernetes.io/config.mirror":"h"}},"spec":{"nodeName":"edge-1"}}"#;
        for (verb, group, path, body, expected) in [
            (Verb::Get, "", "-/nodes/edge-2", "", Allow),
            (Verb::List, "", "-/pods", "", Allow),
            (Verb::Watch, "discovery.k8s.io", "-/endpointslices", "", Allow),
            (
                Verb::Get,
                "",
                "d/secrets/x",
                "",
                If(Question::References(key("secrets"))),
            ),
            (
                Verb::Get,
                "",
                "d/configmaps/x",
                "",
                If(Question::References(key("configmaps"))),
            ),
            (
                Verb::List,
                "",
                "d/secrets?fieldSelector=metadata.name%3Dx",
                "",
                If(Question::References(key("secrets"))),
            ),
            (Verb::List, "", "d/secrets", "", Deny),
            (Verb::Watch, "", "-/configmaps", "", Deny),
            (Verb::Get, "", "d/pods/x/exec", "", Deny),
            (
                Verb::Create,
                "",
                "-/nodes",
                r#"{"metadata":{"name":"edge-1"}}"#,
                Allow,
            ),
            (
                Verb::Create,
                "",
                "-/nodes",
                r#"{"metadata":{"name":"edge-2"}}"#,
                Deny,
            ),
            (Verb::Patch, "", "-/nodes/edge-1/status", "{}", Allow),
            (Verb::Patch, "", "-/nodes/edge-2/status", "{}", Deny),
            (Verb::Delete, "", "-/nodes/edge-1", "", Deny),
            (
                Verb::Update,
                "coordination.k8s.io",
                "kube-node-lease/leases/edge-1",
                "{}",
                Allow,
            ),
            (
                Verb::Update,
                "coordination.k8s.io",
                "kube-node-lease/leases/edge-2",
                "{}",
                Deny,
            ),
            (
                Verb::Update,
                "coordination.k8s.io",
                "kube-system/leases/edge-1",
                "{}",
                Deny,
            ),
            (Verb::Delete, "", "d/pods/x", "", If(Question::Runs(key("pods")))),
            (
                Verb::Patch,
                "",
                "d/pods/x/status",
                "{}",
                If(Question::Runs(key("pods"))),
            ),
            (Verb::Patch, "", "d/pods/x", "{}", Deny),
            (
                Verb::Create,
                "",
                "d/pods/x/eviction",
                "{}",
                If(Question::Runs(key("pods"))),
            ),
            (Verb::Create, "", "d/pods", mirror, Allow),
            (
                Verb::Create,
                "",
                "d/pods",
                r#"{"metadata":{"name":"m"},"spec":{"nodeName":"edge-1"}}"#,
                Deny,
            ),
            (Verb::DeleteCollection, "", "d/pods", "", Deny),
            (Verb::Create, "", "d/events", "{}", Allow),
            (
                Verb::Create,
                "",
                "d/serviceaccounts/x/token",
                "{}",
                If(Question::RunsAs(key("serviceaccounts"))),
            ),
            (Verb::Update, "", "d/secrets/x", "{}", Deny),
            (Verb::Create, "cilium.io", "-/ciliumnodes", "{}", Allow),
            (
                Verb::Create,
                "rbac.authorization.k8s.io",
                "-/clusterrolebindings",
                "{}",
                Deny,
            ),
        ] {
            let request = request(verb, group, path, body);
            assert_eq!(
                of_request(&node(), &request, &AuthorizationConfig::default()),
                expected,
                "{verb} {group} {path}"
            );
        }
    }

    #[test]
    fn a_node_says_what_its_devices_should_do_and_not_whose_they_are() {
        let decided = |verb, path: &str, body: &str| {
            let request = request(verb, "devices.kubeedge.io", path, body);
            let version = |request: ApiRequest| match request.target {
                Target::Resource {
                    resource,
                    namespace,
                    name,
                    subresource,
                } => ApiRequest {
                    target: Target::Resource {
                        resource: GroupVersionResource::new(resource.group, "v1beta1", resource.resource),
                        namespace,
                        name,
                        subresource,
                    },
                    ..request
                },
                Target::Path(_) => request,
            };
            of_request(&node(), &version(request), &AuthorizationConfig::default())
        };
        let device = ObjectKey::new(
            GroupVersionResource::new("devices.kubeedge.io", "v1beta1", "devices"),
            Some("d"),
            "x",
        );
        let own = Decision::If(Question::Runs(device));
        for (verb, body) in [
            (Verb::Update, r#"{"spec":{"nodeName":"edge-1","properties":[]}}"#),
            (Verb::Patch, r#"{"spec":{"properties":[]}}"#),
            (Verb::Patch, r#"{"metadata":{"labels":{"a":"b"}}}"#),
            (
                Verb::Patch,
                r#"[{"op":"replace","path":"/spec/properties/0/desired/value","value":"1"}]"#,
            ),
        ] {
            assert_eq!(decided(verb, "d/devices/x", body), own, "{body}");
        }
        for (verb, body) in [
            (Verb::Update, r#"{"spec":{"nodeName":"edge-2"}}"#),
            (Verb::Update, r#"{"spec":{}}"#),
            (Verb::Update, "{}"),
            (Verb::Patch, r#"{"spec":{"nodeName":"edge-2"}}"#),
            (Verb::Patch, r#"{"spec":{"nodeName":null}}"#),
            (Verb::Patch, r#"{"spec":null}"#),
            (
                Verb::Patch,
                r#"[{"op":"replace","path":"/spec/nodeName","value":"edge-2"}]"#,
            ),
            (Verb::Patch, r#"[{"op":"remove","path":"/spec"}]"#),
            (
                Verb::Patch,
                r#"[{"op":"move","from":"/spec/nodeName","path":"/metadata/labels/a"}]"#,
            ),
            (Verb::Patch, "no json"),
            (
                Verb::Create,
                r#"{"metadata":{"name":"x"},"spec":{"nodeName":"edge-1"}}"#,
            ),
            (Verb::Delete, ""),
        ] {
            assert_eq!(decided(verb, "d/devices/x", body), Decision::Deny, "{body}");
        }
    }

    #[test]
    fn messages() {
        use Decision::{Allow, Deny, If};
        for (operation, resource, expected) in [
            ("update", "kube-node-lease/lease/edge-1", Allow),
            ("update", "kube-node-lease/lease/edge-2", Deny),
            ("insert", "null/node/edge-1", Allow),
            ("patch", "null/nodepatch/edge-2", Deny),
            ("patch", "d/podpatch/x", If(Question::Runs(key("pods")))),
            ("delete", "d/pod/x", If(Question::Runs(key("pods")))),
            ("insert", "d/pod/x", Deny),
            ("query", "d/secret/x", If(Question::References(key("secrets")))),
            ("query", "d/secret", Deny),
            (
                "query",
                "d/persistentvolumeclaim/x",
                If(Question::Claims(key("persistentvolumeclaims"))),
            ),
            (
                "query",
                "d/serviceaccounttoken/x",
                If(Question::RunsAs(key("serviceaccounts"))),
            ),
            ("get", "membership/detail", Allow),
            ("upload", "a/topic/of/theirs", Allow),
        ] {
            let route = Route::new("edged", "meta", operation.into(), resource);
            let message = Message::new(route, Content::null());
            assert_eq!(
                of_message(&node(), &message, &AuthorizationConfig::default()),
                expected,
                "{operation} {resource}"
            );
        }
    }

    #[test]
    fn a_refusal_reads_as_an_api_server_writes_it() {
        let status = forbidden(&node(), &request(Verb::Delete, "apps", "d/deployments/web", ""));
        assert_eq!(status.code, 403);
        assert!(status.message.starts_with(
            "deployments.apps \"web\" is forbidden: User \"system:node:edge-1\" cannot delete resource \"deployments\" in API group \"apps\" in the namespace \"d\""
        ), "{}", status.message);
    }
}
