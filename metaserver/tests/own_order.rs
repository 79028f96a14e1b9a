//! What a node wrote before it lost the cloud, and what it writes after: the cloud is told both in their order. And what is made here
//! is seen here, also of collections that nobody held.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use hub_core::object::GroupVersionResource;
use metaserver::{LocalWrites, MetaConfig};
use serde_json::{Value, json};
use support::{Mood, Node, soon};

const NODE: &str = "/api/v1/nodes/edge-1";
const EVENTS: &str = "/api/v1/namespaces/shop/events";
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn config() -> MetaConfig {
    MetaConfig {
        cloud_pause: Duration::from_millis(10),
        local_writes: LocalWrites {
            retry_pause: Duration::from_millis(10),
            ..LocalWrites::of_node("edge-1")
        },
        ..MetaConfig::default()
    }
}

async fn node() -> Node {
    let node = Node::with(config()).await;
    let own = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "edge-1", "annotations": {"a": "0", "other": "0"}}});
    node.cloud.put("nodes", own);
    node.get("/api/v1/nodes").await;
    node.settled().await;
    node
}

fn in_cloud(node: &Node) -> Value {
    let nodes = GroupVersionResource::core("nodes");
    node.cloud.get(&nodes, None, "edge-1").unwrap()
}

async fn annotate(node: &Node, text: &str) -> u16 {
    let patch = json!({"metadata": {"annotations": {"a": text}}}).to_string();
    node.ask("PATCH", NODE, MERGE, &patch).await.code.as_u16()
}

/// Someone in the cloud writes; nobody tells the node yet.
fn elsewhere(node: &Node, annotation: &str, text: &str) {
    let mut theirs = in_cloud(node);
    theirs["metadata"]["annotations"][annotation] = text.into();
    node.cloud.put("nodes", theirs);
}

/// Waits until nothing is left to be told.
async fn told(node: &Node) {
    node.cloud.mood(Mood::Up);
    soon(async {
        while !node.journal().pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_without_the_cloud_does_not_lose_to_one_before_it_that_the_cloud_did_not_answer() {
    let node = node().await;
    node.cloud.mood(Mood::LosesAnswers);
    assert_eq!(annotate(&node, "1").await, 504);
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(annotate(&node, "2").await, 200);
    assert_eq!(annotate(&node, "3").await, 200);
    elsewhere(&node, "other", "1");
    told(&node).await;
    assert!(node.journal().conflicts.is_empty(), "{:?}", node.journal());
    assert_eq!(
        in_cloud(&node)["metadata"]["annotations"],
        json!({"a": "3", "other": "1"})
    );
}

#[tokio::test]
async fn nor_to_one_that_was_told_without_an_answer_though_the_program_was_killed_between() {
    for killed in [false, true] {
        let mut node = node().await;
        node.cloud.mood(Mood::Unreachable);
        assert_eq!(annotate(&node, "1").await, 200);
        node.cloud.mood(Mood::LosesAnswers);
        soon(async {
            while in_cloud(&node)["metadata"]["annotations"]["a"] != "1" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        node.cloud.mood(Mood::Unreachable);
        if killed {
            node = node.restart(config()).await;
        }
        assert_eq!(annotate(&node, "2").await, 200);
        told(&node).await;
        assert!(node.journal().conflicts.is_empty(), "{:?}", node.journal());
        assert_eq!(in_cloud(&node)["metadata"]["annotations"]["a"], "2");
    }
}

#[tokio::test]
async fn what_others_wrote_over_an_unanswered_write_is_a_conflict_all_the_same() {
    let node = node().await;
    node.cloud.mood(Mood::LosesAnswers);
    assert_eq!(annotate(&node, "1").await, 504);
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(annotate(&node, "2").await, 200);
    elsewhere(&node, "a", "theirs");
    told(&node).await;
    assert_eq!(&*node.journal().conflicts[0].reason, "Merged");
    assert_eq!(in_cloud(&node)["metadata"]["annotations"]["a"], "theirs");
}

#[tokio::test]
async fn a_write_that_was_answered_ends_what_is_remembered_of_those_before_it() {
    let node = node().await;
    node.cloud.mood(Mood::LosesAnswers);
    assert_eq!(annotate(&node, "1").await, 504);
    node.cloud.mood(Mood::Up);
    assert_eq!(annotate(&node, "2").await, 200);
    told(&node).await;
    assert_eq!(annotate(&node, "3").await, 200);
    assert_eq!(in_cloud(&node)["metadata"]["annotations"]["a"], "3");
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(annotate(&node, "4").await, 200);
    // Somebody else means just that, as it was once ours.
    elsewhere(&node, "a", "1");
    told(&node).await;
    assert_eq!(&*node.journal().conflicts[0].reason, "Merged");
    assert_eq!(in_cloud(&node)["metadata"]["annotations"]["a"], "1");
}

#[tokio::test]
async fn events_made_here_are_listed_and_watched_here_though_nobody_held_events() {
    let node = node().await;
    node.cloud.mood(Mood::Unreachable);
    let event = |name: &str, about: &str| {
        json!({"metadata": {"name": name}, "involvedObject": {"kind": "Node", "name": about}, "reason": "Starting"})
            .to_string()
    };
    assert_eq!(
        node.ask("POST", EVENTS, JSON, &event("a", "edge-1")).await.code,
        201
    );
    assert_eq!(
        node.ask("POST", EVENTS, JSON, &event("b", "other")).await.code,
        201
    );
    let all = node.get("/api/v1/events").await;
    assert_eq!(
        (all.code.as_u16(), all.names()),
        (200, vec!["a".into(), "b".into()])
    );
    assert!(all.header("warning").contains("only what is this node's own"));
    // As `kubectl describe` asks.
    let about = node
        .get("/api/v1/events?fieldSelector=involvedObject.name%3Dedge-1%2CinvolvedObject.kind%3DNode&limit=500")
        .await;
    assert_eq!(about.names(), ["a"]);
    let mut watch = node.watch(&format!("{EVENTS}?watch=true")).await;
    assert_eq!([watch.short().await, watch.short().await], ["ADDED a", "ADDED b"]);
    assert_eq!(
        node.ask("POST", EVENTS, JSON, &event("c", "edge-1")).await.code,
        201
    );
    assert_eq!(watch.short().await, "ADDED c");
}
