//! Agents of the network that start on a node that has started itself without its cloud: what each asks before it works, in its order and
//! in its encodings, as far as it only reads (docs/acceptance.md, E.1 to E.6). What they write stands in `acceptance_writes.rs`.
//!
//! Every agent has run here once while the cloud was there; then the node's program was killed with the cable out.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/agents.rs"]
#[allow(dead_code, reason = "part of several tests; none uses all of it")]
mod agents;
#[path = "support/starts.rs"]
mod starts;
mod support;

use starts::Comes::{All, It, Missing, Unknown};
use starts::{AGGREGATED, Ask, JSON, METADATA, PROTOBUF, ask, starts};

/// `pkg/subnet/kube` of flannel: all nodes, then its own, and the addresses that it was given.
const FLANNEL: &[Ask] = &[
    ask("/api/v1/namespaces/shop/pods/web", PROTOBUF, It),
    ask(
        "/api/v1/nodes?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["edge-1"]),
    ),
    ask(
        "/api/v1/nodes?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=500&watch=true",
        JSON,
        All(&["edge-1"]),
    ),
    ask("/api/v1/nodes/edge-1?resourceVersion=0", PROTOBUF, It),
    ask("/api/v1/nodes/edge-9", PROTOBUF, Missing),
];

/// `pkg/k8s` of cilium: the connection, the definitions that it waits for, its informers, and the kinds that are not installed.
const CILIUM: &[Ask] = &[
    ask("/api/v1/namespaces/kube-system", PROTOBUF, It),
    ask("/version", JSON, It),
    ask("/healthz", JSON, It),
    ask("/api", AGGREGATED, It),
    ask("/apis", AGGREGATED, It),
    ask("/apis/cilium.io/v2", JSON, It),
    ask(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?limit=500&resourceVersion=0",
        METADATA,
        All(&[
            "blockaffinities.crd.projectcalico.org",
            "ciliumendpoints.cilium.io",
            "ciliumnodes.cilium.io",
            "ipamblocks.crd.projectcalico.org",
            "ipamhandles.crd.projectcalico.org",
            "spiderendpoints.spiderpool.spidernet.io",
            "spiderippools.spiderpool.spidernet.io",
        ]),
    ),
    ask(
        "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1&limit=500&resourceVersion=0",
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
        PROTOBUF,
        All(&["kube-system"]),
    ),
    ask(
        "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["web"]),
    ),
    ask(
        "/apis/networking.k8s.io/v1/networkpolicies?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&[]),
    ),
    ask(
        "/apis/cilium.io/v2/ciliumnodes?limit=500&resourceVersion=0",
        JSON,
        All(&["edge-1"]),
    ),
    ask("/apis/cilium.io/v2/ciliumnodes/edge-1", JSON, It),
    ask(
        "/apis/cilium.io/v2/namespaces/shop/ciliumendpoints/web?resourceVersion=0",
        JSON,
        Missing,
    ),
    ask("/apis/cilium.io/v2/ciliumegressgatewaypolicies", JSON, Missing),
];

/// `libcalico-go` and the CNI plugin of calico. What is not held must not be a 404: that would mean that it is not installed.
const CALICO: &[Ask] = &[
    ask("/apis", JSON, It),
    ask(
        "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
        PROTOBUF,
        Unknown,
    ),
    ask("/api/v1/nodes/edge-1", PROTOBUF, It),
    ask(
        "/api/v1/pods?limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        PROTOBUF,
        All(&["web"]),
    ),
    ask(
        "/api/v1/serviceaccounts?limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        PROTOBUF,
        Unknown,
    ),
    ask(
        "/apis/crd.projectcalico.org/v1/ipamblocks?limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        JSON,
        All(&[]),
    ),
    ask(
        "/apis/crd.projectcalico.org/v1/blockaffinities?limit=500&resourceVersion=0",
        JSON,
        All(&[]),
    ),
    ask("/apis/crd.projectcalico.org/v1/ippools", JSON, Missing),
    ask("/api/v1/namespaces/shop/pods/web", PROTOBUF, It),
];

/// `cmd/kube-proxy`: its node, then services and slices as streaming lists.
const KUBE_PROXY: &[Ask] = &[
    ask("/api/v1/nodes/edge-1", PROTOBUF, It),
    ask(
        "/api/v1/services?allowWatchBookmarks=true&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true",
        JSON,
        All(&["web"]),
    ),
    ask(
        "/apis/discovery.k8s.io/v1/endpointslices?allowWatchBookmarks=true&labelSelector=%21service.kubernetes.io%2Fheadless&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true",
        JSON,
        All(&["web-1"]),
    ),
    ask(
        "/apis/networking.k8s.io/v1/servicecidrs?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&[]),
    ),
];

/// The plugin `kubernetes` of CoreDNS.
const COREDNS: &[Ask] = &[
    ask("/version", JSON, It),
    ask(
        "/api/v1/namespaces?limit=500&resourceVersion=0",
        PROTOBUF,
        All(&["kube-system"]),
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
        "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cstatus.phase%21%3DUnknown&limit=500",
        PROTOBUF,
        All(&["web"]),
    ),
];

#[tokio::test]
async fn e1_flannel_starts_on_a_node_that_started_without_its_cloud() {
    starts("flannel", FLANNEL).await;
}

#[tokio::test]
async fn e2_cilium_starts_on_a_node_that_started_without_its_cloud() {
    starts("cilium", CILIUM).await;
}

#[tokio::test]
async fn e3_calico_starts_on_a_node_that_started_without_its_cloud() {
    starts("calico", CALICO).await;
}

#[tokio::test]
async fn e5_coredns_starts_on_a_node_that_started_without_its_cloud() {
    starts("CoreDNS", COREDNS).await;
}

#[tokio::test]
async fn e6_kube_proxy_starts_on_a_node_that_started_without_its_cloud() {
    starts("kube-proxy", KUBE_PROXY).await;
}
