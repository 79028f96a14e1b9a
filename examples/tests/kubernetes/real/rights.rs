//! What a node and the hub itself may do at a real API server.

use std::time::Duration;

use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use hub_core::api::{ApiRequest, UpstreamError, User, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use serde_json::{Value, json};

use super::{Admin, text, token_volume};
use crate::view::{View, within};

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
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
#[ignore = "needs an API server: see real/mod.rs"]
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
        let role = include_str!("../../../kubernetes/role.yaml");
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

fn node(name: &str) -> Option<User> {
    Some(User {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    })
}
