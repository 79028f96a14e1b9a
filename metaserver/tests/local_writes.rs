//! Writes without the cloud: what is this node's is taken, kept, and told once the link is back; all else is refused.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use hub_core::object::GroupVersionResource;
use metaserver::{LocalWrites, MetaConfig};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Mood, Node, config_map, soon};

const NODE: &str = "/api/v1/nodes/edge-1";
const STATUS: &str = "/api/v1/nodes/edge-1/status";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const EVENTS: &str = "/api/v1/namespaces/shop/events";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];
const STRATEGIC: &[(&str, &str)] = &[("content-type", "application/strategic-merge-patch+json")];

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

fn node_object(name: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "annotations": {"a": "1"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

async fn offline() -> Node {
    let node = Node::with(config()).await;
    for name in ["edge-1", "edge-2"] {
        node.cloud.put("nodes", node_object(name));
    }
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.get("/api/v1/nodes").await;
    node.get("/api/v1/namespaces/shop/configmaps").await;
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    node
}

/// The node object in the cloud, once it is as wanted and this node's copy is the same.
async fn told(node: &Node, wanted: impl Fn(&Value) -> bool) -> Value {
    soon(async {
        loop {
            let held = node
                .cloud
                .get(&GroupVersionResource::core("nodes"), None, "edge-1");
            let seen = node.get(NODE).await;
            if let Some(held) = held.filter(&wanted)
                && seen.header("x-edge-write") != "pending"
                && without_version(seen.json()) == without_version(held.clone())
            {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn without_version(mut object: Value) -> Value {
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    object
}

fn annotate(value: &str) -> String {
    json!({"metadata": {"annotations": {"flannel": value}}}).to_string()
}

#[tokio::test]
async fn an_own_node_is_written_in_every_form_seen_at_once_and_told_once() {
    let node = offline().await;
    let mut watch = node
        .watch("/api/v1/nodes?watch=true&fieldSelector=metadata.name%3Dedge-1")
        .await;
    assert_eq!(watch.short().await, "ADDED edge-1");
    let patched = node.ask("PATCH", NODE, MERGE, &annotate("1")).await;
    assert_eq!(patched.code, 200);
    assert_eq!(watch.next().await.unwrap()["object"], patched.json());
    let seen = node.get(NODE).await;
    assert_eq!(
        (seen.json(), seen.header("x-edge-write")),
        (patched.json(), "pending")
    );
    let status = json!({"status": {"conditions": [{"type": "DiskPressure", "status": "False"}]}});
    let patched = node.ask("PATCH", STATUS, STRATEGIC, &status.to_string()).await;
    assert_eq!(
        patched.json()["status"]["conditions"].as_array().unwrap().len(),
        2
    );
    let operations = json!([{"op": "replace", "path": "/metadata/annotations/flannel", "value": "2"}]);
    let media = [("content-type", "application/json-patch+json")];
    assert_eq!(
        node.ask("PATCH", NODE, &media, &operations.to_string())
            .await
            .code,
        200
    );
    let mut whole = node.get(NODE).await.json();
    whole["metadata"]["annotations"]["b"] = "3".into();
    let updated = node.ask("PUT", NODE, JSON, &whole.to_string()).await;
    assert_eq!(updated.code, 200);
    let stale = node.ask("PUT", NODE, JSON, &whole.to_string()).await;
    assert_eq!(
        (stale.code.as_u16(), stale.json()["reason"].as_str()),
        (409, Some("Conflict"))
    );
    let before = node.cloud.asked().len();
    node.cloud.mood(Mood::Up);
    let held = told(&node, |held| held["metadata"]["annotations"]["b"] == "3").await;
    assert_eq!(
        held["metadata"]["annotations"],
        json!({"a": "1", "b": "3", "flannel": "2"})
    );
    assert_eq!(held["status"], updated.json()["status"]);
    let patches = node.cloud.asked().split_off(before);
    let patches: Vec<_> = patches
        .iter()
        .filter(|asked| asked.verb == hub_core::api::Verb::Patch)
        .collect();
    assert_eq!(patches.len(), 2, "one for the object, one for its status");
}

#[tokio::test]
async fn what_is_not_this_node_s_is_refused_with_a_reason_and_nothing_changes() {
    let node = offline().await;
    let map = "/api/v1/namespaces/shop/configmaps";
    let held = node.get(&format!("{map}/a")).await.json();
    let apply = [("content-type", "application/apply-patch+yaml")];
    let cases = [
        (
            "PATCH",
            "/api/v1/nodes/edge-2".to_owned(),
            MERGE,
            annotate("1"),
            "only the cloud may change this",
        ),
        (
            "PATCH",
            NODE.into(),
            MERGE,
            r#"{"spec":{"unschedulable":true}}"#.into(),
            "/spec/unschedulable",
        ),
        (
            "PATCH",
            NODE.into(),
            MERGE,
            r#"{"metadata":{"labels":{"a":"b"}}}"#.into(),
            "/metadata/labels",
        ),
        (
            "PATCH",
            format!("{map}/a?fieldManager=x"),
            &apply,
            r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"v":"2"}}"#.into(),
            "only the cloud",
        ),
        (
            "PATCH",
            format!("{NODE}?dryRun=All"),
            MERGE,
            annotate("1"),
            "dry run",
        ),
        ("DELETE", NODE.into(), JSON, String::new(), "only the cloud"),
        (
            "POST",
            map.into(),
            JSON,
            config_map("shop", "b", "1").to_string(),
            "only the cloud",
        ),
        (
            "PATCH",
            format!("{map}/a"),
            MERGE,
            r#"{"data":{"v":"2"}}"#.into(),
            "only the cloud",
        ),
        (
            "DELETE",
            format!("{map}/a"),
            JSON,
            String::new(),
            "only the cloud",
        ),
        ("DELETE", EVENTS.into(), JSON, String::new(), "collections"),
        (
            "PATCH",
            format!("{LEASES}/edge-1"),
            MERGE,
            r#"{"spec":{}}"#.into(),
            "does not hold",
        ),
    ];
    for (method, path, headers, body, why) in cases {
        let refused = node.ask(method, &path, headers, &body).await;
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(
            (refused.code.as_u16(), refused.header("retry-after")),
            (503, "1"),
            "{method} {path}"
        );
        assert!(message.contains(why), "{method} {path}: {message}");
        assert_eq!(
            refused.json()["details"]["causes"][0]["reason"],
            "CloudUnreachable"
        );
    }
    assert_eq!(node.get(&format!("{map}/a")).await.json(), held);
}

#[tokio::test]
async fn leases_and_events_made_here_reach_the_cloud_leases_first() {
    let node = offline().await;
    let event =
        json!({"metadata": {"generateName": "web."}, "reason": "Started", "involvedObject": {"name": "web"}});
    let created = node.ask("POST", EVENTS, JSON, &event.to_string()).await;
    assert_eq!(created.code, 201);
    let name = created.json()["metadata"]["name"].as_str().unwrap().to_owned();
    let lease =
        json!({"metadata": {"name": "edge-1"}, "spec": {"holderIdentity": "edge-1", "renewTime": "1"}});
    let made = node.ask("POST", LEASES, JSON, &lease.to_string()).await;
    assert_eq!(made.code, 201);
    assert_eq!(node.ask("POST", LEASES, JSON, &lease.to_string()).await.code, 409);
    let mut renewed = made.json();
    renewed["spec"]["renewTime"] = "2".into();
    let path = format!("{LEASES}/edge-1");
    assert_eq!(node.ask("PUT", &path, JSON, &renewed.to_string()).await.code, 200);
    assert_eq!(node.ask("PUT", &path, JSON, &renewed.to_string()).await.code, 409);
    let node = node.restart(config()).await;
    assert_eq!(node.get(&path).await.json()["spec"]["renewTime"], "2");
    let before = node.cloud.asked().len();
    node.cloud.mood(Mood::Up);
    let events = GroupVersionResource::core("events");
    soon(async {
        while node.cloud.get(&events, Some("shop"), &name).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let held = node
        .cloud
        .get(&leases, Some("kube-node-lease"), "edge-1")
        .unwrap();
    assert_eq!(held["spec"]["renewTime"], "2");
    assert_ne!(held["metadata"]["uid"], made.json()["metadata"]["uid"]);
    let told = node.cloud.asked().split_off(before);
    let creates = told
        .iter()
        .filter(|asked| asked.verb == hub_core::api::Verb::Create);
    assert!(format!("{:?}", creates.map(|asked| &asked.target).next()).contains("leases"));
}

#[tokio::test]
async fn a_restart_keeps_what_was_written_and_the_catch_up_does_not_overwrite_it() {
    let node = offline().await;
    let patched = node.ask("PATCH", NODE, MERGE, &annotate("1")).await;
    let node = node.restart(config()).await;
    let seen = node.get(NODE).await;
    assert_eq!(without_version(seen.json()), without_version(patched.json()));
    // The cloud changes another field, and its news arrives before it takes writes.
    let mut theirs = node
        .cloud
        .get(&GroupVersionResource::core("nodes"), None, "edge-1")
        .unwrap();
    theirs["spec"]["unschedulable"] = true.into();
    node.hold("nodes", theirs).await;
    assert_eq!(
        node.get(NODE).await.json()["metadata"]["annotations"]["flannel"],
        "1"
    );
    node.cloud.mood(Mood::Up);
    let held = told(&node, |held| held["metadata"]["annotations"]["flannel"] == "1").await;
    assert_eq!(held["spec"]["unschedulable"], true);
}

#[tokio::test]
async fn an_answer_that_was_lost_does_not_make_the_write_happen_twice() {
    let node = offline().await;
    node.ask("PATCH", NODE, MERGE, &annotate("1")).await;
    node.cloud.mood(Mood::LosesAnswers);
    let nodes = GroupVersionResource::core("nodes");
    soon(async {
        while node.cloud.get(&nodes, None, "edge-1").unwrap()["metadata"]["annotations"]["flannel"] != "1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let version = |held: Value| held["metadata"]["resourceVersion"].clone();
    let once = version(node.cloud.get(&nodes, None, "edge-1").unwrap());
    node.cloud.mood(Mood::Up);
    let held = told(&node, |held| held["metadata"]["annotations"]["flannel"] == "1").await;
    assert_eq!(version(held), once);
}

#[tokio::test]
async fn what_both_ends_changed_is_kept_as_a_conflict_and_shown() {
    let node = offline().await;
    node.ask("PATCH", NODE, MERGE, &annotate("ours")).await;
    let status = json!({"status": {"phase": "ours"}}).to_string();
    node.ask("PATCH", STATUS, MERGE, &status).await;
    let mut theirs = node
        .cloud
        .get(&GroupVersionResource::core("nodes"), None, "edge-1")
        .unwrap();
    theirs["metadata"]["annotations"]["flannel"] = "theirs".into();
    theirs["status"]["phase"] = "theirs".into();
    node.cloud.put("nodes", theirs);
    node.cloud.mood(Mood::Up);
    let held = told(&node, |held| held["status"]["phase"] == "ours").await;
    assert_eq!(held["metadata"]["annotations"]["flannel"], "theirs");
    assert_eq!(node.get(NODE).await.header("x-edge-write"), "conflict");
    let journal = node.journal();
    assert_eq!((journal.pending.len(), journal.conflicts.len()), (0, 1));
    let conflict = &journal.conflicts[0];
    assert_eq!((&*conflict.path, &*conflict.reason), (NODE, "Merged"));
    assert_eq!(conflict.fields[0]["pointer"], "/metadata/annotations/flannel");
    assert_eq!(conflict.local["metadata"]["annotations"]["flannel"], "ours");
    let node = node.restart(config()).await;
    assert_eq!(node.journal().conflicts.len(), 1);
}

#[tokio::test]
async fn a_write_to_what_the_cloud_deleted_or_denies_is_a_conflict_and_not_a_silence() {
    let node = offline().await;
    let mut watch = node
        .watch("/api/v1/nodes?watch=true&fieldSelector=metadata.name%3Dedge-1")
        .await;
    assert_eq!(watch.short().await, "ADDED edge-1");
    node.ask("PATCH", NODE, MERGE, &annotate("1")).await;
    assert_eq!(watch.short().await, "MODIFIED edge-1");
    node.cloud.mood(Mood::Denies);
    soon(async {
        while node.journal().conflicts.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(node.journal().conflicts[0].reason, "Refused");
    assert_eq!(watch.short().await, "MODIFIED edge-1");
    assert!(node.get(NODE).await.json()["metadata"]["annotations"]["flannel"].is_null());
    node.cloud.mood(Mood::Unreachable);
    let again = node.ask("PATCH", NODE, MERGE, &annotate("2")).await;
    assert_eq!(again.code, 200);
    node.cloud
        .remove(GroupVersionResource::core("nodes"), None, "edge-1");
    node.cloud.mood(Mood::Up);
    soon(async {
        while node.journal().conflicts.len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(node.journal().conflicts[1].reason, "Gone");
    assert_eq!(node.get(NODE).await.code, 404);
}

/// A step of a random schedule.
#[derive(Debug, Clone)]
enum Step {
    /// A client of this node sets an annotation.
    Local(u8),
    /// Somebody else sets one in the cloud.
    Cloud(u8),
    /// The link is so from now on.
    Link(Mood),
    /// This node's process ends and begins again.
    Restart,
    /// Time passes.
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    let mood = prop_oneof![Just(Mood::Up), Just(Mood::Unreachable), Just(Mood::LosesAnswers)];
    prop_oneof![
        4 => (0..3u8).prop_map(Step::Local),
        2 => (0..3u8).prop_map(Step::Cloud),
        2 => mood.prop_map(Step::Link),
        1 => Just(Step::Restart),
        1 => Just(Step::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_happens_both_ends_agree_and_no_acknowledged_write_is_lost(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(agree(steps));
    }
}

async fn agree(steps: Vec<Step>) {
    let mut node = offline().await;
    let nodes = GroupVersionResource::core("nodes");
    let mut last = BTreeMap::new();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Local(field) => {
                let value = format!("local-{n}");
                let patch = json!({"metadata": {"annotations": {field.to_string(): value}}});
                if node.ask("PATCH", NODE, MERGE, &patch.to_string()).await.code == 200 {
                    last.insert(field, value);
                }
            }
            Step::Cloud(field) => {
                let mut theirs = node.cloud.get(&nodes, None, "edge-1").unwrap();
                theirs["metadata"]["annotations"][field.to_string()] = format!("cloud-{n}").into();
                node.cloud.put("nodes", theirs);
            }
            Step::Link(mood) => node.cloud.mood(mood),
            Step::Restart => node = node.restart(config()).await,
            Step::Pause => tokio::time::sleep(Duration::from_millis(15)).await,
        }
    }
    node.cloud.mood(Mood::Up);
    told(&node, |_| true).await;
    let asked = node.cloud.asked();
    let asked: Vec<_> = asked
        .iter()
        .map(|asked| String::from_utf8_lossy(&asked.body))
        .collect();
    let kept = serde_json::to_string(&node.journal().conflicts).unwrap();
    for value in last.values() {
        let value = format!("\"{value}\"");
        assert!(
            kept.contains(&value) || asked.iter().any(|body| body.contains(&value)),
            "{value} is neither in the cloud nor kept: {kept}"
        );
    }
}
