//! What reaches a node, what does not, and what the node says of itself.

use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::store::ObjectStore;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::world::{
    CONFIGMAPS, CloudHalf, NODE, PODS, SECRETS, SERVICES, Tunnel, config_map, over_both, pod, secret,
    service, until,
};

over_both!(a_node_gets_its_pods_with_all_they_reference_and_nothing_of_other_nodes);
async fn a_node_gets_its_pods_with_all_they_reference_and_nothing_of_other_nodes(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    for form in ["env", "env-from", "init", "projected", "volume"] {
        api.create(CONFIGMAPS, config_map(form, "1")).await;
        api.create(SECRETS, secret(form)).await;
    }
    api.create(SECRETS, secret("pull")).await;
    api.create(SECRETS, secret("elsewhere")).await;
    api.create(CONFIGMAPS, config_map("elsewhere", "1")).await;
    api.create(CONFIGMAPS, config_map("unused", "1")).await;
    api.create(PODS, every_form_of_reference("web")).await;
    api.create(PODS, pod("other", Some("edge-2"), "elsewhere", "elsewhere"))
        .await;

    let edge = cloud.edge(NODE, &["services"]).await;
    edge.complete(&own_pods()).await;
    edge.complete(&Scope::all(core("services"))).await;
    assert_eq!(edge.names(&core("pods")), ["web"]);
    assert_eq!(edge.names(&core("nodes")), [NODE]);
    // The certificate of the API is mounted beside the token of the pod's account.
    assert_eq!(
        edge.names(&core("configmaps")),
        [
            "env",
            "env-from",
            "init",
            "kube-root-ca.crt",
            "projected",
            "volume"
        ]
    );
    assert_eq!(
        edge.names(&core("secrets")),
        ["env", "env-from", "init", "projected", "pull", "volume"]
    );
    // Asking does not help: the cloud decides by the node's certificate.
    for path in [
        format!("{SECRETS}/elsewhere"),
        SECRETS.into(),
        "/api/v1/secrets".into(),
    ] {
        let answer = edge.api.get(&path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.body);
    }
    // The other node's Secret changes too, and stays away.
    api.merge(
        &format!("{SECRETS}/elsewhere"),
        json!({ "stringData": { "password": "new" } }),
    )
    .await;
    api.merge(&format!("{CONFIGMAPS}/env"), json!({ "data": { "text": "2" } }))
        .await;
    until("the change", async || {
        (edge.held("configmaps", "env")?["data"]["text"] == "2").then_some(())
    })
    .await;
    assert!(edge.held("secrets", "elsewhere").is_none());
    // What kubelet's half would read is what the cluster has, byte for byte but for the version.
    let served = edge.api.read(&format!("{SECRETS}/volume")).await;
    assert_eq!(
        served["data"],
        api.read(&format!("{SECRETS}/volume")).await["data"]
    );
    edge.end().await;
    cloud.end().await;
}

over_both!(a_change_a_move_to_another_node_and_a_deletion_arrive);
async fn a_change_a_move_to_another_node_and_a_deletion_arrive(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    for name in ["one", "two"] {
        api.create(CONFIGMAPS, config_map(name, "1")).await;
        api.create(SECRETS, secret(name)).await;
    }
    api.create(PODS, pod("roamer", Some(NODE), "one", "one")).await;
    let edge = cloud.edge(NODE, &[]).await;
    let other = cloud.edge("edge-2", &[]).await;
    until("the pod and its Secret", async || {
        edge.held("pods", "roamer").and(edge.held("secrets", "one"))
    })
    .await;

    api.merge(&format!("{CONFIGMAPS}/one"), json!({ "data": { "text": "2" } }))
        .await;
    until("the change", async || {
        (edge.held("configmaps", "one")?["data"]["text"] == "2").then_some(())
    })
    .await;

    // A pod of the same name on the other node: it leaves here, and what only it needed leaves with it.
    api.delete(&format!("{PODS}/roamer")).await;
    api.create(PODS, pod("roamer", Some("edge-2"), "one", "one"))
        .await;
    until("the pod's leaving", async || {
        let gone = edge.held("pods", "roamer").is_none() && edge.held("secrets", "one").is_none();
        gone.then_some(())
    })
    .await;
    until("the pod there", async || {
        other.held("pods", "roamer").and(other.held("secrets", "one"))
    })
    .await;

    // A pod that waits for a node is nobody's, until it is bound.
    api.create(PODS, pod("waiting", None, "two", "two")).await;
    api.create(
        &format!("{PODS}/waiting/binding"),
        json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "waiting" },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE } }),
    )
    .await;
    until("the bound pod and its Secret", async || {
        edge.held("pods", "waiting").and(edge.held("secrets", "two"))
    })
    .await;
    assert!(other.held("pods", "waiting").is_none() && other.held("secrets", "two").is_none());

    api.delete(&format!("{PODS}/waiting")).await;
    until("the deletion", async || {
        let gone = edge.held("pods", "waiting").is_none() && edge.held("configmaps", "two").is_none();
        gone.then_some(())
    })
    .await;
    assert!(api.get(&format!("{PODS}/roamer")).await.status.is_success());
    edge.end().await;
    other.end().await;
    cloud.end().await;
}

over_both!(what_a_pod_needed_comes_again_with_the_next_pod_that_needs_it);
async fn what_a_pod_needed_comes_again_with_the_next_pod_that_needs_it(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    api.create(CONFIGMAPS, config_map("one", "1")).await;
    api.create(SECRETS, secret("one")).await;
    let edge = cloud.edge(NODE, &[]).await;
    // As a Deployment's pods take each other's place; what they need does not change meanwhile.
    for name in ["first", "second", "third"] {
        api.create(PODS, pod(name, Some(NODE), "one", "one")).await;
        until("the pod and what it needs", async || {
            let needs = edge.held("secrets", "one").and(edge.held("configmaps", "one"));
            edge.held("pods", name).and(needs)
        })
        .await;
        api.delete(&format!("{PODS}/{name}")).await;
        until("the end of all three", async || {
            let held = [("pods", name), ("secrets", "one"), ("configmaps", "one")];
            let gone = held
                .iter()
                .all(|(resource, name)| edge.held(resource, name).is_none());
            gone.then_some(())
        })
        .await;
    }
    edge.end().await;
    cloud.end().await;
}

over_both!(what_a_client_of_the_node_asks_for_becomes_held_and_follows_the_cluster);
async fn what_a_client_of_the_node_asks_for_becomes_held_and_follows_the_cluster(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    api.create(SERVICES, service("web")).await;
    api.create("/api/v1/namespaces/shop/events", event("started"))
        .await;
    let edge = cloud.edge(NODE, &[]).await;

    // A list …
    let listed = edge.api.get(SERVICES).await;
    assert_eq!(
        listed.header("x-edge-cache"),
        "",
        "the first answer is the cloud's"
    );
    assert_eq!(crate::client::names(&listed.body), ["web"]);
    let services = Scope::namespaced(core("services"), "shop");
    edge.complete(&services).await;
    assert_eq!(edge.api.get(SERVICES).await.header("x-edge-cache"), "live");
    api.create(SERVICES, service("db")).await;
    api.delete(&format!("{SERVICES}/web")).await;
    until("the changes", async || {
        (edge.names(&core("services")) == ["db"]).then_some(())
    })
    .await;

    // … one object …
    let leases = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
    api.create(
        leases,
        json!({ "metadata": { "name": "leader" }, "spec": { "holderIdentity": "a" } }),
    )
    .await;
    edge.api.read(&format!("{leases}/leader")).await;
    api.merge(
        &format!("{leases}/leader"),
        json!({ "spec": { "holderIdentity": "b" } }),
    )
    .await;
    let resource = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    until("the new leader", async || {
        let held = &edge.store.list(&resource, Some("shop")).objects;
        let body: Value = serde_json::from_slice(&held.first()?.object.body).unwrap();
        (body["spec"]["holderIdentity"] == "b").then_some(())
    })
    .await;

    // … and a watch.
    let mut events = edge.api.watch("/api/v1/namespaces/shop/events?watch=true").await;
    assert_eq!(events.told(1).await, ["ADDED started"]);
    api.create("/api/v1/namespaces/shop/events", event("pulled"))
        .await;
    assert_eq!(events.told(1).await, ["ADDED pulled"]);
    edge.end().await;
    cloud.end().await;
}

over_both!(custom_kinds_arrive_with_their_objects_however_late_they_are_defined);
async fn custom_kinds_arrive_with_their_objects_however_late_they_are_defined(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let (api, definitions) = (
        cloud.api,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    );
    api.create(definitions, definition("sensors", "Sensor")).await;
    let sensors = "/apis/factory.example.com/v1/namespaces/shop/sensors";
    api.create(sensors, custom("Sensor", "oven")).await;
    let edge = cloud.edge(NODE, &["sensors.v1.factory.example.com"]).await;
    edge.complete(&Scope::all(factory("sensors"))).await;
    assert_eq!(edge.api.names(sensors).await, ["oven"]);
    api.create(sensors, custom("Sensor", "freezer")).await;
    until("the new sensor", async || {
        (edge.api.names(sensors).await == ["freezer", "oven"]).then_some(())
    })
    .await;

    let valves = "/apis/factory.example.com/v1/namespaces/shop/valves";
    assert_eq!(edge.api.get(valves).await.status, StatusCode::NOT_FOUND);
    api.create(definitions, definition("valves", "Valve")).await;
    api.create(valves, custom("Valve", "main")).await;
    until("the new kind", async || {
        let answer = edge.api.get(valves).await;
        (answer.status == StatusCode::OK && crate::client::names(&answer.body) == ["main"]).then_some(())
    })
    .await;
    edge.complete(&Scope::namespaced(factory("valves"), "shop")).await;
    edge.end().await;
    cloud.end().await;
}

over_both!(a_node_that_joins_is_ready_and_its_lease_is_renewed_even_one_of_an_earlier_life);
async fn a_node_that_joins_is_ready_and_its_lease_is_renewed_even_one_of_an_earlier_life(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let old = "2026-01-01T00:00:00.000000Z";
    api.create(
        leases,
        json!({ "metadata": { "name": NODE }, "spec": { "holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": old } }),
    )
    .await;
    let edge = cloud.edge(NODE, &[]).await;
    let renewed = async |before: &str| {
        until("a renewal", async || {
            let lease = api.read(&format!("{leases}/{NODE}")).await;
            let time = lease["spec"]["renewTime"].as_str().unwrap().to_owned();
            (time != before).then_some(time)
        })
        .await
    };
    let first = renewed(old).await;
    until("the node's readiness", async || {
        let node = api.read(&format!("/api/v1/nodes/{NODE}")).await;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
            .then_some(())
    })
    .await;
    renewed(&first).await;
    edge.end().await;
    cloud.end().await;
}

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::core(resource)
}

fn factory(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("factory.example.com", "v1", resource)
}

fn own_pods() -> Scope {
    Scope {
        fields: format!("spec.nodeName={NODE}").into(),
        ..Scope::all(core("pods"))
    }
}

fn every_form_of_reference(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "nodeName": NODE,
            "imagePullSecrets": [{ "name": "pull" }],
            "initContainers": [{ "name": "init", "image": "registry.example.com/init:1",
                "envFrom": [{ "configMapRef": { "name": "init" } }, { "secretRef": { "name": "init" } }] }],
            "containers": [{ "name": "main", "image": "registry.example.com/main:1",
                "envFrom": [{ "configMapRef": { "name": "env-from" } }, { "secretRef": { "name": "env-from" } }],
                "env": [
                    { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "env", "key": "text" } } },
                    { "name": "B", "valueFrom": { "secretKeyRef": { "name": "env", "key": "password" } } }] }],
            "volumes": [
                { "name": "a", "configMap": { "name": "volume" } },
                { "name": "b", "secret": { "secretName": "volume" } },
                { "name": "c", "projected": { "sources": [
                    { "configMap": { "name": "projected" } }, { "secret": { "name": "projected" } }] } }] } })
}

fn event(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "shop" },
        "involvedObject": { "kind": "Pod", "namespace": "shop", "name": "web" }, "reason": "Test", "message": "a test" })
}

pub(crate) fn definition(plural: &str, kind: &str) -> Value {
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.factory.example.com") },
        "spec": { "group": "factory.example.com", "scope": "Namespaced",
            "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List") },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema":
                { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } })
}

pub(crate) fn custom(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "factory.example.com/v1", "kind": kind, "metadata": { "name": name, "namespace": "shop" }, "spec": {} })
}
