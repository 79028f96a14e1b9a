//! Who is let in, and who gives way to whom.

use std::collections::BTreeMap;
use std::time::Duration;

use cloudhub::{CloudHubConfig, HubEvent};
use hub_core::node::NodeId;
use hub_core::transport::{Capabilities, CloseReason, ConnectRequest, Rejection, TransportError};
use serde_json::json;

use crate::world::{PATIENCE, World, node};

fn request(node: &str) -> ConnectRequest {
    ConnectRequest::tunnel(
        &NodeId::new(node).unwrap(),
        ConnectRequest::DEFAULT_PROJECT,
        Capabilities::NONE,
    )
}

async fn refused(world: &World, common_name: &str, request: ConnectRequest) -> Rejection {
    match world.dial(common_name, request).await {
        Err(TransportError::Refused(rejection)) => rejection,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("let in"),
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[tokio::test]
async fn a_wrong_identity_hears_why_before_it_is_connected() {
    let world = World::new();
    for (common_name, request, code, word) in [
        ("system:node:edge-2", request("edge-1"), 403, "edge-2"),
        ("admin", request("edge-1"), 403, "join this node again"),
        (
            "system:node:edge-1",
            ConnectRequest {
                node_id: "".into(),
                ..request("edge-1")
            },
            403,
            "underscore",
        ),
        (
            "system:node:edge-1",
            ConnectRequest {
                connection_use: "str".into(),
                ..request("edge-1")
            },
            400,
            "msg",
        ),
    ] {
        let rejection = refused(&world, common_name, request).await;
        assert_eq!(rejection.code, code);
        assert!(rejection.reason.contains(word), "{}", rejection.reason);
    }
    assert!(world.hub.nodes().await.is_empty());
}

#[tokio::test]
async fn the_node_limit_counts_a_returning_node_once() {
    let config = CloudHubConfig {
        node_limit: 2,
        ..CloudHubConfig::default()
    };
    let mut world = World::with(config, |hub| hub);
    let _one = world.stock("edge-1").await;
    let _two = world.stock("edge-2").await;
    world.event(HubEvent::Connected(id("edge-2"))).await;
    let rejection = refused(&world, "system:node:edge-3", request("edge-3")).await;
    assert_eq!((rejection.code, rejection.retry_after_seconds), (503, Some(30)));
    let again = world.stock("edge-2").await;
    world.event(HubEvent::Connected(id("edge-2"))).await;
    // A session that only lingers gives way.
    drop(again);
    world.event(HubEvent::Disconnected(id("edge-2"))).await;
    let _three = world.stock("edge-3").await;
    world.event(HubEvent::Ended(id("edge-2"))).await;
}

#[tokio::test]
async fn the_newest_connection_wins_and_the_old_one_hears_so() {
    let mut world = World::new();
    let old = world.stock("edge-1").await;
    world.event(HubEvent::Connected(id("edge-1"))).await;
    let mut new = world.stock("edge-1").await;
    assert_eq!(old.closed().await, Some(CloseReason::Superseded));
    world.create("nodes", node("edge-1")).await;
    assert_eq!(
        new.told(1).await,
        ["update null/node/edge-1"],
        "the goodbye of the old one harms nobody"
    );
    let nodes = world.hub.nodes().await;
    assert_eq!((nodes.len(), nodes[0].transport), (1, "memory"));
}

#[tokio::test]
async fn a_session_ends_when_nobody_comes_back() {
    let config = CloudHubConfig {
        linger: Duration::from_millis(40),
        ..CloudHubConfig::default()
    };
    let mut world = World::with(config, |hub| hub);
    let edge = world.stock("edge-1").await;
    world.event(HubEvent::Connected(id("edge-1"))).await;
    drop(edge);
    world.event(HubEvent::Ended(id("edge-1"))).await;
    assert!(world.hub.session(&id("edge-1")).is_none());
}

#[tokio::test]
async fn a_deleted_node_is_told_so() {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 1).await;
    world.delete("nodes", None, "edge-1").await;
    assert_eq!(edge.closed().await, Some(CloseReason::NodeDeleted));
}

#[tokio::test]
async fn a_hub_that_stops_says_goodbye_and_lets_nobody_in() {
    let mut world = World::new();
    let edge = world.stock("edge-1").await;
    world.event(HubEvent::Connected(id("edge-1"))).await;
    world.stop();
    assert_eq!(edge.closed().await, Some(CloseReason::Shutdown));
    let served = tokio::time::timeout(PATIENCE, &mut world.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(served.is_ok());
}

#[tokio::test]
async fn a_hub_whose_serving_is_just_dropped_leaves_no_node_with_a_session_that_tells_it_nothing() {
    let mut world = World::new();
    let edge = world.stock("edge-1").await;
    world.event(HubEvent::Connected(id("edge-1"))).await;
    world.serving.abort();
    assert_eq!(edge.closed().await, Some(CloseReason::Shutdown));
    world.event(HubEvent::Ended(id("edge-1"))).await;
    assert!(world.hub.nodes().await.is_empty());
}

#[tokio::test]
async fn a_peer_s_version_is_what_it_says_when_it_connects_or_else_what_its_node_says() {
    let world = World::new();
    for name in ["edge-1", "edge-2"] {
        let mut node = node(name);
        node["status"] = json!({ "nodeInfo": { "kubeletVersion": "v1.32.10-kubeedge-v1.23.0" } });
        world.create("nodes", node).await;
    }
    let mut stock = world.stock("edge-1").await;
    stock.until(|held| held.len() == 1).await;
    let offer = ConnectRequest::tunnel(&id("edge-2"), "p", Capabilities::ALL);
    let ours = offer.with_version("edgecore-v9");
    let _ours = world.dial("system:node:edge-2", ours).await.unwrap();
    let shown = async {
        loop {
            let report = world.hub.report(None).await;
            let versions: BTreeMap<_, _> = report
                .iter()
                .filter(|node| node.is_connected)
                .map(|node| (node.node.as_str(), node.version.as_deref().unwrap_or("none")))
                .collect();
            if versions.len() == 2 && versions["edge-1"] != "none" {
                return (versions["edge-1"].to_owned(), versions["edge-2"].to_owned());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, shown).await.unwrap();
    assert_eq!(
        (shown.0.as_str(), shown.1.as_str()),
        ("v1.32.10-kubeedge-v1.23.0", "edgecore-v9")
    );
}
