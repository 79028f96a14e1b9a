//! What a stock cloud pushes, and how it is acknowledged.

use std::time::Duration;

use hub_core::store::ObjectStore;
use serde_json::json;

use crate::peer::{PeerConfig, StockCloud};
use crate::world::{Edge, NODE, NODE_ROUTE, config, config_map, key, pod};

#[tokio::test]
async fn an_acknowledgement_is_a_response_with_the_route_of_what_it_acknowledges() {
    let cloud = StockCloud::start().await;
    let _edge = Edge::join(&cloud).await;
    cloud.apply("shop/configmap/a", config_map("x"));
    cloud.delivered().await;
    let ack = cloud.hear("response", "shop/configmap/a").await.message;
    let route = json!({ "source": "edgecontroller", "group": "resource", "operation": "response", "resource": "shop/configmap/a" });
    assert_eq!((&ack["route"], &ack["content"]), (&route, &json!("OK")));
    let header: Vec<_> = ack["header"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(header, ["msg_id", "parent_msg_id", "timestamp"]);
    let state = cloud.state();
    assert_eq!(ack["header"]["parent_msg_id"], state.acknowledged[0].as_str());
    assert!(state.sent.contains(&state.acknowledged[0]));
}

#[tokio::test]
async fn fragments_of_every_kind_are_put_together() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    // One frame; 4082 bytes and the rest; all of it and an empty last frame.
    for size in [100, 5000, 7900, 9000, 100_000, 2_000_000] {
        let name = format!("c{size}");
        let value = "<&>é".repeat(size / 5);
        cloud.apply(&format!("shop/configmap/{name}"), config_map(&value));
        edge.has(&key("configmaps", &name), "a", &value).await;
    }
    cloud.delivered().await;
    assert_eq!(cloud.state().given_up, [""; 0]);
}

#[tokio::test]
async fn a_message_that_comes_again_is_acknowledged_again_and_changes_nothing() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let object = cloud.state().api.put("shop/configmap/a", config_map("x"));
    let mut message = cloud.message("edgecontroller", "insert", "shop/configmap/a", object.clone());
    message["header"]["resourceversion"] = object["metadata"]["resourceVersion"].clone();
    cloud.send(message.clone());
    cloud
        .until("an acknowledgement", |state| {
            (state.acknowledged.len() == 1).then_some(())
        })
        .await;
    let first = edge.store.get(&key("configmaps", "a")).unwrap().revision;
    for _ in 0..2 {
        cloud.send(message.clone());
    }
    cloud
        .until("two more", |state| (state.acknowledged.len() == 3).then_some(()))
        .await;
    let now = edge.store.get(&key("configmaps", "a")).unwrap().revision;
    assert_eq!(first, now, "it was stored once");
    let ids = &cloud.state().acknowledged;
    assert!(ids.iter().all(|id| id == &ids[0]));
}

#[tokio::test]
async fn t1_what_cannot_be_kept_here_does_not_hold_up_the_rest() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    // A kind that this node does not know, an object without a name, and a route that names nothing.
    cloud.apply("shop/device/lamp", json!({ "spec": { "protocol": {} } }));
    cloud.push(
        "update",
        "shop/configmap/b",
        &json!({ "metadata": { "uid": "u", "resourceVersion": "7" } }),
    );
    cloud.push(
        "insert",
        "odd",
        &json!({ "metadata": { "uid": "v", "resourceVersion": "8" } }),
    );
    cloud.apply("shop/configmap/a", config_map("x"));
    edge.has(&key("configmaps", "a"), "a", "x").await;
    cloud.delivered().await;
    assert_eq!(cloud.state().given_up, [""; 0]);
    let state = cloud.state();
    let mut once = state.sent.clone();
    once.dedup();
    assert_eq!(state.sent, once, "nothing was sent twice");
}

#[tokio::test]
async fn t5_integers_that_no_float_holds_come_through_as_they_are() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let number = 9_007_199_254_740_993_u64;
    cloud.apply(
        "shop/service/s",
        json!({ "spec": { "healthCheckNodePort": number } }),
    );
    let same = |object: Option<&serde_json::Value>| {
        object.is_some_and(|object| object["spec"]["healthCheckNodePort"].as_u64() == Some(number))
    };
    edge.holds(&key("services", "s"), same).await;
}

#[tokio::test]
async fn l3_messages_about_one_object_are_applied_in_their_order() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for n in 0..1000 {
        let object = cloud
            .state()
            .api
            .put("shop/configmap/a", config_map(&n.to_string()));
        // Without versions nothing but the order can tell.
        let mut message = cloud.message("edgecontroller", "update", "shop/configmap/a", object);
        message["content"]["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        cloud.send(message);
    }
    cloud
        .until("all acknowledgements", |state| {
            (state.acknowledged.len() == 1000).then_some(())
        })
        .await;
    edge.has(&key("configmaps", "a"), "a", "999").await;
}

#[tokio::test]
async fn l5_an_orphaned_answer_is_acknowledged() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let object = cloud.state().api.put("shop/secret/s", json!({ "data": {} }));
    let mut answer = cloud.message("edgecontroller", "response", "shop/secret/s", object);
    answer["header"]["parent_msg_id"] = "7a1c6f4e-0000-4000-8000-000000000000".into();
    answer["header"]["resourceversion"] = "1".into();
    let id = answer["header"]["msg_id"].as_str().unwrap().to_owned();
    cloud.send(answer.clone());
    cloud
        .until("an acknowledgement", |state| {
            (state.acknowledged == [id.clone()]).then_some(())
        })
        .await;
    // Nobody asked, so nobody has it.
    edge.lacks(&key("secrets", "s")).await;
    cloud.send(answer);
    cloud
        .until("another", |state| (state.acknowledged.len() == 2).then_some(()))
        .await;
}

#[tokio::test]
async fn l5_an_answer_that_comes_too_late_is_acknowledged_too() {
    let cloud = StockCloud::start().await;
    cloud.state().api.put("shop/configmap/a", config_map("x"));
    cloud.mood(|moods| moods.slow_answers = Some(Duration::from_millis(300)));
    let (mut config, directory) = config(&cloud);
    config.write_timeout = Duration::from_millis(50);
    let edge = Edge::start(config, directory);
    edge.up().await;
    let late = edge.handle.fetch(&key("configmaps", "a")).await;
    assert!(matches!(late, Err(edgehub::AskError::TimedOut)), "{late:?}");
    cloud.hear("response", "shop/configmap/a").await;
    cloud.delivered().await;
    assert_eq!(cloud.state().given_up, [""; 0]);
}

#[tokio::test]
async fn l7_an_error_in_place_of_an_object_is_never_kept() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let error = crate::peer::api::not_found("shop/configmap/a");
    for operation in ["insert", "update"] {
        let message = cloud.message("edgecontroller", operation, "shop/configmap/a", error.clone());
        cloud.send(message);
    }
    cloud
        .until("acknowledgements", |state| {
            (state.acknowledged.len() == 2).then_some(())
        })
        .await;
    edge.lacks(&key("configmaps", "a")).await;
    // The same as an answer.
    let denied = edge.handle.fetch(&key("configmaps", "a")).await;
    assert!(
        matches!(&denied, Err(edgehub::AskError::Denied(denied)) if denied.code == 404),
        "{denied:?}"
    );
    edge.lacks(&key("configmaps", "a")).await;
}

#[tokio::test]
async fn p1_a_version_that_is_no_number_is_taken_as_it_is() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for (n, version) in ["", "v7", "1.5", "-3", "99999999999999999999999"]
        .iter()
        .enumerate()
    {
        let value = n.to_string();
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": { "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": version },
            "data": { "a": value },
        });
        let mut message = cloud.message("edgecontroller", "update", "shop/configmap/a", object);
        message["header"]["resourceversion"] = (*version).into();
        cloud.send(message);
        edge.has(&key("configmaps", "a"), "a", &value).await;
    }
}

#[tokio::test]
async fn unknown_fields_other_spellings_and_trailing_bytes_do_no_harm() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let object = cloud.state().api.put("shop/configmap/a", config_map("x"));
    let mut message = cloud.message("edgecontroller", "insert", "shop/configmap/a", object);
    message["header"]["sync"] = false.into();
    message["header"]["type"] = "".into();
    message["header"]["trace"] = json!({ "span": [1, 2] });
    message["route"]["destination"] = "".into();
    message["Extra"] = json!([null]);
    let header = message.as_object_mut().unwrap().remove("header").unwrap();
    message["Header"] = header;
    cloud.send(message);
    edge.has(&key("configmaps", "a"), "a", "x").await;
}

#[tokio::test]
async fn what_changed_during_an_outage_is_repaired_in_any_order() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    cloud.apply("shop/configmap/changed", config_map("old"));
    cloud.apply("shop/configmap/gone", config_map("old"));
    cloud.apply("shop/configmap/again", config_map("old"));
    cloud.apply("shop/pod/p", pod(NODE));
    cloud.delivered().await;
    edge.has(&key("configmaps", "again"), "a", "old").await;
    cloud.cut();
    // The pod before the config map that it needs; deletions with nothing but name and uid; a pod never seen, as `update`.
    {
        let mut state = cloud.state();
        state.api.put(
            "shop/pod/p",
            json!({ "spec": { "nodeName": NODE, "hostname": "p" } }),
        );
        state.api.put("shop/configmap/changed", config_map("new"));
        state.api.delete("shop/configmap/gone");
        state.api.delete("shop/configmap/again");
        state.api.put("shop/configmap/again", config_map("new"));
    }
    let new = cloud.apply("shop/pod/new", pod(NODE));
    cloud.push("update", "shop/pod/new", &new);
    let again = cloud.state().api.objects["shop/configmap/again"].clone();
    cloud.push("insert", "shop/configmap/again", &again);
    edge.has(&key("configmaps", "changed"), "a", "new").await;
    edge.lacks(&key("configmaps", "gone")).await;
    edge.holds(&key("pods", "p"), |pod| {
        pod.is_some_and(|pod| pod["spec"]["hostname"] == "p")
    })
    .await;
    edge.holds(&key("pods", "new"), |pod| pod.is_some()).await;
    cloud.delivered().await;
    edge.has(&key("configmaps", "again"), "a", "new").await;
    assert_eq!(cloud.state().given_up, [""; 0]);
}

#[tokio::test]
async fn the_deletion_of_an_older_life_does_not_touch_the_newer_one() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    cloud.mood(|moods| moods.no_repair = true);
    cloud.apply("shop/configmap/a", config_map("old"));
    cloud.delivered().await;
    cloud.state().api.delete("shop/configmap/a");
    cloud.apply("shop/configmap/a", config_map("new"));
    edge.has(&key("configmaps", "a"), "a", "new").await;
    // Now SyncController finds that the old uid is gone.
    cloud.mood(|moods| moods.no_repair = false);
    cloud
        .until("the deletion", |state| {
            let acks = state
                .heard
                .iter()
                .filter(|heard| heard.is("response", "shop/configmap/a"));
            (acks.count() == 3).then_some(())
        })
        .await;
    edge.has(&key("configmaps", "a"), "a", "new").await;
}

#[tokio::test]
async fn an_acknowledgement_that_is_lost_costs_a_resend_and_no_more() {
    let cloud = StockCloud::with(PeerConfig {
        resend: Duration::from_millis(30),
        ..PeerConfig::default()
    })
    .await;
    let edge = Edge::join(&cloud).await;
    for n in 0..20 {
        cloud.apply("shop/configmap/a", config_map(&n.to_string()));
        if n % 5 == 0 {
            cloud.cut();
        }
    }
    edge.has(&key("configmaps", "a"), "a", "19").await;
    cloud.delivered().await;
}

#[tokio::test]
async fn a_connection_that_breaks_inside_a_message_costs_that_message_only() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for (size, n) in [(100, 2), (5000, 3), (300_000, 4)] {
        cloud.mood(|moods| moods.breaks = true);
        let value = "x".repeat(size);
        cloud.apply("shop/configmap/a", config_map(&value));
        cloud
            .until("a new connection", |state| {
                (state.upgrades.len() == n).then_some(())
            })
            .await;
        edge.has(&key("configmaps", "a"), "a", &value).await;
    }
    cloud.delivered().await;
}

#[tokio::test]
async fn groups_that_nobody_here_serves_are_taken_without_a_word() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    for (source, group, operation, route) in [
        ("devicecontroller", "twin", "update", "membership"),
        ("router_eventbus", "user", "publish", "topic"),
        (
            "taskmanager",
            "taskmanager",
            "Check",
            "operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/edge-1",
        ),
        ("cloudhub", "resource", "createvolume", "shop/volume/v"),
        ("somebody", "unheard", "of", "it"),
    ] {
        let mut message = cloud.message(source, operation, route, json!("{}"));
        message["route"]["group"] = group.into();
        cloud.send(message);
    }
    cloud.apply("shop/configmap/a", config_map("x"));
    edge.has(&key("configmaps", "a"), "a", "x").await;
    assert_eq!(cloud.state().upgrades.len(), 1);
}

#[tokio::test]
async fn the_node_itself_is_pushed_and_held() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    cloud.apply(NODE_ROUTE, json!({ "spec": { "podCIDR": "10.244.0.0/24" } }));
    let node =
        hub_core::object::ObjectKey::new(hub_core::object::GroupVersionResource::core("nodes"), None, NODE);
    edge.holds(&node, |node| {
        node.is_some_and(|node| node["spec"]["podCIDR"] == "10.244.0.0/24")
    })
    .await;
}
