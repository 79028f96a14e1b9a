//! One of our edges, one of our clouds, and a real API server behind it.

use std::time::{Duration, Instant};

use cloudhub::cluster::Cluster;
use examples::cloud::{Addresses, Cloud};
use examples::edge::Edge;
use hub_core::api::{ApiRequest, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::{Journal, ObjectStore};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Api;
use crate::real::{Admin, token_volume};
use crate::world::{Tunnel, cloud_config, edge_config, until, within};

pub(crate) struct Half {
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
    _folder: TempDir,
}

impl Half {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("the end", self.task).await.unwrap().unwrap();
    }
}

pub(crate) async fn cloud(kubeconfig: &std::path::Path) -> (Half, Addresses, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = cloud_config(folder.path(), Tunnel::WebSocket);
    config.edge_tunnel.standalone.enable = false;
    config.kube_api_config.kube_config = kubeconfig.to_str().unwrap().into();
    let cloud = Cloud::bind(&config).await.unwrap();
    let (addresses, token) = (cloud.addresses.clone(), cloud.join_token().unwrap());
    assert!(addresses.api.is_none(), "there is another API already");
    let stop = CancellationToken::new();
    let task = tokio::spawn(cloud.run(stop.clone()));
    let half = Half {
        stop,
        task,
        _folder: folder,
    };
    (half, addresses, token)
}

pub(crate) struct Node {
    pub(crate) half: Half,
    pub(crate) api: Api,
    store: edgehub::store::EdgeStore,
    pub(crate) handle: edgehub::EdgeHandle,
}

pub(crate) async fn edge(name: &str, addresses: &Addresses, token: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let tunnel = addresses.websocket.unwrap();
    let prefetch = ["services", "endpointslices.v1.discovery.k8s.io"];
    let config = edge_config(folder.path(), name, addresses, tunnel, token, &prefetch);
    let edge = Edge::bind(&config).await.unwrap();
    let (api, store, handle) = (
        Api(edge.api_address().unwrap()),
        edge.store.clone(),
        edge.handle(),
    );
    let stop = CancellationToken::new();
    let task = tokio::spawn(edge.run(stop.clone()));
    let half = Half {
        stop,
        task,
        _folder: folder,
    };
    Node {
        half,
        api,
        store,
        handle,
    }
}

impl Node {
    /// How many reports wait for the cloud.
    pub(crate) fn waiting(&self) -> usize {
        self.store.depth().entries
    }

    pub(crate) fn held(&self, key: &ObjectKey) -> Option<Value> {
        let stored = self.store.get(key)?;
        Some(serde_json::from_slice(&stored.object.body).unwrap())
    }
}

pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_node_joins_runs_its_pods_and_leaves() {
    let admin = Admin::new("tunnel").await;
    let name = format!("edge-{}", admin.namespace);
    // The cloud has the rights of the manifests, and no more.
    let (kubeconfig, account) = admin.account().await;
    admin.bind(&account, "").await;
    let (cloud, addresses, token) = cloud(kubeconfig.path()).await;

    // It joins.
    let began = Instant::now();
    let edge = edge(&name, &addresses, &token).await;
    until("a ready node", async || {
        admin.read("nodes", &name).await.filter(is_ready)
    })
    .await;
    let took = began.elapsed();
    eprintln!("from nothing to Ready: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(10), "{took:?}");
    until("labels of Kubernetes' own", async || {
        let node = admin.read("nodes", &name).await?;
        (node["metadata"]["labels"]["kubernetes.io/hostname"] == *name).then_some(())
    })
    .await;
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let lease = ObjectKey::new(leases, Some("kube-node-lease"), &name);
    let lease = until("a lease", async || {
        admin.cluster.get(lease.clone()).await.unwrap()
    })
    .await;
    let lease: Value = serde_json::from_slice(&lease.body).unwrap();
    let renewed = lease["spec"]["renewTime"].as_str().unwrap();
    assert_eq!(
        renewed.split_once('.').map(|(_, micro)| micro.len()),
        Some("000000Z".len()),
        "{renewed}"
    );

    // Addresses for its pods are given in the cloud, and used here: by a controller, or by hand where there is none.
    let range = json!({ "spec": { "podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"] } });
    let range = admin
        .request(Verb::Patch, "nodes", Some(&name))
        .with_body("application/merge-patch+json", range.to_string());
    let began = Instant::now();
    until("the range of its pods' addresses", async || {
        let given = admin.read("nodes", &name).await?["spec"]["podCIDR"].clone();
        if given.is_null() && began.elapsed() > CONTROLLERS {
            // One that came meanwhile stays: a range is given once.
            let answer = admin.cluster.execute(range.clone()).await.unwrap();
            assert!(answer.is_success() || answer.code == 422, "{answer:?}");
        }
        let held = edge.held(&admin.key("nodes", &name))?;
        (given.is_string() && held["spec"]["podCIDR"] == given).then_some(())
    })
    .await;

    // It gets what it needs, and nothing else.
    for name in ["settings", "unused"] {
        admin
            .create(
                "configmaps",
                json!({ "metadata": { "name": name }, "data": { "a": "1" } }),
            )
            .await;
    }
    admin
        .create(
            "secrets",
            json!({ "metadata": { "name": "password" }, "stringData": { "a": "1" } }),
        )
        .await;
    admin.create("services", json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } })).await;
    let pod = json!({ "metadata": { "name": "web", "labels": { "app": "web" } }, "spec": { "nodeName": name, "terminationGracePeriodSeconds": 30, "volumes": [token_volume()],
        "containers": [{ "name": "main", "image": "example.com/main:1",
            "envFrom": [{ "configMapRef": { "name": "settings" } }, { "secretRef": { "name": "password" } }] }] } });
    let pod = admin.create("pods", pod).await;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    for (resource, name) in [
        ("pods", "web"),
        ("configmaps", "settings"),
        ("secrets", "password"),
        ("services", "web"),
    ] {
        until(name, async || edge.held(&admin.key(resource, name))).await;
    }
    assert_eq!(edge.held(&admin.key("configmaps", "unused")), None);
    // A pod may be here as the answer to a report has it, with everything.
    let held = edge.held(&admin.key("configmaps", "settings")).unwrap();
    assert_eq!(
        (&held["kind"], &held["metadata"]["managedFields"]),
        (&json!("ConfigMap"), &Value::Null)
    );
    admin
        .merge("configmaps", "settings", json!({ "data": { "a": "2" } }))
        .await;
    until("the change", async || {
        (edge.held(&admin.key("configmaps", "settings"))?["data"]["a"] == "2").then_some(())
    })
    .await;

    // It speaks for itself, through its own API: status, tokens, reviews, applies. The API server decides.
    let pods = format!("/api/v1/namespaces/{}/pods", admin.namespace);
    let status = json!({ "status": { "phase": "Running", "podIP": "10.244.9.9", "conditions": [{ "type": "Ready", "status": "True" }] } });
    let send = async |method, path: &str, content_type: &str, body: Value| {
        edge.api.send(method, path, content_type, body.to_string()).await
    };
    let answer = send(
        Method::PATCH,
        &format!("{pods}/web/status"),
        "application/strategic-merge-patch+json",
        status,
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    until("the status", async || {
        (admin.read("pods", "web").await?["status"]["podIP"] == "10.244.9.9").then_some(())
    })
    .await;
    let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } });
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/default/token",
        admin.namespace
    );
    let answer = send(Method::POST, &path, "application/json", token).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert!(answer.body["status"]["token"].as_str().unwrap().starts_with("ey"));
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "list", "resource": "services" } } });
    let answer = send(
        Method::POST,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "application/json",
        review,
    )
    .await;
    assert_eq!(answer.body["status"]["allowed"], true, "{}", answer.body);
    let settings = format!("/api/v1/namespaces/{}/configmaps/settings", admin.namespace);
    let apply = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "b": "1" } });
    let answer = send(
        Method::PATCH,
        &format!("{settings}?fieldManager=test"),
        "application/apply-patch+yaml",
        apply,
    )
    .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);

    // A role for nodes is asked as well: with it the same apply succeeds.
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "metadata": { "name": "apply" }, "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"] }] });
    let binding = json!({ "metadata": { "name": "apply" }, "roleRef": { "apiGroup": group, "kind": "Role", "name": "apply" },
        "subjects": [{ "apiGroup": group, "kind": "Group", "name": "system:nodes" }] });
    for (resource, object) in [("roles", role), ("rolebindings", binding)] {
        let resource = GroupVersionResource::new(group, "v1", resource);
        let create = ApiRequest::resource(Verb::Create, resource, Some(&admin.namespace), None);
        admin
            .done(create.with_body("application/json", object.to_string()))
            .await;
    }
    let apply = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "b": "1" } });
    until("the right to apply", async || {
        let answer = send(
            Method::PATCH,
            &format!("{settings}?fieldManager=test"),
            "application/apply-patch+yaml",
            apply.clone(),
        )
        .await;
        answer.status.is_success().then_some(())
    })
    .await;
    until("the applied", async || {
        (edge.held(&admin.key("configmaps", "settings"))?["data"]["b"] == "1").then_some(())
    })
    .await;

    // The pod ends: the cluster asks, the node confirms, and both forget it.
    let delete = admin.request(Verb::Delete, "pods", Some("web"));
    admin.done(delete).await;
    until("the wish to end it", async || {
        // Where nothing runs pods, the node may have confirmed it by itself.
        let pod = edge.held(&admin.key("pods", "web"));
        pod.is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string())
            .then_some(())
    })
    .await;
    let now = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
    let answer = send(Method::DELETE, &format!("{pods}/web"), "application/json", now).await;
    assert!(
        matches!(answer.status, StatusCode::OK | StatusCode::NOT_FOUND),
        "{}",
        answer.body
    );
    until("its end in the cluster", async || {
        admin.read("pods", "web").await.is_none().then_some(())
    })
    .await;
    until("its end on the node", async || {
        edge.held(&admin.key("pods", "web")).is_none().then_some(())
    })
    .await;
    until("the end of what it needed", async || {
        edge.held(&admin.key("secrets", "password"))
            .is_none()
            .then_some(())
    })
    .await;

    // The next pod that needs it finds it, though it did not change meanwhile.
    let again = json!({ "metadata": { "name": "again" }, "spec": { "nodeName": name, "containers": [{ "name": "main", "image": "example.com/main:1",
        "envFrom": [{ "secretRef": { "name": "password" } }] }] } });
    admin.create("pods", again).await;
    until("what it needs", async || {
        edge.held(&admin.key("secrets", "password"))
    })
    .await;

    // A node that is deleted is told so.
    let mut link = edge.handle.link();
    admin.delete("nodes", &name).await;
    within("the end of the link", link.wait_for(|link| !link.is_up()))
        .await
        .unwrap();
    edge.half.end().await;
    cloud.end().await;
    admin.end().await;
}

/// So long is waited for controllers to do their work, before it is done for them.
const CONTROLLERS: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an API server: see real/mod.rs"]
async fn where_secrets_may_not_be_listed_those_that_pods_need_are_watched_by_name() {
    let admin = Admin::new("narrow").await;
    let name = format!("edge-{}", admin.namespace);
    let (kubeconfig, account) = admin.account().await;
    admin.bind(&account, "secrets").await;
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "metadata": { "name": "one" }, "rules": [{ "apiGroups": [""], "resources": ["secrets"],
        "resourceNames": ["password"], "verbs": ["get", "list", "watch"] }] });
    let binding = json!({ "metadata": { "name": "one" }, "roleRef": { "apiGroup": group, "kind": "Role", "name": "one" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": account }] });
    for (resource, object) in [("roles", role), ("rolebindings", binding)] {
        let resource = GroupVersionResource::new(group, "v1", resource);
        let create = ApiRequest::resource(Verb::Create, resource, Some(&admin.namespace), None);
        admin
            .done(create.with_body("application/json", object.to_string()))
            .await;
    }
    let (cloud, addresses, token) = cloud(kubeconfig.path()).await;
    let edge = edge(&name, &addresses, &token).await;
    until("a ready node", async || {
        admin.read("nodes", &name).await.filter(is_ready)
    })
    .await;
    for secret in ["password", "forbidden"] {
        let secret = json!({ "metadata": { "name": secret }, "stringData": { "a": "1" } });
        admin.create("secrets", secret).await;
    }
    let pod = |pod: &str, secret: &str| {
        json!({ "metadata": { "name": pod }, "spec": { "nodeName": name, "containers": [{ "name": "main", "image": "example.com/main:1",
            "envFrom": [{ "secretRef": { "name": secret } }] }] } })
    };
    admin.create("pods", pod("web", "password")).await;
    admin.create("pods", pod("shut", "forbidden")).await;
    for (resource, name) in [("pods", "web"), ("pods", "shut"), ("secrets", "password")] {
        until(name, async || edge.held(&admin.key(resource, name))).await;
    }
    let patch = json!({ "stringData": { "a": "2" } });
    admin.merge("secrets", "password", patch).await;
    until("the change", async || {
        (edge.held(&admin.key("secrets", "password"))?["data"]["a"] == "Mg==").then_some(())
    })
    .await;
    assert_eq!(edge.held(&admin.key("secrets", "forbidden")), None);

    // Nothing that is merely not known is taken from a node that comes back.
    edge.handle.reconnect();
    let now = admin
        .request(Verb::Delete, "pods", Some("web"))
        .with_body("application/json", json!({ "gracePeriodSeconds": 0 }).to_string());
    admin.done(now).await;
    until("the pod's end", async || {
        edge.held(&admin.key("pods", "web")).is_none().then_some(())
    })
    .await;
    until("the end of its secret", async || {
        edge.held(&admin.key("secrets", "password"))
            .is_none()
            .then_some(())
    })
    .await;
    edge.half.end().await;
    admin.delete("nodes", &name).await;
    cloud.end().await;
    admin.end().await;
}
