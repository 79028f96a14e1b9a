//! What comes down: stored, then acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgehub::EdgeHub;
use hub_core::message::{Content, Message, Route};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::service::{Matcher, Reply, Request, Router};
use hub_core::session::Delivery;
use hub_core::store::ObjectStore;
use hub_core::transport::{Capabilities, Endpoint};

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Told};
use crate::world::{Edge, TestStore, config, config_map, config_map_key, journal, node, within};

const DEFINITION: &str = r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"name":"widgets.example.com","uid":"d","resourceVersion":"1"},"spec":{"group":"example.com","scope":"Cluster","names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1","served":true,"storage":true}]}}"#;
const DEFINITION_ROUTE: &str = "null/customresourcedefinition/widgets.example.com";
const WIDGET: &str = r#"{"kind":"Widget","apiVersion":"example.com/v1","metadata":{"name":"w","uid":"w","resourceVersion":"2"}}"#;

async fn connected() -> (Cloud, Edge) {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer);
    cloud.wait_for("sync/have").await;
    cloud.wait_told(&Told::Attached).await;
    (cloud, edge)
}

fn body(store: &TestStore, name: &str) -> Option<String> {
    let stored = store.get(&config_map_key(name))?;
    Some(String::from_utf8(stored.object.body.to_vec()).unwrap())
}

fn message(operation: &str, resource: &str, body: &str) -> Message {
    let route = Route::new("edgecontroller", "resource", operation.into(), resource);
    Message::new(route, Content::from_json(body.to_owned().into()))
}

#[tokio::test]
async fn an_object_is_acknowledged_once_it_is_on_the_disk_and_not_before() {
    let (mut cloud, edge) = connected().await;
    let disk = edge.store.stop_disk().await;
    cloud
        .push("insert", "shop/configmap/a", Some(1), &config_map("a", 1, "x"))
        .await;
    // Several resends later it is neither there nor acknowledged.
    let told = tokio::time::timeout(Duration::from_millis(300), cloud.told.recv()).await;
    assert!(told.is_err() && body(&edge.store, "a").is_none());
    drop(disk);
    cloud.wait_delivered("shop/configmap/a").await;
    assert_eq!(body(&edge.store, "a"), Some(config_map("a", 1, "x")));
}

#[tokio::test]
async fn a_full_disk_is_no_acknowledgement_and_the_resend_is_stored() {
    let (mut cloud, edge) = connected().await;
    edge.store.failures.store(1, Ordering::SeqCst);
    cloud
        .push("insert", "shop/configmap/a", Some(1), &config_map("a", 1, "x"))
        .await;
    let reason = cloud.wait_refused("shop/configmap/a").await;
    assert!(reason.contains("no space left"), "{reason}");
    cloud.wait_delivered("shop/configmap/a").await;
    assert!(body(&edge.store, "a").is_some());
}

#[tokio::test]
async fn an_update_as_a_difference_makes_the_object_of_the_cloud() {
    let (mut cloud, edge) = connected().await;
    let (long, longer) = ("lorem ipsum ".repeat(200), "lorem ipsum ".repeat(201));
    let (first, second) = (config_map("a", 1, &long), config_map("a", 2, &longer));
    cloud.push("insert", "shop/configmap/a", Some(1), &first).await;
    cloud.wait_delivered("shop/configmap/a").await;
    let sent = cloud.sent();
    cloud
        .push_with("update", "shop/configmap/a", Some(2), &second, Some(&first))
        .await;
    cloud.wait_delivered("shop/configmap/a").await;
    assert_eq!(body(&edge.store, "a"), Some(second));
    assert!(cloud.sent() - sent < 1000, "it travelled as a difference");
}

#[tokio::test]
async fn a_deletion_with_a_minimal_object_removes_only_that_incarnation() {
    let (mut cloud, edge) = connected().await;
    cloud
        .push("insert", "shop/configmap/a", Some(5), &config_map("a", 5, "x"))
        .await;
    cloud.wait_delivered("shop/configmap/a").await;
    for (uid, stays) in [("another", true), ("u-a", false)] {
        let body_of = format!(r#"{{"metadata":{{"name":"a","namespace":"shop","uid":"{uid}"}}}}"#);
        cloud
            .send(
                uid,
                None,
                Delivery::Acked,
                message("delete", "shop/configmap/a", &body_of),
                None,
            )
            .await;
        cloud.wait_delivered(uid).await;
        assert_eq!(body(&edge.store, "a").is_some(), stays, "{uid}");
    }
}

#[tokio::test]
async fn a_stock_content_without_its_kind_gets_it_from_the_route() {
    let (mut cloud, edge) = connected().await;
    let untyped = r#"{"metadata":{"name":"a","namespace":"shop","uid":"u","resourceVersion":"3"},"data":{}}"#;
    cloud.push("update", "shop/configmap/a", Some(3), untyped).await;
    cloud.wait_delivered("shop/configmap/a").await;
    let typed = untyped.replacen('{', r#"{"kind":"ConfigMap","apiVersion":"v1","#, 1);
    assert_eq!(body(&edge.store, "a"), Some(typed));
}

#[tokio::test]
async fn a_route_may_say_the_collection_in_place_of_the_kind() {
    let (mut cloud, edge) = connected().await;
    cloud
        .push("insert", "shop/configmap/a", Some(1), &config_map("a", 1, "x"))
        .await;
    cloud.wait_delivered("shop/configmap/a").await;
    // As a Go cloud's dynamiccontroller and its repairs do.
    let named = r#"{"metadata":{"name":"a","namespace":"shop","uid":"u-a"}}"#;
    cloud.push("delete", "shop/configmaps/a", None, named).await;
    cloud.wait_delivered("shop/configmaps/a").await;
    assert_eq!(body(&edge.store, "a"), None);
}

#[tokio::test]
async fn a_failure_is_never_stored_as_if_it_were_the_object() {
    let (mut cloud, edge) = connected().await;
    cloud
        .push(
            "update",
            "shop/configmap/a",
            Some(3),
            r#"{"ErrStatus":{"code":404}}"#,
        )
        .await;
    cloud.wait_refused("shop/configmap/a").await;
    assert!(body(&edge.store, "a").is_none());
}

#[tokio::test]
async fn an_object_of_an_unknown_kind_is_taken_once_its_definition_is_here() {
    let (mut cloud, edge) = connected().await;
    cloud.push("insert", "null/widget/w", Some(2), WIDGET).await;
    let reason = cloud.wait_refused("null/widget/w").await;
    assert!(reason.contains("does not know the kind Widget"), "{reason}");
    cloud.push("insert", DEFINITION_ROUTE, Some(1), DEFINITION).await;
    cloud.wait_delivered("null/widget/w").await;
    let key = ObjectKey::new(
        GroupVersionResource::new("example.com", "v1", "widgets"),
        None,
        "w",
    );
    assert!(edge.store.get(&key).is_some());
}

#[tokio::test]
async fn an_object_right_behind_its_definition_waits_for_it() {
    let (mut cloud, edge) = connected().await;
    let disk = edge.store.stop_disk().await;
    cloud.push("insert", DEFINITION_ROUTE, Some(1), DEFINITION).await;
    cloud.push("insert", "null/widget/w", Some(2), WIDGET).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(100), cloud.told.recv())
            .await
            .is_err()
    );
    drop(disk);
    let settled = async {
        let mut settled = 0;
        while settled < 2 {
            match cloud.told.recv().await.unwrap() {
                Told::Delivered(_) => settled += 1,
                other => panic!("{other:?}"),
            }
        }
    };
    within("both", settled).await;
}

#[tokio::test]
async fn versions_only_grow_whatever_the_order_of_arrival() {
    let (mut cloud, edge) = connected().await;
    for (key, version) in [("new", 9), ("old", 4)] {
        let message = message("update", "shop/configmap/a", &config_map("a", version, key));
        cloud
            .send(key, Some(version), Delivery::Acked, message, None)
            .await;
        cloud.wait_delivered(key).await;
    }
    assert_eq!(body(&edge.store, "a"), Some(config_map("a", 9, "new")));
}

#[tokio::test]
async fn what_other_modules_of_kubeedge_would_take_is_accepted_quietly() {
    let (mut cloud, _edge) = connected().await;
    for (source, group, operation, resource) in [
        ("devicecontroller", "twin", "update", "membership"),
        ("router_eventbus", "user", "publish", "a/topic"),
        (
            "taskmanager",
            "taskmanager",
            "Check",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/edge-1",
        ),
    ] {
        let message = Message::new(
            Route::new(source, group, operation.into(), resource),
            Content::null(),
        );
        cloud.send(resource, None, Delivery::Acked, message, None).await;
        cloud.wait_delivered(resource).await;
    }
}

#[tokio::test]
async fn an_embedder_s_routes_come_before_the_hub_s() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let (seen, mut shown) = tokio::sync::mpsc::unbounded_channel();
    let greet = tower::service_fn(move |request: Request| {
        seen.send(request.message.content.as_string()).unwrap();
        async { Ok(Reply::Done) }
    });
    let hub = EdgeHub::builder(config(), TestStore::new(), Arc::new(journal()))
        .with_routes(Router::new().route(Matcher::any().group("greetings"), greet))
        .with_dialer(dialer, Endpoint::parse("cloud:1").unwrap())
        .build();
    tokio::spawn(hub.run());
    let message = Message::new(
        Route::new("me", "greetings", "say".into(), "hello"),
        Content::string("hi"),
    );
    cloud.send("hello", None, Delivery::Acked, message, None).await;
    cloud.wait_delivered("hello").await;
    assert_eq!(shown.recv().await.unwrap().as_deref(), Some("hi"));
}
