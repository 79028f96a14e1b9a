//! What service accounts may do, as a stock cloud tells it (`captured/access.jsonl`, from a Go cloudcore).

use hub_core::codec::{Codec, CodecLimits};
use hub_core::object::GroupVersionResource;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};

use cloudhub::CloudHubConfig;

use crate::world::{Edge, World};

fn accesses() -> GroupVersionResource {
    GroupVersionResource::new("policy.kubeedge.io", "v1alpha1", "serviceaccountaccesses")
}

fn rbac(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource)
}

fn node(name: &str) -> Value {
    json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name, "labels": { "node-role.kubernetes.io/edge": "" } } })
}

fn pod(name: &str, node: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "pause:1" }] } })
}

/// The role and binding that the recorded cluster had.
async fn define(world: &World) {
    let definition = json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "name": "serviceaccountaccesses.policy.kubeedge.io" },
        "spec": { "group": "policy.kubeedge.io", "scope": "Namespaced",
            "names": { "plural": "serviceaccountaccesses", "singular": "serviceaccountaccess", "kind": "ServiceAccountAccess" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } });
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    world.create_in(definitions, definition).await;
}

fn policed() -> World {
    let mut config = CloudHubConfig::default();
    config.downstream.policy = true;
    World::with(config, |hub| hub)
}

fn captured() -> Vec<Value> {
    let lines = include_str!("captured/access.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What of a message is the same on every cluster and at every time. Go writes nulls that say nothing.
fn form(mut document: Value) -> Value {
    let header = document["header"].take();
    let content = &mut document["content"];
    content["spec"]["serviceAccountUid"].take();
    let metadata = content["metadata"].as_object_mut().unwrap();
    assert_eq!(
        Some(&header["resourceversion"]),
        metadata.remove("resourceVersion").as_ref()
    );
    assert!(metadata.remove("uid").is_some() && metadata.remove("creationTimestamp").is_some());
    metadata.remove("generation");
    without_nulls(document)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(field, value)| (field, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// The next message about an account, after those about other things.
async fn next(edge: &mut Edge, operation: &str) -> Value {
    loop {
        let message = edge.next().await;
        if message.route.resource.as_str().contains("serviceaccountaccess")
            && message.route.operation.to_string() == operation
        {
            let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
            return serde_json::from_slice(&codec.encode(&message, None).unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_hears_what_the_accounts_of_its_pods_may_do_and_when_it_need_not_know_any_more() {
    let (world, captured) = (policed(), captured());
    define(&world).await;
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    world.create("pods", pod("web", "edge-1")).await;
    world.create("pods", pod("far", "no-edge")).await;
    // A Go cloudcore makes an empty object first, so that its first message with content is an update.
    let mut expected = form(captured[0].clone());
    expected["route"]["operation"] = "insert".into();
    assert_eq!(form(next(&mut edge, "insert").await), expected);
    // What it may do changes.
    let role = json!({ "kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": "r", "namespace": "default" },
        "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }] });
    world.create_in(rbac("roles"), role).await;
    let binding = json!({ "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": { "name": "b", "namespace": "default" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default" }] });
    world.create_in(rbac("rolebindings"), binding).await;
    loop {
        let update = next(&mut edge, "update").await;
        assert_eq!(update["route"]["source"], "policycontroller");
        assert!(update["content"].get("kind").is_none() && update["content"]["status"] == json!({}));
        let bindings = &update["content"]["spec"]["accessRoleBinding"];
        if bindings[0]["rules"][0]["resources"] == json!(["pods"]) {
            assert_eq!(bindings[0]["roleBinding"]["metadata"]["name"], "b");
            break;
        }
    }
    world.delete_in(rbac("rolebindings"), Some("default"), "b").await;
    while next(&mut edge, "update").await["content"]["spec"]
        .get("accessRoleBinding")
        .is_some()
    {}
    world.delete("pods", Some("default"), "web").await;
    assert_eq!(form(next(&mut edge, "delete").await), form(captured[1].clone()));
}

#[tokio::test]
async fn nothing_is_said_of_accounts_where_it_is_not_wanted() {
    let world = World::new();
    define(&world).await;
    let access = json!({ "kind": "ServiceAccountAccess", "apiVersion": "policy.kubeedge.io/v1alpha1",
        "metadata": { "name": "default", "namespace": "default" }, "spec": {} });
    world.create_in(accesses(), access).await;
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    world.create("pods", pod("web", "edge-1")).await;
    world.create("pods", pod("web-2", "edge-1")).await;
    assert_eq!(
        edge.told(3).await,
        [
            "update null/node/edge-1",
            "insert default/pod/web",
            "insert default/pod/web-2"
        ]
    );
}
