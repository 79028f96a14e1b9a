//! What goes down: lost and odd acknowledgements, order, and what a slow object costs the others.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use cloudhub::HubEvent;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cloud::{Cloud, config, id, pod, secret};
use crate::metamanager::Rows;
use crate::peer::{Ack, Habits, StockEdge};

fn about(message: &Value, resource: &str) -> bool {
    message["route"]["resource"] == resource
}

async fn again(cloud: &Cloud, node: &str, habits: Habits, rows: Rows) -> StockEdge {
    StockEdge::resume(cloud, node, habits, cloud.ca.node(node), rows).await
}

async fn settled(cloud: &Cloud, node: &str) {
    cloud
        .until_depth(node, |queued, in_flight| queued + in_flight == 0)
        .await;
}

#[tokio::test]
async fn t1_a_lost_ack_holds_up_one_object_and_not_the_node() {
    let cloud = Cloud::hasty().await;
    let habits =
        Habits::acking(
            |message, times| match about(message, "default/configmap/blue") && times < 3 {
                true => Ack::Never,
                false => Ack::Ok,
            },
        );
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.create("configmaps", config("blue", "blue")).await;
    cloud.create("pods", pod("first", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.has("default/pod/first")).await;
    assert!(
        edge.seen().pushed("default/configmap/blue").len() < 3,
        "others do not wait for it"
    );
    for i in 0..20 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &["blue"]))
            .await;
    }
    edge.until(|seen| seen.has("default/pod/web-19")).await;
    // It is sent until it is acknowledged, under one id, and then no more.
    edge.until(|seen| seen.pushed("default/configmap/blue").len() == 3)
        .await;
    settled(&cloud, "edge-1").await;
    let ids: BTreeSet<_> = edge
        .seen()
        .pushed("default/configmap/blue")
        .iter()
        .map(|message| message["header"]["msg_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn t1_one_message_of_an_object_is_under_way_and_the_newest_follows() {
    let cloud = Cloud::new().await;
    let habits = Habits::acking(|message, _| match about(message, "default/configmap/blue") {
        true => Ack::After(Duration::from_millis(300)),
        false => Ack::Ok,
    });
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.create("configmaps", config("blue", "0")).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.has("default/configmap/blue")).await;
    for color in 1..=30 {
        let patch = json!({ "data": { "color": color.to_string() } });
        cloud.patch("configmaps", Some("default"), "blue", patch).await;
    }
    edge.until(|seen| seen.rows["default/configmap/blue"]["data"]["color"] == "30")
        .await;
    settled(&cloud, "edge-1").await;
    let seen = edge.seen();
    let told = seen.pushed("default/configmap/blue");
    assert!(
        told.len() <= 4,
        "what nobody needs any more is not sent: {}",
        told.len()
    );
    let ids: BTreeSet<_> = told
        .iter()
        .map(|message| message["header"]["msg_id"].to_string())
        .collect();
    assert_eq!(ids.len(), told.len(), "another version has another id");
    let times: Vec<_> = seen
        .log
        .iter()
        .filter(|(_, message)| about(message, "default/configmap/blue"))
        .map(|(at, _)| *at)
        .collect();
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(290), "one at a time");
    }
}

/// Capture 18: acknowledgements that are wrong, double and late.
#[tokio::test]
async fn acknowledgements_late_doubled_or_with_foreign_routes_count_once_each() {
    let cloud = Cloud::hasty().await;
    let habits = Habits::acking(|message, _| {
        match message["route"]["resource"]
            .as_str()
            .unwrap()
            .as_bytes()
            .last()
            .unwrap()
            % 4
        {
            0 => Ack::Twice,
            1 => Ack::Foreign,
            // After two resends: three acknowledgements of one message come.
            2 => Ack::After(Duration::from_millis(350)),
            _ => Ack::Ok,
        }
    });
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    for i in 0..40 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    edge.until(|seen| seen.rows.len() == 40).await;
    settled(&cloud, "edge-1").await;
    for i in 0..40 {
        cloud.delete("pods", Some("default"), &format!("web-{i}")).await;
    }
    edge.until(|seen| seen.rows.is_empty()).await;
    settled(&cloud, "edge-1").await;
    assert_eq!(edge.seen().end, None);
}

#[tokio::test]
async fn p3_two_acks_that_race_are_one_ack() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::with(&cloud, "edge-1", Habits::acking(|_, _| Ack::Twice)).await;
    cloud.create("configmaps", config("blue", "0")).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    for color in 1..=20 {
        let patch = json!({ "data": { "color": color.to_string() } });
        cloud.patch("configmaps", Some("default"), "blue", patch).await;
        let color = color.to_string();
        edge.until(|seen| {
            seen.rows
                .get("default/configmap/blue")
                .is_some_and(|row| row["data"]["color"] == *color)
        })
        .await;
    }
    settled(&cloud, "edge-1").await;
    assert_eq!(edge.seen().end, None);
}

#[tokio::test]
async fn t2_t3_l6_deliveries_ask_nothing_of_the_cluster() {
    let cloud = Cloud::new().await;
    let mut edges = Vec::new();
    for i in 0..10 {
        edges.push(StockEdge::join(&cloud, &format!("edge-{i}")).await);
    }
    cloud.create("configmaps", config("blue", "blue")).await;
    let before = cloud.strange.calls();
    // Nothing can be written; a Go cloud loses what it cannot make a record for.
    cloud.strange.unreachable(true);
    for i in 0..10 {
        cloud
            .create(
                "pods",
                pod(&format!("daemon-{i}"), &format!("edge-{i}"), &["blue"]),
            )
            .await;
    }
    for (i, edge) in edges.iter_mut().enumerate() {
        let pod = format!("default/pod/daemon-{i}");
        edge.until(|seen| seen.has(&pod) && seen.has("default/configmap/blue"))
            .await;
        settled(&cloud, &edge.node).await;
    }
    assert_eq!(
        cloud.strange.calls(),
        before,
        "neither to deliver nor to be acknowledged"
    );
}

#[tokio::test]
async fn t4_every_node_gets_the_bytes_of_the_cluster() {
    let cloud = Cloud::new().await;
    let mut one = StockEdge::join(&cloud, "edge-1").await;
    let mut two = StockEdge::join(&cloud, "edge-2").await;
    let made = cloud.create("configmaps", config("blue", "blue")).await;
    cloud.create("pods", pod("web-1", "edge-1", &["blue"])).await;
    cloud.create("pods", pod("web-2", "edge-2", &["blue"])).await;
    for edge in [&mut one, &mut two] {
        edge.until(|seen| seen.has("default/configmap/blue")).await;
        assert_eq!(edge.seen().rows["default/configmap/blue"], made);
    }
}

#[tokio::test]
async fn t5_large_integers_and_escapes_pass_unchanged() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    let generation = 9_007_199_254_740_993_i64;
    let mut object = config("blue", "<a href=\"x\">&\u{2028}</a>");
    object["metadata"]["annotations"] = json!({ "big": generation.to_string() });
    object["metadata"]["generation"] = generation.into();
    let made = cloud.create("configmaps", object).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.has("default/configmap/blue")).await;
    let row = edge.seen().rows["default/configmap/blue"].clone();
    assert_eq!(row, made);
    // And up.
    let mut status = json!({ "status": { "volumesInUse": ["<&>\u{2028}"] } });
    status["status"]["nodeInfo"] = json!({ "machineID": "x" });
    edge.edged("patch", "null/nodepatch/edge-1", status.to_string().into())
        .await;
    let node = cloud.get("nodes", None, "edge-1").await.unwrap();
    assert_eq!(node["status"]["volumesInUse"][0], "<&>\u{2028}");
}

#[tokio::test]
async fn t6_t7_a_go_edge_is_sent_whole_plain_documents() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    let color = "a long color ".repeat(100);
    cloud.create("configmaps", config("blue", &color)).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.has("default/configmap/blue")).await;
    settled(&cloud, "edge-1").await;
    let patch = json!({ "data": { "more": "1" } });
    let made = cloud.patch("configmaps", Some("default"), "blue", patch).await;
    edge.until(|seen| seen.pushed("default/configmap/blue").len() == 2)
        .await;
    // The reader asserts that no frame has reserved bits, and that all of it is JSON.
    assert_eq!(
        edge.seen().rows["default/configmap/blue"],
        made,
        "no difference towards a Go edge"
    );
}

#[tokio::test]
async fn t10_a_return_is_repaired_without_asking_the_cluster() {
    let mut cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    for i in 0..30 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    edge.until(|seen| seen.rows.len() == 30).await;
    settled(&cloud, "edge-1").await;
    let before = cloud.strange.calls();
    let rows = edge.cut().await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    cloud.delete("pods", Some("default"), "web-7").await;
    let mut edge = again(&cloud, "edge-1", Habits::default(), rows).await;
    edge.until(|seen| seen.rows.len() == 29).await;
    settled(&cloud, "edge-1").await;
    assert_eq!(edge.seen().log.len(), 1, "only what changed is told");
    assert_eq!(cloud.strange.calls(), before);
}

#[tokio::test]
async fn t11_what_changed_meanwhile_comes_at_once_and_pods_come_last() {
    let mut cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    let rows = edge.cut().await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    cloud.create("configmaps", config("blue", "blue")).await;
    cloud.create("secrets", secret("door")).await;
    let mut web = pod("web", "edge-1", &["blue"]);
    web["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "door" } }]);
    cloud.create("pods", web).await;
    let start = Instant::now();
    let mut edge = again(&cloud, "edge-1", Habits::default(), rows).await;
    edge.until(|seen| seen.rows.len() == 3).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "a Go cloud scans every 5 s"
    );
    let seen = edge.seen();
    let last = &seen.log.last().unwrap().1;
    assert!(about(last, "default/pod/web"), "{last}");
}

#[tokio::test]
async fn l3_updates_of_one_object_never_go_backwards() {
    let cloud = Cloud::hasty().await;
    let flips = Mutex::new(0_u32);
    let habits = Habits::acking(move |_, _| {
        let mut flips = flips.lock().unwrap();
        *flips += 1;
        match *flips % 3 {
            0 => Ack::Never,
            1 => Ack::After(Duration::from_millis(20)),
            _ => Ack::Ok,
        }
    });
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.create("configmaps", config("blue", "0")).await;
    cloud.create("configmaps", config("red", "0")).await;
    cloud.create("pods", pod("web", "edge-1", &["blue", "red"])).await;
    for color in 1..=40 {
        for name in ["blue", "red"] {
            let patch = json!({ "data": { "color": color.to_string() } });
            cloud.patch("configmaps", Some("default"), name, patch).await;
        }
    }
    edge.until(|seen| {
        ["blue", "red"].iter().all(|name| {
            seen.rows
                .get(&format!("default/configmap/{name}"))
                .is_some_and(|row| row["data"]["color"] == "40")
        })
    })
    .await;
    settled(&cloud, "edge-1").await;
    for name in ["blue", "red"] {
        let seen = edge.seen();
        let versions: Vec<u64> = seen
            .pushed(&format!("default/configmap/{name}"))
            .iter()
            .map(|message| {
                message["header"]["resourceversion"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(versions.is_sorted(), "{versions:?}");
    }
}

#[tokio::test]
async fn l1_objects_and_answers_together_never_overflow_the_inbox_of_a_slow_edge() {
    let mut cloud = Cloud::new().await;
    let habits = Habits {
        slow: Duration::from_millis(1),
        ..Habits::default()
    };
    for i in 0..300 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.connected("edge-1").await;
    let mut answered = Vec::new();
    // The answers to the one kind are acknowledged, those to the other are not.
    for resource in ["default/pod/web-0", "default/configmap/missing"].repeat(100) {
        let message = edge.message("edged", "meta", "query", resource, Value::Null);
        answered.push(edge.expect(&message));
        edge.send(&message).await.unwrap();
    }
    for answered in answered {
        crate::peer::answer(answered).await;
    }
    edge.until(|seen| seen.rows.len() == 300).await;
    assert_eq!(edge.dropped(), 0, "100 messages fit into it");
}

#[tokio::test]
async fn l5_l7_failed_and_orphaned_answers_hold_up_nothing_and_are_no_objects() {
    let cloud = Cloud::hasty().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("configmaps", config("blue", "blue")).await;
    cloud
        .create("pods", pod("web", "edge-1", &["blue", "missing"]))
        .await;
    edge.until(|seen| seen.has("default/pod/web")).await;
    // The trap of §6.3: what a Go cloud says here is kept as if it were the ConfigMap.
    let answer = edge
        .edged("query", "default/configmap/missing", Value::Null)
        .await;
    assert_eq!(answer["route"]["operation"], "error");
    assert!(
        answer["content"].as_str().unwrap().contains("not found"),
        "{answer}"
    );
    assert!(!edge.seen().has("default/configmap/missing"));
    // An answer whose asker is gone: nobody acknowledges it, others pass, and it ends.
    let question = edge.message("edged", "meta", "query", "default/configmap/blue", Value::Null);
    edge.send(&question).await.unwrap();
    let orphans = |seen: &crate::peer::Seen| {
        let parent = &question["header"]["msg_id"];
        seen.log
            .iter()
            .filter(|(_, m)| &m["header"]["parent_msg_id"] == parent)
            .count()
    };
    edge.until(|seen| orphans(seen) >= 2).await;
    cloud.create("pods", pod("web-2", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.has("default/pod/web-2")).await;
    let fine = edge.edged("query", "default/configmap/blue", Value::Null).await;
    assert_eq!(fine["content"]["kind"], "ConfigMap");
    assert!(fine["header"]["resourceversion"].is_string());
}

#[tokio::test]
async fn l13_a_refusal_is_tried_again_later_and_others_go_on() {
    let cloud = Cloud::hasty().await;
    let habits = Habits::acking(
        |message, times| match about(message, "default/pod/web-3") && times < 3 {
            true => Ack::Error,
            false => Ack::Ok,
        },
    );
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    for i in 0..8 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    edge.until(|seen| seen.rows.len() == 8).await;
    settled(&cloud, "edge-1").await;
    let seen = edge.seen();
    let times: Vec<_> = seen
        .log
        .iter()
        .filter(|(_, message)| about(message, "default/pod/web-3"))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(times.len(), 3);
    assert!(
        times[2] - times[1] >= Duration::from_millis(190),
        "the pause grows"
    );
}

#[tokio::test]
async fn p1_versions_that_are_no_numbers_harm_nobody() {
    let cloud = Cloud::new().await;
    cloud.strange.rewrite(|object| {
        let version = &mut object["metadata"]["resourceVersion"];
        *version = format!("v{}-x", version.as_str().unwrap()).into();
    });
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.create("configmaps", config("blue", "0")).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    edge.until(|seen| seen.rows.len() == 2).await;
    for color in 1..=5 {
        let patch = json!({ "data": { "color": color.to_string() } });
        cloud.patch("configmaps", Some("default"), "blue", patch).await;
    }
    edge.until(|seen| seen.rows["default/configmap/blue"]["data"]["color"] == "5")
        .await;
    cloud.delete("pods", Some("default"), "web").await;
    edge.until(|seen| seen.rows.is_empty()).await;
    settled(&cloud, "edge-1").await;
    let seen = edge.seen();
    let told = seen.pushed("default/configmap/blue")[0]["header"]["resourceversion"].clone();
    assert!(told.as_str().unwrap().ends_with("-x"), "{told}");
}

#[tokio::test]
async fn m1_nothing_is_kept_of_what_was_acknowledged() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    for i in 0..50 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    edge.until(|seen| seen.rows.len() == 50).await;
    settled(&cloud, "edge-1").await;
    let nodes = cloud.hub.nodes().await;
    assert_eq!(nodes[0].depth, hub_core::session::Depth::default());
}

#[tokio::test]
async fn m2_nodes_that_are_away_have_no_queue() {
    let mut cloud = Cloud::with(|setup| setup.hub.linger = Duration::from_millis(40)).await;
    cloud.create("pods", pod("web", "nobody", &[])).await;
    assert!(cloud.hub.session(&id("nobody")).is_none());
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    drop(edge);
    cloud.event(HubEvent::Ended(id("edge-1"))).await;
    cloud.create("pods", pod("later", "edge-1", &[])).await;
    assert!(cloud.hub.session(&id("edge-1")).is_none());
    // Yet nothing is lost.
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    edge.until(|seen| seen.has("default/pod/later")).await;
}
