//! Clients of a Go metaServer that list and then watch, and what is deleted between the two.

use hub_core::random::Random;
use std::collections::BTreeSet;
use std::time::Duration;

use cloudhub::HubEvent;
use serde_json::{Value, json};

use crate::cloud::{Cloud, config, id, service};
use crate::peer::{Ack, Habits, StockEdge, applied};

const ALL: &str = "/core/v1/services/null/null";
const DEFAULT: &str = "/core/v1/services/default/null";

/// With clients that listen 50 ms after their watch was granted in place of a second.
async fn cloud() -> Cloud {
    Cloud::with(|setup| setup.hub.downstream.listed_pause = Duration::from_millis(50)).await
}

fn since(list: &Value) -> Value {
    json!({ "watch": true, "resourceVersion": list["metadata"]["resourceVersion"], "timeoutSeconds": 100 })
}

async fn watch(edge: &mut StockEdge, key: &str, option: &Value) -> Value {
    let message = edge.application("watch", key, option, None, "");
    assert_eq!(applied(&edge.ask(message.clone()).await), Ok("".into()));
    edge.listen();
    message
}

async fn hears_of_the_end_of(edge: &mut StockEdge, name: &str) {
    let end = ("delete".to_owned(), format!("Service/default/{name}"));
    edge.until(|seen| seen.metaserver.heard.contains(&end)).await;
}

#[tokio::test]
async fn what_is_deleted_between_a_list_and_its_watch_is_told() {
    let cloud = cloud().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    for name in ["a", "b", "c"] {
        cloud.create("services", service(name, "shop")).await;
    }
    let list = edge.api("list", ALL, json!({}), None).await.unwrap();
    for name in ["b", "c"] {
        cloud.delete("services", Some("default"), name).await;
    }
    cloud.create("services", service("c", "bank")).await;
    watch(&mut edge, DEFAULT, &since(&list)).await;
    hears_of_the_end_of(&mut edge, "b").await;
    // With all that a selector may ask for.
    let seen = edge.seen();
    let deletion = seen.pushed("default/service/b")[0];
    assert_eq!(deletion["route"]["source"], "dynamiccontroller");
    assert_eq!(deletion["content"]["metadata"]["labels"]["app"], "shop");
    assert_eq!(deletion["content"]["apiVersion"], "v1");
    // What took the place of another is there.
    assert!(seen.metaserver.table.contains_key("Service/default/c"));
}

#[tokio::test]
async fn it_is_told_too_where_the_watch_comes_by_a_sync_on_another_connection() {
    let cloud = cloud().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("services", service("a", "shop")).await;
    let list = edge.api("list", DEFAULT, json!({}), None).await.unwrap();
    let lost = edge.application("watch", DEFAULT, &since(&list), None, "");
    let rows = edge.cut().await;
    cloud.delete("services", Some("default"), "a").await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    edge.listen();
    assert_eq!(edge.watch_sync(&[&lost]).await["content"], json!({}));
    hears_of_the_end_of(&mut edge, "a").await;
}

#[tokio::test]
async fn a_watch_that_begins_anew_takes_nothing_from_one_that_goes_on_and_each_end_is_told_once() {
    let cloud = cloud().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    for name in ["a", "b", "c"] {
        cloud.create("services", service(name, "shop")).await;
    }
    let list = edge.api("list", ALL, json!({}), None).await.unwrap();
    edge.api("list", DEFAULT, json!({}), None).await.unwrap();
    for name in ["a", "c"] {
        cloud.delete("services", Some("default"), name).await;
    }
    watch(
        &mut edge,
        DEFAULT,
        &json!({ "watch": true, "resourceVersion": "0" }),
    )
    .await;
    watch(&mut edge, DEFAULT, &since(&list)).await;
    hears_of_the_end_of(&mut edge, "a").await;
    hears_of_the_end_of(&mut edge, "c").await;
    assert_eq!(edge.seen().pushed("default/service/a").len(), 1);
}

#[tokio::test]
async fn nothing_that_exists_is_told_as_deleted_and_nobody_is_asked_in_vain() {
    let cloud = cloud().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("services", service("a", "shop")).await;
    let list = edge.api("list", DEFAULT, json!({}), None).await.unwrap();
    cloud
        .patch(
            "services",
            Some("default"),
            "a",
            json!({ "metadata": { "labels": { "app": "bank" } } }),
        )
        .await;
    let mut option = since(&list);
    option["labelSelector"] = "app=shop".into();
    watch(&mut edge, DEFAULT, &option).await;
    cloud.create("services", service("z", "shop")).await;
    edge.until(|seen| seen.has("default/service/z")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(edge.seen().pushed("default/service/a").is_empty());
}

#[tokio::test]
async fn a_watch_is_granted_once_the_edge_has_what_there_is_however_old() {
    let cloud = cloud().await;
    for n in 0..20 {
        cloud.create("services", service(&format!("s-{n}"), "shop")).await;
    }
    let habits = Habits {
        slow: Duration::from_millis(10),
        ..Habits::default()
    };
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    edge.register().await;
    // Newer than all of them: what comes after the answer, the client would not hear of.
    edge.until(|seen| seen.metaserver.table.contains_key("Node//edge-1"))
        .await;
    watch(&mut edge, DEFAULT, &json!({ "watch": true })).await;
    let seen = edge.seen();
    let shown = seen
        .metaserver
        .heard
        .iter()
        .filter(|(_, key)| key.starts_with("Service/"));
    assert_eq!(shown.count(), 20);
}

#[tokio::test]
async fn a_watch_of_an_edge_that_acknowledges_nothing_is_granted_in_time() {
    let cloud = Cloud::with(|setup| setup.hub.downstream.grant_wait = Duration::from_millis(100)).await;
    let mut edge = StockEdge::with(&cloud, "edge-1", Habits::acking(|_, _| Ack::Never)).await;
    cloud.create("services", service("a", "shop")).await;
    watch(&mut edge, DEFAULT, &json!({ "watch": true })).await;
    edge.until(|seen| seen.has("default/service/a")).await;
}

#[tokio::test]
async fn a_client_hears_of_what_was_deleted_while_its_edge_was_away() {
    let mut cloud = Cloud::with(|setup| setup.hub.linger = Duration::from_millis(40)).await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("services", service("a", "shop")).await;
    watch(&mut edge, DEFAULT, &json!({ "watch": true })).await;
    edge.until(|seen| seen.has("default/service/a")).await;
    let rows = edge.cut().await;
    cloud.event(HubEvent::Ended(id("edge-1"))).await;
    cloud.delete("services", Some("default"), "a").await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    edge.listen();
    // By its record alone: only its name is known.
    hears_of_the_end_of(&mut edge, "a").await;
}

#[tokio::test]
async fn by_schedule_a_client_that_lists_and_watches_ends_with_what_is_there() {
    for seed in 0..20 {
        let cloud = cloud().await;
        let mut edge = StockEdge::join(&cloud, "edge-1").await;
        let mut random = Random::new(seed);
        let mut there = BTreeSet::new();
        let change = async |there: &mut BTreeSet<String>, random: &mut Random| {
            let name = format!("s-{}", random.below(8));
            if there.remove(&name) {
                cloud.delete("services", Some("default"), &name).await;
            } else {
                cloud.create("services", service(&name, "shop")).await;
                there.insert(name);
            }
        };
        for _ in 0..random.below(20) {
            change(&mut there, &mut random).await;
        }
        let list = edge.api("list", ALL, json!({}), None).await.unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let listed: BTreeSet<String> = items
            .map(|item| format!("Service/default/{}", item["metadata"]["name"].as_str().unwrap()))
            .collect();
        for _ in 0..random.below(20) {
            change(&mut there, &mut random).await;
        }
        watch(&mut edge, ALL, &since(&list)).await;
        // A Go edge's watch does not hear of the very next version (`watchhook/hooks.go`), so that is somebody else's.
        cloud.create("configmaps", config("next", "blue")).await;
        for _ in 0..random.below(10) {
            change(&mut there, &mut random).await;
        }
        let expected: BTreeSet<_> = there
            .iter()
            .map(|name| format!("Service/default/{name}"))
            .collect();
        edge.until(|seen| {
            let mut client = listed.clone();
            for (operation, key) in &seen.metaserver.heard {
                match &**operation {
                    "delete" => client.remove(key),
                    _ => client.insert(key.clone()),
                };
            }
            client == expected
        })
        .await;
    }
}
