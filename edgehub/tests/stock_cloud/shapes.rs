//! What our edge sends has the shape of what KubeEdge's edges were recorded to send: routes, keys and types.

use serde_json::{Map, Value, json};

use crate::peer::StockCloud;
use crate::world::{Edge, LEASE_ROUTE, NODE, NODE_ROUTE, agent, config, pod};

/// All messages of the edge in a recording.
fn recorded(name: &str) -> Vec<Value> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../hub-core/tests/captures/");
    let file = std::fs::File::open(format!("{directory}{name}.jsonl.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["dir"] == "edge->cloud" && line["payload"].is_string())
        .map(|line| serde_json::from_str(line["payload"].as_str().unwrap()).unwrap())
        .collect()
}

/// The first of these with this operation about this kind.
fn of<'a>(messages: &'a [Value], operation: &str, kind: &str) -> &'a Value {
    let is = |message: &&Value| {
        let route = &message["route"];
        route["operation"] == operation
            && crate::peer::api::part(route["resource"].as_str().unwrap_or_default(), 1) == kind
    };
    messages.iter().find(is).unwrap()
}

/// What is in `ours` and not, or of another type, in `theirs`; and the other way round. Maps with free keys, such as labels, are
/// compared by their type.
fn differences(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    const FREE: [&str; 6] = [
        "labels",
        "annotations",
        "capacity",
        "allocatable",
        "managedFields",
        "data",
    ];
    let last = at.rsplit('.').next().unwrap();
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) if !FREE.contains(&last) => {
            let missing = |a: &Map<String, Value>, b: &Map<String, Value>| -> Vec<String> {
                a.keys().filter(|key| !b.contains_key(*key)).cloned().collect()
            };
            found.extend(
                missing(ours, theirs)
                    .iter()
                    .map(|key| format!("more: {at}.{key}")),
            );
            found.extend(
                missing(theirs, ours)
                    .iter()
                    .map(|key| format!("less: {at}.{key}")),
            );
            for (key, ours) in ours {
                if let Some(theirs) = theirs.get(key) {
                    differences(&format!("{at}.{key}"), ours, theirs, found);
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            if let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) {
                differences(&format!("{at}[]"), ours, theirs, found);
            }
        }
        _ if std::mem::discriminant(ours) == std::mem::discriminant(theirs) => {}
        _ => found.push(format!("type: {at}")),
    }
}

/// Compares two messages: route and header exactly, the content by its shape. A content that is text is compared as what it holds.
fn check(ours: &Value, theirs: &Value, allowed: &[&str]) {
    let route = |message: &Value| {
        let mut route = message["route"].clone();
        let resource = route["resource"].as_str().unwrap();
        let parts: Vec<_> = resource.split('/').take(2).map(str::to_owned).collect();
        let namespace = if parts[0] == "null" || parts[0] == "kube-node-lease" {
            &*parts[0]
        } else {
            "a namespace"
        };
        route["resource"] = format!("{namespace}/{}/name", parts[1]).into();
        route
    };
    assert_eq!(route(ours), route(theirs));
    let keys = |message: &Value| {
        message["header"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(ours), keys(theirs));
    let mut found = Vec::new();
    let (ours, theirs) = (&ours["content"], &theirs["content"]);
    assert_eq!(ours.is_string(), theirs.is_string(), "{ours} for {theirs}");
    let opened = |content: &Value| match content.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| content.clone()),
        None => content.clone(),
    };
    differences("", &opened(ours), &opened(theirs), &mut found);
    found.retain(|difference| !allowed.contains(&&**difference));
    assert!(found.is_empty(), "{found:#?}");
}

/// What Go writes of a struct that has nothing in it, and what it leaves out of one that says its kind.
const GO: [&str; 3] = [
    "less: .metadata.creationTimestamp",
    "more: .kind",
    "more: .apiVersion",
];

#[tokio::test]
async fn the_messages_of_the_node_agent_are_those_of_kubelet() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    config.agent = Some(edgehub::NodeAgentConfig {
        internal_ip: Some("192.0.2.7".into()),
        ..agent()
    });
    let _edge = Edge::start(config, directory);
    cloud.hear("update", LEASE_ROUTE).await;
    cloud.hear("patch", "null/nodepatch/edge-1").await;
    let ours: Vec<_> = cloud
        .state()
        .heard
        .iter()
        .map(|heard| heard.message.clone())
        .collect();
    for recording in ["01-first-join", "13-stock-edgecore-events"] {
        let theirs = recorded(recording);
        let node = of(&theirs, "insert", "node");
        // Kubelet on a machine with a container engine says more of its images and features.
        let more = [
            "less: .status.images",
            "less: .status.runtimeHandlers",
            "less: .status.features",
            "less: .status.config",
            "less: .status.nodeInfo.swap",
        ];
        check(of(&ours, "insert", "node"), node, &[&GO[..], &more[..]].concat());
        check(of(&ours, "query", "lease"), of(&theirs, "query", "lease"), &[]);
        check(of(&ours, "insert", "lease"), of(&theirs, "insert", "lease"), &GO);
        check(
            of(&ours, "update", "lease"),
            of(&theirs, "update", "lease"),
            &[
                "less: .metadata.managedFields",
                "less: .metadata.creationTimestamp",
                "more: .kind",
                "more: .apiVersion",
            ],
        );
        // Theirs say the difference to what was said before, ours the whole: the type and the route are the same.
        let (ours, theirs) = (of(&ours, "patch", "nodepatch"), of(&theirs, "patch", "nodepatch"));
        assert_eq!(ours["route"]["source"], theirs["route"]["source"]);
        assert_eq!(ours["route"]["group"], theirs["route"]["group"]);
        assert!(ours["content"].is_string() && theirs["content"].is_string());
    }
    // The labels of every edge node.
    let theirs = recorded("01-first-join");
    let labels = |messages: &[Value]| {
        let labels = of(messages, "insert", "node")["content"]["metadata"]["labels"].clone();
        labels.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(labels(&ours), labels(&theirs));
    let conditions = |messages: &[Value]| {
        let conditions = of(messages, "insert", "node")["content"]["status"]["conditions"].clone();
        let kind = |condition: &Value| condition["type"].clone();
        conditions
            .as_array()
            .unwrap()
            .iter()
            .map(kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(conditions(&ours), conditions(&theirs));
}

#[tokio::test]
async fn the_messages_about_pods_are_those_of_kubelet() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let bound = cloud.apply("shop/pod/p", pod(NODE));
    let uid = bound["metadata"]["uid"].as_str().unwrap();
    // Kubelet's own words: the shape is made by the call, not by the content.
    let theirs = [
        recorded("02-pod-lifecycle"),
        recorded("10-events-grace-node-deletion"),
        recorded("13-stock-edgecore-events"),
    ];
    let theirs = theirs.concat();
    let text = of(&theirs, "patch", "podpatch")["content"].as_str().unwrap();
    let mut patch: Value = serde_json::from_str(text).unwrap();
    patch["metadata"]["uid"] = uid.into();
    edge.handle.patch_pod_status("shop", "p", &patch).await.unwrap();
    edge.handle.delete_pod("shop", "p", uid).await.unwrap();
    let token = of(&theirs, "query", "serviceaccounttoken")["content"].clone();
    edge.handle
        .request_token("shop", "default", &token)
        .await
        .unwrap();
    let _ = edge.handle.fetch(&crate::world::key("configmaps", "a")).await;
    let _ = edge.handle.fetch(&crate::world::key("secrets", "a")).await;
    let event = of(&theirs, "insert", "event")["content"].clone();
    edge.handle.record_event(&event, None).await.unwrap();
    edge.handle.record_event(&event, Some("{}")).await.unwrap();
    let route = event["metadata"]["namespace"].as_str().unwrap().to_owned()
        + "/event/"
        + event["metadata"]["name"].as_str().unwrap();
    cloud.hear("patch", &route).await;
    let ours: Vec<_> = cloud
        .state()
        .heard
        .iter()
        .map(|heard| heard.message.clone())
        .collect();
    for (operation, kind) in [
        ("patch", "podpatch"),
        ("delete", "pod"),
        ("query", "serviceaccounttoken"),
        ("query", "configmap"),
        ("query", "secret"),
        ("insert", "event"),
        ("patch", "event"),
    ] {
        check(of(&ours, operation, kind), of(&theirs, operation, kind), &[]);
    }
}

#[tokio::test]
async fn keepalives_and_acknowledgements_are_as_recorded() {
    let cloud = StockCloud::start().await;
    let _edge = Edge::join(&cloud).await;
    cloud.apply(NODE_ROUTE, json!({ "spec": {} }));
    cloud.hear("response", NODE_ROUTE).await;
    cloud.hear("keepalive", "node").await;
    let ours: Vec<_> = cloud
        .state()
        .heard
        .iter()
        .map(|heard| heard.message.clone())
        .collect();
    for recording in ["01-first-join", "04-node-edits"] {
        let theirs = recorded(recording);
        check(
            of(&ours, "response", "node"),
            of(&theirs, "response", "node"),
            &[],
        );
        let keepalive = |messages: &[Value]| {
            let found = messages
                .iter()
                .find(|message| message["route"]["operation"] == "keepalive");
            found
                .map(|message| (message["route"].clone(), message["content"].clone()))
                .unwrap()
        };
        assert_eq!(keepalive(&ours), keepalive(&theirs));
    }
}
