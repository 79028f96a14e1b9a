//! What agents apply, and delete though it has finalizers, with the cable pulled.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/agents.rs"]
#[allow(dead_code, reason = "part of several tests; none uses all of it")]
mod agents;
mod support;

use agents::{back, collection, offline, ok, send};
use hub_core::api::{ApiRequest, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::ObjectStore as _;
use serde_json::{Value, json};
use support::{Mood, Node};

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const NODE: &str = "/api/v1/nodes/edge-1";

fn annotated(annotations: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "edge-1", "annotations": annotations } })
}

/// The managers of an object, each with how it wrote.
fn managers(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries
        .map(|entry| (text(&entry["manager"]), text(&entry["operation"])))
        .collect()
}

fn applies(node: &Node) -> Vec<ApiRequest> {
    let asked = node.cloud.asked().into_iter();
    asked.filter(|asked| asked.content_type == APPLY).collect()
}

#[tokio::test]
async fn what_one_manager_applies_is_merged_here_by_owners_and_applied_in_the_cloud_once() {
    let node = offline().await;
    let by = |manager: &str, more: &str| format!("{NODE}?fieldManager={manager}{more}");
    let made = ok(
        &node,
        "PATCH",
        &by("cni", ""),
        APPLY,
        annotated(&json!({ "a": "1", "b": "1" })),
    )
    .await;
    assert_eq!(made["metadata"]["annotations"], json!({ "a": "1", "b": "1" }));
    assert_eq!(made["spec"]["podCIDR"], "10.0.0.0/24");
    assert!(
        managers(&made).contains(&("cni".into(), "Apply".into())),
        "{made}"
    );
    // What it wants no more goes, as nobody else wants it.
    let made = ok(
        &node,
        "PATCH",
        &by("cni", ""),
        APPLY,
        annotated(&json!({ "a": "2" })),
    )
    .await;
    assert_eq!(made["metadata"]["annotations"], json!({ "a": "2" }));
    // YAML is what the name says.
    let yaml = "apiVersion: v1\nkind: Node\nmetadata:\n  annotations:\n    a: \"3\"\n";
    let answer = node
        .ask("PATCH", &by("cni", ""), &[("content-type", APPLY)], yaml)
        .await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
    assert_eq!(back(&node).await, [(Verb::Patch, "nodes".into())]);
    let [told] = &applies(&node)[..] else {
        panic!("told once")
    };
    assert_eq!(told.query, "fieldManager=cni&force=false");
    let body: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(body["metadata"]["annotations"], json!({ "a": "3" }));
    assert_eq!(
        body["metadata"]["uid"], "uid-edge-1",
        "no successor of its name is meant"
    );
    assert!(
        body["metadata"]["resourceVersion"].is_null(),
        "versions here are this node's"
    );
}

#[tokio::test]
async fn who_takes_what_another_applied_is_in_conflict_unless_it_forces_it_and_must_say_who_it_is() {
    let node = offline().await;
    let by = |query: &str| format!("{NODE}{query}");
    ok(
        &node,
        "PATCH",
        &by("?fieldManager=cni"),
        APPLY,
        annotated(&json!({ "a": "1" })),
    )
    .await;
    let other = annotated(&json!({ "a": "2" }));
    let refused = send(&node, "PATCH", &by("?fieldManager=other"), APPLY, other.clone()).await;
    assert_eq!(refused.code, 409);
    let said = refused.json();
    assert_eq!(
        said["details"]["causes"][0]["reason"], "FieldManagerConflict",
        "{said}"
    );
    let forced = ok(
        &node,
        "PATCH",
        &by("?fieldManager=other&force=true"),
        APPLY,
        other,
    )
    .await;
    assert_eq!(forced["metadata"]["annotations"]["a"], "2");
    for (why, path, body, code) in [
        ("nobody", by(""), annotated(&json!({})), 422),
        (
            "another kind",
            by("?fieldManager=x"),
            json!({ "apiVersion": "v1", "kind": "Pod" }),
            400,
        ),
        ("a list", by("?fieldManager=x"), json!([]), 400),
        (
            "the cloud's",
            by("?fieldManager=x"),
            json!({ "apiVersion": "v1", "kind": "Node", "spec": { "unschedulable": true } }),
            503,
        ),
    ] {
        let refused = send(&node, "PATCH", &path, APPLY, body).await;
        assert_eq!(refused.code, code, "{why}: {:?}", refused.body);
    }
    // Of several managers the outcome is told.
    assert_eq!(back(&node).await, [(Verb::Patch, "nodes".into())]);
    assert!(applies(&node).is_empty());
    let nodes = GroupVersionResource::core("nodes");
    let there = node.cloud.get(&nodes, None, "edge-1").unwrap();
    assert_eq!(there["metadata"]["annotations"]["a"], "2");
}

#[tokio::test]
async fn an_apply_makes_what_is_not_there_and_brings_nothing_back_that_the_cloud_deleted() {
    let node = offline().await;
    let endpoints = collection("ciliumendpoints").1;
    let wanted = |state: &str| json!({ "apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": { "name": "web" }, "status": { "state": state } });
    let path = format!("{endpoints}/web?fieldManager=cilium");
    let answer = send(&node, "PATCH", &path, APPLY, wanted("creating")).await;
    assert_eq!(answer.code, 201, "{:?}", answer.body);
    let answer = send(&node, "PATCH", &path, APPLY, wanted("ready")).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
    assert_eq!(
        back(&node).await,
        [(Verb::Patch, "ciliumendpoints".into())],
        "told once"
    );
    let kind = GroupVersionResource::new("cilium.io", "v2", "ciliumendpoints");
    assert_eq!(
        node.cloud.get(&kind, Some("shop"), "web").unwrap()["status"]["state"],
        "ready"
    );

    node.cloud.mood(Mood::Unreachable);
    // The scripted cloud keeps no owners.
    ok(
        &node,
        "PATCH",
        &format!("{path}&force=true"),
        APPLY,
        wanted("waiting"),
    )
    .await;
    node.cloud.remove(kind.clone(), Some("shop"), "web");
    node.cloud.mood(Mood::Up);
    support::soon(async {
        while !node.journal().pending.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let conflicts = node.journal().conflicts;
    assert_eq!(
        conflicts.first().map(|kept| &*kept.reason),
        Some("Gone"),
        "{:#?}",
        node.cloud.asked().last()
    );
    assert!(node.cloud.get(&kind, Some("shop"), "web").is_none());
}

/// A node with a SpiderEndpoint that waits for its keeper before it goes.
async fn guarded() -> (Node, String, GroupVersionResource) {
    let node = offline().await;
    node.cloud.mood(Mood::Up);
    let kind = GroupVersionResource::new("spiderpool.spidernet.io", "v2beta1", "spiderendpoints");
    node.cloud.put(
        "spiderendpoints",
        json!({ "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderEndpoint",
            "metadata": { "name": "web", "namespace": "shop", "finalizers": ["spider/ip"], "generation": 1 }, "status": { "current": "x" } }),
    );
    let path = format!("{}/web", collection("spiderendpoints").1);
    support::soon(async {
        while node
            .store
            .get(&ObjectKey::new(kind.clone(), Some("shop"), "web"))
            .is_none()
        {
            tokio::task::yield_now().await
        }
    })
    .await;
    node.cloud.mood(Mood::Unreachable);
    (node, path, kind)
}

#[tokio::test]
async fn an_object_with_finalizers_goes_offline_when_the_last_is_taken_and_then_in_the_cloud_too() {
    let (node, path, kind) = guarded().await;
    let mut watch = node
        .watch(&format!("{}?watch=true", collection("spiderendpoints").1))
        .await;
    assert_eq!(watch.short().await, "ADDED web");
    let marked = ok(&node, "DELETE", &path, JSON, Value::Null).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(watch.short().await, "MODIFIED web");
    let again = ok(&node, "DELETE", &path, JSON, Value::Null).await;
    assert_eq!(
        again["metadata"], marked["metadata"],
        "it is being deleted already"
    );
    let late = json!({ "metadata": { "finalizers": ["spider/ip", "late"] } });
    let refused = send(&node, "PATCH", &path, MERGE, late).await;
    assert_eq!(refused.code, 422, "{:?}", refused.body);
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .contains("no new finalizers")
    );
    let last = ok(
        &node,
        "PATCH",
        &path,
        MERGE,
        json!({ "metadata": { "finalizers": [] } }),
    )
    .await;
    assert!(last["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(watch.short().await, "DELETED web");
    assert_eq!(node.get(&path).await.code, 404);
    back(&node).await;
    assert!(
        node.cloud.get(&kind, Some("shop"), "web").is_none(),
        "the cloud need not wait either"
    );
    assert_eq!(node.get(&path).await.code, 404);
}

#[tokio::test]
async fn what_waits_for_its_finalizers_waits_in_the_cloud_too() {
    let (node, path, kind) = guarded().await;
    ok(&node, "DELETE", &path, JSON, Value::Null).await;
    ok(
        &node,
        "PATCH",
        &path,
        MERGE,
        json!({ "metadata": { "labels": { "said": "goodbye" } } }),
    )
    .await;
    back(&node).await;
    let there = node.cloud.get(&kind, Some("shop"), "web").unwrap();
    assert!(there["metadata"]["deletionTimestamp"].is_string(), "{there}");
    assert_eq!(there["metadata"]["labels"]["said"], "goodbye");
    assert_eq!(there["metadata"]["finalizers"], json!(["spider/ip"]));
    assert!(node.get(&path).await.json()["metadata"]["deletionTimestamp"].is_string());
}
