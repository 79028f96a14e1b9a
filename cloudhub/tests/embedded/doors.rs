//! Parts of objects that have a door of their own, and what classes say of new pods.

use serde_json::json;

use crate::World;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_pod_is_looked_into_and_resized_by_doors_of_their_own() {
    let world = World::new();
    let container = json!({"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "1"}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    world.ok("POST", PODS, pod).await;
    let door = |part: &str| format!("{PODS}/p/{part}");
    let look =
        json!({"spec": {"ephemeralContainers": [{"name": "look", "image": "busybox"}], "nodeName": "n"}});
    let patch = ("strategic-merge-patch", look);
    let looked = world.ok("PATCH", &door("ephemeralcontainers"), patch).await;
    assert_eq!(
        looked["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        "Always"
    );
    assert!(looked["spec"]["nodeName"].is_null(), "{looked}");
    let more = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    let resized = world
        .ok("PATCH", &door("resize"), ("strategic-merge-patch", more))
        .await;
    assert_eq!(
        resized["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "2"
    );
    assert_eq!(resized["metadata"]["generation"], 3);
}

#[tokio::test]
async fn a_namespace_is_held_by_who_says_so_and_let_go_by_its_own_door() {
    let world = World::new();
    let namespace = "/api/v1/namespaces/shop";
    world
        .ok(
            "POST",
            "/api/v1/namespaces",
            json!({"metadata": {"name": "shop"}}),
        )
        .await;
    let finalize =
        |holders: serde_json::Value| json!({"metadata": {"name": "shop"}, "spec": {"finalizers": holders}});
    let door = format!("{namespace}/finalize");
    let held = world
        .ok("PUT", &door, finalize(json!(["kubernetes", "shop.io/till"])))
        .await;
    assert_eq!(held["spec"]["finalizers"], json!(["kubernetes", "shop.io/till"]));
    world.ok("DELETE", namespace, json!({})).await;
    assert_eq!(world.get(namespace).await.1["status"]["phase"], "Terminating");
    world.ok("PUT", &door, finalize(json!(["kubernetes"]))).await;
    assert_eq!(world.get(namespace).await.0, 404);
}

#[tokio::test]
async fn a_pod_is_as_urgent_as_its_class_says() {
    let world = World::new();
    let pod = |name: &str, class: &str| json!({"metadata": {"name": name}, "spec": {"priorityClassName": class, "containers": [{"name": "c", "image": "x"}]}});
    let critical = world.ok("POST", PODS, pod("a", "system-node-critical")).await;
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    world.ok("POST", classes, class).await;
    let usual = world.ok("POST", PODS, pod("b", "")).await;
    assert_eq!(usual["spec"]["priorityClassName"], "usual");
    assert_eq!(
        (&usual["spec"]["priority"], &usual["spec"]["preemptionPolicy"]),
        (&json!(7), &json!("Never"))
    );
}
