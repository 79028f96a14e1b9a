//! Cases of the acceptance list that no other test holds: reads and watches of a node that is alone (docs/acceptance.md).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use hub_core::object::{GroupVersionResource, Object};
use hub_core::scope::Scope;
use hub_core::store::{Change, ObjectStore};
use metaserver::MetaConfig;
use serde_json::{Value, json};
use support::{Events, Mood, Node, config_map, soon};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

/// A node whose cloud is away, and that holds these collections as a whole.
async fn alone(resources: &[GroupVersionResource]) -> Node {
    let node = Node::start().await;
    node.cloud.mood(Mood::Unreachable);
    let scopes = resources.iter().cloned().map(Scope::all);
    let changes = scopes.flat_map(|scope| [Change::Want(scope.clone()), Change::Complete(scope)]);
    node.store.apply(changes.collect()).await.unwrap();
    node
}

/// Puts an object as the tunnel would.
async fn put(node: &Node, resource: &GroupVersionResource, mut object: Value, version: u64) {
    object["metadata"]["resourceVersion"] = version.to_string().into();
    if object["metadata"]["uid"].is_null() {
        object["metadata"]["uid"] = format!("uid-{}", object["metadata"]["name"]).into();
    }
    let object = Object::from_body(resource.clone(), object.to_string().into()).unwrap();
    node.store.apply(vec![Change::Put(object)]).await.unwrap();
}

async fn names(node: &Node, path: &str) -> Vec<String> {
    let answer = node.get(path).await;
    assert_eq!(
        answer.code,
        200,
        "{path}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::core(resource)
}

#[tokio::test]
async fn t01_k08_a_streaming_list_is_whole_at_once_with_the_link_down_after_a_restart() {
    let node = Node::start().await;
    for name in ["a", "b"] {
        node.cloud.put("configmaps", config_map("shop", name, "1"));
    }
    node.get(SHOP).await;
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    let node = node.restart(MetaConfig::default()).await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let begin = std::time::Instant::now();
    let mut watch = node.watch(&format!("{SHOP}?{query}")).await;
    assert_eq!([watch.short().await, watch.short().await], ["ADDED a", "ADDED b"]);
    let mark = watch.next().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    let metadata = &mark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(metadata["resourceVersion"], node.store.revision().to_string());
}

#[tokio::test]
async fn k14_an_empty_list_has_its_kind_and_a_revision_to_watch_from() {
    let node = alone(&[core("configmaps")]).await;
    let answer = node.get(SHOP).await;
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(
        (&list["kind"], &list["items"]),
        (&"ConfigMapList".into(), &json!([]))
    );
    assert!(revision.parse::<u64>().unwrap() > 0, "{list}");
    let mut watch = node
        .watch(&format!("{SHOP}?watch=true&resourceVersion={revision}"))
        .await;
    put(&node, &core("configmaps"), config_map("shop", "a", "1"), 5).await;
    assert_eq!(watch.short().await, "ADDED a");
}

#[tokio::test]
async fn k23_objects_are_written_to_the_cloud_whatever_their_names_and_kinds_are_called() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "restart", "1"));
    for name in ["unhold-upgrade", "confirm-upgrade", "exec"] {
        let body = config_map("shop", name, "1").to_string();
        let json = [("content-type", "application/json")];
        assert_eq!(node.ask("POST", SHOP, &json, &body).await.code, 201, "{name}");
        assert!(node.cloud.get(&core("configmaps"), Some("shop"), name).is_some());
    }
    let body = config_map("shop", "restart", "2").to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(
        node.ask("PUT", &format!("{SHOP}/restart"), &json, &body)
            .await
            .code,
        200
    );
    let written = node
        .cloud
        .get(&core("configmaps"), Some("shop"), "restart")
        .unwrap();
    assert_eq!(written["data"]["v"], "2");
}

#[tokio::test]
async fn t03_k01_a_later_watch_is_told_everything_whatever_revisions_others_have_seen() {
    let node = alone(&[core("configmaps"), core("services")]).await;
    // One collection is far ahead in the cloud's versions.
    put(&node, &core("configmaps"), config_map("shop", "far", "1"), 1000).await;
    let mut pods = node.watch("/api/v1/configmaps?watch=true").await;
    assert_eq!(pods.short().await, "ADDED far");
    let service = |name: &str| json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": name, "namespace": "shop" } });
    put(&node, &core("services"), service("early"), 500).await;
    let mut services = node.watch("/api/v1/services?watch=true").await;
    put(&node, &core("services"), service("between"), 1001).await;
    put(&node, &core("services"), service("late"), 1002).await;
    let heard = [
        services.short().await,
        services.short().await,
        services.short().await,
    ];
    assert_eq!(heard, ["ADDED early", "ADDED between", "ADDED late"]);
}

#[tokio::test]
async fn t08_selectors_namespaces_and_pages_of_one_kind_are_all_right_offline() {
    let node = alone(&[core("configmaps")]).await;
    let objects = [
        ("a", "shop", "in"),
        ("b", "shop", "out"),
        ("c", "depot", "in"),
        ("d", "depot", "other"),
    ];
    for (at, (name, namespace, app)) in objects.into_iter().enumerate() {
        put(
            &node,
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
        assert_eq!(names(&node, &path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn t09_a_kind_that_was_never_held_is_503_offline_and_answers_soon_after_the_cloud_is_back() {
    let node = Node::with(MetaConfig {
        cloud_pause: Duration::from_millis(20),
        ..MetaConfig::default()
    })
    .await;
    node.cloud.put("customresourcedefinitions", pools());
    node.cloud.mood(Mood::Unreachable);
    let path = "/apis/crd.example.com/v1/pools";
    let answer = node.get(path).await;
    assert_eq!((answer.code.as_u16(), answer.header("retry-after")), (503, "5"));
    node.cloud.mood(Mood::Up);
    soon(async {
        while node.get(path).await.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn t10_a_kind_that_the_cloud_does_not_have_is_404_with_it_and_without_it() {
    let node = Node::start().await;
    let paths = [
        "/apis/no.such.group/v1/things",
        "/apis/no.such.group/v1/namespaces/a/things/b",
        "/api/v1/things",
    ];
    for mood in [Mood::Up, Mood::Unreachable] {
        node.settled().await;
        node.cloud.mood(mood);
        for path in paths {
            assert_eq!(node.get(path).await.code, 404, "{mood:?} {path}");
        }
    }
}

#[tokio::test]
async fn t22_a_watch_that_cannot_be_is_refused_to_its_client_only() {
    let node = Node::start().await;
    node.get(SHOP).await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    for (path, code) in [
        ("/apis/no.such.group/v1/things?watch=true", 404),
        ("/api/v1/things?watch=true", 404),
        ("/api/v1/bindings?watch=true", 404),
        ("/api/v1/namespaces/a/bindings?watch=true", 405),
        ("/api/v1/pods?watch=true&fieldSelector=spec.nodeName", 400),
        ("/api/v1/pods?watch=true&fieldSelector=spec.no.such%3Da", 400),
        ("/api/v1/pods?watch=true&labelSelector=a%3E%3E", 400),
        ("/api/v1/pods?watch=true&timeoutSeconds=soon", 400),
        ("/api/v1/pods?watch=true&resourceVersion=new", 500),
        ("/api/v1/pods?watch=true&sendInitialEvents=true", 422),
    ] {
        let answer = node.get(path).await;
        assert_eq!(
            answer.code,
            code,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    node.cloud.put("configmaps", config_map("shop", "still", "1"));
    assert_eq!(watch.short().await, "ADDED still");
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
    ("apps", "v1", "replicasets", "status.replicas", "3"),
    ("batch", "v1", "jobs", "status.successful", "3"),
];

#[tokio::test]
async fn d3_k13_every_field_selector_selects_in_lists_and_in_watches() {
    for (group, version, resource, field, value) in FIELDS {
        let resource = GroupVersionResource::new(*group, *version, *resource);
        let node = alone(std::slice::from_ref(&resource)).await;
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
        put(&node, &resource, object("yes", true), 5).await;
        put(&node, &resource, object("no", false), 6).await;
        let path = resource.path(None, None);
        let escaped = value.replace('/', "%2F");
        let (is, is_not) = (format!("{field}%3D{escaped}"), format!("{field}%21%3D{escaped}"));
        assert_eq!(
            names(&node, &format!("{path}?fieldSelector={is}")).await,
            ["yes"],
            "{resource} {field}"
        );
        assert_eq!(
            names(&node, &format!("{path}?fieldSelector={is_not}")).await,
            ["no"],
            "{resource} {field}"
        );
        let mut watch = node.watch(&format!("{path}?watch=true&fieldSelector={is}")).await;
        assert_eq!(watch.short().await, "ADDED yes", "{resource} {field}");
        put(&node, &resource, object("yes", false), 7).await;
        assert_eq!(watch.short().await, "DELETED yes", "{resource} {field}");
        put(&node, &resource, object("no", true), 8).await;
        assert_eq!(watch.short().await, "ADDED no", "{resource} {field}");
    }
}

/// A custom kind with a field to select by.
fn pools() -> Value {
    json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "name": "pools.crd.example.com" },
        "spec": { "group": "crd.example.com", "scope": "Namespaced",
            "names": { "plural": "pools", "singular": "pool", "kind": "Pool", "listKind": "PoolList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "schema": { "openAPIV3Schema": { "type": "object" } } }] } })
}

#[tokio::test]
async fn d3_the_selectable_fields_of_a_custom_kind_select_and_no_others() {
    let pool = GroupVersionResource::new("crd.example.com", "v1", "pools");
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let node = alone(&[definitions.clone(), pool.clone()]).await;
    put(&node, &definitions, pools(), 3).await;
    let object = |name: &str, color: &str| {
        json!({ "kind": "Pool", "apiVersion": "crd.example.com/v1",
            "metadata": { "name": name, "namespace": "shop" }, "spec": { "color": color, "size": 3 } })
    };
    put(&node, &pool, object("a", "blue"), 5).await;
    put(&node, &pool, object("b", "red"), 6).await;
    let path = "/apis/crd.example.com/v1/pools";
    assert_eq!(
        names(&node, &format!("{path}?fieldSelector=spec.color%3Dblue")).await,
        ["a"]
    );
    let mut watch = node
        .watch(&format!("{path}?watch=true&fieldSelector=spec.color%3Dblue"))
        .await;
    assert_eq!(watch.short().await, "ADDED a");
    put(&node, &pool, object("b", "blue"), 7).await;
    assert_eq!(watch.short().await, "ADDED b");
    put(&node, &pool, object("a", "green"), 8).await;
    assert_eq!(watch.short().await, "DELETED a");
    assert_eq!(
        node.get(&format!("{path}?fieldSelector=spec.size%3D3"))
            .await
            .code,
        400
    );
}

async fn told(watch: &mut Events, count: usize) -> Vec<(String, String, u64)> {
    let mut told = Vec::new();
    while told.len() < count {
        let event = watch.next().await.unwrap();
        let metadata = &event["object"]["metadata"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let revision = text(&metadata["resourceVersion"]).parse().unwrap();
        told.push((text(&event["type"]), text(&metadata["name"]), revision));
    }
    told
}

#[tokio::test]
async fn k06_k07_a_watch_resumed_anywhere_is_told_the_rest_of_what_an_uninterrupted_one_is() {
    let node = alone(&[core("configmaps")]).await;
    let select = format!("{SHOP}?watch=true&labelSelector=app%3Din");
    let start = node.store.revision().0;
    let mut whole = node.watch(&format!("{select}&resourceVersion={start}")).await;
    let mut version = 10;
    for round in 0..40_u64 {
        version += 1;
        let name = format!("o{}", round % 7);
        if round % 5 == 4 {
            let key = hub_core::object::ObjectKey::new(core("configmaps"), Some("shop"), &name);
            let gone = Change::Delete {
                key,
                uid: None,
                version: Some(version.to_string().as_str().into()),
            };
            node.store.apply(vec![gone]).await.unwrap();
        } else {
            let app = if round % 3 == 0 { "out" } else { "in" };
            let mut object = config_map("shop", &name, app);
            object["metadata"]["uid"] = format!("u{round}").into();
            put(&node, &core("configmaps"), object, version).await;
        }
    }
    put(&node, &core("configmaps"), config_map("shop", "zz-end", "in"), 99).await;
    let mut all = Vec::new();
    while all
        .last()
        .is_none_or(|(_, name, _): &(String, String, u64)| name != "zz-end")
    {
        all.extend(told(&mut whole, 1).await);
    }
    let revisions: Vec<_> = all.iter().map(|(.., revision)| *revision).collect();
    assert!(
        revisions.is_sorted() && all.iter().any(|(kind, ..)| kind == "DELETED"),
        "{all:?}"
    );
    for from in start..=node.store.revision().0 {
        let rest: Vec<_> = all
            .iter()
            .filter(|(.., revision)| *revision > from)
            .cloned()
            .collect();
        let mut watch = node.watch(&format!("{select}&resourceVersion={from}")).await;
        assert_eq!(told(&mut watch, rest.len()).await, rest, "from {from}");
    }
}

#[tokio::test]
async fn t05_a_cloud_that_comes_back_with_lower_versions_deletes_nothing_and_our_revisions_grow() {
    let node = alone(&[core("configmaps")]).await;
    put(&node, &core("configmaps"), config_map("shop", "a", "new"), 900).await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let before = node.store.revision();
    // The same object as an old backup has it, and one that came after.
    put(&node, &core("configmaps"), config_map("shop", "a", "old"), 100).await;
    put(&node, &core("configmaps"), config_map("shop", "b", "1"), 101).await;
    assert_eq!(watch.short().await, "ADDED b");
    assert!(node.store.revision() > before);
}
