//! What a real API server of a recent release has, and 1.20 has not. Each test says what it needs, and does nothing without it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use hub_core::api::{ApiRequest, Target, User, Verb};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hyper::Method;
use serde_json::{Value, json};

use crate::real::{Admin, token_volume};
use crate::tunnel::{cloud, edge, is_ready};
use crate::view::{View, within};
use crate::world::until;

/// Whether the server is at least Kubernetes 1.`minor`.
pub(crate) async fn is_since(admin: &Admin, minor: u32) -> bool {
    let version = admin
        .done(ApiRequest::new(Verb::Get, Target::Path("/version".into())))
        .await;
    let has = version["minor"]
        .as_str()
        .unwrap()
        .trim_end_matches('+')
        .parse::<u32>()
        .unwrap();
    if has < minor {
        eprintln!("needs Kubernetes 1.{minor}; this is 1.{has}");
    }
    has >= minor
}

/// How many streaming lists of a resource the server counted.
async fn streamed(admin: &Admin, resource: &str) -> u64 {
    let request = ApiRequest::new(Verb::Get, Target::Path("/metrics".into()));
    let answer = {
        admin
            .cluster
            .execute(ApiRequest {
                accept: "text/plain".into(),
                ..request
            })
            .await
            .unwrap()
    };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let lines = text.lines().filter(|line| {
        line.starts_with("apiserver_watch_list_duration_seconds_count{")
            && line.contains(&format!("resource=\"{resource}\""))
            && line.contains("scope=\"namespace\"")
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_list_is_streamed() {
    let admin = Admin::new("stream").await;
    if !is_since(&admin, 34).await {
        return admin.end().await;
    }
    within("discovery", async {
        while admin.cluster.registry().generation() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    for at in 0..30 {
        let name = format!("m{at}");
        admin
            .create("configmaps", json!({ "metadata": { "name": name } }))
            .await;
    }
    let before = streamed(&admin, "configmaps").await;
    let scope = Scope::namespaced(GroupVersionResource::core("configmaps"), &admin.namespace);
    let mut view = View::of(&admin.cluster, scope);
    view.synced().await;
    assert!(view.names().len() >= 30, "{:?}", view.names());
    assert!(streamed(&admin, "configmaps").await > before);
    admin.delete("configmaps", "m7").await;
    view.until("the end of m7", |view| !view.names().contains(&"m7"))
        .await;
    assert_eq!((view.gone.len(), view.restarts), (1, 0));
    admin.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_node_is_told_of_resizes_and_slices_and_gets_tokens_that_are_bound_to_it() {
    let admin = Admin::new("recent").await;
    if !is_since(&admin, 33).await {
        return admin.end().await;
    }
    let name = format!("edge-{}", admin.namespace);
    let (kubeconfig, account) = admin.account().await;
    admin.bind(&account, "").await;
    let (cloud, addresses, token) = cloud(kubeconfig.path()).await;
    let edge = edge(&name, &addresses, &token).await;
    let joined = until("a ready node", async || {
        admin.read("nodes", &name).await.filter(is_ready)
    })
    .await;
    let send = async |method, path: &str, body: Value| {
        edge.api
            .send(method, path, "application/json", body.to_string())
            .await
    };

    // A pod is resized in its place.
    let pod = json!({ "metadata": { "name": "web" }, "spec": { "nodeName": name, "volumes": [token_volume()],
        "containers": [{ "name": "main", "image": "example.com/main:1", "resources": { "requests": { "cpu": "10m" } } }] } });
    let pod = admin.create("pods", pod).await;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    until("the pod", async || edge.held(&admin.key("pods", "web"))).await;
    let resize = json!({ "spec": { "containers": [{ "name": "main", "resources": { "requests": { "cpu": "15m" } } }] } });
    let resize = admin
        .request(Verb::Patch, "pods", Some("web"))
        .with_subresource("resize")
        .with_body("application/strategic-merge-patch+json", resize.to_string());
    admin.done(resize).await;
    until("the new size", async || {
        let pod = edge.held(&admin.key("pods", "web"))?;
        (pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "15m").then_some(())
    })
    .await;

    // Slices reach whoever asks for them on the node.
    let slices = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
        admin.namespace
    );
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "web" }, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.244.9.9"], "nodeName": name }], "ports": [{ "port": 80 }] });
    let resource = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    let create = ApiRequest::resource(Verb::Create, resource, Some(&admin.namespace), None);
    admin
        .done(create.with_body("application/json", slice.to_string()))
        .await;
    until("the slice", async || {
        let answer = edge.api.get(&slices).await;
        (answer.body["items"][0]["endpoints"][0]["addresses"][0] == "10.244.9.9").then_some(())
    })
    .await;

    // A token names pod and node, and other audiences than the pod's are denied by the API server, in its own words.
    let token = |audience: Option<&str>| {
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "audiences": audience.map(|audience| [audience]),
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } })
    };
    let tokens = format!(
        "/api/v1/namespaces/{}/serviceaccounts/default/token",
        admin.namespace
    );
    let issued = send(Method::POST, &tokens, token(None)).await;
    assert_eq!(issued.status, 201, "{}", issued.body);
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": issued.body["status"]["token"] } });
    let review = send(
        Method::POST,
        "/apis/authentication.k8s.io/v1/tokenreviews",
        review,
    )
    .await;
    let user = &review.body["status"]["user"];
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/node-name"],
        json!([name]),
        "{}",
        review.body
    );
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/node-uid"],
        json!([joined["metadata"]["uid"]])
    );
    let denied = send(Method::POST, &tokens, token(Some("vault"))).await;
    assert_eq!(
        (denied.status.as_u16(), &denied.body["kind"]),
        (403, &json!("Status")),
        "{}",
        denied.body
    );

    // Since 1.32 a node lists its own pods and no others.
    let pods = edge
        .api
        .get(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}"))
        .await;
    assert_eq!(
        pods.body["items"].as_array().map(Vec::len),
        Some(1),
        "{}",
        pods.body
    );
    let others = edge
        .api
        .get("/api/v1/pods?fieldSelector=spec.nodeName%3Dsomebody-else")
        .await;
    assert_eq!(others.status, 403, "{}", others.body);

    // The serving certificate of the node is approved by the cloud and signed by the cluster.
    let answer = send(
        Method::POST,
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        serving(&name),
    )
    .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    until("the certificate", async || {
        let request = certificate_request(&admin, &name).await?;
        assert!(
            request["spec"]["username"].as_str().unwrap().ends_with(&name),
            "{request}"
        );
        request["status"]["certificate"].as_str().map(drop)
    })
    .await;

    edge.half.end().await;
    admin.delete("nodes", &name).await;
    cloud.end().await;
    admin.end().await;
}

/// As a kubelet asks for it.
fn serving(node: &str) -> Value {
    let mut asked = rcgen::CertificateParams::new([node.to_owned()]).unwrap();
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    asked
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = asked.serialize_request(&key).unwrap().pem().unwrap();
    json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": node }, "spec": {
        "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"] } })
}

async fn certificate_request(admin: &Admin, name: &str) -> Option<Value> {
    let requests = GroupVersionResource::new("certificates.k8s.io", "v1", "certificatesigningrequests");
    let key = ObjectKey::new(requests, None, name);
    let found = admin.cluster.get(key).await.unwrap()?;
    Some(serde_json::from_slice(&found.body).unwrap())
}

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn who_is_impersonated_is_believed_with_all_that_was_said_of_it() {
    let admin = Admin::new("self").await;
    if !is_since(&admin, 28).await {
        return admin.end().await;
    }
    let (file, account) = admin.account().await;
    admin.bind(&account, "").await;
    let credentials = Credentials::File {
        path: file.path().to_owned(),
        server: None,
    };
    let config = KubeClusterConfig::default();
    let cluster = KubeCluster::connect(credentials, config).await.unwrap();
    let review = |user| {
        let reviews = GroupVersionResource::new("authentication.k8s.io", "v1", "selfsubjectreviews");
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let mut request = ApiRequest::resource(Verb::Create, reviews, None, None)
            .with_body("application/json", body.to_string());
        request.user = Some(user);
        cluster.execute(request)
    };
    let node = NodeId::new("edge-1").unwrap();
    let mut pods = User::of_service_account(&admin.namespace, "default");
    pods.extra = [(
        "authentication.kubernetes.io/node-name".to_owned(),
        vec!["edge-1".to_owned()],
    )]
    .into();
    let node = User {
        name: node.user_name(),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    };
    for wanted in [node, pods] {
        let user = until("the role", async || {
            let answer = review(wanted.clone()).await.ok()?;
            assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(&answer.body));
            let review: Value = serde_json::from_slice(&answer.body).unwrap();
            Some(review["status"]["userInfo"].clone())
        })
        .await;
        assert_eq!(user["username"], *wanted.name);
        let groups: Vec<_> = user["groups"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(
            wanted.groups.iter().all(|group| groups.contains(&&**group)),
            "{user}"
        );
        assert_eq!(
            user["extra"].as_object().map_or(0, serde_json::Map::len),
            wanted.extra.len(),
            "{user}"
        );
    }
    assert_eq!(cluster.missing_rights(), []);
    admin.end().await;
}
