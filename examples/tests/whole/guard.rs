//! A node that asks its callers who they are, and a cloud that decides again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cloudhub::cluster::{Cluster as _, EmbeddedCluster, EmbeddedConfig};
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, UpstreamError, Verb};
use hub_core::object::{GroupVersionResource, Object};
use hub_core::rbac;
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{Change, MemoryStore, ObjectStore as _, StoreLimits};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use metaserver::{AuthConfig, MetaConfig, MetaServer, StaticTokens};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tower::{ServiceExt as _, service_fn};

use crate::client::Api;
use crate::world::{CONFIGMAPS, CloudHalf, EdgeHalf, NODE, PODS, Tunnel, config_map, pod, secret, until};

const ACCOUNTS: &str = "/api/v1/namespaces/shop/serviceaccounts";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Asks the node over its Unix socket. The token, if there is one, comes before who the caller runs as.
async fn ask(
    edge: &EdgeHalf,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let stream = UnixStream::connect(edge.folder.path().join("api.sock"))
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "node");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = request
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(body));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A node with a pod that runs as `agent`, who may do everything with the namespace's ConfigMaps.
async fn world() -> (CloudHalf, EdgeHalf) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let api = cloud.api;
    for name in ["agent", "visitor"] {
        api.create(ACCOUNTS, json!({ "metadata": { "name": name } }))
            .await;
    }
    api.create(CONFIGMAPS, config_map("settings", "1")).await;
    api.create("/api/v1/namespaces/shop/secrets", secret("settings"))
        .await;
    let mut runs = pod("agent-1", Some(NODE), "settings", "settings");
    runs["spec"]["serviceAccountName"] = "agent".into();
    api.create(PODS, runs).await;
    let rules = json!([{ "verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"] }]);
    let place = format!("{RBAC}/namespaces/shop");
    api.create(
        &format!("{place}/roles"),
        json!({ "metadata": { "name": "writer" }, "rules": rules }),
    )
    .await;
    for name in ["agent", "visitor"] {
        let subject = json!({ "kind": "ServiceAccount", "name": name, "namespace": "shop" });
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer" });
        let binding = json!({ "metadata": { "name": name }, "roleRef": role, "subjects": [subject] });
        api.create(&format!("{place}/rolebindings"), binding).await;
    }
    let me = std::fs::metadata("/proc/self").unwrap().uid().to_string();
    let edge = cloud
        .edge_with(NODE, &[], |config, folder: &Path| {
            config.feature_gates.require_authorization = true;
            let meta = &mut config.edge_tunnel.meta_server;
            meta.socket = folder.join("api.sock");
            meta.callers = [(me, "node".to_owned())].into();
            config.modules.meta_manager.meta_server.dummy_server = String::new();
            config.modules.meta_manager.meta_server.tls_ca_file = folder.join("ca.crt");
            config.modules.meta_manager.meta_server.tls_cert_file = folder.join("node.crt");
        })
        .await;
    for resource in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let resource = GroupVersionResource::new(rbac::GROUP, "v1", resource);
        edge.complete(&Scope::all(resource)).await;
    }
    until("the pod", async || edge.held("pods", "agent-1")).await;
    (cloud, edge)
}

async fn token(api: Api, account: &str, pod: Option<&str>) -> String {
    let bound = pod.map(|name| json!({ "kind": "Pod", "apiVersion": "v1", "name": name }));
    let request = json!({ "spec": { "boundObjectRef": bound } });
    let answer = api.create(&format!("{ACCOUNTS}/{account}/token"), request).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_pod_acts_as_its_own_account_and_others_only_as_far_as_the_node_may_too() {
    let (cloud, edge) = world().await;
    let agent = token(cloud.api, "agent", Some("agent-1")).await;
    let visitor = token(cloud.api, "visitor", None).await;
    let create = async |token: Option<&str>, name: &str| {
        ask(&edge, token, "POST", CONFIGMAPS, config_map(name, "1")).await
    };

    // The node itself may not, so what it says of its callers alone cannot make it so.
    assert_eq!(create(None, "by-the-node").await.0, StatusCode::FORBIDDEN);
    let (status, made) = create(Some(&agent), "by-the-agent").await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, refused) = create(Some(&visitor), "by-a-visitor").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("a node may only touch what is its own"),
        "{refused}"
    );
    let settings = format!("{CONFIGMAPS}/settings");
    for token in [&agent, &visitor] {
        assert_eq!(
            ask(&edge, Some(token), "GET", &settings, Value::Null).await.0,
            StatusCode::OK
        );
        let secrets = ask(
            &edge,
            Some(token),
            "GET",
            "/api/v1/namespaces/shop/secrets",
            Value::Null,
        )
        .await;
        assert_eq!(secrets.0, StatusCode::FORBIDDEN);
    }
    let review = json!({ "spec": { "resourceAttributes": { "verb": "create", "resource": "configmaps", "namespace": "shop" } } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (_, answer) = ask(&edge, Some(&agent), "POST", path, review).await;
    assert_eq!(answer["status"]["allowed"], true, "{answer}");

    // A role that was taken away stays so without the cloud; a pod that is gone takes its token along.
    cloud
        .api
        .delete(&format!("{RBAC}/namespaces/shop/rolebindings/visitor"))
        .await;
    until("the role's end", async || {
        let (status, _) = ask(&edge, Some(&visitor), "GET", &settings, Value::Null).await;
        (status == StatusCode::FORBIDDEN).then_some(())
    })
    .await;
    edge.cut().await;
    assert_eq!(
        ask(&edge, Some(&visitor), "GET", &settings, Value::Null).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        ask(&edge, Some(&agent), "GET", &settings, Value::Null).await.0,
        StatusCode::OK
    );
    assert_eq!(
        create(Some(&agent), "offline").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    edge.restore().await;
    cloud.api.delete(&format!("{PODS}/agent-1")).await;
    until("the pod's end", async || {
        edge.held("pods", "agent-1").is_none().then_some(())
    })
    .await;
    assert_eq!(
        ask(&edge, Some(&agent), "GET", &settings, Value::Null).await.0,
        StatusCode::UNAUTHORIZED
    );
    edge.end().await;
    cloud.end().await;
}

const USERS: [&str; 2] = ["ann", "bob"];
const NAMESPACES: [&str; 2] = ["a", "b"];
const VERBS: [&str; 4] = ["get", "list", "delete", "*"];
const RESOURCES: [&str; 4] = ["configmaps", "pods", "pods/status", "*"];

/// A role in a namespace or everywhere, somebody who has it, and where they do.
#[derive(Debug, Clone)]
struct Grant {
    verbs: Vec<&'static str>,
    resources: Vec<&'static str>,
    names: Vec<&'static str>,
    cluster_role: bool,
    everywhere: bool,
    namespace: &'static str,
    subject: (&'static str, &'static str),
}

fn grant() -> impl Strategy<Value = Grant> {
    let some = |of: &'static [&'static str]| prop::collection::vec(prop::sample::select(of), 1..3);
    let subjects = [
        ("User", "ann"),
        ("User", "bob"),
        ("Group", "readers"),
        ("Group", "system:authenticated"),
    ];
    (
        some(&VERBS),
        some(&RESOURCES),
        prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["x"])],
        any::<(bool, bool)>(),
        prop::sample::select(&NAMESPACES[..]),
        prop::sample::select(subjects.to_vec()),
    )
        .prop_map(
            |(verbs, resources, names, (cluster_role, everywhere), namespace, subject)| Grant {
                verbs,
                resources,
                names,
                cluster_role: cluster_role || everywhere,
                everywhere,
                namespace,
                subject,
            },
        )
}

impl Grant {
    fn objects(&self, at: usize) -> [(&'static str, Option<&'static str>, Value); 2] {
        let rule = json!({ "verbs": self.verbs, "apiGroups": [""], "resources": self.resources, "resourceNames": self.names });
        let role = json!({ "metadata": { "name": format!("r{at}") }, "rules": [rule] });
        let kind = if self.cluster_role { "ClusterRole" } else { "Role" };
        let binding = json!({ "metadata": { "name": format!("b{at}") },
            "roleRef": { "apiGroup": rbac::GROUP, "kind": kind, "name": format!("r{at}") },
            "subjects": [{ "apiGroup": rbac::GROUP, "kind": self.subject.0, "name": self.subject.1 }] });
        let role = if self.cluster_role {
            ("clusterroles", None, role)
        } else {
            ("roles", Some(self.namespace), role)
        };
        let binding = if self.everywhere {
            ("clusterrolebindings", None, binding)
        } else {
            ("rolebindings", Some(self.namespace), binding)
        };
        [role, binding]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_node_without_a_cloud_says_of_every_request_what_its_cloud_would(grants in prop::collection::vec(grant(), 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(grants));
    }
}

async fn agree(grants: Vec<Grant>) {
    let folder = tempfile::tempdir().unwrap();
    let cluster =
        EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
    for namespace in NAMESPACES {
        let body = json!({ "metadata": { "name": namespace } });
        create(&cluster, GroupVersionResource::core("namespaces"), None, body).await;
    }
    for (at, grant) in grants.iter().enumerate() {
        for (resource, namespace, body) in grant.objects(at) {
            create(
                &cluster,
                GroupVersionResource::new(rbac::GROUP, "v1", resource),
                namespace,
                body,
            )
            .await;
        }
    }
    let node = node_like(&cluster).await;
    for user in USERS {
        for namespace in [Some("a"), Some("b"), None] {
            for (method, verb, resource, name) in [
                ("GET", "get", "configmaps", Some("x")),
                ("GET", "get", "configmaps", Some("y")),
                ("GET", "list", "configmaps", None),
                ("GET", "list", "pods", None),
                ("GET", "get", "pods/status", Some("x")),
                ("DELETE", "delete", "pods", Some("x")),
            ] {
                if namespace.is_none() && name.is_some() {
                    continue;
                }
                let (kind, below) = resource
                    .split_once('/')
                    .map_or((resource, None), |(kind, below)| (kind, Some(below)));
                let attributes = json!({ "verb": verb, "resource": kind, "subresource": below, "namespace": namespace, "name": name });
                let spec = json!({ "user": user, "groups": ["readers", "system:authenticated"], "resourceAttributes": attributes });
                let review = GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
                let said = create(&cluster, review, None, json!({ "spec": spec })).await;

                let mut path = "/api/v1".to_owned();
                for (before, part) in [
                    ("/namespaces/", namespace),
                    ("/", Some(kind)),
                    ("/", name),
                    ("/", below),
                ] {
                    path.extend(part.map(|part| format!("{before}{part}")));
                }
                let request = Request::builder()
                    .method(method)
                    .uri(&path)
                    .header("authorization", format!("Bearer {user}"));
                let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
                let answer = node.service().oneshot(request).await.unwrap();
                assert_eq!(
                    answer.status() != StatusCode::FORBIDDEN,
                    said["status"]["allowed"] == true,
                    "{user} {method} {path}: {}, {said}",
                    answer.status()
                );
            }
        }
    }
}

async fn create(
    cluster: &EmbeddedCluster,
    resource: GroupVersionResource,
    namespace: Option<&str>,
    body: Value,
) -> Value {
    let request = ApiRequest::resource(Verb::Create, resource, namespace, None)
        .with_body("application/json", body.to_string());
    let answer = cluster.execute(request).await.unwrap();
    assert!(answer.is_success(), "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// A node that holds the cluster's roles, and has no cloud.
async fn node_like(cluster: &EmbeddedCluster) -> MetaServer {
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    for resource in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let scope = Scope::all(GroupVersionResource::new(rbac::GROUP, "v1", resource));
        let objects = cluster.list(&scope.resource, None).objects;
        let copy = |object: &Object| Change::Put(object.clone());
        let mut changes = vec![Change::Want(scope.clone())];
        changes.extend(objects.iter().map(|stored| copy(&stored.object)));
        changes.push(Change::Complete(scope));
        store.apply(changes).await.unwrap();
    }
    let tokens = StaticTokens::parse("ann,ann,,readers\nbob,bob,,readers").unwrap();
    let config = MetaConfig {
        auth: AuthConfig {
            required: true,
            tokens,
            ..AuthConfig::default()
        },
        ..MetaConfig::default()
    };
    let no_cloud = service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
    MetaServer::with_config(config, store, no_cloud)
}
