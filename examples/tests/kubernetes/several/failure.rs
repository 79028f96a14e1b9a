//! The API server goes away under several hubs: nobody notices but the reports, which wait.

use std::time::Duration;

use cloudhub::{CONNECTION, Readiness};
use edgehub::Report;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::object::GroupVersionResource;
use hub_core::session::Lane;
use serde_json::{Value, json};

use super::fleet::{Fleet, OURS, Ours, STOCK, Stock, config, node, pod, settled};
use crate::server::Mood;
use crate::world::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_api_server_is_away_nodes_stay_and_move_and_no_report_is_lost() {
    let mut fleet = Fleet::new(2, |_| {}).await;
    for name in [OURS, STOCK] {
        fleet.put("nodes", node(name), "").await;
        fleet
            .put("pods", pod(&format!("{name}-p"), name, "blue"), "")
            .await;
    }
    fleet.put("configmaps", config("blue"), "").await;
    let ours = Ours::start(&fleet, OURS, None);
    let stock = Stock::start(fleet.way(STOCK), 1);
    settled(&fleet, OURS, || ours.held()).await;
    settled(&fleet, STOCK, || stock.held()).await;

    for mood in [Mood::Away, Mood::Busy, Mood::Proxy] {
        let (link, held) = (ours.handle.link().borrow().clone(), ours.held());
        fleet.server.mood(mood.clone());
        fleet.server.cut();
        for word in ["first", "last"] {
            let report = status(&format!("{mood:?} {word}"));
            ours.handle.report(report).await.unwrap();
        }
        for number in 0..REPORTS {
            ours.handle
                .report(event(&format!("{mood:?}").to_lowercase(), number))
                .await
                .unwrap();
        }
        // Long enough for some attempts to fail.
        fleet.attempts("events", 3).await;
        assert_eq!(*ours.handle.link().borrow(), link, "the link is as it was");
        assert_eq!(ours.held(), held);
        for instance in &fleet.instances {
            assert_eq!(*instance.hub.readiness().borrow(), Readiness::Ready);
        }
        // They may even move.
        ours.handle.reconnect();
        stock.reconnect(false);
        fleet.server.mood(Mood::Good);
        let prefix = format!("{mood:?}-").to_lowercase();
        let told = until("the reports", async || {
            let events = fleet.list(GroupVersionResource::core("events")).await;
            let mut told: Vec<_> = events
                .iter()
                .filter(|event| event["metadata"]["name"].as_str().unwrap().starts_with(&prefix))
                .collect();
            told.sort_by_key(|event| {
                event["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            });
            let counts = told.iter().map(|event| event["count"].as_u64().unwrap());
            (told.len() as u64 == REPORTS).then(|| counts.collect::<Vec<_>>())
        })
        .await;
        assert_eq!(told.len() as u64, REPORTS);
        // What a report said first is never told after what it said last.
        let last = format!("{mood:?} last");
        until("the pod's status", async || {
            let pods = fleet.list(GroupVersionResource::core("pods")).await;
            let mut messages = pods.iter().map(|pod| &pod["status"]["message"]);
            messages.any(|message| *message == *last).then_some(())
        })
        .await;
        settled(&fleet, OURS, || ours.held()).await;
        settled(&fleet, STOCK, || stock.held()).await;
    }
    fleet.drain(0).await;
    tokio::time::timeout(Duration::from_secs(30), ours.end())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lands_while_the_api_server_is_away_is_marked_once_it_is_back() {
    let fleet = Fleet::new(2, |_| {}).await;
    fleet.put("nodes", node(OURS), "").await;
    let ours = Ours::start(&fleet, OURS, None);
    settled(&fleet, OURS, || ours.held()).await;
    let marked = async |not: &Value| {
        until("a mark", async || {
            let nodes = fleet.list(GroupVersionResource::core("nodes")).await;
            let mark = nodes[0]["metadata"]["annotations"][CONNECTION].clone();
            (mark.is_string() && mark != *not).then_some(mark)
        })
        .await
    };
    let old = marked(&Value::Null).await;
    fleet.server.mood(Mood::Away);
    ours.handle.reconnect();
    fleet.attempts("nodes/edge-1", 1).await;
    fleet.server.mood(Mood::Good);
    marked(&old).await;
    let reads = fleet.server.seen(|line| line == "GET /api/v1/nodes/edge-1");
    assert_eq!(reads.len(), 0, "a mark is one write");
    ours.end().await;
}

fn status(message: &str) -> Report {
    let patch = json!({ "status": { "phase": "Running", "message": message } });
    let route = Route::new(
        "edged",
        "meta",
        Operation::Patch,
        format!("default/podpatch/{OURS}-p").as_str(),
    );
    Report {
        key: "status".into(),
        lane: Lane::Own,
        message: Message::new(route, Content::string(&patch.to_string())),
    }
}

fn event(prefix: &str, number: u64) -> Report {
    let name = format!("{prefix}-{number}");
    let event = json!({ "kind": "Event", "apiVersion": "v1", "metadata": { "name": name, "namespace": "default" }, "count": number + 1,
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": format!("{OURS}-p") }, "reason": "Tested", "type": "Normal",
        "source": { "component": "kubelet", "host": OURS } });
    let route = Route::new(
        "edged",
        "meta",
        Operation::Insert,
        format!("default/event/{name}").as_str(),
    );
    Report {
        key: name.into(),
        lane: Lane::Bulk,
        message: Message::new(route, Content::encode(&event)),
    }
}

const REPORTS: u64 = 8;
