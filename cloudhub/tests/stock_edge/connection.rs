//! Who is connected: newcomers, returners, rivals, the silent and the deaf.

use std::time::Duration;

use cloudhub::HubEvent;
use hub_core::session::KeepaliveConfig;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cloud::{Cloud, PATIENCE, config, id, pod};
use crate::metamanager::{self, Rows};
use crate::peer::{Ack, End, Habits, StockEdge, document};
use crate::wire::{self, CLOSE, Cut, TEXT};

const SUPERSEDED: End = End::Closed(4001);

#[tokio::test]
async fn c5_the_late_goodbye_of_an_old_connection_does_not_end_the_new() {
    let mut cloud = Cloud::new().await;
    let mut old = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    let silent = Habits {
        deaf: true,
        ..Habits::default()
    };
    let deaf = StockEdge::with(&cloud, "edge-2", silent).await;
    cloud.connected("edge-2").await;
    let mut new = StockEdge::join(&cloud, "edge-1").await;
    let mut other = StockEdge::join(&cloud, "edge-2").await;
    assert_eq!(old.end().await, SUPERSEDED, "and it hears why");
    let _ = old.frame(true, CLOSE, &[]).await;
    let _ = old.half_frame(b"{}").await;
    // One that did not read its goodbye goes away by a reset.
    drop((old, deaf));
    for edge in [&mut new, &mut other] {
        edge.register().await;
        let (pod_name, node) = (format!("web-{}", edge.node), edge.node.clone());
        cloud.create("pods", pod(&pod_name, &node, &[])).await;
        edge.until(|seen| seen.has(&format!("default/pod/{pod_name}")))
            .await;
        assert_eq!(edge.seen().end, None);
    }
    assert_eq!(cloud.hub.nodes().await.len(), 2);
}

#[tokio::test]
async fn c6_a_refused_connection_is_closed_and_nothing_of_it_is_served() {
    let cloud = Cloud::with(|setup| setup.hub.node_limit = 1).await;
    let _first = StockEdge::join(&cloud, "edge-1").await;
    // The one is somebody else, the other one too many.
    for (claims, holds, code) in [("edge-1", "edge-2", 403), ("edge-3", "edge-3", 503)] {
        let head = wire::upgrade(cloud.address, claims);
        let identity = cloud.ca.node(holds);
        let (answer, mut reader, mut writer) =
            wire::dial(cloud.address, cloud.ca.certificate(), identity, &head)
                .await
                .unwrap();
        assert_eq!(answer.code, code);
        assert_eq!(
            answer.head.contains("Retry-After"),
            code == 503,
            "{}",
            answer.head
        );
        let node = json!({ "header": { "msg_id": "0b1cf2a4-7a0e-4a8e-9f0c-5d2a0f6f7a11", "timestamp": 1 },
            "route": { "source": "edged", "group": "meta", "operation": "insert", "resource": format!("null/node/{claims}") },
            "content": metamanager::node(claims) });
        let _ = writer.document(TEXT, document(&node).as_bytes(), Cut::Go).await;
        tokio::time::timeout(PATIENCE, reader.rest())
            .await
            .expect("it is closed");
        assert!(cloud.get("nodes", None, claims).await.is_none());
    }
}

/// Capture 16: the same node twice.
#[tokio::test]
async fn c7_s1_two_machines_of_one_name_are_noticed() {
    let mut cloud = Cloud::new().await;
    let certificates = [cloud.ca.node("edge-1"), cloud.ca.node("edge-1")];
    let mut last: Option<StockEdge> = None;
    for turn in 0..3 {
        // The heir of a copied disk: the name is the same, the certificate is not.
        let identity = certificates[turn % 2].clone();
        let edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, Rows::new()).await;
        if turn < 2 {
            cloud.connected("edge-1").await;
        }
        if let Some(mut last) = last.replace(edge) {
            assert_eq!(last.end().await, SUPERSEDED);
        }
    }
    // Told to whoever listens to the hub, and to the log.
    cloud.event(HubEvent::Duplicate(id("edge-1"))).await;
}

#[tokio::test]
async fn c8_an_edge_that_takes_nothing_is_cut_and_others_are_not_concerned() {
    let mut cloud = Cloud::with(|setup| setup.hub.driver.write_deadline = Duration::from_millis(300)).await;
    let habits = Habits {
        deaf: true,
        // It says that it lives, all the while.
        keepalive: Some(Duration::from_millis(50)),
        ..Habits::default()
    };
    let _deaf = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.connected("edge-1").await;
    let mut other = StockEdge::join(&cloud, "edge-2").await;
    let large = "0123456789abcdef".repeat(1 << 15);
    let names: Vec<_> = (0..40).map(|i| format!("large-{i}")).collect();
    for name in &names {
        cloud.create("configmaps", config(name, &large)).await;
    }
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    cloud.create("pods", pod("web-1", "edge-1", &all)).await;
    cloud.create("pods", pod("web-2", "edge-2", &[])).await;
    other.until(|seen| seen.has("default/pod/web-2")).await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    other.register().await;
}

#[test]
fn c9_a_node_costs_one_task() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (ours, theirs) = (runtime(), runtime());
    let mut cloud = ours.block_on(Cloud::new());
    let mut edges = vec![theirs.block_on(StockEdge::join(&cloud, "first"))];
    ours.block_on(cloud.connected("first"));
    let tasks = ours.metrics().num_alive_tasks();
    for i in 0..30 {
        edges.push(theirs.block_on(StockEdge::join(&cloud, &format!("edge-{i}"))));
        ours.block_on(cloud.connected(&format!("edge-{i}")));
    }
    theirs.block_on(async {
        for edge in &edges {
            edge.register().await;
        }
    });
    // The tasks of the handshakes are about to end.
    let start = std::time::Instant::now();
    while ours.metrics().num_alive_tasks() > tasks + 30 {
        assert!(
            start.elapsed() < PATIENCE,
            "{} tasks for 30 nodes",
            ours.metrics().num_alive_tasks() - tasks
        );
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn c10_leases_pass_by_any_backlog() {
    let cloud = Cloud::new().await;
    for i in 0..200 {
        cloud
            .create("pods", pod(&format!("web-{i}"), "edge-1", &[]))
            .await;
    }
    // It acknowledges nothing: the window is full, and the rest waits.
    let edge = StockEdge::with(&cloud, "edge-1", Habits::acking(|_, _| Ack::Never)).await;
    cloud
        .until_depth("edge-1", |queued, in_flight| in_flight == 64 && queued > 100)
        .await;
    let start = Instant::now();
    let made = edge.renew("insert", "2026-11-22T05:29:26.210596Z").await;
    assert_eq!(made["content"]["Err"], Value::Null);
    let answer = edge.edged("patch", "null/nodepatch/edge-1", "{}".into()).await;
    assert_eq!(answer["content"]["Err"]["ErrStatus"]["code"], 404);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn c11_any_frame_is_a_sign_of_life_and_silence_is_death() {
    let mut cloud = Cloud::with(|setup| {
        setup.session.keepalive = KeepaliveConfig::Expect {
            silence_max: Duration::from_millis(600),
        };
    })
    .await;
    let quiet = || Habits {
        keepalive: None,
        ..Habits::default()
    };
    // Reports, but no keepalive; a Go cloud would be done with it.
    let mut talking = StockEdge::with(&cloud, "edge-1", quiet()).await;
    let mut tired = StockEdge::with(
        &cloud,
        "edge-4",
        Habits {
            keepalive: Some(Duration::from_millis(100)),
            ..quiet()
        },
    )
    .await;
    // Pings only.
    let pinging = StockEdge::with(
        &cloud,
        "edge-2",
        Habits {
            pings: Some(Duration::from_millis(150)),
            ..quiet()
        },
    )
    .await;
    let mut silent = StockEdge::with(&cloud, "edge-3", quiet()).await;
    cloud.connected("edge-3").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        talking
            .edged("query", "kube-node-lease/lease/edge-1", Value::Null)
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(silent.end().await, End::Closed(4003));
    cloud.event(HubEvent::Disconnected(id("edge-3"))).await;
    assert_eq!(
        (talking.seen().end.clone(), pinging.seen().end.clone()),
        (None, None)
    );
    assert_eq!(tired.seen().end, None);
    // Keepalives that stop.
    tired.habits(|habits| habits.keepalive = None);
    assert_eq!(tired.end().await, End::Closed(4003));
    assert_eq!(talking.end().await, End::Closed(4003));
    // It may come back at once.
    let again = StockEdge::join(&cloud, "edge-1").await;
    again.register().await;
}

#[tokio::test]
async fn c12_a_returning_node_is_counted_once() {
    let mut cloud = Cloud::with(|setup| setup.hub.node_limit = 2).await;
    let _other = StockEdge::join(&cloud, "edge-2").await;
    cloud.connected("edge-2").await;
    let mut old = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    // The hub does not know yet that the old connection is of no use any more.
    for _ in 0..5 {
        let new = StockEdge::join(&cloud, "edge-1").await;
        cloud.connected("edge-1").await;
        assert_eq!(old.end().await, SUPERSEDED);
        old = new;
    }
    // Many at once: the limit holds.
    let head = |node: &str| wire::upgrade(cloud.address, node);
    let knocks = (0..8).map(|i| {
        let node = format!("new-{i}");
        let (ca, identity, head) = (cloud.ca.certificate(), cloud.ca.node(&node), head(&node));
        async move {
            wire::dial(cloud.address, ca, identity, &head)
                .await
                .unwrap()
                .0
                .code
        }
    });
    let codes = futures::future::join_all(knocks).await;
    assert_eq!(codes, [503; 8]);
}

#[tokio::test]
async fn h4_a_hub_that_stops_says_goodbye_to_all_and_ends() {
    let mut cloud = Cloud::new().await;
    let mut edges = Vec::new();
    for i in 0..5 {
        edges.push(StockEdge::join(&cloud, &format!("edge-{i}")).await);
        cloud.connected(&format!("edge-{i}")).await;
    }
    cloud.stop();
    for edge in &mut edges {
        assert_eq!(edge.end().await, End::Closed(1001));
    }
    let served = tokio::time::timeout(PATIENCE, &mut cloud.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(served.is_ok());
    assert!(tokio::net::TcpStream::connect(cloud.address).await.is_err());
}

#[tokio::test]
async fn m3_a_node_with_many_questions_is_served_a_bounded_number_at_once() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    cloud.strange.hold("edge-1");
    let mut answered = Vec::new();
    // As many answers as its inbox holds.
    for _ in 0..100 {
        let message = edge.message("edged", "meta", "query", "null/node/edge-1", Value::Null);
        answered.push(edge.expect(&message));
        edge.send(&message).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, async {
        while cloud.strange.running() < 64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(cloud.strange.running_max(), 64);
    cloud.strange.let_go();
    for answered in answered {
        let answer = crate::peer::answer(answered).await;
        assert_eq!(answer["content"]["kind"], "Node", "none is lost");
    }
    assert_eq!(cloud.strange.running_max(), 64);
}

#[tokio::test]
async fn a_node_that_waits_for_the_cluster_hears_its_pongs_and_is_heard() {
    let mut cloud = Cloud::with(|setup| {
        setup.session.keepalive = KeepaliveConfig::Expect {
            silence_max: Duration::from_millis(800),
        };
    })
    .await;
    let habits = Habits {
        pings: Some(Duration::from_millis(200)),
        ..Habits::default()
    };
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    cloud.connected("edge-1").await;
    edge.register().await;
    cloud.strange.hold("edge-1");
    for _ in 0..200 {
        let message = edge.message("edged", "meta", "query", "null/node/edge-1", Value::Null);
        edge.send(&message).await.unwrap();
    }
    cloud.create("pods", pod("web", "edge-1", &[])).await;
    edge.until(|seen| seen.has("default/pod/web") && seen.pongs >= 8)
        .await;
    // And its acknowledgement was read.
    cloud
        .until_depth("edge-1", |queued, in_flight| queued + in_flight == 0)
        .await;
    assert_eq!(edge.seen().end, None);
    cloud.strange.let_go();
}

#[tokio::test]
async fn m4_a_message_without_end_ends_the_connection() {
    let mut cloud = Cloud::with(|setup| setup.web_socket.limits.message_max = 1 << 20).await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    let piece = vec![b' '; 64 << 10];
    let mut sent = 0;
    while edge
        .frame(false, if sent == 0 { TEXT } else { wire::CONTINUATION }, &piece)
        .await
        .is_ok()
    {
        sent += piece.len();
        if sent > 64 << 20 {
            break;
        }
    }
    assert!(sent < 64 << 20, "it was read on and on");
    let end = edge.end().await;
    assert!(matches!(end, End::Closed(1002) | End::Cut), "{end:?}");
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    // A header that announces 8 EiB allocates nothing.
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    edge.raw(&[
        0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
    ])
    .await;
    assert_eq!(edge.end().await, End::Closed(1002));
}

#[tokio::test]
async fn a_deleted_node_is_disconnected_and_may_come_back_and_register() {
    let mut cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    edge.register().await;
    edge.until(|seen| seen.has("null/node/edge-1")).await;
    cloud.delete("nodes", None, "edge-1").await;
    assert_eq!(edge.end().await, End::Closed(4002));
    // A Go edge redials after 30 s and does not register again; its lease and status are refused like any other's.
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    let answer = edge.edged("patch", "null/nodepatch/edge-1", "{}".into()).await;
    assert_eq!(answer["content"]["Err"]["ErrStatus"]["code"], 404);
    edge.register().await;
}
