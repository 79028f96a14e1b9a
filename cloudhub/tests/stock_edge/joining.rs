//! The first minute of a Go edge, and frames of every kind.

use std::time::Duration;

use cloudhub::HubEvent;
use serde_json::{Value, json};

use crate::cloud::{Cloud, PATIENCE, config, id, pod};
use crate::metamanager::Rows;
use crate::peer::{End, Habits, StockEdge, answer, document};
use crate::wire::{self, Cut, PING, TEXT};

/// What becomes of a document.
type Change = fn(String) -> String;

const LEASE: &str = "kube-node-lease/lease/edge-1";

/// Asks for an upgrade with this head. The code and all of the answer.
async fn knock(cloud: &Cloud, head: &str) -> (u16, String) {
    let dialled = wire::dial(
        cloud.address,
        cloud.ca.certificate(),
        cloud.ca.node("edge-1"),
        head,
    );
    let (answer, mut reader, _writer) = tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap();
    if answer.code == 101 {
        return (101, answer.head);
    }
    let rest = tokio::time::timeout(PATIENCE, reader.rest())
        .await
        .expect("it is closed");
    (answer.code, answer.head + &String::from_utf8_lossy(&rest))
}

#[tokio::test]
async fn a_go_edge_joins_registers_and_renews_its_lease() {
    let mut cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    let head = edge.answer.head.to_ascii_lowercase();
    assert!(
        head.contains("sec-websocket-accept: 98a+w/l0vgx6ht1kelosqpytslc="),
        "{head}"
    );
    assert!(!head.contains("extensions") && !head.contains("protocol:") && !head.contains("edge-tunnel"));
    assert_eq!(edge.answer.alpn, None);
    cloud.connected("edge-1").await;

    let resource = "null/node/edge-1";
    let registered = edge
        .edged("insert", resource, crate::metamanager::node("edge-1"))
        .await;
    assert_eq!(
        registered["route"],
        json!({ "source": "edgecontroller", "group": "resource", "operation": "response", "resource": resource })
    );
    assert_eq!(registered["content"]["Err"], Value::Null);
    assert!(registered["content"]["Object"].get("kind").is_none());
    // The node comes down too, and is kept and acknowledged.
    edge.until(|seen| !seen.pushed(resource).is_empty()).await;
    cloud
        .until_depth("edge-1", |queued, in_flight| queued + in_flight == 0)
        .await;

    let absent = edge.edged("query", LEASE, Value::Null).await;
    assert_eq!(absent["content"]["Object"], Value::Null);
    assert_eq!(absent["content"]["Err"]["ErrStatus"]["code"], 404);
    let made = edge.renew("insert", "2026-11-22T05:29:26.210596Z").await;
    assert_eq!(made["content"]["Err"], Value::Null);
    let mut lease = made["content"]["Object"].clone();
    lease["spec"]["renewTime"] = "2026-11-22T05:29:36.210596Z".into();
    let renewed = edge.edged("update", LEASE, lease).await;
    assert_eq!(
        renewed["content"]["Object"]["spec"]["renewTime"],
        "2026-11-22T05:29:36.210596Z"
    );

    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let patched = edge
        .edged("patch", "null/nodepatch/edge-1", status.to_string().into())
        .await;
    let conditions = &patched["content"]["Object"]["status"]["conditions"];
    assert_eq!(conditions[0]["status"], "False", "merged by type: {conditions}");
}

#[tokio::test]
async fn an_upgrade_is_accepted_on_any_path_and_only_for_a_stock_edges_use() {
    let cloud = Cloud::new().await;
    let head = wire::upgrade(cloud.address, "edge-1");
    for (from, to, code) in [
        ("/edge-1/events", "/", 101),
        ("/e632aba927ea4ac2b575ec1603d56f10/edge-1/events", "/", 101),
        // A second attempt carries the header twice; the first counts.
        (
            "Connectionuse: msg\r\n",
            "Connectionuse: msg\r\nConnectionuse: msg\r\n",
            101,
        ),
        (
            "Connectionuse: msg\r\n",
            "Connectionuse: msg\r\nConnectionuse: str\r\n",
            101,
        ),
        (
            "Connectionuse: msg\r\n",
            "ConnectionUse: msg\r\nX-Unknown: 1\r\n",
            101,
        ),
        ("Node_id", "node_id", 101),
        ("Connectionuse: msg\r\n", "Connectionuse: str\r\n", 400),
        ("Connectionuse: msg\r\n", "", 400),
        // 403 in place of Go's 101 and silence.
        ("Node_id: edge-1\r\n", "", 403),
        (
            "Upgrade: websocket\r\n\r\n",
            "Upgrade: websocket\r\nOrigin: https://elsewhere.example\r\n\r\n",
            403,
        ),
        ("Version: 13", "Version: 8", 426),
        ("GET ", "POST ", 400),
    ] {
        let (got, text) = knock(&cloud, &head.replacen(from, to, 1)).await;
        assert_eq!(got, code, "{from:?} → {to:?}: {text}");
    }
    let origin = format!("Upgrade: websocket\r\nOrigin: https://{}\r\n\r\n", cloud.address);
    let (code, text) = knock(&cloud, &head.replacen("Upgrade: websocket\r\n\r\n", &origin, 1)).await;
    assert_eq!(code, 101, "{text}");
    let (_, text) = knock(&cloud, &head.replacen("Node_id: edge-1\r\n", "", 1)).await;
    assert!(
        text.contains("underscore"),
        "the reason names the usual culprit: {text}"
    );
}

#[tokio::test]
async fn a_client_that_sends_its_authority_too_is_welcome() {
    let cloud = Cloud::new().await;
    let mut identity = cloud.ca.node("edge-1");
    identity.chain.push(cloud.ca.certificate().clone());
    let edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, Rows::new()).await;
    edge.register().await;
}

#[tokio::test]
async fn messages_come_together_however_they_were_cut() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    // 4096 bytes and one less or more are where gorilla begins another fragment.
    for (size, cut) in [
        (10, Cut::EmptyEnd),
        (10, Cut::Bytes),
        (4095, Cut::Go),
        (4096, Cut::Go),
        (4097, Cut::Go),
        (8192, Cut::Go),
        (200_000, Cut::Go),
        (200_000, Cut::EmptyEnd),
        (9000, Cut::Bytes),
    ] {
        let empty = json!({ "metadata": { "annotations": { "size": "" } } });
        let mut message = edge.message("edged", "meta", "update", "null/node/edge-1", empty);
        let length = document(&message).len();
        message["content"]["metadata"]["annotations"]["size"] = "x".repeat(size - size.min(length)).into();
        let text = document(&message);
        assert!(text.len() == size.max(length));
        let answered = edge.expect(&message);
        edge.text(&text, cut).await.unwrap();
        let answer = answer(answered).await;
        assert_eq!(answer["content"], "OK", "{size} {cut:?}");
    }
}

#[tokio::test]
async fn odd_messages_are_read_as_a_go_cloud_reads_them() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    let odd: [(&str, Change); 5] = [
        ("unknown fields", |text| {
            text.replacen(
                "{\"header\":{",
                "{\"more\":[1],\"header\":{\"tags\":{\"a\":null},",
                1,
            )
        }),
        ("wrong case", |text| {
            text.replace("\"msg_id\"", "\"MSG_ID\"")
                .replace("\"route\"", "\"Route\"")
                .replace("\"operation\"", "\"OPERATION\"")
        }),
        ("trailing bytes", |text| {
            text + "{\"header\":\"no such\"} and more"
        }),
        ("a version that is no number", |text| {
            text.replacen("\"header\":{", "\"header\":{\"resourceversion\":\"abc-1\",", 1)
        }),
        ("spaces", |text| text.replace("\":", "\" : ")),
    ];
    for (name, change) in odd {
        let message = edge.message("edged", "meta", "query", LEASE, Value::Null);
        let answered = edge.expect(&message);
        edge.text(&change(document(&message)), Cut::Go).await.unwrap();
        let answer = answer(answered).await;
        assert_eq!(answer["content"]["Err"]["ErrStatus"]["code"], 404, "{name}");
    }
    let message = edge.message("edged", "meta", "query", LEASE, Value::Null);
    let answered = edge.expect(&message);
    edge.binary(&document(&message)).await.unwrap();
    answer(answered).await;
    // Control messages of viaduct are answered and go no further.
    for operation in ["config", "ping", "pong"] {
        let answer = edge
            .ask(edge.message("edged", "meta", operation, "node", "x".into()))
            .await;
        assert_eq!(
            (&answer["content"], &answer["route"]["source"]),
            (&json!("ack"), &json!("edged"))
        );
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_and_nothing_else() {
    let mut cloud = Cloud::new().await;
    let mut bystander = StockEdge::join(&cloud, "edge-2").await;
    cloud.connected("edge-2").await;
    for broken in [
        "{\"header\":",
        "",
        "\n",
        "[]",
        "null",
        "{\"header\":{\"msg_id\":7}}",
    ] {
        let mut edge = StockEdge::join(&cloud, "edge-1").await;
        cloud.connected("edge-1").await;
        edge.text(broken, Cut::Go).await.unwrap();
        assert_eq!(edge.end().await, End::Closed(1002), "{broken:?}");
        cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    }
    for (fin, opcode, payload) in [
        (true, 3, &b"{}"[..]),
        (false, PING, b"x"),
        (true, PING, &[0; 126]),
        (true, wire::CONTINUATION, b"{}"),
    ] {
        let mut edge = StockEdge::join(&cloud, "edge-1").await;
        edge.frame(fin, opcode, payload).await.unwrap();
        assert_eq!(edge.end().await, End::Closed(1002), "{fin} {opcode}");
    }
    bystander.register().await;
    assert_eq!(bystander.seen().end, None);
    bystander.until(|seen| seen.has("null/node/edge-2")).await;
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_message_leaves_a_session_that_goes_on() {
    let mut cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    edge.register().await;
    let half = document(&edge.message("edged", "meta", "delete", "default/pod/web", json!({})));
    edge.half_frame(half.as_bytes()).await.unwrap();
    let rows = edge.cut().await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    cloud.create("configmaps", config("blue", "blue")).await;
    cloud.create("pods", pod("web", "edge-1", &["blue"])).await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    edge.until(|seen| seen.has("default/pod/web")).await;
    assert!(cloud.get("pods", Some("default"), "web").await.is_some());
}

#[tokio::test]
async fn a_first_fragment_that_goes_on_for_ever_does_not_hold_up_pongs() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    edge.frame(false, TEXT, b"{\"header\":{").await.unwrap();
    edge.frame(true, PING, b"there?").await.unwrap();
    edge.until(|seen| seen.pongs == 1).await;
}

#[tokio::test]
async fn large_objects_travel_both_ways() {
    let cloud = Cloud::new().await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    let large = "0123456789abcdef".repeat(2 << 16);
    // The cluster itself takes no more than 1 MiB, and others of its kind may.
    cloud.strange.rewrite(|object| {
        if object["kind"] == "ConfigMap" {
            object["data"]["color"] = "0123456789abcdef".repeat(2 << 16).into();
        }
    });
    cloud.create("configmaps", config("large", "")).await;
    cloud.create("pods", pod("web", "edge-1", &["large"])).await;
    edge.until(|seen| seen.has("default/configmap/large")).await;
    assert_eq!(
        edge.seen().rows["default/configmap/large"]["data"]["color"],
        large
    );
    // Up, in five hundred fragments.
    let body = json!({ "kind": "Node", "metadata": { "annotations": { "note": large } } });
    let answer = edge.edged("update", "null/node/edge-1", body).await;
    assert_eq!(
        answer["content"]["ErrStatus"]["code"], 404,
        "it was read whole: {answer}"
    );
}

#[tokio::test]
async fn clocks_that_differ_by_hours_harm_nothing() {
    let mut cloud = Cloud::hasty().await;
    for (node, clock_ms) in [
        ("edge-1", 5 * 3_600_000),
        ("edge-2", -5 * 3_600_000),
        ("edge-3", -1_795_325_356_183),
    ] {
        let habits = Habits {
            clock_ms,
            ..Habits::default()
        };
        let mut edge = StockEdge::with(&cloud, node, habits).await;
        cloud.connected(node).await;
        edge.register().await;
        cloud.create("pods", pod(&format!("web-{node}"), node, &[])).await;
        edge.until(|seen| seen.has(&format!("default/pod/web-{node}")))
            .await;
        edge.renew("insert", "2001-01-01T00:00:00.000000Z").await;
        cloud
            .until_depth(node, |queued, in_flight| queued + in_flight == 0)
            .await;
    }
}

#[tokio::test]
async fn a_newer_edge_pings_and_hears_pongs_while_large_messages_go_down() {
    let cloud = Cloud::new().await;
    let habits = Habits {
        pings: Some(Duration::from_millis(100)),
        slow: Duration::from_millis(20),
        ..Habits::default()
    };
    let mut edge = StockEdge::with(&cloud, "edge-1", habits).await;
    let large = "0123456789abcdef".repeat(1 << 14);
    let names: Vec<_> = (0..20).map(|i| format!("large-{i}")).collect();
    for name in &names {
        cloud.create("configmaps", config(name, &large)).await;
    }
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    cloud.create("pods", pod("web", "edge-1", &all)).await;
    edge.until(|seen| seen.has("default/pod/web") && seen.pongs > 5)
        .await;
    assert_eq!(edge.seen().end, None);
}
