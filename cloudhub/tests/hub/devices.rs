//! Devices, their models and memberships, as a stock cloud tells them (`captured/devices.jsonl`, from a Go cloudcore).

use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::Message;
use hub_core::object::GroupVersionResource;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};

use crate::world::{Edge, Manners, World, node, pod};

const GROUP: &str = "devices.kubeedge.io";

fn definition(plural: &str, kind: &str) -> Value {
    let name = format!("{plural}.{GROUP}");
    json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": { "name": name },
        "spec": { "group": GROUP, "scope": "Namespaced", "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } })
}

fn definitions() -> GroupVersionResource {
    GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

fn of(plural: &str) -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1beta1", plural)
}

async fn define(world: &World) {
    for (plural, kind) in [("devicemodels", "DeviceModel"), ("devices", "Device")] {
        world.create_in(definitions(), definition(plural, kind)).await;
    }
}

fn model(name: &str, protocol: &str) -> Value {
    json!({ "kind": "DeviceModel", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "protocol": protocol, "properties": [
            { "name": "temp", "description": "t", "type": "INT", "accessMode": "ReadWrite", "maximum": "100", "unit": "degree" },
            { "name": "on", "type": "STRING", "accessMode": "ReadOnly" }] } })
}

fn device(name: &str, node: &str, desired: &str) -> Value {
    json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "deviceModelRef": { "name": "web-dm" }, "nodeName": node,
            "protocol": { "protocolName": "modbus", "configData": { "ip": "10.0.0.9", "port": 502 } },
            "properties": [{ "name": "temp", "desired": { "value": desired, "metadata": { "type": "int" } },
                "reportToCloud": true, "reportCycle": 10000, "collectCycle": 5000,
                "visitors": { "protocolName": "modbus", "configData": { "register": "HoldingRegister", "offset": 2, "limit": 1 } } }] } })
}

/// What of a message is the same on every cluster and at every time. Checks what is not.
fn form(mut document: Value) -> Value {
    let header = document["header"].take();
    assert!(header["msg_id"].as_str().is_some_and(|id| id.len() == 36));
    assert!(
        header["timestamp"]
            .as_i64()
            .is_some_and(|at| at > 1_600_000_000_000)
    );
    assert!(
        header.get("parent_msg_id").is_none() && header.get("sync").is_none(),
        "{header}"
    );
    let is_twin = document["route"]["group"] == "twin";
    let content = &mut document["content"];
    if is_twin {
        assert!(header.get("resourceversion").is_none(), "{header}");
        assert!(
            content["event_id"]
                .take()
                .as_str()
                .is_some_and(|id| id.len() == 36)
        );
        assert!(
            content["timestamp"]
                .take()
                .as_i64()
                .is_some_and(|at| at > 1_600_000_000_000)
        );
        return document;
    }
    let metadata = content["metadata"].as_object_mut().unwrap();
    assert!(metadata.remove("uid").is_some() && metadata.remove("creationTimestamp").is_some());
    assert_eq!(
        Some(&header["resourceversion"]),
        metadata.remove("resourceVersion").as_ref()
    );
    for free in ["managedFields", "annotations", "labels", "generation"] {
        metadata.remove(free);
    }
    // Go writes the empty status that its type has and the object has not.
    content.as_object_mut().unwrap().remove("status");
    document
}

fn document(message: &Message) -> Value {
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    serde_json::from_slice(&codec.encode(message, None).unwrap()).unwrap()
}

/// The captured messages from the first of these lines on.
fn captured(lines: std::ops::Range<usize>) -> Vec<Value> {
    let all = include_str!("captured/devices.jsonl").lines();
    let lines = all.skip(lines.start).take(lines.len());
    let forms = lines.map(|line| form(serde_json::from_str(line).unwrap()));
    forms
        .map(|form| {
            let text = form.to_string().replace("edge1", "edge-1");
            serde_json::from_str(&text).unwrap()
        })
        .collect()
}

fn told(message: &Message) -> String {
    format!("{} {}", message.route.operation, message.route.resource)
}

async fn forms(edge: &mut Edge, count: usize) -> Vec<Value> {
    let mut forms = Vec::new();
    for _ in 0..count {
        forms.push(form(document(&edge.next().await)));
    }
    forms
}

fn sorted(mut forms: Vec<Value>) -> Vec<Value> {
    forms.sort_by_key(Value::to_string);
    forms
}

async fn delete(world: &World, plural: &str, name: &str) {
    world.delete_in(of(plural), Some("default"), name).await;
}

#[tokio::test]
async fn the_life_of_a_device_is_told_as_a_stock_cloud_tells_it() {
    let world = World::new();
    define(&world).await;
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    assert_eq!(edge.told(1).await, ["update null/node/edge-1"]);
    world
        .create_in(of("devicemodels"), model("web-dm", "modbus"))
        .await;
    world
        .create_in(of("devices"), device("web-sensor", "edge-1", "20"))
        .await;
    assert_eq!(
        forms(&mut edge, 3).await,
        captured(0..3),
        "membership, model, device"
    );
    world
        .patch_in(
            of("devices"),
            Some("default"),
            "web-sensor",
            json!({ "spec": device("web-sensor", "edge-1", "25")["spec"] }),
        )
        .await;
    assert_eq!(forms(&mut edge, 1).await, captured(3..4));
    world
        .create_in(of("devices"), device("web-sensor2", "edge-1", "25"))
        .await;
    assert_eq!(forms(&mut edge, 2).await, captured(4..6), "the model is known");
    world
        .patch_in(
            of("devicemodels"),
            Some("default"),
            "web-dm",
            json!({ "spec": { "protocol": "opcua" } }),
        )
        .await;
    assert_eq!(edge.told(1).await, ["update default/devicemodel/web-dm"]);
    delete(&world, "devices", "web-sensor2").await;
    assert_eq!(sorted(forms(&mut edge, 2).await), sorted(captured(6..8)));
    delete(&world, "devices", "web-sensor").await;
    assert_eq!(
        sorted(forms(&mut edge, 3).await),
        sorted(captured(8..11)),
        "the model goes with its last device"
    );
}

#[tokio::test]
async fn a_stock_edge_is_told_a_device_once_it_acknowledged_the_model() {
    let world = World::new();
    define(&world).await;
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    edge.told(1).await;
    world
        .create_in(of("devices"), device("web-sensor", "edge-1", "20"))
        .await;
    assert_eq!(edge.told(1).await, ["update membership"]);
    world.create("pods", pod("later", "edge-1", "none", "none")).await;
    assert_eq!(
        edge.told(1).await,
        ["insert default/pod/later"],
        "its model does not exist, and it holds up nobody"
    );
    edge.manners = Manners::Silent;
    world
        .create_in(of("devicemodels"), model("web-dm", "modbus"))
        .await;
    let model = edge.next().await;
    assert_eq!(told(&model), "insert default/devicemodel/web-dm");
    world.create("pods", pod("last", "edge-1", "none", "none")).await;
    assert_eq!(
        edge.told(1).await,
        ["insert default/pod/last"],
        "its model is not acknowledged"
    );
    edge.manners = Manners::Good;
    edge.acknowledge(&model).await;
    assert_eq!(edge.told(1).await, ["insert default/device/web-sensor"]);
}

#[tokio::test]
async fn a_device_that_moves_leaves_its_node_first() {
    let world = World::new();
    define(&world).await;
    world
        .create_in(of("devicemodels"), model("web-dm", "modbus"))
        .await;
    world
        .create_in(of("devices"), device("web-sensor", "edge-1", "20"))
        .await;
    let (mut first, mut second) = (world.stock("edge-1").await, world.stock("edge-2").await);
    let joined = [
        "update membership",
        "insert default/devicemodel/web-dm",
        "insert default/device/web-sensor",
    ];
    assert_eq!(first.told(3).await, joined, "what was there before it came");
    world
        .patch_in(
            of("devices"),
            Some("default"),
            "web-sensor",
            json!({ "spec": { "nodeName": "edge-2" } }),
        )
        .await;
    let removed = first.next().await;
    let update: Value = removed.content.decode("a membership").unwrap();
    assert_eq!(
        update["removed_devices"],
        json!([{ "id": "default/web-sensor", "name": "web-sensor" }])
    );
    assert_eq!(
        first.told(2).await,
        [
            "delete default/device/web-sensor",
            "delete default/devicemodel/web-dm"
        ]
    );
    assert_eq!(second.told(3).await, joined);
}

#[tokio::test]
async fn a_kind_that_comes_late_keeps_nobody_waiting_and_one_that_goes_takes_only_its_own() {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    assert_eq!(
        edge.told(1).await,
        ["update null/node/edge-1"],
        "without any definition"
    );
    for round in ["first", "again"] {
        define(&world).await;
        world
            .create_in(of("devicemodels"), model("web-dm", "modbus"))
            .await;
        world
            .create_in(of("devices"), device("web-sensor", "edge-1", "20"))
            .await;
        edge.until(|held| held.contains_key("default/device/web-sensor"))
            .await;
        for plural in ["devices", "devicemodels"] {
            world
                .delete_in(definitions(), None, &format!("{plural}.{GROUP}"))
                .await;
        }
        edge.until(|held| !held.keys().any(|key| key.starts_with("default/device")))
            .await;
        world.create("pods", pod(round, "edge-1", "none", "none")).await;
        edge.until(|held| held.contains_key(&format!("default/pod/{round}")))
            .await;
    }
}

#[tokio::test]
async fn an_edge_of_our_own_gets_its_devices_by_catch_up_and_no_membership() {
    let world = World::new();
    define(&world).await;
    world.create("nodes", node("edge-1")).await;
    world
        .create_in(of("devicemodels"), model("web-dm", "modbus"))
        .await;
    world
        .create_in(of("devices"), device("web-sensor", "edge-1", "20"))
        .await;
    world
        .create_in(of("devices"), device("other", "edge-2", "20"))
        .await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    let held = std::mem::take(&mut edge.held);
    let names: Vec<_> = held.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "default/device/web-sensor",
            "default/devicemodel/web-dm",
            "null/node/edge-1"
        ]
    );
    drop(edge);
    delete(&world, "devices", "web-sensor").await;
    world
        .create_in(of("devices"), device("new", "edge-1", "20"))
        .await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.held = held;
    edge.catch_up(vec![]).await;
    let names: Vec<_> = edge.held.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "default/device/new",
            "default/devicemodel/web-dm",
            "null/node/edge-1"
        ]
    );
}
