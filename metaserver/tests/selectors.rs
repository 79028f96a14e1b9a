//! Selectors of a node that is alone: by labels, by every field that a kind has, in lists and in watches.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use hub_core::object::GroupVersionResource;
use hub_core::store::ObjectStore as _;
use serde_json::json;
use support::{Node, config_map, pools};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::core(resource)
}

#[tokio::test]
async fn t08_selectors_namespaces_and_pages_of_one_kind_are_all_right_offline() {
    let node = Node::alone(&[core("configmaps")]).await;
    let objects = [
        ("a", "shop", "in"),
        ("b", "shop", "out"),
        ("c", "depot", "in"),
        ("d", "depot", "other"),
    ];
    for (at, (name, namespace, app)) in objects.into_iter().enumerate() {
        node.receives(
            &core("configmaps"),
            config_map(namespace, name, app),
            at as u64 + 5,
        )
        .await;
    }
    let all = "/api/v1/configmaps";
    for (path, expected) in [
        (all.to_owned(), &["c", "d", "a", "b"][..]),
        (SHOP.to_owned(), &["a", "b"]),
        (format!("{all}?labelSelector=app%3Din"), &["c", "a"]),
        (format!("{SHOP}?labelSelector=app%21%3Din"), &["b"]),
        (
            format!("{all}?labelSelector=app+in+(in,other),app"),
            &["c", "d", "a"],
        ),
        (
            format!("{all}?fieldSelector=metadata.namespace%3Ddepot"),
            &["c", "d"],
        ),
        (
            format!("{all}?fieldSelector=metadata.namespace%3Dshop,metadata.name%21%3Da"),
            &["b"],
        ),
        (format!("{all}?limit=3"), &["c", "d", "a"]),
        (format!("{all}?limit=3&resourceVersion=0"), &["c", "d", "a", "b"]),
    ] {
        assert_eq!(node.names(&path).await, expected, "{path}");
    }
    // A page that is full goes on where anything follows, whether or not that belongs to the list.
    for (path, goes_on) in [
        (format!("{all}?labelSelector=app%3Din&limit=2"), true),
        (format!("{all}?labelSelector=app%3Dout&limit=1"), false),
    ] {
        let page = node.get(&path).await.json();
        assert_eq!(page["metadata"]["continue"].is_string(), goes_on, "{path}");
    }
}

/// Of each kind with fields of its own: field, a value, and where it stands in a body.
const FIELDS: &[(&str, &str, &str, &str, &str)] = &[
    ("", "v1", "pods", "spec.nodeName", "edge-1"),
    ("", "v1", "pods", "spec.restartPolicy", "Always"),
    ("", "v1", "pods", "spec.schedulerName", "default-scheduler"),
    ("", "v1", "pods", "spec.serviceAccountName", "web"),
    ("", "v1", "pods", "status.phase", "Running"),
    ("", "v1", "pods", "status.podIP", "10.0.0.7"),
    ("", "v1", "pods", "status.nominatedNodeName", "edge-2"),
    ("", "v1", "namespaces", "status.phase", "Active"),
    ("", "v1", "secrets", "type", "Opaque"),
    ("", "v1", "services", "spec.clusterIP", "None"),
    ("", "v1", "services", "spec.type", "NodePort"),
    ("", "v1", "events", "involvedObject.kind", "Pod"),
    ("", "v1", "events", "involvedObject.namespace", "shop"),
    ("", "v1", "events", "involvedObject.name", "web"),
    ("", "v1", "events", "involvedObject.uid", "u"),
    ("", "v1", "events", "involvedObject.apiVersion", "v1"),
    ("", "v1", "events", "involvedObject.resourceVersion", "7"),
    ("", "v1", "events", "involvedObject.fieldPath", "spec"),
    ("", "v1", "events", "reason", "Pulled"),
    ("", "v1", "events", "reportingComponent", "kubelet"),
    ("", "v1", "events", "type", "Warning"),
    (
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
        "spec.signerName",
        "a/b",
    ),
    ("", "v1", "nodes", "spec.unschedulable", "true"),
    ("", "v1", "pods", "spec.hostNetwork", "true"),
    ("", "v1", "replicationcontrollers", "status.replicas", "3"),
    ("batch", "v1", "jobs", "status.successful", "3"),
];

#[tokio::test]
async fn d3_k13_every_field_selector_selects_in_lists_and_in_watches() {
    for (group, version, resource, field, value) in FIELDS {
        let resource = GroupVersionResource::new(*group, *version, *resource);
        let node = Node::alone(std::slice::from_ref(&resource)).await;
        let kind = node.store.registry().by_resource(&resource).unwrap();
        let object = |name: &str, with: bool| {
            let mut object = json!({ "kind": &*kind.kind, "apiVersion": resource.api_version(), "metadata": { "name": name } });
            if kind.namespaced {
                object["metadata"]["namespace"] = "shop".into();
            }
            if with {
                // The selector's name of a Job's count is not that of its field.
                let path = field.replace("status.successful", "status.succeeded");
                let pointer: Vec<_> = path.split('.').collect();
                let mut at = &mut object;
                for step in pointer {
                    at = &mut at[step];
                }
                *at = match *value {
                    "true" => true.into(),
                    "3" => 3.into(),
                    text => text.into(),
                };
            }
            object
        };
        node.receives(&resource, object("yes", true), 5).await;
        node.receives(&resource, object("no", false), 6).await;
        let path = resource.path(None, None);
        let escaped = value.replace('/', "%2F");
        let (is, is_not) = (format!("{field}%3D{escaped}"), format!("{field}%21%3D{escaped}"));
        assert_eq!(
            node.names(&format!("{path}?fieldSelector={is}")).await,
            ["yes"],
            "{resource} {field}"
        );
        assert_eq!(
            node.names(&format!("{path}?fieldSelector={is_not}")).await,
            ["no"],
            "{resource} {field}"
        );
        let mut watch = node.watch(&format!("{path}?watch=true&fieldSelector={is}")).await;
        assert_eq!(watch.short().await, "ADDED yes", "{resource} {field}");
        node.receives(&resource, object("yes", false), 7).await;
        assert_eq!(watch.short().await, "DELETED yes", "{resource} {field}");
        node.receives(&resource, object("no", true), 8).await;
        assert_eq!(watch.short().await, "ADDED no", "{resource} {field}");
    }
}

#[tokio::test]
async fn d3_the_selectable_fields_of_a_custom_kind_select_and_no_others() {
    let pool = GroupVersionResource::new("crd.example.com", "v1", "pools");
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let node = Node::alone(&[definitions.clone(), pool.clone()]).await;
    node.receives(&definitions, pools(), 3).await;
    let object = |name: &str, color: &str| {
        json!({ "kind": "Pool", "apiVersion": "crd.example.com/v1",
            "metadata": { "name": name, "namespace": "shop" }, "spec": { "color": color, "size": 3 } })
    };
    node.receives(&pool, object("a", "blue"), 5).await;
    node.receives(&pool, object("b", "red"), 6).await;
    let path = "/apis/crd.example.com/v1/pools";
    assert_eq!(
        node.names(&format!("{path}?fieldSelector=spec.color%3Dblue"))
            .await,
        ["a"]
    );
    let mut watch = node
        .watch(&format!("{path}?watch=true&fieldSelector=spec.color%3Dblue"))
        .await;
    assert_eq!(watch.short().await, "ADDED a");
    node.receives(&pool, object("b", "blue"), 7).await;
    assert_eq!(watch.short().await, "ADDED b");
    node.receives(&pool, object("a", "green"), 8).await;
    assert_eq!(watch.short().await, "DELETED a");
    assert_eq!(
        node.get(&format!("{path}?fieldSelector=spec.size%3D3"))
            .await
            .code,
        400
    );
}
