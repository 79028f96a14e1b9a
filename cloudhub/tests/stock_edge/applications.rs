//! Requests of a Go metaServer to the Kubernetes API, through the tunnel (tunnel specification §6.5).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloudhub::HubEvent;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cloud::{Cloud, config, id, service};
use crate::peer::{Habits, StockEdge, answer, applied};

const SERVICES: &str = "/core/v1/services/default/null";
const LEASE: &str = "/coordination.k8s.io/v1/leases/kube-node-lease/edge-1";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn watch_options() -> Value {
    json!({ "watch": true, "resourceVersionMatch": "NotOlderThan", "sendInitialEvents": true, "timeoutSeconds": 100 })
}

/// A watch, and its answer.
async fn watch(edge: &StockEdge, key: &str, option: &Value) -> Value {
    let message = edge.application("watch", key, option, None, "");
    let answer = edge.ask(message.clone()).await;
    assert_eq!(applied(&answer), Ok("".into()), "answered at once, with nothing");
    message
}

#[tokio::test]
async fn t9_a_slow_request_holds_up_nobody() {
    let cloud = Cloud::new().await;
    let one = StockEdge::join(&cloud, "edge-1").await;
    let two = StockEdge::join(&cloud, "edge-2").await;
    for name in ["slow", "quick"] {
        cloud.create("services", service(name, "shop")).await;
    }
    cloud.strange.hold("slow");
    let slow = one.application("get", "/core/v1/services/default/slow", &json!({}), None, "");
    let slow_answered = one.expect(&slow);
    one.send(&slow).await.unwrap();
    for edge in [&one, &two] {
        for _ in 0..10 {
            let got = edge
                .api("get", "/core/v1/services/default/quick", json!({}), None)
                .await;
            assert_eq!(got.unwrap()["metadata"]["name"], "quick");
        }
        edge.register().await;
    }
    cloud.strange.let_go();
    assert!(applied(&answer(slow_answered).await).is_ok());
}

#[tokio::test]
async fn reads_obey_options_selectors_and_subresources() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    for (name, app) in [("a", "shop"), ("b", "shop"), ("c", "bank")] {
        cloud.create("services", service(name, app)).await;
    }
    let list = |option: Value| edge.api("list", SERVICES, option, None);
    let all = list(json!({})).await.unwrap();
    assert_eq!(
        (all["kind"].as_str(), names(&all)),
        (Some("ServiceList"), vec!["a", "b", "c"])
    );
    let shop = list(json!({ "kind": "ListOptions", "apiVersion": "v1", "labelSelector": "app=shop" }))
        .await
        .unwrap();
    assert_eq!(names(&shop), ["a", "b"]);
    let one = list(json!({ "fieldSelector": "metadata.name=c" })).await.unwrap();
    assert_eq!(names(&one), ["c"]);
    // A page may be the whole.
    let first = list(json!({ "limit": 2 })).await.unwrap();
    assert!(names(&first).starts_with(&["a", "b"]));

    let get = edge.application("get", "/core/v1/nodes/null/edge-1", &json!({}), None, "status");
    let node = applied(&edge.ask(get).await).unwrap();
    assert_eq!(node["kind"], "Node");
    let absent = edge
        .api("get", "/core/v1/services/default/none", json!({}), None)
        .await
        .unwrap_err();
    assert_eq!(
        (&absent["code"], &absent["reason"]),
        (&json!(404), &json!("NotFound"))
    );
}

#[tokio::test]
async fn writes_are_executed_with_their_options() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    let lease = |holder: &str| {
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "edge-1", "namespace": "kube-node-lease" },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 40 } })
    };
    let options = |kind: &str| json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    let collection = "/coordination.k8s.io/v1/leases/kube-node-lease/null";
    let mut rehearsal = options("CreateOptions");
    rehearsal["dryRun"] = json!(["All"]);
    edge.api("create", collection, rehearsal, Some(lease("a")))
        .await
        .unwrap();
    let made = edge
        .api("create", collection, options("CreateOptions"), Some(lease("a")))
        .await
        .unwrap();
    let twice = edge
        .api("create", collection, options("CreateOptions"), Some(lease("a")))
        .await
        .unwrap_err();
    assert_eq!(
        (&twice["code"], &twice["reason"]),
        (&json!(409), &json!("AlreadyExists"))
    );

    let mut changed = made.clone();
    changed["spec"]["holderIdentity"] = "b".into();
    let updated = edge
        .api("update", LEASE, options("UpdateOptions"), Some(changed.clone()))
        .await
        .unwrap();
    assert_eq!(updated["spec"]["holderIdentity"], "b");
    let stale = edge
        .api("update", LEASE, options("UpdateOptions"), Some(changed))
        .await
        .unwrap_err();
    assert_eq!(
        (&stale["code"], &stale["reason"]),
        (&json!(409), &json!("Conflict"))
    );

    for (kind, data, holder) in [
        (
            "application/merge-patch+json",
            json!({ "spec": { "holderIdentity": "c" } }),
            "c",
        ),
        (
            "application/strategic-merge-patch+json",
            json!({ "spec": { "holderIdentity": "d" } }),
            "d",
        ),
        (
            "application/json-patch+json",
            json!([{ "op": "replace", "path": "/spec/holderIdentity", "value": "e" }]),
            "e",
        ),
    ] {
        let info = json!({ "Name": "edge-1", "PatchType": kind, "Data": BASE64.encode(data.to_string()), "Options": options("PatchOptions"), "Subresources": [""] });
        let patched = edge.api("patch", LEASE, info, None).await.unwrap();
        assert_eq!(patched["spec"]["holderIdentity"], holder);
    }
    let status = json!({ "status": { "volumesInUse": ["v"] } }).to_string();
    let info = json!({ "Name": "edge-1", "PatchType": "application/merge-patch+json", "Data": BASE64.encode(status), "Options": {}, "Subresources": ["status"] });
    let patched = edge
        .api("patch", "/core/v1/nodes/null/edge-1", info, None)
        .await
        .unwrap();
    assert_eq!(patched["status"]["volumesInUse"][0], "v");
    let mut node = patched;
    node["status"]["volumesInUse"] = json!(["w"]);
    let updated = edge
        .api(
            "updatestatus",
            "/core/v1/nodes/null/edge-1",
            options("UpdateOptions"),
            Some(node),
        )
        .await;
    assert_eq!(updated.unwrap()["status"]["volumesInUse"][0], "w");

    let mut guarded = options("DeleteOptions");
    guarded["preconditions"] = json!({ "uid": "00000000-0000-0000-0000-000000000000" });
    let refused = edge.api("delete", LEASE, guarded, None).await.unwrap_err();
    assert_eq!(refused["reason"], "Conflict");
    edge.api("delete", LEASE, options("DeleteOptions"), None)
        .await
        .unwrap();
    let gone = edge
        .api("delete", LEASE, options("DeleteOptions"), None)
        .await
        .unwrap_err();
    assert_eq!(gone["code"], 404);
}

#[tokio::test]
async fn paths_pass_through_and_an_unknown_kind_is_a_404_to_its_asker_only() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("services", service("shop", "shop")).await;
    for (path, field) in [
        ("/version", "gitVersion"),
        ("/api", "versions"),
        ("/apis", "groups"),
        ("/api/v1", "resources"),
    ] {
        let answer = edge
            .api("get", path, json!({}), None)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(answer.get(field).is_some(), "{path}: {answer}");
    }
    let healthy = edge.api("get", "/healthz", json!({}), None).await.unwrap();
    assert_eq!(healthy, "ok");

    let kept = watch(&edge, SERVICES, &watch_options()).await;
    let unknown = "/no.such/v1/things/null/null";
    for verb in ["list", "watch", "get", "create"] {
        let body = (verb == "create")
            .then(|| json!({ "apiVersion": "no.such/v1", "kind": "Thing", "metadata": { "name": "a" } }));
        let failed = edge.api(verb, unknown, json!({}), body).await.unwrap_err();
        assert!(
            failed["code"] == 404 || (verb == "create" && failed["code"] == 403),
            "{verb}: {failed}"
        );
        assert!(edge.api("list", SERVICES, json!({}), None).await.is_ok());
    }
    // In a sync, those that cannot be are named, and the others stay.
    let lost = edge.application("watch", unknown, &json!({}), None, "");
    let synced = edge.watch_sync(&[&kept, &lost]).await;
    let failed = synced["content"].as_object().unwrap();
    assert_eq!(
        failed.keys().collect::<Vec<_>>(),
        [lost["content"]["ID"].as_str().unwrap()]
    );
    // Nonsense harms its sender only.
    for (verb, key) in [("explode", SERVICES), ("get", "no slash"), ("get", "")] {
        let answer = edge.ask(edge.application(verb, key, &json!({}), None, "")).await;
        assert!(applied(&answer).is_err(), "{verb} {key}");
    }
    let broken = edge.message(
        "metaserver",
        "dynamiccontroller",
        "null",
        "null",
        "no application".into(),
    );
    assert_eq!(edge.ask(broken).await["route"]["operation"], "error");
}

#[tokio::test]
async fn t8_large_bodies_travel_in_base64_both_ways() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    let note = "0123456789abcdef".repeat(1 << 13);
    let mut node = cloud.get("nodes", None, "edge-1").await.unwrap();
    node["metadata"]["annotations"]["note"] = note.as_str().into();
    let updated = edge
        .api("update", "/core/v1/nodes/null/edge-1", json!({}), Some(node))
        .await
        .unwrap();
    assert_eq!(updated["metadata"]["annotations"]["note"], note);
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_leaves_no_gap() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    for i in 0..20 {
        cloud.create("services", service(&format!("s-{i}"), "shop")).await;
    }
    // The cluster changes while the watch is attached.
    let changes = async {
        for i in 20..60 {
            cloud.create("services", service(&format!("s-{i}"), "shop")).await;
            if i % 2 == 0 {
                cloud
                    .delete("services", Some("default"), &format!("s-{}", i - 20))
                    .await;
            }
            let patch = json!({ "metadata": { "labels": { "turn": i.to_string() } } });
            cloud
                .patch("services", Some("default"), &format!("s-{}", i - 1), patch)
                .await;
        }
    };
    let option = watch_options();
    tokio::join!(changes, watch(&edge, SERVICES, &option));
    let list = edge.api("list", SERVICES, json!({}), None).await.unwrap();
    let expected: std::collections::BTreeMap<String, Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let name = item["metadata"]["name"].as_str().unwrap();
            (
                format!("default/service/{name}"),
                item["metadata"]["resourceVersion"].clone(),
            )
        })
        .collect();
    edge.until(|seen| {
        seen.rows.len() == expected.len()
            && expected.iter().all(|(key, version)| {
                seen.rows
                    .get(key)
                    .is_some_and(|row| row["metadata"]["resourceVersion"] == *version)
            })
    })
    .await;
    let seen = edge.seen();
    let first = seen.pushed("default/service/s-59")[0];
    assert_eq!(first["route"]["source"], "dynamiccontroller");
    assert_eq!(first["route"]["group"], "resource");
}

#[tokio::test]
async fn a_watch_obeys_its_selector_and_deletes_are_never_lost() {
    let mut cloud = Cloud::hasty().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    let mut option = watch_options();
    option["labelSelector"] = "app=shop".into();
    for name in ["a", "b", "c", "d"] {
        cloud.create("services", service(name, "shop")).await;
    }
    cloud.create("services", service("other", "bank")).await;
    let mut edge = edge;
    watch(&edge, SERVICES, &option).await;
    edge.until(|seen| seen.rows.len() == 4).await;
    // One that matches no more is gone for the watcher; one that matches now is new.
    let label = |app: &str| json!({ "metadata": { "labels": { "app": app } } });
    cloud.patch("services", Some("default"), "a", label("bank")).await;
    cloud
        .patch("services", Some("default"), "other", label("shop"))
        .await;
    edge.until(|seen| !seen.has("default/service/a") && seen.has("default/service/other"))
        .await;
    // Deleted while the edge is away, and made and deleted again: it hears of every end.
    let rows = edge.cut().await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    cloud.delete("services", Some("default"), "b").await;
    cloud.delete("services", Some("default"), "c").await;
    cloud.create("services", service("c", "shop")).await;
    cloud.delete("services", Some("default"), "c").await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    edge.until(|seen| {
        seen.rows
            .keys()
            .eq(["default/service/d", "default/service/other"])
    })
    .await;
    // The watch went on though the edge did not ask again (L10).
    cloud.create("services", service("e", "shop")).await;
    edge.until(|seen| seen.has("default/service/e")).await;
}

#[tokio::test]
async fn l10_watches_outlive_the_session_without_the_edges_help() {
    let mut cloud = Cloud::with(|setup| setup.hub.linger = Duration::from_millis(40)).await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("services", service("a", "shop")).await;
    let message = watch(&edge, SERVICES, &watch_options()).await;
    edge.until(|seen| seen.has("default/service/a")).await;
    let rows = edge.cut().await;
    cloud.event(HubEvent::Ended(id("edge-1"))).await;
    cloud.create("services", service("b", "shop")).await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    edge.until(|seen| seen.has("default/service/b")).await;
    cloud.create("services", service("c", "shop")).await;
    edge.until(|seen| seen.has("default/service/c")).await;
    // Until it says that it wants it no more.
    assert_eq!(edge.watch_sync(&[&message]).await["content"], json!({}));
    assert_eq!(edge.watch_sync(&[]).await["content"], json!({}));
    edge.until(|seen| seen.rows.is_empty()).await;
}

#[tokio::test]
async fn watches_are_served_beside_questions_and_in_any_number_of_kinds() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("configmaps", config("blue", "blue")).await;
    cloud.create("services", service("shop", "shop")).await;
    let start = Instant::now();
    let mut kept = Vec::new();
    for key in [
        SERVICES,
        "/core/v1/endpoints/null/null",
        "/discovery.k8s.io/v1/endpointslices/null/null",
        "/core/v1/services/null/null",
        "/core/v1/nodes/null/null",
    ] {
        kept.push(watch(&edge, key, &watch_options()).await);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    edge.register().await;
    edge.until(|seen| seen.has("default/service/shop") && seen.has("null/node/edge-1"))
        .await;
    // Two watches see it: it leaves with the last.
    let [first, rest @ ..] = &kept[..] else { panic!() };
    let some: Vec<_> = rest.iter().collect();
    assert_eq!(edge.watch_sync(&some).await["content"], json!({}));
    cloud.create("services", service("more", "shop")).await;
    edge.until(|seen| seen.has("default/service/more")).await;
    assert!(edge.seen().has("default/service/shop"));
    assert_eq!(edge.watch_sync(&[first]).await["content"], json!({}));
    // Its own node stays: that is no matter of watches.
    cloud.delete("services", Some("default"), "more").await;
    edge.until(|seen| !seen.has("default/service/more")).await;
    assert!(edge.seen().has("null/node/edge-1") && edge.seen().has("default/service/shop"));
}
