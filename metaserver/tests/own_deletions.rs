//! Deletions that a node makes without the cloud, before and after other writes of its own: what the cloud has in the end is what the last
//! of them said, wherever the link broke between.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/agents.rs"]
#[allow(dead_code, reason = "part of several tests; none uses all of it")]
mod agents;
mod support;

use agents::{back, collection, config, offline, ok, send};
use hub_core::api::Verb;
use hub_core::random::Random;
use serde_json::{Value, json};
use support::{Mood, Node, soon};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

fn endpoints() -> String {
    collection("ciliumendpoints").1
}

fn one() -> String {
    format!("{}/web", endpoints())
}

fn new(id: u64) -> Value {
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": {"name": "web"}, "status": {"id": id}})
}

fn changed(id: u64) -> Value {
    json!({"status": {"id": id}})
}

fn in_cloud(node: &Node) -> Option<Value> {
    node.cloud
        .get(&collection("ciliumendpoints").0, Some("shop"), "web")
}

/// A node that holds an endpoint of the cloud's, with its cable pulled.
async fn with_endpoint() -> Node {
    let node = offline().await;
    node.cloud.mood(Mood::Up);
    ok(&node, "POST", &endpoints(), JSON, new(1)).await;
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    node
}

fn told(writes: &[(Verb, String)]) -> Vec<Verb> {
    writes.iter().map(|(verb, _)| *verb).collect()
}

#[tokio::test]
async fn what_was_deleted_and_made_anew_is_another_object_in_the_cloud_too() {
    let node = with_endpoint().await;
    ok(&node, "DELETE", &one(), JSON, Value::Null).await;
    ok(&node, "POST", &endpoints(), JSON, new(2)).await;
    ok(&node, "PATCH", &one(), MERGE, changed(3)).await;
    assert_eq!(node.get(&one()).await.json()["status"]["id"], 3);
    assert_eq!(told(&back(&node).await), [Verb::Delete, Verb::Create]);
    assert_eq!(in_cloud(&node).unwrap()["status"]["id"], 3);
    assert_eq!(node.get(&one()).await.json()["status"]["id"], 3);
}

#[tokio::test]
async fn nor_is_it_lost_where_the_cloud_had_deleted_the_older_one_itself() {
    let node = with_endpoint().await;
    ok(&node, "DELETE", &one(), JSON, Value::Null).await;
    ok(&node, "POST", &endpoints(), JSON, new(2)).await;
    // The pod's end took its endpoint along.
    node.cloud
        .remove(collection("ciliumendpoints").0, Some("shop"), "web");
    let node = node.restart(config()).await;
    back(&node).await;
    assert_eq!(in_cloud(&node).unwrap()["status"]["id"], 2);
}

#[tokio::test]
async fn where_others_changed_the_older_one_it_stays_and_is_changed() {
    let node = with_endpoint().await;
    ok(&node, "DELETE", &one(), JSON, Value::Null).await;
    ok(&node, "POST", &endpoints(), JSON, new(2)).await;
    let mut theirs = in_cloud(&node).unwrap();
    theirs["theirs"] = 1.into();
    node.cloud.put("ciliumendpoints", theirs);
    back(&node).await;
    let held = in_cloud(&node).unwrap();
    assert_eq!((&held["status"]["id"], &held["theirs"]), (&2.into(), &1.into()));
}

#[tokio::test]
async fn what_the_cloud_was_asked_to_make_without_an_answer_can_be_deleted() {
    for again in [false, true] {
        let node = offline().await;
        node.cloud.mood(Mood::LosesAnswers);
        assert_eq!(send(&node, "POST", &endpoints(), JSON, new(1)).await.code, 504);
        node.cloud.mood(Mood::Unreachable);
        if again {
            ok(&node, "POST", &endpoints(), JSON, new(2)).await;
        }
        ok(&node, "DELETE", &one(), JSON, Value::Null).await;
        assert_eq!(node.get(&one()).await.code, 404);
        back(&node).await;
        assert_eq!(in_cloud(&node), None, "made again here: {again}");
    }
}

#[tokio::test]
async fn a_change_without_an_answer_is_no_hindrance_to_the_deletion_after_it_and_another_s_is() {
    for another_s in [false, true] {
        let node = with_endpoint().await;
        node.cloud.mood(Mood::LosesAnswers);
        assert_eq!(send(&node, "PATCH", &one(), MERGE, changed(2)).await.code, 504);
        node.cloud.mood(Mood::Unreachable);
        ok(&node, "DELETE", &one(), JSON, Value::Null).await;
        if !another_s {
            back(&node).await;
            assert_eq!(in_cloud(&node), None);
            continue;
        }
        let mut theirs = in_cloud(&node).unwrap();
        theirs["status"]["id"] = 7.into();
        node.cloud.put("ciliumendpoints", theirs);
        node.cloud.mood(Mood::Up);
        soon(async { while node.get(&one()).await.code != 200 {} }).await;
        assert_eq!(&*node.journal().conflicts[0].reason, "Refused");
        assert_eq!(in_cloud(&node).unwrap()["status"]["id"], 7);
    }
}

/// What a client knows of its object.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Is(Option<u64>),
    Nothing,
}

/// One client writes, deletes and makes anew, and the link breaks between any two of its writes, with the answer or without.
#[tokio::test]
async fn wherever_the_link_breaks_the_cloud_ends_with_what_the_last_write_said() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let node = offline().await;
        let (mut known, mut deleting, mut said) = (Known::Is(None), false, Vec::new());
        let mut step = 0;
        // The last word must have been answered.
        while step < 12 || known == Known::Nothing {
            step += 1;
            assert!(step < 200, "{seed}: {said:?}");
            let mood = [Mood::Up, Mood::LosesAnswers, Mood::Unreachable, Mood::Unreachable];
            node.cloud.mood(mood[random.below(4) as usize]);
            let (method, path, media, body) = match random.below(3) {
                0 => ("POST", endpoints(), JSON, new(step)),
                1 => ("PATCH", one(), MERGE, changed(step)),
                _ => ("DELETE", one(), JSON, Value::Null),
            };
            let code = send(&node, method, &path, media, body).await.code.as_u16();
            said.push((method, step, code));
            known = match (method, code) {
                // Whether it happens before or after is open.
                ("PATCH", 200) if deleting => Known::Nothing,
                ("POST" | "PATCH", 200 | 201) => Known::Is(Some(step)),
                ("DELETE" | "PATCH", 200 | 404) => Known::Is(None),
                ("POST", 409) => known,
                (_, 503 | 504) => Known::Nothing,
                _ => panic!("{seed}: {said:?}"),
            };
            deleting = match (method, code) {
                ("DELETE", 503 | 504) => true,
                ("DELETE" | "POST", 200 | 201 | 404) => false,
                _ => deleting,
            };
        }
        node.cloud.mood(Mood::Up);
        soon(async {
            while !node.journal().pending.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let held = in_cloud(&node).map(|object| object["status"]["id"].as_u64().unwrap());
        assert_eq!(
            Known::Is(held),
            known,
            "{seed}: {said:?} {:?}",
            node.journal().conflicts
        );
        node.stop().await;
    }
}
