//! An edge of our own kind comes back: it is sent what changed, and no more.

use hub_core::catch_up::ScopeText;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::transport::Capabilities;
use serde_json::json;

use crate::world::{World, config, node, pod, secret, service};

async fn cluster() -> World {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    world
}

fn services() -> Vec<ScopeText> {
    vec![ScopeText::from(&Scope::all(GroupVersionResource::core(
        "services",
    )))]
}

#[tokio::test]
async fn an_empty_edge_gets_everything_and_hears_when_that_is_all() {
    let world = cluster().await;
    world.create("services", service("shop")).await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let (complete, _) = edge.catch_up(services()).await;
    assert_eq!((complete.scopes, complete.refused), (services(), vec![]));
    assert_eq!(edge.received, 6, "five objects and the end");
    assert_eq!(edge.held.len(), 5);
}

#[tokio::test]
async fn a_returning_edge_gets_the_difference_deletions_included() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(services()).await;
    let held = std::mem::take(&mut edge.held);
    drop(edge);
    world
        .patch(
            "configmaps",
            Some("default"),
            "blue",
            json!({ "data": { "color": "navy" } }),
        )
        .await;
    world.delete("pods", Some("default"), "web").await;
    world.create("pods", pod("web-2", "edge-1", "blue", "door")).await;
    world.create("services", service("shop")).await;

    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.held = held;
    edge.catch_up(services()).await;
    let names: Vec<_> = edge.held.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "default/configmap/blue",
            "default/pod/web-2",
            "default/secret/door",
            "default/service/shop",
            "null/node/edge-1"
        ]
    );
    assert!(String::from_utf8_lossy(&edge.held["default/configmap/blue"]).contains("navy"));
}

#[tokio::test]
async fn an_edge_that_lacks_nothing_is_told_so_in_one_round() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    let held = std::mem::take(&mut edge.held);
    drop(edge);
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.held = held;
    let (_, told) = edge.catch_up(vec![]).await;
    assert_eq!(edge.received, 1, "nothing but the end");
    assert!(told < 600, "{told} bytes");
}

#[tokio::test]
async fn an_edge_that_lost_its_disk_gets_everything_again_in_the_same_session() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    drop(edge);
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    assert_eq!(edge.held.len(), 4);
}

#[tokio::test]
async fn what_an_edge_subscribes_to_follows_and_what_it_leaves_goes() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(services()).await;
    world.create("services", service("shop")).await;
    assert_eq!(edge.told(1).await, ["insert default/service/shop"]);
    world
        .patch(
            "services",
            Some("default"),
            "shop",
            json!({ "metadata": { "labels": { "tier": "front" } } }),
        )
        .await;
    assert_eq!(edge.told(1).await, ["update default/service/shop"]);
    edge.catch_up(vec![]).await;
    assert!(!edge.held.contains_key("default/service/shop"));
    edge.catch_up(services()).await;
    world.delete("services", Some("default"), "shop").await;
    edge.until(|held| !held.contains_key("default/service/shop"))
        .await;
}

#[tokio::test]
async fn a_refused_scope_is_named_and_disturbs_no_other() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let scope = |group: &str, resource: &str| {
        ScopeText::from(&Scope::all(GroupVersionResource::new(group, "v1", resource)))
    };
    let mut scopes = services();
    scopes.push(scope("nobody.example", "unknowns"));
    scopes.push(scope("", "secrets"));
    let (complete, _) = edge.catch_up(scopes).await;
    assert_eq!(complete.scopes, services());
    let refused: Vec<_> = complete
        .refused
        .iter()
        .map(|r| r.scope.resource.as_str())
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.contains(&"nobody.example/v1/unknowns") && refused.contains(&"/v1/secrets"));
    assert_eq!(edge.held.len(), 4);
}

#[tokio::test]
async fn a_change_of_what_both_ends_hold_travels_as_a_difference() {
    let world = cluster().await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let body = "x".repeat(20_000);
    world
        .patch(
            "configmaps",
            Some("default"),
            "blue",
            json!({ "data": { "body": body } }),
        )
        .await;
    edge.catch_up(vec![]).await;
    let before = edge.transport.bytes().0;
    world
        .patch(
            "configmaps",
            Some("default"),
            "blue",
            json!({ "data": { "color": "navy" } }),
        )
        .await;
    edge.until(|held| String::from_utf8_lossy(&held["default/configmap/blue"]).contains("navy"))
        .await;
    assert!(
        edge.transport.bytes().0 - before < 1000,
        "{}",
        edge.transport.bytes().0 - before
    );
}
