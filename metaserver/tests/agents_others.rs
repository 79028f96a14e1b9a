//! What runs on nodes beside the agents of the network, on a node that started without its cloud: what each asks at its start, in its
//! order and in its encodings, what it then writes, and what it is refused and lives with (docs/acceptance.md).

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/agents.rs"]
#[allow(dead_code, reason = "part of several tests; none uses all of it")]
mod agents;
#[path = "support/starts.rs"]
mod starts;
mod support;

use agents::{Kind, back, ok, send};
use hub_core::api::Verb;
use serde_json::{Value, json};
use starts::Comes::{All, It, Missing, Unknown};
use starts::{Ask, JSON, METADATA, PROTOBUF, ask, starts, starts_with};
use support::Node;

const NODE: &str = "/api/v1/nodes/edge-1";
const POD: &str = "/api/v1/namespaces/shop/pods/web";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Asks for something that is not this node's to decide: refused so that the client comes again.
async fn refused(node: &Node, method: &str, path: &str, media: &str, body: Value) {
    let answer = send(node, method, path, media, body).await;
    let (code, again) = (answer.code.as_u16(), answer.header("retry-after"));
    assert_eq!((code, again), (503, "1"), "{method} {path}: {:?}", answer.body);
}

fn count(told: &[(Verb, String)], verb: Verb, resource: &str) -> usize {
    told.iter()
        .filter(|told| **told == (verb, resource.to_owned()))
        .count()
}

/// `discovery/kubernetes`: the roles node, pod (of this node, as an agent) and endpointslice.
const PROMETHEUS: &[Ask] = &[
    ask(
        "/api/v1/nodes?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["edge-1"]),
    ),
    ask(
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1&limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["web"]),
    ),
    ask(
        "/api/v1/namespaces?limit=500&resourceVersion=0",
        METADATA,
        All(&["kube-system"]),
    ),
    ask(
        "/api/v1/namespaces/shop/services?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["web"]),
    ),
    ask(
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true",
        JSON,
        All(&["web-1"]),
    ),
];

#[tokio::test]
async fn prometheus_finds_what_it_scrapes() {
    starts("Prometheus", PROMETHEUS).await;
}

/// Vector's source `kubernetes_logs`: pods and namespaces that are not excluded, and its node, with the `kube` crate.
const VECTOR: &[Ask] = &[
    ask(
        "/api/v1/pods?&limit=500&fieldSelector=spec.nodeName%3Dedge-1&labelSelector=vector.dev%2Fexclude%21%3Dtrue&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        JSON,
        All(&["web"]),
    ),
    ask(
        "/api/v1/namespaces?&limit=500&labelSelector=vector.dev%2Fexclude%21%3Dtrue&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        JSON,
        All(&["kube-system"]),
    ),
    ask(
        "/api/v1/nodes?&limit=500&fieldSelector=metadata.name%3Dedge-1&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        JSON,
        All(&["edge-1"]),
    ),
];

/// Fluent Bit's filter: its own pod to see whether the server is there, then each pod that writes a log, by name.
const FLUENT_BIT: &[Ask] = &[
    ask(POD, JSON, It),
    ask("/api/v1/namespaces/kube-system", JSON, It),
    ask("/api/v1/namespaces/shop/pods/gone", JSON, Missing),
];

#[tokio::test]
async fn collectors_of_logs_know_whose_they_are() {
    starts("vector", VECTOR).await;
    starts("Fluent Bit", FLUENT_BIT).await;
}

const ATTACHMENTS: &[Kind] = &[
    (
        "k8s.cni.cncf.io",
        "v1",
        "network-attachment-definitions",
        "NetworkAttachmentDefinition",
        true,
    ),
    ("whereabouts.cni.cncf.io", "v1alpha1", "ippools", "IPPool", true),
];
/// multus: the pod and the networks that it names; whereabouts below it: a pool of addresses that all nodes share.
const MULTUS: &[Ask] = &[
    ask(POD, PROTOBUF, It),
    ask(
        "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions?limit=500&resourceVersion=0",
        JSON,
        All(&[]),
    ),
    ask(
        "/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions/none",
        JSON,
        Missing,
    ),
    ask(
        "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools?limit=500",
        JSON,
        All(&[]),
    ),
    ask(
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/whereabouts",
        PROTOBUF,
        Unknown,
    ),
];

#[tokio::test]
async fn multus_notes_its_networks_and_whereabouts_gives_no_address_that_another_may_have() {
    let node = starts_with("multus", ATTACHMENTS, MULTUS).await;
    let status = json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "[{}]"}}});
    ok(&node, "PATCH", &format!("{POD}/status"), STRATEGIC, status).await;
    // Without the lease nobody leads, so no pool is touched; nor would it be.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "whereabouts"},
        "spec": {"holderIdentity": "edge-1", "leaseDurationSeconds": 2}});
    refused(
        &node,
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        JSON,
        lease,
    )
    .await;
    let pool = json!({"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "10.0.0.0-24"}});
    refused(
        &node,
        "POST",
        "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools",
        JSON,
        pool,
    )
    .await;
    let told = back(&node).await;
    assert_eq!(
        (told.len(), count(&told, Verb::Patch, "pods")),
        (1, 1),
        "{told:?}"
    );
}

/// kube-vip and every other program that elects a leader: the lease is not this node's, so it leads no more, as another may.
#[tokio::test]
async fn a_leader_hears_that_it_cannot_know_whether_it_still_leads() {
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-svcs-lock";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?limit=500";
    let node = starts("kube-vip", &[ask(leases, PROTOBUF, All(&[]))]).await;
    node.cloud.mood(support::Mood::Up);
    let held = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "plndr-svcs-lock"},
        "spec": {"holderIdentity": "edge-1", "leaseDurationSeconds": 15}});
    let mut held = ok(&node, "POST", lease.rsplit_once('/').unwrap().0, JSON, held).await;
    node.settled().await;
    node.cloud.mood(support::Mood::Unreachable);
    // It is read, and not renewed.
    assert_eq!(node.get(lease).await.code, 200);
    held["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z".into();
    refused(&node, "PUT", lease, JSON, held).await;
    assert!(back(&node).await.is_empty());
}

const METALLB: &[Kind] = &[
    ("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool", true),
    (
        "metallb.io",
        "v1beta1",
        "l2advertisements",
        "L2Advertisement",
        true,
    ),
    (
        "metallb.io",
        "v1beta1",
        "servicel2statuses",
        "ServiceL2Status",
        true,
    ),
];
/// metallb's speaker: controller-runtime's cache of its kinds, nodes, services and slices.
const SPEAKER: &[Ask] = &[
    ask(
        "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools?limit=500&resourceVersion=0",
        JSON,
        All(&[]),
    ),
    ask(
        "/apis/metallb.io/v1beta1/namespaces/metallb-system/l2advertisements?limit=500&resourceVersion=0",
        JSON,
        All(&[]),
    ),
    ask(
        "/api/v1/nodes?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["edge-1"]),
    ),
    ask(
        "/api/v1/services?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["web"]),
    ),
    ask(
        "/apis/discovery.k8s.io/v1/endpointslices?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["web-1"]),
    ),
    ask(
        "/api/v1/namespaces/metallb-system/secrets?limit=500&resourceVersion=0",
        PROTOBUF,
        Unknown,
    ),
];

#[tokio::test]
async fn the_speaker_of_metallb_announces_says_so_and_is_refused_its_status() {
    let node = starts_with("metallb", METALLB, SPEAKER).await;
    let event = json!({"metadata": {"name": "web.1"}, "involvedObject": {"kind": "Service", "name": "web", "namespace": "shop"},
        "reason": "nodeAssigned", "message": "announcing from node \"edge-1\" with protocol \"layer2\""});
    ok(&node, "POST", "/api/v1/namespaces/shop/events", JSON, event).await;
    let status = json!({"apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status", "metadata": {"generateName": "l2-"}});
    refused(
        &node,
        "POST",
        "/apis/metallb.io/v1beta1/namespaces/metallb-system/servicel2statuses",
        JSON,
        status,
    )
    .await;
    assert_eq!(count(&back(&node).await, Verb::Create, "events"), 1);
}

/// kured: the lock lies in an annotation of its DaemonSet, and who does not have it does not reboot.
#[tokio::test]
async fn kured_gets_no_lock_and_so_does_not_reboot() {
    let daemons = "/apis/apps/v1/namespaces/kube-system/daemonsets?limit=500";
    let node = starts(
        "kured",
        &[ask(NODE, PROTOBUF, It), ask(daemons, PROTOBUF, All(&[]))],
    )
    .await;
    let kured = "/apis/apps/v1/namespaces/kube-system/daemonsets/kured";
    assert_eq!(node.get(kured).await.code, 404, "it is known that there is none");
    let lock = json!({"metadata": {"annotations": {"kured.dev/kured-node-lock": "{}"}}});
    refused(&node, "PATCH", kured, MERGE, lock).await;
    refused(
        &node,
        "PATCH",
        NODE,
        STRATEGIC,
        json!({"spec": {"unschedulable": true}}),
    )
    .await;
    assert!(back(&node).await.is_empty());
}

/// node-problem-detector: conditions of its node by strategic merge, and events.
#[tokio::test]
async fn node_problem_detector_reports_what_is_wrong_once() {
    let node = starts("node-problem-detector", &[ask(NODE, PROTOBUF, It)]).await;
    for status in ["False", "True"] {
        let conditions = json!({"status": {"conditions": [{"type": "ReadonlyFilesystem", "status": status, "reason": "r",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "m"}]}});
        ok(&node, "PATCH", &format!("{NODE}/status"), STRATEGIC, conditions).await;
    }
    let shown = node.get(NODE).await.json();
    let conditions = shown["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2, "Ready is still there: {shown}");
    let event = json!({"metadata": {"name": "edge-1.1"}, "involvedObject": {"kind": "Node", "name": "edge-1", "uid": "edge-1"},
        "reason": "OOMKilling", "source": {"component": "kernel-monitor", "host": "edge-1"}});
    ok(&node, "POST", "/api/v1/namespaces/default/events", JSON, event).await;
    let told = back(&node).await;
    assert_eq!(
        (
            count(&told, Verb::Patch, "nodes"),
            count(&told, Verb::Create, "events")
        ),
        (1, 1),
        "{told:?}"
    );
}

const NFD: &[Kind] = &[("nfd.k8s-sigs.io", "v1alpha1", "nodefeatures", "NodeFeature", true)];

/// The worker of Node Feature Discovery ends itself when it cannot say what it found; a kubelet when it cannot have its CSINode.
#[tokio::test]
async fn what_is_found_on_the_node_is_said_of_this_node_and_of_no_other() {
    const FEATURES: &str = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/nfd/nodefeatures";
    const DRIVERS: &str = "/apis/storage.k8s.io/v1/csinodes";
    let asks = [
        ask(FEATURES, JSON, All(&[])),
        ask("/apis/storage.k8s.io/v1/csinodes?limit=500", PROTOBUF, All(&[])),
    ];
    let node = starts_with("NFD, kubelet and drivers", NFD, &asks).await;
    let feature = |name: &str, n: u64| {
        json!({"apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature",
        "metadata": {"name": name, "labels": {"nfd.node.kubernetes.io/node-name": name}}, "spec": {"labels": {"n": n.to_string()}}})
    };
    ok(&node, "POST", FEATURES, JSON, feature("edge-1", 1)).await;
    let mut held = node.get(&format!("{FEATURES}/edge-1")).await.json();
    held["spec"] = feature("edge-1", 2)["spec"].take();
    ok(&node, "PUT", &format!("{FEATURES}/edge-1"), JSON, held).await;
    refused(&node, "POST", FEATURES, JSON, feature("edge-2", 1)).await;
    let driver = |name: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name},
        "spec": {"drivers": [{"name": "local", "nodeID": name}]}})
    };
    ok(&node, "POST", DRIVERS, JSON, driver("edge-1")).await;
    refused(&node, "POST", DRIVERS, JSON, driver("edge-2")).await;
    let told = back(&node).await;
    assert_eq!(
        (
            count(&told, Verb::Create, "nodefeatures"),
            count(&told, Verb::Create, "csinodes")
        ),
        (1, 1),
        "{told:?}"
    );
}
