//! A node whose agents have looked at everything once, with its cable pulled, and the kinds that they bring.

use std::time::Duration;

use hub_core::api::Verb;
use hub_core::object::GroupVersionResource;
use metaserver::{LocalWrites, MetaConfig};
use serde_json::{Value, json};

use crate::support::{Answer, Mood, Node, config_map, soon};

pub(crate) fn config() -> MetaConfig {
    MetaConfig {
        cloud_pause: Duration::from_millis(10),
        local_writes: LocalWrites {
            retry_pause: Duration::from_millis(10),
            ..LocalWrites::of_node("edge-1")
        },
        ..MetaConfig::default()
    }
}

/// A kind that an agent brings: group, version, plural, kind, whether in namespaces.
pub(crate) type Kind = (&'static str, &'static str, &'static str, &'static str, bool);

const KINDS: &[Kind] = &[
    ("cilium.io", "v2", "ciliumnodes", "CiliumNode", false),
    ("cilium.io", "v2", "ciliumendpoints", "CiliumEndpoint", true),
    (
        "crd.projectcalico.org",
        "v1",
        "blockaffinities",
        "BlockAffinity",
        false,
    ),
    ("crd.projectcalico.org", "v1", "ipamblocks", "IPAMBlock", false),
    ("crd.projectcalico.org", "v1", "ipamhandles", "IPAMHandle", false),
    (
        "spiderpool.spidernet.io",
        "v2beta1",
        "spiderendpoints",
        "SpiderEndpoint",
        true,
    ),
    (
        "spiderpool.spidernet.io",
        "v2beta1",
        "spiderippools",
        "SpiderIPPool",
        false,
    ),
];

fn definition((group, version, plural, kind, namespaced): Kind) -> Value {
    let scope = if namespaced { "Namespaced" } else { "Cluster" };
    // Of these, only the node and the pool have a status of their own.
    let subresources = match kind {
        "CiliumNode" | "SpiderIPPool" => json!({"status": {}}),
        _ => json!({}),
    };
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": scope, "names": {"plural": plural, "kind": kind},
            "versions": [{"name": version, "served": true, "storage": true, "schema": schema, "subresources": subresources}]}})
}

/// The cloud has these kinds from now on.
pub(crate) fn define(node: &Node, kinds: &[Kind]) {
    for kind in kinds {
        node.cloud.put("customresourcedefinitions", definition(*kind));
    }
}

pub(crate) fn collection(plural: &str) -> (GroupVersionResource, String) {
    let (group, version, ..) = KINDS.iter().find(|kind| kind.2 == plural).unwrap();
    let namespace = if KINDS.iter().any(|kind| kind.2 == plural && kind.4) {
        "namespaces/shop/"
    } else {
        ""
    };
    let path = format!("/apis/{group}/{version}/{namespace}{plural}");
    (GroupVersionResource::new(*group, *version, plural), path)
}

/// A node that has a pod and whose agents have looked at everything once, with its cable pulled.
pub(crate) async fn offline() -> Node {
    let node = Node::with(config()).await;
    define(&node, KINDS);
    node.cloud.put(
        "nodes",
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "edge-1"}, "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    node.cloud.put(
        "pods",
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"nodeName": "edge-1"}, "status": {"phase": "Pending"}}),
    );
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.cloud.put(
        "spiderippools",
        json!({"kind": "SpiderIPPool", "apiVersion": "spiderpool.spidernet.io/v2beta1", "metadata": {"name": "shared"}, "status": {}}),
    );
    node.cloud.put(
        "ciliumnodes",
        json!({"kind": "CiliumNode", "apiVersion": "cilium.io/v2", "metadata": {"name": "edge-1"},
            "spec": {"ipam": {"podCIDRs": ["10.0.0.0/24"]}}}),
    );
    node.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .await;
    for path in [
        "/api/v1/nodes",
        "/api/v1/pods",
        "/api/v1/namespaces/shop/configmaps",
        "/api/v1/namespaces/shop/events",
    ] {
        assert_eq!(node.get(path).await.code, 200);
    }
    for kind in KINDS {
        assert_eq!(node.get(&collection(kind.2).1).await.code, 200, "{kind:?}");
    }
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    node
}

pub(crate) async fn send(node: &Node, method: &str, path: &str, media: &str, body: Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    node.ask(method, path, &[("content-type", media)], &body).await
}

pub(crate) async fn ok(node: &Node, method: &str, path: &str, media: &str, body: Value) -> Value {
    let answer = send(node, method, path, media, body).await;
    assert!(
        answer.code.is_success(),
        "{method} {path}: {} {:?}",
        answer.code,
        answer.body
    );
    answer.json()
}

/// Pulls the cable back in, and waits until the cloud has been told everything. What it was asked to change, in order.
pub(crate) async fn back(node: &Node) -> Vec<(Verb, String)> {
    let before = node.cloud.asked().len();
    node.cloud.mood(Mood::Up);
    soon(async {
        while !node.journal().pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(
        node.journal().conflicts.is_empty(),
        "{:?}",
        node.journal().conflicts
    );
    let asked = node.cloud.asked().split_off(before);
    let writes = asked.iter().filter(|asked| !asked.verb.is_read());
    writes
        .map(|asked| {
            let hub_core::api::Target::Resource { resource, .. } = &asked.target else {
                panic!("{:?}", asked.target);
            };
            (asked.verb, resource.resource.to_string())
        })
        .collect()
}
