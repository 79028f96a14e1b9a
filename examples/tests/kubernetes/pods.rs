//! What a node that runs pods asks of a real API server and tells it: tokens, ends of pods, and all of it while the server is too busy.

use edgehub::AskError;
use hub_core::api::{ApiRequest, Verb};
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::real::{Admin, token_volume};
use crate::tunnel::{Node, cloud, edge, is_ready};
use crate::world::{until, within};

fn pod(node: &str) -> Value {
    json!({ "metadata": { "name": "web" }, "spec": { "nodeName": node, "volumes": [token_volume()], "terminationGracePeriodSeconds": 30,
        "containers": [{ "name": "main", "image": "example.com/main:1" }] } })
}

fn request(uid: &str) -> Value {
    json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 3607,
        "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } })
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

async fn pod_is_here(admin: &Admin, edge: &Node, uid: &str) {
    until("the pod on its node", async || {
        (edge.held(&admin.key("pods", "web"))?["metadata"]["uid"] == uid).then_some(())
    })
    .await;
}

/// Whether the API server takes a token.
async fn is_taken(admin: &Admin, token: &Value) -> bool {
    let reviews = GroupVersionResource::new("authentication.k8s.io", "v1", "tokenreviews");
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token["status"]["token"] } });
    let ask = ApiRequest::resource(Verb::Create, reviews, None, None);
    let review = admin
        .done(ask.with_body("application/json", review.to_string()))
        .await;
    review["status"]["authenticated"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_pod_s_token_is_kept_for_an_outage_and_goes_with_the_pod_that_its_node_ends() {
    let admin = Admin::new("pods").await;
    let name = format!("edge-{}", admin.namespace);
    let (kubeconfig, account) = admin.account().await;
    admin.bind(&account, "").await;
    let (cloud, addresses, join) = cloud(kubeconfig.path()).await;
    let edge = edge(&name, &addresses, &join).await;
    until("a ready node", async || {
        admin.read("nodes", &name).await.filter(is_ready)
    })
    .await;
    let ask = async |uid: &str| {
        edge.handle
            .request_token(&admin.namespace, "default", &request(uid))
            .await
    };

    // The API server's authorizer of nodes learns of a pod in its own time, which may be after ours has it; a kubelet asks again too.
    let given = async |uid: &str| until("a token", async || ask(uid).await.ok()).await;

    let first = admin.create("pods", pod(&name)).await;
    pod_is_here(&admin, &edge, uid(&first)).await;
    let token = given(uid(&first)).await;
    assert!(is_taken(&admin, &token).await, "the API server made it");
    assert_eq!(ask(uid(&first)).await.unwrap(), token, "it is kept");

    // The node ends the pod: not another one of its name, and then this one.
    let other = "00000000-0000-0000-0000-000000000000";
    edge.handle
        .delete_pod(&admin.namespace, "web", other)
        .await
        .unwrap();
    assert!(admin.read("pods", "web").await.is_some());
    edge.handle
        .delete_pod(&admin.namespace, "web", uid(&first))
        .await
        .unwrap();
    assert!(admin.read("pods", "web").await.is_none());
    until("its end on the node", async || {
        edge.held(&admin.key("pods", "web")).is_none().then_some(())
    })
    .await;
    until("the end of its token", async || {
        edge.handle.kept_tokens().is_empty().then_some(())
    })
    .await;
    edge.handle
        .delete_pod(&admin.namespace, "web", uid(&first))
        .await
        .unwrap();
    let refused = ask(uid(&first)).await;
    assert!(matches!(refused, Err(AskError::Denied(_))), "{refused:?}");

    // Another pod of that name, another token; and the cable is pulled.
    let second = admin.create("pods", pod(&name)).await;
    pod_is_here(&admin, &edge, uid(&second)).await;
    let token = given(uid(&second)).await;
    let mut link = edge.handle.link();
    cloud.end().await;
    within("the end of the link", link.wait_for(|link| !link.is_up()))
        .await
        .unwrap();
    assert_eq!(ask(uid(&second)).await.unwrap(), token);
    assert!(is_taken(&admin, &token).await);
    let away = ask(uid(&first)).await;
    assert!(matches!(away, Err(AskError::Away)), "{away:?}");
    edge.half.end().await;
    admin.delete("nodes", &name).await;
    admin.end().await;
}
