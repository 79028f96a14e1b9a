//! Watches of a node: what they deliver, and what does not disturb them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use futures::future::join_all;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::store::{Change, ObjectStore as _};
use metaserver::MetaConfig;
use support::{Mood, Node, config_map, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

#[tokio::test]
async fn a_watch_on_something_new_subscribes_waits_and_delivers() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    node.cloud.put("configmaps", config_map("shop", "a", "2"));
    assert_eq!(watch.short().await, "MODIFIED a");
    node.cloud.put("configmaps", config_map("shop", "b", "1"));
    assert_eq!(watch.short().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_survives_a_flap_of_the_link_and_then_hears_what_happened_meanwhile() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    node.cloud.mood(Mood::Unreachable);
    node.cloud.put("configmaps", config_map("shop", "b", "1"));
    node.cloud.remove(
        hub_core::object::GroupVersionResource::core("configmaps"),
        Some("shop"),
        "a",
    );
    let second = node.watch(&format!("{SHOP}?watch=true")).await;
    node.cloud.mood(Mood::Up);
    for mut watch in [watch, {
        let mut second = second;
        assert_eq!(second.short().await, "ADDED a");
        second
    }] {
        let mut seen = [watch.short().await, watch.short().await];
        seen.sort();
        assert_eq!(seen, ["ADDED b", "DELETED a"]);
    }
}

#[tokio::test]
async fn who_enters_a_selector_is_added_and_who_leaves_is_deleted() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "in"));
    node.get(SHOP).await;
    let mut watch = node
        .watch(&format!("{SHOP}?watch=true&labelSelector=app%3Din"))
        .await;
    assert_eq!(watch.short().await, "ADDED a");
    node.cloud.put("configmaps", config_map("shop", "a", "out"));
    let left = watch.next().await.unwrap();
    assert_eq!(
        (left["type"].as_str(), left["object"]["data"]["v"].as_str()),
        (Some("DELETED"), Some("in"))
    );
    node.cloud.put("configmaps", config_map("shop", "a", "in"));
    let back = watch.next().await.unwrap();
    assert_eq!(back["type"], "ADDED");
    let revision = |event: &serde_json::Value| {
        event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(revision(&back) > revision(&left));
}

#[tokio::test]
async fn a_streaming_list_ends_with_a_marked_bookmark_and_goes_on_from_there() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = node.watch(&format!("{SHOP}?{query}")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let mark = watch.next().await.unwrap();
    assert_eq!(
        (&mark["type"], &mark["object"]["kind"]),
        (&"BOOKMARK".into(), &"ConfigMap".into())
    );
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let revision = mark["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    node.cloud.put("configmaps", config_map("shop", "b", "1"));
    assert_eq!(watch.short().await, "ADDED b");
    let mut resumed = node
        .watch(&format!("{SHOP}?watch=true&resourceVersion={revision}"))
        .await;
    assert_eq!(resumed.short().await, "ADDED b");
}

#[tokio::test]
async fn a_revision_that_is_no_longer_kept_is_an_expired_event() {
    let node = Node::start().await;
    node.get(SHOP).await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let mut old = node
        .watch(&format!("{SHOP}?watch=true&resourceVersion=0000000000000000001"))
        .await;
    let event = old.next().await.unwrap();
    if event["type"] == "ERROR" {
        assert_eq!(
            (
                event["object"]["code"].as_u64(),
                event["object"]["reason"].as_str()
            ),
            (Some(410), Some("Expired"))
        );
        assert_eq!(old.next().await, None);
    } else {
        assert_eq!(
            event["type"], "ADDED",
            "the history still reaches back to the first change"
        );
    }
}

#[tokio::test]
async fn a_watch_that_begins_anew_marks_its_start_and_tells_where_it_is_two_seconds_before_its_end() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let mut watch = node
        .watch(&format!(
            "{SHOP}?watch=true&timeoutSeconds=3&allowWatchBookmarks=true"
        ))
        .await;
    let mark = watch.next().await.unwrap();
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let last = watch.next().await.unwrap();
    assert_eq!(last["type"], "BOOKMARK");
    assert!(last["object"]["metadata"]["annotations"].is_null());
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn bookmarks_tell_how_far_a_quiet_watch_has_come() {
    let config = MetaConfig {
        bookmark_interval: Duration::from_millis(20),
        ..MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.get(SHOP).await;
    let mut watch = node
        .watch(&format!("{SHOP}?watch=true&allowWatchBookmarks=true"))
        .await;
    node.hold("secrets", serde_json::json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s", "namespace": "x"}})).await;
    let wanted = hub_core::store::ObjectStore::revision(&node.store).to_string();
    soon(async {
        while watch.next().await.unwrap()["object"]["metadata"]["resourceVersion"] != wanted.as_str() {}
    })
    .await;
}

#[tokio::test]
async fn only_the_first_event_of_a_table_describes_its_columns() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut watch = node.watch_as(&format!("{SHOP}?watch=true"), &accept).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["columnDefinitions"][1]["name"], "Data");
    assert_eq!(first["object"]["rows"][0]["cells"][1], 1);
    node.cloud.put("configmaps", config_map("shop", "a", "2"));
    let second = watch.next().await.unwrap();
    assert!(second["object"]["columnDefinitions"].is_null());
    assert_eq!(
        second["object"]["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
}

#[tokio::test]
async fn a_watch_in_a_form_that_no_event_has_ends_at_the_first_one() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let mut watch = node
        .watch_as(&format!("{SHOP}?watch=true"), &[("accept", list)])
        .await;
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn watches_over_the_limit_are_told_to_come_back_and_ended_ones_make_room() {
    let config = MetaConfig {
        watches_max: 1,
        ..MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.get(SHOP).await;
    let watch = node.watch(&format!("{SHOP}?watch=true")).await;
    let refused = node.get(&format!("{SHOP}?watch=true")).await;
    assert_eq!((refused.code.as_u16(), refused.header("retry-after")), (429, "1"));
    drop(watch);
    soon(async {
        while node
            .send("GET", &format!("{SHOP}?watch=true"), &[], "")
            .await
            .status()
            != 200
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_offline_on_what_is_not_held_is_refused_and_never_silent() {
    let node = Node::start().await;
    node.cloud.mood(Mood::Unreachable);
    let answer = node.get(&format!("{SHOP}?watch=true")).await;
    assert_eq!((answer.code.as_u16(), answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn a_watch_of_what_the_cloud_gives_no_more_ends_with_410_and_takes_nothing_for_deleted() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.get(SHOP).await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    node.cloud.mood(Mood::Unreachable);
    let config_maps = GroupVersionResource::core("configmaps");
    let scope = Scope::namespaced(config_maps.clone(), "shop");
    node.store.apply(vec![Change::Drop(scope)]).await.unwrap();
    let gone = Change::Delete {
        key: ObjectKey::new(config_maps, Some("shop"), "a"),
        uid: None,
        version: None,
    };
    node.store.apply(vec![gone]).await.unwrap();
    let last = watch.next().await.unwrap();
    assert_eq!(
        (&last["type"], &last["object"]["code"]),
        (&"ERROR".into(), &410.into()),
        "{last}"
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_of_what_the_cloud_lets_be_listed_and_not_followed_is_503_at_once() {
    let node = Node::start().await;
    let config_maps = GroupVersionResource::core("configmaps");
    node.cloud.refuses(Scope::namespaced(config_maps, "shop"));
    let answer = soon(node.get(&format!("{SHOP}?watch=true"))).await;
    assert_eq!(answer.code.as_u16(), 503);
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ScopeRefused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_watchers_all_hear_of_a_change() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let path = format!("{SHOP}?watch=true");
    let mut watches = join_all((0..500).map(|_| node.watch(&path))).await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    for heard in join_all(watches.iter_mut().map(|watch| watch.short())).await {
        assert_eq!(heard, "ADDED a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_off_and_hurts_nobody() {
    let config = MetaConfig {
        stall_timeout: Duration::from_millis(300),
        ..MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.get(SHOP).await;
    let path = format!("{SHOP}?watch=true");
    let mut stalled = TcpStream::connect(&node.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n");
    stalled.write_all(head.as_bytes()).await.unwrap();
    let mut others = join_all((0..3).map(|_| node.watch(&path))).await;
    let big = "x".repeat(100_000);
    // More than the sockets of both sides take in.
    for round in 0..300 {
        node.cloud
            .put("configmaps", config_map("shop", "a", &format!("{round}{big}")));
        join_all(others.iter_mut().map(|watch| watch.next())).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    soon(async {
        let mut buffer = vec![0; 1 << 16];
        while !matches!(stalled.read(&mut buffer).await, Ok(0) | Err(_)) {}
    })
    .await;
    node.cloud.put("configmaps", config_map("shop", "last", "1"));
    for watch in &mut others {
        assert_eq!(watch.short().await, "ADDED last");
    }
}

#[tokio::test]
async fn a_server_that_stops_tells_watches_that_want_it_how_far_they_came() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let mut watch = node
        .watch(&format!("{SHOP}?watch=true&allowWatchBookmarks=true"))
        .await;
    node.hold("secrets", serde_json::json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s", "namespace": "x"}})).await;
    let wanted = node.store.revision().to_string();
    watch.next().await.unwrap();
    soon(node.stop()).await;
    let last = watch.next().await.unwrap();
    assert_eq!(
        (&last["type"], &last["object"]["metadata"]["resourceVersion"]),
        (&"BOOKMARK".into(), &wanted.into())
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_watches() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    soon(node.stop()).await;
    assert_eq!(watch.next().await, None);
}
