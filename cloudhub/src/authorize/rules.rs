//! What a node may send and ask: the rules of Kubernetes' node authorizer and NodeRestriction, as far as an edge needs them. Some of
//! them depend on which pods a node runs; the downstream task knows.

use std::sync::Arc;

use hub_core::api::{ApiRequest, Target, Verb};
use hub_core::message::{Kind, Message, Operation, Subject};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::selector::FieldSelector;

use super::claims::{body_name, is_own_mirror_pod, keeps_device};
use crate::config::AuthorizationConfig;
use crate::downstream::Question;

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny,
    /// It depends on the node's pods.
    If(Question),
}

/// The rules for messages. What is not listed is not of Kubernetes, or only the object says whose it is: its handler decides.
pub(super) fn of_message(node: &NodeId, message: &Message, config: &AuthorizationConfig) -> Decision {
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
pub(super) fn of_request(node: &NodeId, request: &ApiRequest, config: &AuthorizationConfig) -> Decision {
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
                let name = name.clone().or_else(|| selected(&request.query, "metadata.name"));
                only(
                    key(&name)
                        .filter(|key| key.namespace.is_some())
                        .map(Question::References),
                )
            }
            // As Kubernetes' node authorizer has it since 1.32 (`authorizePod`).
            "pods" if is_core && !config.read_all_pods => {
                if subresource.is_some_and(|subresource| !matches!(subresource, "status" | "log")) {
                    return Decision::Deny;
                }
                if subresource.is_none() && selected(&request.query, "spec.nodeName").as_deref() == me {
                    return Decision::Allow;
                }
                let name = name.clone().or_else(|| selected(&request.query, "metadata.name"));
                only(
                    key(&name)
                        .filter(|key| key.namespace.is_some())
                        .map(Question::Runs),
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

/// The one value of a field that a field selector asks for.
fn selected(query: &str, field: &str) -> Option<Arc<str>> {
    let (_, text) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "fieldSelector")?;
    FieldSelector::parse(&text).ok()?.required(field).map(Into::into)
}

/// Where the leases of nodes live.
const LEASES: &str = "kube-node-lease";

#[cfg(test)]
mod tests {
    use hub_core::message::{Content, Route};

    use super::*;

    fn node() -> NodeId {
        NodeId::new("edge-1").unwrap()
    }

    fn request(verb: Verb, group: &str, path: &str, body: &str) -> ApiRequest {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty() && *part != "-");
        let (namespace, resource, name, subresource) = (next(), next().unwrap(), next(), next());
        let version = match group {
            "devices.kubeedge.io" => "v1beta1",
            _ => "v1",
        };
        let mut request = ApiRequest::resource(
            verb,
            GroupVersionResource::new(group, version, resource),
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
    fn where_others_pods_are_not_its_to_read_a_node_selects_its_own() {
        use Decision::{Allow, Deny, If};
        let config = AuthorizationConfig {
            read_all_pods: false,
            ..AuthorizationConfig::default()
        };
        let runs = || If(Question::Runs(key("pods")));
        for (verb, path, expected) in [
            (Verb::List, "-/pods?fieldSelector=spec.nodeName%3Dedge-1", Allow),
            (
                Verb::Watch,
                "d/pods?fieldSelector=status.phase%3DRunning,spec.nodeName%3Dedge-1",
                Allow,
            ),
            (Verb::Watch, "-/pods?fieldSelector=spec.nodeName%3Dedge-2", Deny),
            (Verb::Watch, "-/pods?fieldSelector=spec.nodeName!%3Dedge-1", Deny),
            (Verb::Watch, "-/pods", Deny),
            (Verb::List, "d/pods", Deny),
            (Verb::Get, "d/pods/x", runs()),
            (Verb::Watch, "d/pods?fieldSelector=metadata.name%3Dx", runs()),
            (Verb::Get, "d/pods/x/log", runs()),
            (Verb::Watch, "-/services", Allow),
        ] {
            let request = request(verb, "", path, "");
            assert_eq!(
                of_request(&node(), &request, &config),
                expected,
                "{verb:?} {path}"
            );
            let open = of_request(&node(), &request, &AuthorizationConfig::default());
            assert_eq!(open, Allow, "{verb:?} {path}");
        }
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
    fn a_node_changes_its_devices_and_neither_makes_nor_deletes_them() {
        let decided = |verb| {
            let body = r#"{"spec":{"nodeName":"edge-1"}}"#;
            let request = request(verb, "devices.kubeedge.io", "d/devices/x", body);
            of_request(&node(), &request, &AuthorizationConfig::default())
        };
        let devices = GroupVersionResource::new("devices.kubeedge.io", "v1beta1", "devices");
        let device = ObjectKey::new(devices, Some("d"), "x");
        for verb in [Verb::Update, Verb::Patch] {
            assert_eq!(decided(verb), Decision::If(Question::Runs(device.clone())));
        }
        for verb in [Verb::Create, Verb::Delete] {
            assert_eq!(decided(verb), Decision::Deny);
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
}
