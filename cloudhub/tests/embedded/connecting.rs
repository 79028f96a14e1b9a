//! What is refused before a client would be connected to a container, in the words of a kube-apiserver 1.36.

use serde_json::{Value, json};

use crate::World;

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Path, code, and what is said; empty where nothing is.
const CASES: &[(&str, u16, &str)] = &[
    ("pods/no/log", 404, r#"pods "no" not found"#),
    (
        "pods/two/log",
        400,
        "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
    ),
    (
        "pods/two/log?container=z",
        400,
        "container z is not valid for pod two",
    ),
    ("pods/two/log?container=i", 204, ""),
    ("pods/one/log", 204, ""),
    (
        "pods/one/log?tailLines=-1",
        422,
        r#"PodLogOptions "one" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#,
    ),
    (
        "pods/one/log?limitBytes=0",
        422,
        r#"PodLogOptions "one" is invalid: limitBytes: Invalid value: 0: must be greater than 0"#,
    ),
    (
        "pods/one/log?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        422,
        r#"PodLogOptions "one" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"#,
    ),
    (
        "pods/one/log?stream=Stdout",
        422,
        r#"PodLogOptions "one" is invalid: stream: Forbidden: may not be specified"#,
    ),
    (
        "pods/one/log?tailLines=x",
        400,
        r#"strconv.ParseInt: parsing "x": invalid syntax"#,
    ),
    (
        "pods/one/log?sinceTime=x",
        400,
        r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
    ),
    (
        "pods/one/exec?command=ls",
        400,
        "pod one does not have a host assigned",
    ),
    (
        "pods/one/portforward",
        400,
        "pod one does not have a host assigned",
    ),
    ("pods/one/proxy/a/b", 400, "address not allowed"),
    ("services/https:no:80/proxy/", 404, r#"services "no" not found"#),
    ("pods/there/log", 501, "the embedded cluster has no pods/log yet"),
];

#[tokio::test]
async fn what_cannot_be_connected_is_refused_as_if_it_could() {
    let world = World::new();
    let pods = format!("{NAMESPACE}/pods");
    for (name, node, containers) in [
        ("one", "", &["a"][..]),
        ("two", "", &["a", "b"]),
        ("there", "edge-1", &["a"]),
    ] {
        let named = |name: &&str| json!({"name": name, "image": "i"});
        let containers: Vec<Value> = containers.iter().map(named).collect();
        let mut spec = json!({"containers": containers, "nodeName": node});
        if name == "two" {
            spec["initContainers"] = json!([named(&"i")]);
        }
        world
            .ok("POST", &pods, json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    }
    for (path, code, said) in CASES {
        let (got, answer) = world.get(&format!("{NAMESPACE}/{path}")).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!((got, message), (*code, *said), "{path}");
    }
}

#[tokio::test]
async fn a_custom_object_that_does_not_say_how_many_it_wants_has_no_scale() {
    let world = World::new();
    let definition = json!({"metadata": {"name": "gadgets.example.org"}, "spec": {
        "group": "example.org", "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "subresources": {"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}}]}});
    world
        .ok(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition,
        )
        .await;
    let gadgets = "/apis/example.org/v1/namespaces/default/gadgets";
    world
        .ok(
            "POST",
            gadgets,
            json!({"kind": "Gadget", "apiVersion": "example.org/v1", "metadata": {"name": "g"}}),
        )
        .await;
    let (code, status) = world.get(&format!("{gadgets}/g/scale")).await;
    let why = r#"the spec replicas field ".spec.replicas" does not exist"#;
    assert_eq!(
        (code, &status["message"]),
        (500, &json!(format!("Internal error occurred: {why}")))
    );
    assert_eq!(status["details"]["causes"], json!([{"message": why}]));
}
