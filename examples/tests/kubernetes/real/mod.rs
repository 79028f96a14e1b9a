//! A real API server: whatever `KUBECONFIG` names, with the rights of an administrator.
//!
//! `KUBECONFIG=… cargo test -p examples --test kubernetes -- --ignored` runs them against your own;
//! `examples/kubernetes/apiserver run cargo test -p examples --test kubernetes -- --ignored` provides one. What that is too old for is in
//! `recent.rs`, and held by the scripted server's tests too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use hub_core::api::{ApiRequest, ApiResponse, Target, UpstreamError, User, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::testing::{Wire, WireConditions};
use serde_json::{Value, json};

use crate::view::{View, within};
use crate::world::until;

/// An administrator of the cluster that `KUBECONFIG` names, with a namespace of its own.
pub(crate) struct Admin {
    pub(crate) cluster: KubeCluster,
    pub(crate) namespace: String,
}

impl Admin {
    pub(crate) async fn new(purpose: &str) -> Self {
        let cluster = KubeCluster::connect(Credentials::Inferred, KubeClusterConfig::default())
            .await
            .unwrap();
        let namespace = format!("{purpose}-{:x}", unique());
        let admin = Self { cluster, namespace };
        admin
            .create("namespaces", json!({ "metadata": { "name": admin.namespace } }))
            .await;
        // Pods need it, and a controller makes it.
        let account = admin.key("serviceaccounts", "default");
        let path = ApiRequest::resource(
            Verb::Create,
            account.resource.clone(),
            Some(&admin.namespace),
            None,
        )
        .with_body(
            "application/json",
            json!({ "metadata": { "name": "default" } }).to_string(),
        );
        let made = admin.cluster.execute(path).await.unwrap();
        assert!(matches!(made.code, 201 | 409), "{made:?}");
        // A controller makes the tokens too, in its own time; no pod here needs one.
        admin
            .merge(
                "serviceaccounts",
                "default",
                json!({ "automountServiceAccountToken": false }),
            )
            .await;
        admin.settled().await;
        admin
    }

    /// Waits for the namespace that every server makes for itself, a moment after it says that it is ready.
    async fn settled(&self) {
        until("the default namespace", async || {
            let key = ObjectKey::new(GroupVersionResource::core("namespaces"), None, "default");
            self.cluster.get(key).await.unwrap().map(drop)
        })
        .await;
    }

    pub(crate) fn key(&self, resource: &str, name: &str) -> ObjectKey {
        let resource = GroupVersionResource::core(resource);
        let kind = Registry::builtin().by_resource(&resource).unwrap();
        ObjectKey::new(resource, kind.namespaced.then_some(&self.namespace), name)
    }

    pub(crate) fn request(&self, verb: Verb, resource: &str, name: Option<&str>) -> ApiRequest {
        let key = self.key(resource, name.unwrap_or_default());
        ApiRequest::resource(verb, key.resource, key.namespace.as_deref(), name)
    }

    pub(crate) async fn create(&self, resource: &str, object: Value) -> Value {
        let request = self
            .request(Verb::Create, resource, None)
            .with_body("application/json", object.to_string());
        self.done(request).await
    }

    pub(crate) async fn merge(&self, resource: &str, name: &str, patch: Value) -> Value {
        let request = self
            .request(Verb::Patch, resource, Some(name))
            .with_body("application/merge-patch+json", patch.to_string());
        self.done(request).await
    }

    pub(crate) async fn delete(&self, resource: &str, name: &str) {
        let request = self.request(Verb::Delete, resource, Some(name));
        let answer = self.cluster.execute(request).await.unwrap();
        assert!(answer.is_success() || answer.code == 404, "{answer:?}");
    }

    pub(crate) async fn read(&self, resource: &str, name: &str) -> Option<Value> {
        let found = self.cluster.get(self.key(resource, name)).await.unwrap()?;
        Some(serde_json::from_slice(&found.body).unwrap())
    }

    /// Executes what must succeed.
    pub(crate) async fn done(&self, request: ApiRequest) -> Value {
        let answer = self.cluster.execute(request.clone()).await.unwrap();
        assert!(answer.is_success(), "{request:?}: {}", text(&answer));
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) async fn end(self) {
        for resource in ["clusterroles", "clusterrolebindings"] {
            let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
            let delete = ApiRequest::resource(Verb::Delete, resource, None, Some(&self.namespace));
            let _ = self.cluster.execute(delete).await;
        }
        self.delete("namespaces", &self.namespace).await;
    }

    fn config_map(&self, name: &str, label: &str, value: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": self.namespace, "labels": { "app": label } }, "data": { "value": value } })
    }

    fn here(&self) -> Scope {
        Scope::namespaced(GroupVersionResource::core("configmaps"), &self.namespace)
    }
}

fn text(answer: &ApiResponse) -> String {
    format!("{} {}", answer.code, String::from_utf8_lossy(&answer.body))
}

/// A token of the pod's account for the API server: since Kubernetes 1.33 a node may only ask for tokens that a pod names so.
pub(crate) fn token_volume() -> Value {
    json!({ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token", "expirationSeconds": 600 } }] } })
}

fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 24
}

fn node(name: &str) -> Option<User> {
    Some(User {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    })
}

fn named(view: &View) -> Vec<&str> {
    view.names()
        .into_iter()
        // Controllers put authorities of their own into every namespace.
        .filter(|name| !name.contains("ca"))
        .collect()
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn the_kinds_are_those_that_the_server_has() {
    let admin = Admin::new("kinds").await;
    within("discovery", async {
        while admin.cluster.registry().generation() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let registry = admin.cluster.registry();
    let pods = registry.by_resource(&GroupVersionResource::core("pods")).unwrap();
    let subresources: Vec<_> = pods.subresources.iter().map(|s| &*s.name).collect();
    assert!(
        ["status", "log", "exec", "eviction"]
            .iter()
            .all(|name| subresources.contains(name)),
        "{subresources:?}"
    );
    assert!(pods.namespaced && !pods.custom && &*pods.singular == "pod" && pods.short_names == ["po".into()]);
    assert!(registry.by_kind("apps/v1", "Deployment").is_some());

    let group = format!("{}.example.com", admin.namespace);
    let widgets = GroupVersionResource::new(&*group, "v1", "widgets");
    let name = format!("widgets.{group}");
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definition = json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": { "name": name }, "spec": {
        "group": group, "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } });
    let create = ApiRequest::resource(Verb::Create, definitions.clone(), None, None)
        .with_body("application/json", definition.to_string());
    admin.done(create).await;
    let known = async |wanted| {
        while registry.by_resource(&widgets).is_some() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the custom kind", known(true)).await;
    assert!(registry.by_resource(&widgets).unwrap().custom);
    let widget = json!({ "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "a" }, "spec": { "size": 1 } });
    let create = ApiRequest::resource(Verb::Create, widgets.clone(), Some(&admin.namespace), None)
        .with_body("application/json", widget.to_string());
    admin.done(create).await;
    let mut view = View::of(&admin.cluster, Scope::all(widgets.clone()));
    view.synced().await;
    assert_eq!(view.names(), ["a"]);
    admin
        .done(ApiRequest::resource(Verb::Delete, definitions, None, Some(&name)))
        .await;
    view.until("the end of all widgets", |view| view.objects.is_empty())
        .await;
    within("the end of the kind", known(false)).await;
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn a_scope_is_followed_through_cut_connections() {
    let admin = Admin::new("follow").await;
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap());
    let wire = Wire::tcp(address(&kubeconfig)).await.unwrap();
    let through = Credentials::File {
        path: kubeconfig,
        server: Some(format!("https://127.0.0.1:{}", wire.address().port())),
    };
    let config = KubeClusterConfig {
        page_objects: 3,
        ..KubeClusterConfig::default()
    };
    let cluster = KubeCluster::connect(through, config).await.unwrap();
    for at in 0..10 {
        admin
            .create("configmaps", admin.config_map(&format!("m{at}"), "x", "1"))
            .await;
    }
    let mut view = View::of(&cluster, admin.here());
    let mut labelled = View::of(
        &cluster,
        Scope {
            labels: "app=y".into(),
            ..admin.here()
        },
    );
    view.synced().await;
    labelled.synced().await;
    assert_eq!((named(&view).len(), named(&labelled).len()), (10, 0));
    let body: Value = serde_json::from_slice(&view.objects.values().last().unwrap().body).unwrap();
    assert_eq!(
        (&body["kind"], &body["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );
    assert!(body["metadata"]["managedFields"].is_null() && body["metadata"]["uid"].is_string());

    for round in 0..3 {
        wire.stall();
        wire.cut();
        admin
            .merge(
                "configmaps",
                "m0",
                json!({ "metadata": { "labels": { "app": "y" } }, "data": { "value": round.to_string() } }),
            )
            .await;
        admin.delete("configmaps", &format!("m{}", 9 - round)).await;
        admin
            .create("configmaps", admin.config_map(&format!("n{round}"), "x", "1"))
            .await;
        wire.set(WireConditions::default());
        wire.cut();
        let (gone, new) = (format!("m{}", 9 - round), format!("n{round}"));
        view.until("what was missed", |view| {
            !view.names().contains(&&*gone) && view.names().contains(&&*new)
        })
        .await;
    }
    labelled.until("m0", |view| view.names() == ["m0"]).await;
    assert_eq!((view.gone.len(), view.restarts), (3, 0), "{:?}", view.gone);
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn a_restart_of_the_server_deletes_nothing() {
    // One of its own, so that nobody else sees it go.
    let folder = tempfile::tempdir().unwrap();
    if std::env::var_os("APISERVER_FOLDER").is_none() {
        eprintln!("needs a server that may be stopped: `examples/kubernetes/apiserver run …`");
        return;
    }
    let script = async |what: &'static str| {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes/apiserver");
        let folder = folder.path().to_owned();
        let run = move || {
            Command::new(program)
                .arg(what)
                .arg(folder)
                .env("CONTROLLERS", "0")
                .status()
        };
        assert!(
            tokio::task::spawn_blocking(run).await.unwrap().unwrap().success(),
            "{what}"
        );
    };
    script("start").await;
    let credentials = Credentials::File {
        path: folder.path().join("admin.kubeconfig"),
        server: None,
    };
    let cluster = KubeCluster::connect(credentials, KubeClusterConfig::default())
        .await
        .unwrap();
    let admin = Admin {
        cluster,
        namespace: "default".into(),
    };
    admin.settled().await;
    for at in 0..20 {
        admin
            .create("configmaps", admin.config_map(&format!("m{at:02}"), "x", "1"))
            .await;
    }
    let mut views: BTreeMap<_, _> = ["configmaps", "namespaces", "clusterroles"]
        .map(|name| {
            let group = if name == "clusterroles" {
                "rbac.authorization.k8s.io"
            } else {
                ""
            };
            (
                name,
                View::of(
                    &admin.cluster,
                    Scope::all(GroupVersionResource::new(group, "v1", name)),
                ),
            )
        })
        .into();
    for view in views.values_mut() {
        view.synced().await;
    }
    script("stop").await;
    script("start").await;
    admin
        .create("configmaps", admin.config_map("new", "x", "1"))
        .await;
    admin
        .merge("configmaps", "m00", json!({ "data": { "value": "2" } }))
        .await;
    let maps = views.get_mut("configmaps").unwrap();
    maps.until("the new one", |view| {
        view.names().contains(&"new") && view.names().contains(&"m19")
    })
    .await;
    for (name, mut view) in views {
        view.read_now();
        assert_eq!(view.gone.len(), 0, "{name}: {:?}", view.gone);
    }
    script("stop").await;
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn a_node_may_what_the_server_lets_it_and_no_more() {
    let admin = Admin::new("rights").await;
    let name = format!("edge-{}", admin.namespace);
    let as_node = |mut request: ApiRequest| {
        request.user = node(&name);
        let cluster = admin.cluster.clone();
        async move { cluster.execute(request).await.unwrap() }
    };
    let refused = as_node(admin.request(Verb::List, "secrets", None)).await;
    let status: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(
        (refused.code, &status["kind"], &status["reason"]),
        (403, &json!("Status"), &json!("Forbidden"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains(&format!("system:node:{name}")),
        "{status}"
    );
    let may_watch = |resource| {
        let watch = ApiRequest {
            user: node(&name),
            ..admin.request(Verb::Watch, resource, None)
        };
        admin.cluster.allows(&watch)
    };
    assert!(may_watch("services").await && !may_watch("secrets").await);

    let create = |name: &str| {
        let body = json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name } });
        admin
            .request(Verb::Create, "nodes", None)
            .with_body("application/json", body.to_string())
    };
    assert_eq!(as_node(create("somebody-else")).await.code, 403);
    let made = as_node(create(&name)).await;
    assert_eq!(made.code, 201, "{}", text(&made));

    let pod = json!({ "metadata": { "name": "web", "namespace": admin.namespace },
        "spec": { "nodeName": name, "volumes": [token_volume()], "containers": [{ "name": "main", "image": "example.com/main:1" }] } });
    let pod = admin.create("pods", pod).await;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let patch = |uid: &str| {
        let body = json!({ "metadata": { "uid": uid }, "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        admin
            .request(Verb::Patch, "pods", Some("web"))
            .with_subresource("status")
            .with_body("application/strategic-merge-patch+json", body.to_string())
    };
    assert_eq!(
        as_node(patch("00000000-0000-0000-0000-000000000000")).await.code,
        422
    );
    let patched = as_node(patch(uid)).await;
    assert_eq!(patched.code, 200, "{}", text(&patched));
    assert_eq!(
        admin.read("pods", "web").await.unwrap()["status"]["phase"],
        "Running"
    );

    let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 600,
        "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } });
    let token = admin
        .request(Verb::Create, "serviceaccounts", Some("default"))
        .with_subresource("token")
        .with_body("application/json", token.to_string());
    let issued = as_node(token).await;
    assert_eq!(issued.code, 201, "{}", text(&issued));
    let issued: Value = serde_json::from_slice(&issued.body).unwrap();
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": issued["status"]["token"] } });
    let reviews = GroupVersionResource::new("authentication.k8s.io", "v1", "tokenreviews");
    let review = as_node(
        ApiRequest::resource(Verb::Create, reviews, None, None)
            .with_body("application/json", review.to_string()),
    )
    .await;
    let review: Value = serde_json::from_slice(&review.body).unwrap();
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    let account = format!("system:serviceaccount:{}:default", admin.namespace);
    assert_eq!(review["status"]["user"]["username"], account);

    let access = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "list", "resource": "services" } } });
    let reviews = GroupVersionResource::new("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
    let ask = |user| {
        let mut request = ApiRequest::resource(Verb::Create, reviews.clone(), None, None)
            .with_body("application/json", access.to_string());
        request.user = user;
        admin.done(request)
    };
    assert_eq!(ask(node(&name)).await["status"]["allowed"], true);
    let as_account = Some(User {
        name: account,
        ..User::default()
    });
    assert_eq!(
        ask(as_account).await["status"]["allowed"],
        false,
        "an account is not its node"
    );

    let delete = admin.request(Verb::Delete, "pods", Some("web")).with_body(
        "application/json",
        json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } }).to_string(),
    );
    assert_eq!(as_node(delete).await.code, 200);
    assert_eq!(admin.read("pods", "web").await, None);
    admin.delete("nodes", &name).await;
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn what_is_no_object_passes_with_its_headers() {
    let admin = Admin::new("paths").await;
    let get = |path: &str, accept: &str| {
        let mut request = ApiRequest::new(Verb::Get, Target::Path(path.into()));
        request.accept = accept.into();
        let cluster = admin.cluster.clone();
        async move { cluster.execute(request).await.unwrap() }
    };
    let version = get("/version", "").await;
    assert!(text(&version).contains("gitVersion"), "{}", text(&version));
    let groups = get(
        "/apis",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )
    .await;
    assert!(
        groups.content_type.starts_with("application/json"),
        "{}",
        groups.content_type
    );
    let openapi = get(
        "/openapi/v2",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    )
    .await;
    assert!(
        openapi.code == 200 && !openapi.content_type.contains("json"),
        "{}",
        openapi.content_type
    );
    let table = ApiRequest {
        accept: "application/json;as=Table;g=meta.k8s.io;v=v1".into(),
        ..admin.request(Verb::List, "configmaps", None)
    };
    assert_eq!(admin.done(table).await["kind"], "Table");
    let apply = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" }, "data": { "a": "1" } });
    let mut apply = admin
        .request(Verb::Patch, "configmaps", Some("applied"))
        .with_body("application/apply-patch+yaml", apply.to_string());
    apply.query = "fieldManager=test&force=true".into();
    let applied = admin.done(apply).await;
    assert_eq!(
        applied["metadata"]["managedFields"][0]["operation"], "Apply",
        "{applied}"
    );
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see the top of this file"]
async fn the_cluster_role_suffices_and_without_it_the_rules_are_named() {
    let admin = Admin::new("role").await;
    let (file, account) = admin.account().await;
    let connect = || {
        let credentials = Credentials::File {
            path: file.path().to_owned(),
            server: None,
        };
        KubeCluster::connect(credentials, KubeClusterConfig::default())
    };
    let poor = connect().await.unwrap();
    within("the review", async {
        while poor.missing_rights().len() < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let missing: Vec<_> = poor.missing_rights().iter().map(ToString::to_string).collect();
    for rule in [
        r#"- {apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"]}"#,
        r#"- {apiGroups: [""], resources: ["users"], verbs: ["impersonate"]}"#,
    ] {
        assert!(missing.iter().any(|missing| missing == rule), "{missing:#?}");
    }
    let mut secrets = View::of(&poor, Scope::all(GroupVersionResource::core("secrets")));
    secrets.until("the refusal", |view| view.refused.is_some()).await;
    let mut request = admin.request(Verb::List, "services", None);
    request.user = node("edge-1");
    let answer = poor.execute(request.clone()).await;
    assert_eq!(
        answer,
        Err(UpstreamError::Unreachable),
        "it is not the node's fault"
    );

    admin.bind(&account, "").await;
    let rich = connect().await.unwrap();
    for resource in ["configmaps", "nodes", "pods", "secrets", "services"] {
        View::of(&rich, Scope::all(GroupVersionResource::core(resource)))
            .synced()
            .await;
    }
    assert_eq!(rich.execute(request).await.unwrap().code, 200);
    within("discovery", async {
        while rich.registry().generation() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(rich.missing_rights(), []);
    admin.end().await;
}

impl Admin {
    /// A service account without rights, and a kubeconfig for it.
    pub(crate) async fn account(&self) -> (tempfile::NamedTempFile, String) {
        self.create("serviceaccounts", json!({ "metadata": { "name": "cloudcore" } }))
            .await;
        let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 3600 } });
        let token = self
            .request(Verb::Create, "serviceaccounts", Some("cloudcore"))
            .with_subresource("token")
            .with_body("application/json", token.to_string());
        let token = self.done(token).await;
        let admins = std::fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
        let mut config: Value = serde_saphyr::from_str(&admins).unwrap();
        config["users"][0]["user"] = json!({ "token": token["status"]["token"] });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        (
            file,
            format!("system:serviceaccount:{}:cloudcore", self.namespace),
        )
    }

    /// Gives an account what `examples/kubernetes/role.yaml` says, but nothing about one resource.
    pub(crate) async fn bind(&self, account: &str, without: &str) {
        let role = include_str!("../../kubernetes/role.yaml");
        let objects: Vec<Value> = serde_saphyr::from_multiple(role).unwrap();
        for mut object in objects {
            let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
            object["metadata"]["name"] = self.namespace.as_str().into();
            for rule in object["rules"].as_array_mut().into_iter().flatten() {
                let resources = rule["resources"].as_array_mut().unwrap();
                resources.retain(|resource| resource != without);
            }
            if plural == "clusterrolebindings" {
                object["roleRef"]["name"] = self.namespace.as_str().into();
                object["subjects"] =
                    json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account }]);
            }
            let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", &*plural);
            let create = ApiRequest::resource(Verb::Create, resource, None, None);
            self.done(create.with_body("application/json", object.to_string()))
                .await;
        }
    }
}

/// The address of the server that a kubeconfig names.
pub(crate) fn address(kubeconfig: &std::path::Path) -> std::net::SocketAddr {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))
        .unwrap();
    server
        .trim_end_matches('/')
        .parse()
        .expect("an address of numbers")
}
