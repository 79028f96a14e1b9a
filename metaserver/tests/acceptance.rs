//! Cases of the acceptance list that no other test holds: reads and watches of a node that is alone (docs/acceptance.md).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use hub_core::object::GroupVersionResource;
use hub_core::store::{Change, ObjectStore};
use metaserver::MetaConfig;
use serde_json::{Value, json};
use support::{Events, Mood, Node, config_map, soon};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::core(resource)
}

#[tokio::test]
async fn t01_k08_a_streaming_list_is_whole_at_once_with_the_link_down_after_a_restart() {
    let node = Node::start().await;
    for name in ["a", "b"] {
        node.cloud.put("configmaps", config_map("shop", name, "1"));
    }
    node.get(SHOP).await;
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    let node = node.restart(MetaConfig::default()).await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let begin = std::time::Instant::now();
    let mut watch = node.watch(&format!("{SHOP}?{query}")).await;
    assert_eq!([watch.short().await, watch.short().await], ["ADDED a", "ADDED b"]);
    let mark = watch.next().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    let metadata = &mark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(metadata["resourceVersion"], node.store.revision().to_string());
}

#[tokio::test]
async fn k14_an_empty_list_has_its_kind_and_a_revision_to_watch_from() {
    let node = Node::alone(&[core("configmaps")]).await;
    let answer = node.get(SHOP).await;
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(
        (&list["kind"], &list["items"]),
        (&"ConfigMapList".into(), &json!([]))
    );
    assert!(revision.parse::<u64>().unwrap() > 0, "{list}");
    let mut watch = node
        .watch(&format!("{SHOP}?watch=true&resourceVersion={revision}"))
        .await;
    node.receives(&core("configmaps"), config_map("shop", "a", "1"), 5)
        .await;
    assert_eq!(watch.short().await, "ADDED a");
}

#[tokio::test]
async fn k23_objects_are_written_to_the_cloud_whatever_their_names_and_kinds_are_called() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "restart", "1"));
    for name in ["unhold-upgrade", "confirm-upgrade", "exec"] {
        let body = config_map("shop", name, "1").to_string();
        let json = [("content-type", "application/json")];
        assert_eq!(node.ask("POST", SHOP, &json, &body).await.code, 201, "{name}");
        assert!(node.cloud.get(&core("configmaps"), Some("shop"), name).is_some());
    }
    let body = config_map("shop", "restart", "2").to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(
        node.ask("PUT", &format!("{SHOP}/restart"), &json, &body)
            .await
            .code,
        200
    );
    let written = node
        .cloud
        .get(&core("configmaps"), Some("shop"), "restart")
        .unwrap();
    assert_eq!(written["data"]["v"], "2");
}

#[tokio::test]
async fn t03_k01_a_later_watch_is_told_everything_whatever_revisions_others_have_seen() {
    let node = Node::alone(&[core("configmaps"), core("services")]).await;
    // One collection is far ahead in the cloud's versions.
    node.receives(&core("configmaps"), config_map("shop", "far", "1"), 1000)
        .await;
    let mut pods = node.watch("/api/v1/configmaps?watch=true").await;
    assert_eq!(pods.short().await, "ADDED far");
    let service = |name: &str| json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": name, "namespace": "shop" } });
    node.receives(&core("services"), service("early"), 500).await;
    let mut services = node.watch("/api/v1/services?watch=true").await;
    node.receives(&core("services"), service("between"), 1001).await;
    node.receives(&core("services"), service("late"), 1002).await;
    let heard = [
        services.short().await,
        services.short().await,
        services.short().await,
    ];
    assert_eq!(heard, ["ADDED early", "ADDED between", "ADDED late"]);
}

#[tokio::test]
async fn t09_a_kind_that_was_never_held_is_503_offline_and_answers_soon_after_the_cloud_is_back() {
    let node = Node::with(MetaConfig {
        cloud_pause: Duration::from_millis(20),
        ..MetaConfig::default()
    })
    .await;
    node.cloud.put("customresourcedefinitions", support::pools());
    node.cloud.mood(Mood::Unreachable);
    let path = "/apis/crd.example.com/v1/pools";
    let answer = node.get(path).await;
    assert_eq!((answer.code.as_u16(), answer.header("retry-after")), (503, "1"));
    node.cloud.mood(Mood::Up);
    soon(async {
        while node.get(path).await.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn t10_a_kind_that_the_cloud_does_not_have_is_404_with_it_and_without_it() {
    let node = Node::start().await;
    let paths = [
        "/apis/no.such.group/v1/things",
        "/apis/no.such.group/v1/namespaces/a/things/b",
        "/api/v1/things",
    ];
    for mood in [Mood::Up, Mood::Unreachable] {
        node.settled().await;
        node.cloud.mood(mood);
        for path in paths {
            assert_eq!(node.get(path).await.code, 404, "{mood:?} {path}");
        }
    }
}

#[tokio::test]
async fn t22_a_watch_that_cannot_be_is_refused_to_its_client_only() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    for (path, code) in [
        ("/apis/no.such.group/v1/things?watch=true", 404),
        ("/api/v1/things?watch=true", 404),
        ("/api/v1/bindings?watch=true", 404),
        ("/api/v1/namespaces/a/bindings?watch=true", 405),
        ("/api/v1/pods?watch=true&fieldSelector=spec.nodeName", 400),
        ("/api/v1/pods?watch=true&fieldSelector=spec.no.such%3Da", 400),
        ("/api/v1/pods?watch=true&labelSelector=a%3E%3E", 400),
        ("/api/v1/pods?watch=true&timeoutSeconds=soon", 400),
        ("/api/v1/pods?watch=true&resourceVersion=new", 500),
        ("/api/v1/pods?watch=true&sendInitialEvents=true", 422),
    ] {
        let answer = node.get(path).await;
        assert_eq!(
            answer.code,
            code,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    node.cloud.put("configmaps", config_map("shop", "still", "1"));
    assert_eq!(watch.short().await, "ADDED still");
}

async fn told(watch: &mut Events, count: usize) -> Vec<(String, String, u64)> {
    let mut told = Vec::new();
    while told.len() < count {
        let event = watch.next().await.unwrap();
        let metadata = &event["object"]["metadata"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let revision = text(&metadata["resourceVersion"]).parse().unwrap();
        told.push((text(&event["type"]), text(&metadata["name"]), revision));
    }
    told
}

#[tokio::test]
async fn k06_k07_a_watch_resumed_anywhere_is_told_the_rest_of_what_an_uninterrupted_one_is() {
    let node = Node::alone(&[core("configmaps")]).await;
    let select = format!("{SHOP}?watch=true&labelSelector=app%3Din");
    let start = node.store.revision().0;
    let mut whole = node.watch(&format!("{select}&resourceVersion={start}")).await;
    let mut version = 10;
    for round in 0..40_u64 {
        version += 1;
        let name = format!("o{}", round % 7);
        if round % 5 == 4 {
            let key = hub_core::object::ObjectKey::new(core("configmaps"), Some("shop"), &name);
            let gone = Change::Delete {
                key,
                uid: None,
                version: Some(version.to_string().as_str().into()),
            };
            node.store.apply(vec![gone]).await.unwrap();
        } else {
            let app = if round % 3 == 0 { "out" } else { "in" };
            let mut object = config_map("shop", &name, app);
            object["metadata"]["uid"] = format!("u{round}").into();
            node.receives(&core("configmaps"), object, version).await;
        }
    }
    node.receives(&core("configmaps"), config_map("shop", "zz-end", "in"), 99)
        .await;
    let mut all = Vec::new();
    while all
        .last()
        .is_none_or(|(_, name, _): &(String, String, u64)| name != "zz-end")
    {
        all.extend(told(&mut whole, 1).await);
    }
    let revisions: Vec<_> = all.iter().map(|(.., revision)| *revision).collect();
    assert!(
        revisions.is_sorted() && all.iter().any(|(kind, ..)| kind == "DELETED"),
        "{all:?}"
    );
    for from in start..=node.store.revision().0 {
        let rest: Vec<_> = all
            .iter()
            .filter(|(.., revision)| *revision > from)
            .cloned()
            .collect();
        let mut watch = node.watch(&format!("{select}&resourceVersion={from}")).await;
        assert_eq!(told(&mut watch, rest.len()).await, rest, "from {from}");
    }
}

#[tokio::test]
async fn t05_a_cloud_that_comes_back_with_lower_versions_deletes_nothing_and_our_revisions_grow() {
    let node = Node::alone(&[core("configmaps")]).await;
    node.receives(&core("configmaps"), config_map("shop", "a", "new"), 900)
        .await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let before = node.store.revision();
    // The same object as an old backup has it, and one that came after.
    node.receives(&core("configmaps"), config_map("shop", "a", "old"), 100)
        .await;
    node.receives(&core("configmaps"), config_map("shop", "b", "1"), 101)
        .await;
    assert_eq!(watch.short().await, "ADDED b");
    assert!(node.store.revision() > before);
}
