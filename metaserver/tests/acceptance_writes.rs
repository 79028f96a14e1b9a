//! What the agents on a node write with the cable pulled, as sequences of their own requests (docs/acceptance.md). Reads and watches
//! stand in `acceptance.rs`.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/agents.rs"]
mod agents;
mod support;

use std::time::Duration;

use agents::{back, collection, config, offline, ok, send};
use hub_core::api::Verb;
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};
use support::{Mood, soon};

const NODE: &str = "/api/v1/nodes/edge-1";
const STATUS: &str = "/api/v1/nodes/edge-1/status";
const POD: &str = "/api/v1/namespaces/shop/pods/web";

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What flannel writes of itself: the address of its tunnel, and that the network is there.
fn flannel(address: &str) -> Value {
    json!({"metadata": {"annotations": {
        "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"3e:7a:0b:d1:1a:e5"}"#,
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/public-ip": address}},
        "status": {"conditions": [{"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}]}})
}

#[tokio::test]
async fn e1_flannel_takes_its_subnet() {
    let node = offline().await;
    let own = node.get("/api/v1/nodes/edge-1?resourceVersion=0").await;
    assert_eq!(own.json()["spec"]["podCIDR"], "10.0.0.0/24");
    let patched = ok(&node, "PATCH", STATUS, STRATEGIC, flannel("192.0.2.7")).await;
    assert_eq!(
        patched["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"],
        "192.0.2.7"
    );
    assert_eq!(
        patched["status"]["conditions"].as_array().unwrap().len(),
        2,
        "the list is merged by type"
    );
    back(&node).await;
    let held = node
        .cloud
        .get(&GroupVersionResource::core("nodes"), None, "edge-1")
        .unwrap();
    assert_eq!(
        held["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-type"],
        "vxlan"
    );
}

#[tokio::test]
async fn e2_cilium_keeps_its_endpoints() {
    let node = offline().await;
    let (endpoints, path) = collection("ciliumendpoints");
    let one = format!("{path}/web");
    assert_eq!(node.get(&format!("{one}?resourceVersion=0")).await.code, 404);
    let new = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": {"name": "web"}, "status": {"id": 1}});
    let made = ok(&node, "POST", &path, JSON, new.clone()).await;
    assert_eq!(
        made["status"]["id"], 1,
        "an endpoint has no subresource for its status"
    );
    let uid = made["metadata"]["uid"].clone();
    let patch = |uid: &Value| json!([{"op": "test", "path": "/metadata/uid", "value": uid}, {"op": "replace", "path": "/status", "value": {"id": 2}}]);
    let patched = ok(&node, "PATCH", &one, JSON_PATCH, patch(&uid)).await;
    assert_eq!(patched["status"]["id"], 2);
    let other = send(&node, "PATCH", &one, JSON_PATCH, patch(&"another".into())).await;
    assert_eq!(other.code, 422);
    let own = collection("ciliumnodes").1 + "/edge-1";
    let mut ours = node.get(&own).await.json();
    ours["status"] = json!({"alibabaCloud": {}, "ipam": {"used": {"10.0.0.5": {"owner": "shop/web"}}}});
    ok(&node, "PUT", &format!("{own}/status"), JSON, ours).await;
    let told = back(&node).await;
    assert!(
        told.contains(&(Verb::Create, "ciliumendpoints".into())),
        "{told:?}"
    );
    let held = node.cloud.get(&endpoints, Some("shop"), "web").unwrap();
    assert_eq!(held["status"]["id"], 2);
    assert_ne!(held["metadata"]["uid"], uid, "its first uid was this node's");

    // The pod goes while the cable is out again.
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    let held = node.get(&one).await.json();
    let mut watch = node
        .watch(&format!(
            "{path}?watch=true&resourceVersion={}",
            held["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    let options = |uid: &Value| json!({"preconditions": {"uid": uid}});
    assert_eq!(send(&node, "DELETE", &one, JSON, options(&uid)).await.code, 409);
    let gone = ok(&node, "DELETE", &one, JSON, options(&held["metadata"]["uid"])).await;
    assert_eq!(
        (&gone["status"], &gone["details"]["uid"]),
        (&"Success".into(), &held["metadata"]["uid"])
    );
    assert_eq!(watch.short().await, "DELETED web");
    assert_eq!(node.get(&one).await.code, 404);
    assert!(node.get(&path).await.names().is_empty());
    assert_eq!(send(&node, "DELETE", &one, JSON, Value::Null).await.code, 404);
    let node = node.restart(config()).await;
    assert_eq!(node.get(&one).await.code, 404, "and after a restart");
    assert_eq!(back(&node).await, [(Verb::Delete, "ciliumendpoints".into())]);
    assert!(node.cloud.get(&endpoints, Some("shop"), "web").is_none());
    assert_eq!(node.get(&one).await.code, 404);
}

#[tokio::test]
async fn a_deletion_that_the_cloud_outran_is_taken_back_and_shown() {
    let node = offline().await;
    let (nodes, path) = collection("ciliumnodes");
    let one = format!("{path}/edge-1");
    ok(&node, "DELETE", &one, JSON, Value::Null).await;
    assert_eq!(node.get(&one).await.code, 404);
    let mut theirs = node.cloud.get(&nodes, None, "edge-1").unwrap();
    theirs["spec"]["encryption"] = json!({"key": 3});
    node.cloud.put("ciliumnodes", theirs);
    node.cloud.mood(Mood::Up);
    soon(async {
        while node.get(&one).await.code != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(node.get(&one).await.json()["spec"]["encryption"]["key"], 3);
    let journal = node.journal();
    assert_eq!(
        (journal.pending.len(), &*journal.conflicts[0].reason),
        (0, "Refused")
    );
}

#[tokio::test]
async fn what_was_made_and_deleted_offline_never_was() {
    let node = offline().await;
    let path = collection("ciliumendpoints").1;
    let new = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": {"name": "web"}});
    ok(&node, "POST", &path, JSON, new).await;
    ok(&node, "DELETE", &format!("{path}/web"), JSON, Value::Null).await;
    assert_eq!(node.get(&format!("{path}/web")).await.code, 404);
    assert!(back(&node).await.is_empty());
}

#[tokio::test]
async fn e3_calico_assigns_addresses_from_its_own_block() {
    let node = offline().await;
    let (affinities, blocks, handles) = (
        collection("blockaffinities"),
        collection("ipamblocks"),
        collection("ipamhandles"),
    );
    let of = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let affinity = of(
        "BlockAffinity",
        "edge-1-10-0-0-0-26",
        json!({"node": "edge-1", "cidr": "10.0.0.0/26", "state": "pending"}),
    );
    ok(&node, "POST", &affinities.1, JSON, affinity).await;
    let block = of(
        "IPAMBlock",
        "10-0-0-0-26",
        json!({"affinity": "host:edge-1", "cidr": "10.0.0.0/26", "allocations": [null, null]}),
    );
    let block = ok(&node, "POST", &blocks.1, JSON, block).await;
    let theirs = of(
        "IPAMBlock",
        "10-9-0-0-26",
        json!({"affinity": "host:edge-2", "cidr": "10.9.0.0/26"}),
    );
    assert_eq!(
        send(&node, "POST", &blocks.1, JSON, theirs).await.code,
        503,
        "another node's block"
    );
    // Compare and swap, by version.
    let mut assigned = block.clone();
    assigned["spec"]["allocations"][0] = 0.into();
    let path = format!("{}/10-0-0-0-26", blocks.1);
    ok(&node, "PUT", &path, JSON, assigned.clone()).await;
    let stale = send(&node, "PUT", &path, JSON, assigned).await;
    assert_eq!(
        (stale.code.as_u16(), &stale.json()["reason"]),
        (409, &"Conflict".into())
    );
    let handle = of(
        "IPAMHandle",
        "k8s-pod-network.ab12",
        json!({"handleID": "k8s-pod-network.ab12", "block": {"10.0.0.0/26": 1}}),
    );
    ok(&node, "POST", &handles.1, JSON, handle).await;
    let foreign = of(
        "IPAMHandle",
        "k8s-pod-network.cd34",
        json!({"block": {"10.9.0.0/26": 1}}),
    );
    assert_eq!(
        send(&node, "POST", &handles.1, JSON, foreign).await.code,
        503,
        "an address of another node's block"
    );
    // The pod's address, as the CNI plugin notes it.
    let note = json!({"metadata": {"annotations": {"cni.projectcalico.org/podIP": "10.0.0.1/32"}}});
    ok(&node, "PATCH", &format!("{POD}/status"), STRATEGIC, note).await;
    back(&node).await;
    let held = node.cloud.get(&blocks.0, None, "10-0-0-0-26").unwrap();
    assert_eq!(held["spec"]["allocations"], json!([0, null]));
    // And given back, with the cable out again.
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    ok(
        &node,
        "DELETE",
        &format!("{}/k8s-pod-network.ab12", handles.1),
        JSON,
        Value::Null,
    )
    .await;
    assert_eq!(back(&node).await, [(Verb::Delete, "ipamhandles".into())]);
    assert!(node.cloud.get(&handles.0, None, "k8s-pod-network.ab12").is_none());
}

#[tokio::test]
async fn e6_kube_proxy_reports_what_happens() {
    let node = offline().await;
    let path = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let event = json!({"metadata": {"generateName": "edge-1."}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal",
        "reportingController": "kube-proxy", "reportingInstance": "kube-proxy-edge-1", "action": "StartKubeProxy",
        "reason": "Starting", "regarding": {"kind": "Node", "name": "edge-1"}});
    let made = ok(&node, "POST", path, JSON, event).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(back(&node).await, [(Verb::Create, "events".into())]);
    let events = GroupVersionResource::new("events.k8s.io", "v1", "events");
    assert_eq!(
        node.cloud.get(&events, Some("shop"), name).unwrap()["reason"],
        "Starting"
    );
}

#[tokio::test]
async fn e7_spiderpool_keeps_endpoints_and_is_refused_shared_pools() {
    let node = offline().await;
    let (pool, path) = (
        collection("spiderippools").1 + "/shared",
        collection("spiderendpoints").1,
    );
    let mut shared = node.get(&pool).await.json();
    shared["status"] = json!({"allocatedIPs": "{}"});
    let refused = send(&node, "PUT", &format!("{pool}/status"), JSON, shared).await;
    assert_eq!(
        (refused.code.as_u16(), refused.header("retry-after")),
        (503, "1"),
        "all nodes share it"
    );
    let new = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderEndpoint", "metadata": {"name": "web"}, "status": {"current": {}}});
    let mut made = ok(&node, "POST", &path, JSON, new).await;
    made["status"]["current"]["uid"] = "pod".into();
    ok(&node, "PUT", &format!("{path}/web"), JSON, made).await;
    assert_eq!(
        back(&node).await,
        [(Verb::Create, "spiderendpoints".into())],
        "told once"
    );
}

#[tokio::test]
async fn t13_agents_write_offline_and_the_cloud_is_told_once() {
    let node = offline().await;
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        ok(&node, "PATCH", STATUS, STRATEGIC, flannel(address)).await;
    }
    let address = json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"}}, "status": {"podIP": "10.0.0.5"}});
    ok(&node, "PATCH", &format!("{POD}/status"), STRATEGIC, address).await;
    let endpoint =
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": {"name": "web"}});
    ok(&node, "POST", &collection("ciliumendpoints").1, JSON, endpoint).await;
    for n in 0..50 {
        let event = json!({"metadata": {"name": format!("web.{n}")}, "involvedObject": {"kind": "Pod", "name": "web"}, "reason": "BackOff"});
        ok(&node, "POST", "/api/v1/namespaces/shop/events", JSON, event).await;
    }
    // The cloud decides something about the node meanwhile.
    let nodes = GroupVersionResource::core("nodes");
    let mut theirs = node.cloud.get(&nodes, None, "edge-1").unwrap();
    theirs["spec"]["unschedulable"] = true.into();
    node.cloud.put("nodes", theirs);
    let told = back(&node).await;
    let count = |verb, resource: &str| {
        told.iter()
            .filter(|told| **told == (verb, resource.to_owned()))
            .count()
    };
    assert_eq!(
        count(Verb::Patch, "nodes"),
        2,
        "its annotations, and its status: {told:?}"
    );
    assert_eq!(
        (
            count(Verb::Create, "ciliumendpoints"),
            count(Verb::Create, "events")
        ),
        (1, 50)
    );
    assert!(
        told.iter().rposition(|told| told.1 != "events") < told.iter().position(|told| told.1 == "events"),
        "events last"
    );
    let held = node.cloud.get(&nodes, None, "edge-1").unwrap();
    assert_eq!(held["spec"]["unschedulable"], true);
    assert_eq!(
        held["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"],
        "192.0.2.3"
    );
}

#[tokio::test]
async fn t14_a_refusal_changes_nothing() {
    let node = offline().await;
    let path = "/api/v1/namespaces/shop/configmaps/a";
    let before = node.get(path).await.json();
    let mut changed = before.clone();
    changed["data"]["v"] = "2".into();
    let refused = send(&node, "PUT", path, JSON, changed).await;
    assert_eq!((refused.code.as_u16(), refused.header("retry-after")), (503, "1"));
    assert_eq!(node.get(path).await.json(), before);
    assert!(back(&node).await.is_empty());
}

#[tokio::test]
async fn k12_what_is_written_offline_is_listed_and_watched() {
    let node = offline().await;
    let version = node.get("/api/v1/pods").await.json()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut watch = node
        .watch(&format!(
            "/api/v1/pods?watch=true&resourceVersion={version}&fieldSelector=spec.nodeName%3Dedge-1"
        ))
        .await;
    let status = json!({"status": {"phase": "Running"}});
    ok(&node, "PATCH", &format!("{POD}/status"), STRATEGIC, status).await;
    assert_eq!(watch.short().await, "MODIFIED web");
    let list = node
        .get("/api/v1/pods?fieldSelector=status.phase%3DRunning")
        .await;
    assert_eq!(list.names(), ["web"]);
    ok(
        &node,
        "PATCH",
        NODE,
        "application/merge-patch+json",
        json!({"metadata": {"annotations": {"a": "1"}}}),
    )
    .await;
    assert_eq!(node.get(NODE).await.json()["metadata"]["annotations"]["a"], "1");
}
