//! T07: the node restarts without the cloud, its pods have other addresses, and its Services lead to them all the same.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/agents.rs"]
#[allow(dead_code, reason = "part of several tests; none uses all of it")]
mod agents;
mod support;

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};
use support::{Events, Mood, Node, soon};

const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/shop/endpoints/web";
const POD: &str = "/api/v1/namespaces/shop/pods/web-a/status";
const MERGE: &str = "application/strategic-merge-patch+json";

fn pod(name: &str, node: &str, address: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name, "namespace": "shop", "labels": { "app": "web" } },
        "spec": { "nodeName": node, "containers": [] }, "status": status(address, true) })
}

fn status(address: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": ready }] })
}

fn slice(version: &str, first: &str) -> Value {
    let entry = |name: &str, node: &str, address: &str| {
        json!({ "addresses": [address], "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": node, "targetRef": { "kind": "Pod", "name": name, "namespace": "shop", "uid": format!("uid-{name}") } })
    };
    json!({ "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" }, "annotations": { "told": version } },
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [entry("web-a", "edge-1", first), entry("web-b", "edge-2", "10.0.1.5")] })
}

/// A node with one pod of a Service; another node has another one. Its agents have looked at all of it.
async fn world() -> Node {
    let node = Node::with(agents::config()).await;
    let cloud = &node.cloud;
    cloud.put("pods", pod("web-a", "edge-1", "10.0.0.5"));
    cloud.put("pods", pod("web-b", "edge-2", "10.0.1.5"));
    cloud.put("endpointslices", slice("1", "10.0.0.5"));
    cloud.put(
        "endpoints",
        json!({ "kind": "Endpoints", "apiVersion": "v1", "metadata": { "name": "web", "namespace": "shop" },
            "subsets": [{ "ports": [{ "port": 8080 }], "addresses": [{ "ip": "10.0.0.5", "nodeName": "edge-1",
                "targetRef": { "kind": "Pod", "name": "web-a", "namespace": "shop" } }] }] }),
    );
    cloud.put(
        "services",
        json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": "web", "namespace": "shop" }, "spec": {} }),
    );
    for path in [
        "/api/v1/pods",
        "/api/v1/services",
        "/api/v1/endpoints",
        "/apis/discovery.k8s.io/v1/endpointslices",
    ] {
        assert_eq!(node.get(path).await.code, 200);
    }
    node.settled().await;
    node
}

/// The addresses of both pods, and whether they are ready, as the next event says it.
async fn heard(watch: &mut Events) -> Vec<(String, bool)> {
    let event = watch.next().await.unwrap();
    assert_ne!(event["type"], "DELETED", "{event}");
    said(&event["object"])
}

fn said(slice: &Value) -> Vec<(String, bool)> {
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    let one = |endpoint: &Value| {
        let address = endpoint["addresses"][0].as_str().unwrap().to_owned();
        (address, endpoint["conditions"]["ready"].as_bool().unwrap())
    };
    endpoints.map(one).collect()
}

fn are(first: (&str, bool)) -> Vec<(String, bool)> {
    vec![(first.0.into(), first.1), ("10.0.1.5".into(), true)]
}

/// The node's kubelet reports its pod.
async fn reports(node: &Node, address: &str, ready: bool) {
    agents::ok(
        node,
        "PATCH",
        POD,
        MERGE,
        json!({ "status": status(address, ready) }),
    )
    .await;
}

#[tokio::test]
async fn t07_a_pod_with_a_new_address_is_found_behind_its_service_without_the_cloud_and_the_cloud_s_word_stands_again_with_it()
 {
    let node = world().await;
    let mut watch = node.watch(&format!("{SLICES}?watch=true")).await;
    assert_eq!(heard(&mut watch).await, are(("10.0.0.5", true)));
    node.cloud.mood(Mood::Unreachable);

    // It starts anew: first it is not ready, then it is elsewhere.
    reports(&node, "10.0.0.5", false).await;
    assert_eq!(heard(&mut watch).await, are(("10.0.0.5", false)));
    reports(&node, "10.0.0.9", true).await;
    assert_eq!(heard(&mut watch).await, are(("10.0.0.9", true)));
    let answer = node.get(SLICE).await;
    assert_eq!(answer.header("x-edge-write"), "corrected");
    assert_eq!(said(&answer.json()), are(("10.0.0.9", true)));
    soon(async {
        while node.get(ENDPOINTS).await.json()["subsets"][0]["addresses"][0]["ip"] != "10.0.0.9" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(
        node.journal().pending.len(),
        1,
        "the cloud is told of the pod and of nothing else"
    );

    // A node that starts without the cloud knows it still.
    let node = node.restart(agents::config()).await;
    assert_eq!(said(&node.get(SLICE).await.json()), are(("10.0.0.9", true)));
    let mut watch = node.watch(&format!("{SLICES}?watch=true")).await;
    assert_eq!(heard(&mut watch).await, are(("10.0.0.9", true)));
    reports(&node, "10.0.0.10", true).await;
    assert_eq!(heard(&mut watch).await, are(("10.0.0.10", true)));

    // The cloud is back, hears of the pod, and its controller does its work a little later.
    agents::back(&node).await;
    let pods = GroupVersionResource::core("pods");
    let told = node.cloud.get(&pods, Some("shop"), "web-a").unwrap();
    assert_eq!(told["status"]["podIP"], "10.0.0.10");
    let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    let there = node.cloud.get(&slices, Some("shop"), "web-1").unwrap();
    assert_eq!(said(&there), are(("10.0.0.5", true)), "nobody wrote it from here");
    assert_eq!(said(&node.get(SLICE).await.json()), are(("10.0.0.10", true)));
    node.cloud.put("endpointslices", slice("2", "10.0.0.10"));
    soon(async {
        while node.get(SLICE).await.header("x-edge-write") == "corrected" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(said(&node.get(SLICE).await.json()), are(("10.0.0.10", true)));
    // What it says from now on is what is said here.
    node.cloud.put("endpointslices", slice("3", "10.0.0.77"));
    loop {
        if heard(&mut watch).await == are(("10.0.0.77", true)) {
            break;
        }
    }
}

#[tokio::test]
async fn endpoints_are_the_cloud_s_while_it_is_there_and_those_of_other_nodes_always() {
    let node = world().await;
    reports(&node, "10.0.0.9", true).await;
    assert_eq!(said(&node.get(SLICE).await.json()), are(("10.0.0.5", true)));
    node.cloud.mood(Mood::Unreachable);
    let mut kept = slice("1", "10.0.0.5");
    let keeper = &mut kept["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    *keeper = "somebody.example.com".into();
    kept["metadata"]["name"] = "kept".into();
    let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    node.receives(&slices, kept, 900).await;
    reports(&node, "10.0.0.11", true).await;
    soon(async {
        while said(&node.get(SLICE).await.json()) != are(("10.0.0.11", true)) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let kept = node.get(&format!("{SLICES}/kept")).await;
    assert_eq!(said(&kept.json()), are(("10.0.0.5", true)), "somebody else's");
}
