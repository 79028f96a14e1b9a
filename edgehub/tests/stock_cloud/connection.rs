//! The life of a connection: signs of life, breaks, rejections, and what waits meanwhile.

use std::time::Duration;

use edgehub::{Link, Report};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::session::Lane;
use serde_json::json;

use crate::peer::{PeerConfig, StockCloud};
use crate::world::{Edge, LEASE_ROUTE, NODE, agent, config, config_map, heartbeat, key, within};

const FAST: Duration = Duration::from_millis(20);

#[tokio::test]
async fn the_keepalive_is_the_first_message_and_comes_again_and_again() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    heartbeat(&mut config, FAST, Duration::from_secs(10));
    let _edge = Edge::start(config, directory);
    cloud.hear_nth(3, "keepalive", "node").await;
    let first = cloud.state().heard[0].message.clone();
    let route =
        json!({ "source": "websocket", "group": "resource", "operation": "keepalive", "resource": "node" });
    assert_eq!((&first["route"], &first["content"]), (&route, &json!("ping")));
    let header: Vec<_> = first["header"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(header, ["msg_id", "timestamp"]);
}

#[tokio::test]
async fn a_cloud_that_answers_no_keepalive_is_alive_as_long_as_it_answers_pings() {
    let cloud = StockCloud::with(PeerConfig {
        keepalive: Duration::from_millis(200),
        ..PeerConfig::default()
    })
    .await;
    let (mut config, directory) = config(&cloud);
    heartbeat(&mut config, FAST, Duration::from_millis(400));
    let _edge = Edge::start(config, directory);
    cloud
        .until("many pings", |state| (state.pings >= 40).then_some(()))
        .await;
    assert_eq!(cloud.state().upgrades.len(), 1);
}

#[tokio::test]
async fn c1_c2_a_cloud_that_is_stuck_is_noticed_and_left() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    heartbeat(&mut config, FAST, Duration::from_millis(300));
    let edge = Edge::start(config, directory);
    edge.up().await;
    cloud.mood(|moods| moods.stuck = true);
    let mut link = edge.handle.link();
    let silent = |link: &Link| matches!(link, Link::Down { reason, .. } if reason.contains("heard"));
    within("the end", link.wait_for(silent)).await.unwrap();
    cloud.mood(|moods| moods.stuck = false);
    cloud
        .until("a new connection", |state| {
            (state.upgrades.len() >= 2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn c11_whatever_the_cloud_says_shows_that_it_lives() {
    let cloud = StockCloud::start().await;
    cloud.mood(|moods| moods.no_pongs = true);
    let (mut config, directory) = config(&cloud);
    heartbeat(&mut config, FAST, Duration::from_millis(500));
    let edge = Edge::start(config, directory);
    edge.up().await;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    for n in 0..20 {
        pause.tick().await;
        cloud.apply("shop/configmap/a", config_map(&n.to_string()));
    }
    edge.has(&key("configmaps", "a"), "a", "19").await;
    assert_eq!(cloud.state().upgrades.len(), 1);
}

#[tokio::test]
async fn c3_an_edge_comes_back_at_once_and_not_after_a_fixed_pause() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    cloud.cut();
    let [first, second] = cloud
        .until("a second connection", |state| match &state.upgrades[..] {
            [first, second] => Some([first.at, second.at]),
            _ => None,
        })
        .await;
    assert!(
        second - first < Duration::from_secs(10),
        "KubeEdge's come back after 30 s"
    );
    edge.up().await;
}

#[tokio::test]
async fn c4_the_end_of_an_old_connection_does_no_harm_to_the_next() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    heartbeat(&mut config, FAST, Duration::from_secs(10));
    let _edge = Edge::start(config, directory);
    for n in 1..=10_u64 {
        // Alive on exactly this connection: no signal of an older one has ended it.
        cloud
            .until("a connection that lives", |state| {
                let on =
                    |heard: &&crate::peer::Heard| heard.connection == n && heard.operation() == "keepalive";
                (state.heard.iter().filter(on).count() >= 2).then_some(())
            })
            .await;
        cloud.cut();
    }
    assert!(cloud.state().upgrades.len() <= 11);
}

#[tokio::test]
async fn c6_a_connection_that_is_rejected_and_left_open_is_noticed_and_told() {
    let cloud = StockCloud::start().await;
    cloud.mood(|moods| moods.rejecting = true);
    let (mut config, directory) = config(&cloud);
    config.agent = Some(agent());
    config.write_timeout = Duration::from_millis(50);
    config.deaf_after = Duration::from_millis(150);
    config.refused_pause = Duration::from_millis(300);
    let edge = Edge::start(config, directory);
    let mut link = edge.handle.link();
    let told = |link: &Link| matches!(link, Link::Down { reason, .. } if reason.contains("reject"));
    within("the reason", link.wait_for(told)).await.unwrap();
    // It executed what it was told all the same, and would do so again.
    assert!(cloud.state().api.objects.contains_key("null/node/edge-1"));
    cloud.mood(|moods| moods.rejecting = false);
    cloud.hear("update", LEASE_ROUTE).await;
    assert!(edge.handle.link().borrow().is_up());
}

#[tokio::test]
async fn a_cloud_without_dynamic_controller_is_not_taken_for_one_that_rejects() {
    let cloud = StockCloud::start().await;
    cloud.mood(|moods| moods.no_applications = true);
    let (mut config, directory) = config(&cloud);
    config.write_timeout = Duration::from_millis(50);
    config.list_timeout = Duration::from_millis(50);
    config.deaf_after = Duration::from_millis(100);
    config.relist = Duration::from_millis(50);
    let edge = Edge::start(config, directory);
    // It is asked whether it speaks at all, and it does.
    cloud.hear("query", "null/node/edge-1").await;
    cloud
        .until("more lists", |state| {
            (state
                .heard
                .iter()
                .filter(|heard| heard.is("null", "null"))
                .count()
                >= 8)
                .then_some(())
        })
        .await;
    assert_eq!(cloud.state().upgrades.len(), 1);
    cloud.apply("shop/configmap/a", config_map("x"));
    edge.has(&key("configmaps", "a"), "a", "x").await;
}

#[tokio::test]
async fn c10_a_lease_goes_before_a_backlog_of_events() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    config.agent = Some(agent());
    config.websocket = vec![crate::world::nobody().await];
    config.backoff.max = Duration::from_millis(20);
    let edge = Edge::start(config.clone(), directory);
    let events: Vec<_> = (0..EVENTS).map(event).collect();
    let recorded = events.iter().map(|event| edge.handle.record_event(event, None));
    futures::future::try_join_all(recorded).await.unwrap();
    let directory = edge.stop().await;
    config.websocket = vec![cloud.tunnel.clone()];
    let _edge = Edge::start(config.clone(), directory);
    cloud
        .until("all events", |state| {
            (state
                .heard
                .iter()
                .filter(|heard| heard.resource().contains("/event/"))
                .count()
                >= EVENTS)
                .then_some(())
        })
        .await;
    let state = cloud.state();
    let at = |operation: &str, resource: &str| {
        let mut messages = state.heard.iter();
        messages.position(|heard| heard.is(operation, resource)).unwrap()
    };
    let events_before = |at: usize| {
        let before = state.heard[..at].iter();
        before
            .filter(|heard| heard.resource().contains("/event/"))
            .count()
    };
    // Not more than the journal lets out at once; and an answer is waited for before the lease.
    let before = [("insert", "null/node/edge-1"), ("insert", LEASE_ROUTE)];
    let before = before.map(|(operation, resource)| events_before(at(operation, resource)));
    assert!(
        before[0] <= 2 * config.replay_window && before[1] <= 3 * config.replay_window,
        "{before:?}"
    );
}

const EVENTS: usize = 1200;

#[tokio::test]
async fn l1_nothing_is_dropped_of_what_comes_faster_than_it_is_stored() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for n in 0..1000 {
        let route = format!("shop/configmap/c{n:04}");
        let object = cloud.state().api.put(&route, config_map("x"));
        let message = cloud.message("edgecontroller", "insert", &route, object);
        cloud.send(message);
    }
    cloud
        .until("all acknowledgements", |state| {
            (state.acknowledged.len() >= 1000).then_some(())
        })
        .await;
    let held = hub_core::store::ObjectStore::list(&edge.store, &key("configmaps", "").resource, None);
    assert_eq!(held.objects.len(), 1000);
}

#[tokio::test]
async fn l2_what_was_being_sent_when_the_link_broke_reaches_the_cloud_on_the_next() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for n in 0..50 {
        let route = Route::new("edged", "meta", Operation::Patch, format!("shop/podpatch/p{n}"));
        let message = Message::new(route, Content::string("{}"));
        let report = Report {
            key: format!("pod/p{n}").into(),
            lane: Lane::Own,
            message,
        };
        edge.handle.report(report).await.unwrap();
        if n % 10 == 0 {
            cloud.cut();
        }
    }
    for n in 0..50 {
        cloud.hear("patch", &format!("shop/podpatch/p{n}")).await;
    }
    edge.journal_is_empty().await;
}

#[tokio::test]
async fn l12_what_the_cloud_never_answers_leaves_the_journal_once_it_is_sent() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    edge.handle.record_event(&event(1), None).await.unwrap();
    let route = Route::new("edged", "meta", Operation::Delete, "shop/volumeattachment/v");
    let report = Report {
        key: "attachment/v".into(),
        lane: Lane::Own,
        message: Message::new(route, Content::null()),
    };
    edge.handle.report(report).await.unwrap();
    cloud.hear("delete", "shop/volumeattachment/v").await;
    cloud.hear("insert", "shop/event/e1").await;
    edge.journal_is_empty().await;
}

fn event(n: usize) -> serde_json::Value {
    json!({
        "metadata": { "name": format!("e{n}"), "namespace": "shop" },
        "involvedObject": { "kind": "Node", "name": NODE, "uid": NODE },
        "reason": "Test", "message": "a test", "type": "Normal", "count": 1,
    })
}
