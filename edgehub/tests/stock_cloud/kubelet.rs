//! What an embedder with pods of its own tells and asks.

use edgehub::AskError;
use serde_json::json;

use crate::peer::{CLUSTER_CA, StockCloud};
use crate::world::{Edge, NODE, NODE_ROUTE, config, config_map, key, nobody, pod};

#[tokio::test]
async fn a_pod_ends_in_three_steps() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let bound = cloud.apply("shop/pod/p", pod(NODE));
    let p = key("pods", "p");
    edge.holds(&p, |pod| pod.is_some()).await;
    let uid = bound["metadata"]["uid"].as_str().unwrap();
    let patch = json!({ "metadata": { "uid": uid }, "status": { "phase": "Running" } });
    let patched = edge.handle.patch_pod_status("shop", "p", &patch).await.unwrap();
    assert_eq!(&*patched.uid, uid);
    edge.holds(&p, |pod| {
        pod.is_some_and(|pod| pod["status"]["phase"] == "Running" && pod["kind"] == "Pod")
    })
    .await;
    // Somebody deletes it: it is told with a time, and stays.
    let mut ending = cloud.state().api.objects["shop/pod/p"].clone();
    ending["metadata"]["deletionTimestamp"] = "2026-11-22T05:41:49Z".into();
    ending["metadata"]["deletionGracePeriodSeconds"] = 2.into();
    cloud.apply("shop/pod/p", ending);
    edge.holds(&p, |pod| {
        pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    edge.handle.delete_pod("shop", "p", uid).await.unwrap();
    edge.lacks(&p).await;
    cloud.delivered().await;
    // Once more does no harm, and another life of the pod is not meant.
    edge.handle.delete_pod("shop", "p", uid).await.unwrap();
    cloud.apply("shop/pod/p", pod(NODE));
    edge.handle.delete_pod("shop", "p", uid).await.unwrap();
    edge.holds(&p, |pod| pod.is_some()).await;
    assert!(cloud.state().api.objects.contains_key("shop/pod/p"));
}

#[tokio::test]
async fn a_pod_that_is_gone_is_a_denial_with_its_code() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let denied = edge
        .handle
        .patch_pod_status("shop", "p", &json!({ "status": {} }))
        .await;
    assert!(
        matches!(&denied, Err(AskError::Denied(denied)) if denied.code == 404),
        "{denied:?}"
    );
    edge.lacks(&key("pods", "p")).await;
}

#[tokio::test]
async fn the_mirror_of_a_pod_of_this_node_is_made_in_the_cloud() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let mut mirror = pod(NODE);
    mirror["kind"] = "Pod".into();
    mirror["apiVersion"] = "v1".into();
    mirror["metadata"] = json!({ "name": "etcd-edge-1", "namespace": "shop", "annotations": { "kubernetes.io/config.mirror": "x" } });
    let made = edge.handle.create_pod(mirror.to_string().into()).await.unwrap();
    assert!(!made.uid.is_empty());
    edge.holds(&key("pods", "etcd-edge-1"), |pod| pod.is_some()).await;
    let again = edge.handle.create_pod(mirror.to_string().into()).await;
    assert!(
        matches!(&again, Err(AskError::Denied(denied)) if denied.code == 409),
        "{again:?}"
    );
}

#[tokio::test]
async fn what_was_fetched_is_here_when_the_cloud_is_away() {
    let cloud = StockCloud::start().await;
    cloud.state().api.put("shop/configmap/a", config_map("x"));
    cloud
        .state()
        .api
        .put("shop/secret/s", json!({ "data": { "k": "dg==" } }));
    cloud.state().api.put(NODE_ROUTE, json!({ "spec": {} }));
    let edge = Edge::join(&cloud).await;
    for key in [key("configmaps", "a"), key("secrets", "s"), node()] {
        assert_eq!(edge.handle.fetch(&key).await.unwrap().key, key);
    }
    cloud.delivered().await;
    let pods = edge.handle.fetch(&key("pods", "a")).await;
    assert!(matches!(pods, Err(AskError::Kind(_))), "{pods:?}");
    // Away, and started again.
    let directory = edge.stop().await;
    let (mut config, _) = config(&cloud);
    config.enroll.ca_file = directory.path().join("ca.crt");
    config.enroll.files = hub_core::credentials::CredentialFiles::new(
        directory.path().join("node.crt"),
        directory.path().join("node.key"),
    );
    config.websocket = vec![nobody().await];
    let edge = Edge::start(config, directory);
    let held = edge.handle.fetch(&key("configmaps", "a")).await.unwrap();
    let held: serde_json::Value = serde_json::from_slice(&held.body).unwrap();
    assert_eq!(held["data"]["a"], "x");
    let unknown = edge.handle.fetch(&key("configmaps", "b")).await;
    assert!(matches!(unknown, Err(AskError::Away)), "{unknown:?}");
    let token = edge.handle.request_token("shop", "default", &json!({})).await;
    assert!(matches!(token, Err(AskError::Away)), "{token:?}");
}

fn node() -> hub_core::object::ObjectKey {
    hub_core::object::ObjectKey::new(hub_core::object::GroupVersionResource::core("nodes"), None, NODE)
}

#[tokio::test]
async fn a_token_and_the_cluster_s_authority_are_given() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let request = json!({ "spec": { "audiences": null, "expirationSeconds": 3607 } });
    let answered = edge
        .handle
        .request_token("shop", "default", &request)
        .await
        .unwrap();
    assert_eq!(answered["status"]["token"], "a.b.c");
    assert_eq!(edge.handle.cluster_ca().await.unwrap(), CLUSTER_CA);
}

#[tokio::test]
async fn events_made_offline_arrive_with_their_patches_after_them() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    config.websocket = vec![nobody().await];
    let edge = Edge::start(config.clone(), directory);
    let mut event = json!({ "metadata": { "name": "e", "namespace": "shop" }, "count": 1, "reason": "Pulled", "type": "Normal" });
    edge.handle.record_event(&event, None).await.unwrap();
    for count in [2, 3] {
        event["count"] = count.into();
        let patch = json!({ "count": count }).to_string();
        edge.handle.record_event(&event, Some(&patch)).await.unwrap();
    }
    assert!(edge.handle.record_event(&json!({}), None).await.is_err());
    let directory = edge.stop().await;
    config.websocket = vec![cloud.tunnel.clone()];
    let edge = Edge::start(config, directory);
    let patch = cloud.hear("patch", "shop/event/e").await.message;
    assert_eq!(
        (
            &patch["content"]["event"]["count"],
            &patch["content"]["patchData"]
        ),
        (&json!(3), &json!(r#"{"count":3}"#))
    );
    edge.journal_is_empty().await;
    let state = cloud.state();
    let said = state
        .heard
        .iter()
        .filter(|heard| heard.resource() == "shop/event/e")
        .map(|heard| heard.operation());
    assert_eq!(said.collect::<Vec<_>>(), ["insert", "patch"]);
}
