//! What must reach the cloud does.

use std::sync::Arc;
use std::time::Duration;

use edgehub::Report;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::store::{Draft, Journal};
use hub_core::transport::Capabilities;

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Script};
use crate::world::{Edge, TestStore, config, journal, node, within};

fn report(lane: Lane, resource: &str, content: &str) -> Report {
    let route = Route::new("edged", "meta", Operation::Update, resource);
    Report {
        key: resource.into(),
        lane,
        message: Message::new(route, Content::string(content)),
    }
}

/// Answers the kinds that a stock cloud answers.
fn stock() -> Script {
    let rest = nothing_differs();
    Arc::new(
        move |message| match message.route.resource.parts().map_or("", |parts| parts.kind) {
            "event" => None,
            "podstatus" | "lease" => Some(Reply::Answer(message.response(Content::ok()), Lane::Urgent)),
            _ => rest(message),
        },
    )
}

async fn emptied(journal: &impl Journal) {
    let mut changed = journal.changed();
    let empty = async {
        while journal.depth().entries > 0 {
            changed.changed().await.unwrap();
        }
    };
    within("an empty journal", empty).await;
}

#[tokio::test]
async fn reports_of_an_outage_arrive_after_a_restart_newest_only_and_leases_first() {
    let journal = journal();
    {
        let (_cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
        let mut config = config();
        config.backoff.first = Duration::from_secs(3600);
        let edge = Edge::over(config, dialer.clone(), TestStore::new(), journal.clone());
        edge.up().await;
        dialer.cut();
        edge.down().await;
        for (lane, resource, content) in [
            (Lane::Bulk, "shop/event/e", "e"),
            (Lane::Rest, "shop/podstatus/p", "old"),
            (Lane::Rest, "shop/podstatus/p", "new"),
            (Lane::Urgent, "kube-node-lease/lease/edge-1", "l"),
        ] {
            edge.handle.report(report(lane, resource, content)).await.unwrap();
        }
        edge.stop().await;
    }
    assert_eq!(journal.depth().entries, 3);
    for capabilities in [Capabilities::ALL, Capabilities::NONE] {
        let journal = hub_core::store::MemoryJournal::restore(journal.table());
        let script = if capabilities.ack {
            nothing_differs()
        } else {
            stock()
        };
        let (mut cloud, dialer) = Cloud::start(&node(), capabilities, script);
        let _edge = Edge::over(config(), dialer, TestStore::new(), journal.clone());
        emptied(&journal).await;
        let mut arrived = Vec::new();
        while let Ok(message) = cloud.inbox.try_recv() {
            if &*message.route.source == "edged" {
                arrived.push((
                    message.route.resource.to_string(),
                    message.content.as_string().unwrap(),
                ));
            }
        }
        let expected = [
            ("kube-node-lease/lease/edge-1", "l"),
            ("shop/podstatus/p", "new"),
            ("shop/event/e", "e"),
        ];
        assert_eq!(arrived, expected.map(|(r, c)| (r.to_owned(), c.to_owned())));
    }
}

#[tokio::test]
async fn a_report_stays_until_the_cloud_has_it_and_a_newer_one_is_not_removed_with_it() {
    let journal = journal();
    // Never answers.
    let silent: Script = {
        let rest = nothing_differs();
        Arc::new(move |message| {
            if &*message.route.source == "edged" {
                None
            } else {
                rest(message)
            }
        })
    };
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, silent);
    let edge = Edge::over(config(), dialer, TestStore::new(), journal.clone());
    edge.handle
        .report(report(Lane::Rest, "shop/podstatus/p", "old"))
        .await
        .unwrap();
    let first = cloud.wait_for("shop/podstatus/p").await;
    edge.handle
        .report(report(Lane::Rest, "shop/podstatus/p", "new"))
        .await
        .unwrap();
    assert_eq!(journal.depth().entries, 1);
    // Only now the cloud says that it has the old one.
    let mut acknowledgement = first.response(Content::ok());
    acknowledgement.header.parent_id = Some(first.header.id.clone());
    let once = hub_core::session::Delivery::Once(Duration::from_secs(10));
    cloud.send("ack", None, once, acknowledgement, None).await;
    let second = cloud.wait_for("shop/podstatus/p").await;
    assert_eq!(second.content.as_string().unwrap(), "new");
    assert_eq!(journal.depth().entries, 1, "the newer one is not settled");
    let acknowledgement = second.response(Content::ok());
    cloud.send("ack", None, once, acknowledgement, None).await;
    emptied(&journal).await;
}

#[tokio::test]
async fn a_report_that_the_cloud_denies_for_good_is_given_up_and_counted() {
    let journal = journal();
    let denying: Script = {
        let rest = nothing_differs();
        Arc::new(move |message| match &*message.route.source {
            "edged" => {
                let status = serde_json::json!({ "status": "Failure", "code": 403, "message": "no" });
                let denial = match message.route.resource.as_str() {
                    "shop/podpatch/a" => {
                        serde_json::json!({ "Object": null, "Err": { "ErrStatus": status } })
                    }
                    "shop/pod/b" => serde_json::json!({ "ErrStatus": status }),
                    _ => serde_json::json!({ "Object": {}, "Err": null }),
                };
                let answer = message.response(Content::encode(&denial));
                Some(Reply::Answer(answer, Lane::Urgent))
            }
            _ => rest(message),
        })
    };
    let (_cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, denying);
    let edge = Edge::over(config(), dialer, TestStore::new(), journal.clone());
    for resource in ["shop/podpatch/a", "shop/pod/b", "shop/podpatch/c"] {
        edge.handle
            .report(report(Lane::Rest, resource, "x"))
            .await
            .unwrap();
    }
    emptied(&journal).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &edge.metrics).unwrap();
    assert!(text.contains("edge_journal_denied_total 2"), "{text}");
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_does_not_block_the_others() {
    let journal = journal();
    let broken = Draft {
        key: "broken".into(),
        lane: Lane::Urgent,
        frame: bytes::Bytes::from_static(b"{"),
        created_ms: 0,
    };
    journal.append(broken).await.unwrap();
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::over(config(), dialer, TestStore::new(), journal.clone());
    edge.handle
        .report(report(Lane::Rest, "shop/podstatus/p", "x"))
        .await
        .unwrap();
    cloud.wait_for("shop/podstatus/p").await;
    emptied(&journal).await;
}

#[tokio::test]
async fn a_report_keeps_its_id_over_connections() {
    let silent: Script = {
        let rest = nothing_differs();
        Arc::new(move |message| {
            if &*message.route.source == "edged" {
                None
            } else {
                rest(message)
            }
        })
    };
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, silent.clone());
    let journal = journal();
    let edge = Edge::over(config(), dialer, TestStore::new(), journal.clone());
    edge.handle
        .report(report(Lane::Rest, "shop/podstatus/p", "x"))
        .await
        .unwrap();
    let first = cloud.wait_for("shop/podstatus/p").await;
    edge.stop().await;
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, silent);
    let _edge = Edge::over(config(), dialer, TestStore::new(), journal);
    assert_eq!(
        cloud.wait_for("shop/podstatus/p").await.header.id,
        first.header.id
    );
}
