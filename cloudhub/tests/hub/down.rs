//! What goes down to a stock edge.

use hub_core::message::Operation;
use serde_json::json;

use crate::world::{World, config, node, pod, secret};

#[tokio::test]
async fn a_pod_comes_after_what_it_needs_and_nothing_else_comes() {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("configmaps", config("other", "red")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    world.create("pods", pod("far", "edge-2", "other", "door")).await;
    let mut edge = world.stock("edge-1").await;
    assert_eq!(
        edge.told(4).await,
        [
            "update null/node/edge-1",
            "insert default/configmap/blue",
            "update default/secret/door",
            "insert default/pod/web"
        ]
    );
    // While it is connected too.
    world.create("configmaps", config("green", "green")).await;
    world
        .create("pods", pod("web-2", "edge-1", "green", "door"))
        .await;
    assert_eq!(
        edge.told(2).await,
        ["insert default/configmap/green", "insert default/pod/web-2"]
    );
}

#[tokio::test]
async fn messages_are_those_of_a_stock_cloud() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let created = world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let mut message = edge.next().await;
    while message.route.resource.as_str() != "default/pod/web" {
        message = edge.next().await;
    }
    assert_eq!(
        (&*message.route.source, &*message.route.group),
        ("edgecontroller", "resource")
    );
    assert_eq!(message.route.operation, Operation::Insert);
    assert_eq!(message.header.parent_id, None);
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(
        message.header.resource_version.as_ref().unwrap().as_str(),
        version
    );
    let body: serde_json::Value = message.content.decode("a pod").unwrap();
    assert_eq!(
        (body["kind"].as_str(), body["apiVersion"].as_str()),
        (Some("Pod"), Some("v1"))
    );
    assert_eq!(body, created);
}

#[tokio::test]
async fn what_is_deleted_or_needed_no_more_is_deleted_on_the_edge() {
    let world = World::new();
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    world.create("pods", pod("web-2", "edge-1", "blue", "door")).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    world
        .patch(
            "configmaps",
            Some("default"),
            "blue",
            json!({ "data": { "color": "navy" } }),
        )
        .await;
    assert_eq!(edge.told(1).await, ["update default/configmap/blue"]);
    world.delete("pods", Some("default"), "web").await;
    assert_eq!(
        edge.told(1).await,
        ["delete default/pod/web"],
        "the other pod still needs the rest"
    );
    world.delete("pods", Some("default"), "web-2").await;
    let mut last = edge.told(3).await;
    assert_eq!(last.remove(0), "delete default/pod/web-2");
    last.sort();
    assert_eq!(
        last,
        ["delete default/configmap/blue", "delete default/secret/door"]
    );
    // And back again, though nothing of it changed.
    world.create("pods", pod("web-3", "edge-1", "blue", "door")).await;
    edge.until(|held| held.len() == 3).await;
}

#[tokio::test]
async fn a_pod_and_its_successor_of_the_same_name_are_two() {
    let world = World::new();
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 3).await;
    world.delete("pods", Some("default"), "web").await;
    let second = world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    assert_eq!(edge.next().await.route.operation, Operation::Delete);
    let uid = second["metadata"]["uid"].as_str().unwrap().to_owned();
    edge.until(|held| {
        held.get("default/pod/web")
            .is_some_and(|pod| String::from_utf8_lossy(pod).contains(&uid))
    })
    .await;
}

#[tokio::test]
async fn a_slow_outbox_loses_nothing() {
    let mut config = cloudhub::CloudHubConfig::default();
    config.driver.session = std::sync::Arc::new(hub_core::session::SessionConfig {
        slots_max: 4,
        window: 2,
        ..hub_core::session::SessionConfig::cloud()
    });
    config.downstream.full_pause = std::time::Duration::from_millis(5);
    let world = World::with(config, |hub| hub);
    world
        .create("configmaps", crate::world::config("blue", "blue"))
        .await;
    world.create("secrets", secret("door")).await;
    for i in 0..30 {
        world
            .create("pods", pod(&format!("web-{i}"), "edge-1", "blue", "door"))
            .await;
    }
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 32).await;
    world.delete("pods", Some("default"), "web-7").await;
    edge.until(|held| !held.contains_key("default/pod/web-7")).await;
}
