//! Gets and lists of a node, with the cloud and without it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::{Duration, Instant};

use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use metaserver::MetaConfig;
use serde_json::json;
use support::{Mood, Node, config_map};

const SETTINGS: &str = "/api/v1/namespaces/shop/configmaps/settings";
const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

#[tokio::test]
async fn an_object_is_asked_for_once_and_then_served_from_here_even_without_the_cloud() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "settings", "1"));
    let first = node.get(SETTINGS).await;
    assert_eq!(
        (first.code.as_u16(), first.json()["data"]["v"].as_str()),
        (200, Some("1"))
    );
    node.cloud.mood(Mood::Unreachable);
    let again = node.get(SETTINGS).await;
    assert_eq!((again.code.as_u16(), again.header("x-edge-cache")), (200, "live"));
    assert_eq!(again.json(), first.json(), "one object, one revision");
    assert_eq!(node.cloud.asked().len(), 1);
}

#[tokio::test]
async fn a_list_is_asked_for_once_then_subscribed_to_and_kept() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.cloud.put("configmaps", config_map("shop", "b", "2"));
    node.cloud.put("configmaps", config_map("other", "c", "3"));
    assert_eq!(node.get(SHOP).await.names(), ["a", "b"]);
    node.complete(Scope::namespaced(
        GroupVersionResource::core("configmaps"),
        "shop",
    ))
    .await;
    let asked = node.cloud.asked().len();
    node.cloud.mood(Mood::Unreachable);
    let list = node.get(&format!("{SHOP}?labelSelector=app%3D2")).await;
    assert_eq!(list.names(), ["b"]);
    assert!(list.json()["items"][0]["kind"].is_null() || list.json()["items"][0]["kind"] == "ConfigMap");
    assert_eq!(list.json()["kind"], "ConfigMapList");
    assert_ne!(list.json()["metadata"]["resourceVersion"], "0");
    assert_eq!(
        node.get(&format!("{SHOP}/absent")).await.code,
        404,
        "the scope is complete, so it is proven"
    );
    assert_eq!(node.cloud.asked().len(), asked);
}

#[tokio::test]
async fn what_is_not_held_is_never_a_404_while_the_cloud_is_away() {
    let node = Node::start().await;
    node.cloud.mood(Mood::Unreachable);
    for path in [
        SETTINGS,
        SHOP,
        "/api/v1/nodes",
        "/apis/no.such.group/v1/things",
        "/apis/no.such.group/v1/things/x",
    ] {
        let answer = node.get(path).await;
        assert_eq!(
            (answer.code.as_u16(), answer.header("retry-after")),
            (503, "1"),
            "{path}"
        );
        assert_eq!(
            answer.json()["details"]["causes"][0]["reason"],
            "CloudUnreachable"
        );
    }
    assert_eq!(
        node.get("/apis/apps/v1/nosuch").await.code,
        404,
        "built-in groups are known for certain"
    );
}

#[tokio::test]
async fn a_silent_cloud_costs_less_than_three_seconds_and_the_next_request_nothing() {
    let config = MetaConfig {
        cloud_timeout: Duration::from_millis(300),
        ..MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.cloud.mood(Mood::Silent);
    let start = Instant::now();
    assert_eq!(node.get(SETTINGS).await.code, 503);
    assert!(start.elapsed() < Duration::from_secs(3));
    let start = Instant::now();
    assert_eq!(node.get(SHOP).await.code, 503);
    assert!(start.elapsed() < Duration::from_millis(250));
    assert!(MetaConfig::default().cloud_timeout < Duration::from_secs(3));
}

#[tokio::test]
async fn a_denial_of_the_cloud_is_final() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "settings", "1"));
    node.cloud.mood(Mood::Denies);
    for path in [SETTINGS, SHOP, &format!("{SHOP}?watch=true")] {
        let answer = node.get(path).await;
        assert_eq!(
            (answer.code.as_u16(), answer.json()["reason"].as_str()),
            (403, Some("Forbidden")),
            "{path}"
        );
    }
    node.cloud.mood(Mood::Up);
    let absent = node.get(&format!("{SHOP}/absent")).await;
    assert_eq!(
        (absent.code.as_u16(), absent.json()["reason"].as_str()),
        (404, Some("NotFound"))
    );
}

#[tokio::test]
async fn custom_kinds_are_learnt_from_the_cloud_and_stay_known_without_it() {
    let node = Node::start().await;
    node.cloud.put(
        "customresourcedefinitions",
        json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": "widgets.demo.example.com"},
            "spec": {"group": "demo.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true}]}}),
    );
    node.cloud.put(
        "widgets",
        json!({"kind": "Widget", "apiVersion": "demo.example.com/v1", "metadata": {"name": "w", "namespace": "shop"}}),
    );
    let widgets = "/apis/demo.example.com/v1/namespaces/shop/widgets";
    let list = node.get(widgets).await;
    assert_eq!(
        (list.code.as_u16(), list.json()["kind"].as_str()),
        (200, Some("WidgetList"))
    );
    node.complete(Scope::namespaced(
        GroupVersionResource::new("demo.example.com", "v1", "widgets"),
        "shop",
    ))
    .await;
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(node.get(widgets).await.names(), ["w"]);
    assert_eq!(
        node.get("/apis/demo.example.com/v1").await.json()["resources"][0]["name"],
        "widgets"
    );
    assert_eq!(node.get("/apis/demo.example.com/v2/widgets").await.code, 404);
}

#[tokio::test]
async fn pages_show_one_instant_however_the_collection_changes_in_between() {
    let node = Node::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        node.cloud.put("configmaps", config_map("shop", name, "old"));
    }
    node.get(SHOP).await;
    node.complete(Scope::namespaced(
        GroupVersionResource::core("configmaps"),
        "shop",
    ))
    .await;
    let first = node.get(&format!("{SHOP}?limit=2")).await;
    assert_eq!(
        (
            first.names(),
            first.json()["metadata"]["remainingItemCount"].as_u64()
        ),
        (vec!["a".into(), "b".into()], Some(3))
    );
    let mut watch = node
        .watch(&format!(
            "{SHOP}?watch=true&resourceVersion={}",
            first.json()["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    node.cloud.put("configmaps", config_map("shop", "bb", "new"));
    node.cloud
        .remove(GroupVersionResource::core("configmaps"), Some("shop"), "d");
    let mut seen = [watch.short().await, watch.short().await];
    seen.sort();
    assert_eq!(seen, ["ADDED bb", "DELETED d"]);
    let token = first.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = node.get(&format!("{SHOP}?limit=10&continue={token}")).await;
    assert_eq!(second.names(), ["c", "d", "e"]);
    assert_eq!(
        second.json()["metadata"]["resourceVersion"],
        first.json()["metadata"]["resourceVersion"]
    );
    assert_eq!(node.get(SHOP).await.names(), ["a", "b", "bb", "c", "e"]);
}

#[tokio::test]
async fn curl_gets_json_for_people_and_health_answers_by_itself() {
    let node = Node::start().await;
    node.hold("configmaps", config_map("shop", "settings", "1")).await;
    node.cloud.mood(Mood::Unreachable);
    let pretty = node.ask("GET", SETTINGS, &[("user-agent", "curl/8")], "").await;
    assert!(pretty.body.starts_with(b"{\n  \""));
    assert!(!node.get(SETTINGS).await.body.contains(&b'\n'));
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz?verbose",
        "/version",
        "/api",
        "/apis",
        "/api/v1",
    ] {
        assert_eq!(node.get(path).await.code, 200, "{path}");
    }
    let aggregated = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let all = node.ask("GET", "/apis", &aggregated, "").await;
    let etag = all.header("etag").to_owned();
    assert_eq!(
        all.header("content-type"),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let known = [aggregated[0], ("if-none-match", etag.as_str())];
    assert_eq!(node.ask("GET", "/apis", &known, "").await.code, 304);
}
