//! What a cluster gives out, and what it decides where nobody says: ports of nodes, classes, limits.

use serde_json::{Value, json};

use crate::World;

const CORE: &str = "/api/v1/namespaces/default";

fn balanced(name: &str, more: Value) -> Value {
    let mut service = json!({
        "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{ "port": 80 }] },
    });
    for (field, value) in more.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    service
}

#[tokio::test]
async fn a_service_whose_balancer_asks_nodes_has_a_port_for_that_which_is_nobody_elses() {
    let world = World::new();
    let services = format!("{CORE}/services");
    let first = world.ok("POST", &services, balanced("first", json!({}))).await;
    let port = first["spec"]["healthCheckNodePort"].as_u64().unwrap();
    assert!((30_000..32_768).contains(&port));

    let (code, refused) = world
        .call(
            "POST",
            &services,
            balanced("second", json!({ "healthCheckNodePort": port })),
        )
        .await;
    let why = "provided port is already allocated";
    let message =
        format!("Internal error occurred: failed to allocate requested HealthCheck NodePort {port}: {why}");
    assert_eq!((code, &refused["message"]), (500, &message.into()));
    let plain = json!({
        "metadata": { "name": "plain" },
        "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] },
    });
    assert_eq!(world.call("POST", &services, plain.clone()).await.0, 422);

    let path = format!("{services}/first");
    let patch = |spec: Value| ("merge-patch", json!({ "spec": spec }));
    let other = patch(json!({ "healthCheckNodePort": 31_999 }));
    assert_eq!(world.call("PATCH", &path, other).await.0, 422);
    let elsewhere = patch(json!({ "externalTrafficPolicy": "Cluster" }));
    let let_go = world.ok("PATCH", &path, elsewhere).await;
    assert!(let_go["spec"]["healthCheckNodePort"].is_null());
    world.ok("POST", &services, plain).await;
    let again = patch(json!({ "externalTrafficPolicy": "Local" }));
    let again = world.ok("PATCH", &path, again).await;
    assert_ne!(again["spec"]["healthCheckNodePort"], port);
    assert!(again["spec"]["healthCheckNodePort"].is_u64());
}

#[tokio::test]
async fn an_ingress_that_names_no_class_gets_the_default_one() {
    let world = World::new();
    let networking = "/apis/networking.k8s.io/v1";
    let classes = format!("{networking}/ingressclasses");
    let ingresses = format!("{networking}/namespaces/default/ingresses");
    let ingress = |name: &str, metadata: Value| {
        let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
        let mut ingress = json!({ "metadata": metadata, "spec": { "defaultBackend": backend } });
        ingress["metadata"]["name"] = name.into();
        ingress
    };
    let before = world.ok("POST", &ingresses, ingress("before", json!({}))).await;
    assert!(before["spec"]["ingressClassName"].is_null());
    let annotations = json!({ "ingressclass.kubernetes.io/is-default-class": "true" });
    let class = json!({
        "metadata": { "name": "edge", "annotations": annotations }, "spec": { "controller": "example.com/edge" },
    });
    world.ok("POST", &classes, class).await;
    let after = world.ok("POST", &ingresses, ingress("after", json!({}))).await;
    assert_eq!(after["spec"]["ingressClassName"], "edge");
    let annotated = json!({ "annotations": { "kubernetes.io/ingress.class": "old" } });
    let annotated = world
        .ok("POST", &ingresses, ingress("annotated", annotated))
        .await;
    assert!(annotated["spec"]["ingressClassName"].is_null());
}

#[tokio::test]
async fn a_pod_as_a_whole_takes_no_more_than_its_namespace_lets_it() {
    let world = World::new();
    let limits = json!([
        { "type": "Pod", "max": { "cpu": "2" } },
        { "type": "Container", "maxLimitRequestRatio": { "cpu": "4" } },
    ]);
    let range = json!({ "metadata": { "name": "l" }, "spec": { "limits": limits } });
    world.ok("POST", &format!("{CORE}/limitranges"), range).await;
    let pod = |request: &str, limits: &[&str]| {
        let container = |(at, limit): (usize, &&str)| {
            let resources = json!({ "requests": { "cpu": request }, "limits": { "cpu": limit } });
            json!({ "name": format!("c{at}"), "image": "x", "resources": resources })
        };
        let containers: Vec<Value> = limits.iter().enumerate().map(container).collect();
        json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } })
    };
    let pods = format!("{CORE}/pods");
    for (wanted, why) in [
        (
            pod("1", &["1", "1", "1"]),
            "maximum cpu usage per Pod is 2, but limit is 3",
        ),
        (
            pod("100m", &["500m"]),
            "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000",
        ),
    ] {
        let (code, refused) = world.call("POST", &pods, wanted).await;
        let message = format!("pods \"p\" is forbidden: {why}");
        assert_eq!((code, &refused["message"]), (403, &message.into()));
    }
    world.ok("POST", &pods, pod("500m", &["1", "1"])).await;
}

#[tokio::test]
async fn the_priorities_that_every_cluster_has_stay() {
    let world = World::new();
    let class = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    let (code, refused) = world.call("DELETE", class, ()).await;
    let why = "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted";
    assert_eq!((code, &refused["message"]), (403, &why.into()));
    world.ok("GET", class, ()).await;
}

#[tokio::test]
async fn a_kind_whose_definition_goes_takes_no_new_objects() {
    let world = World::new();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let definition = json!({
        "metadata": { "name": "boats.example.com" },
        "spec": { "group": "example.com", "scope": "Cluster", "versions": [version],
            "names": { "plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList" } },
    });
    world.ok("POST", definitions, definition).await;
    let boat = |name: &str| {
        let metadata = json!({ "name": name, "finalizers": ["example.com/anchor"] });
        json!({ "apiVersion": "example.com/v1", "kind": "Boat", "metadata": metadata })
    };
    let boats = "/apis/example.com/v1/boats";
    world.ok("POST", boats, boat("held")).await;
    let path = format!("{definitions}/boats.example.com");
    world.ok("DELETE", &path, ()).await;
    let (code, refused) = world.call("POST", boats, boat("late")).await;
    let why = "boats.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating";
    assert_eq!((code, &refused["message"]), (403, &why.into()));
    let going = world.ok("GET", &path, ()).await;
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let condition = conditions
        .iter()
        .find(|one| one["type"] == "Terminating")
        .unwrap();
    assert_eq!(condition["reason"], "InstanceDeletionInProgress");
    let free = ("merge-patch", json!({ "metadata": { "finalizers": null } }));
    world.ok("PATCH", &format!("{boats}/held"), free).await;
    assert_eq!(world.get(&path).await.0, 404);
}
