//! Devices: what is said once and not acknowledged, and who may report of which.

use cloudhub::HubEvent;
use serde_json::{Value, json};

use crate::cloud::{Cloud, id};
use crate::metamanager::Rows;
use crate::peer::{Habits, StockEdge};

const DEVICES: &str = "devices.kubeedge.io/v1beta1/devices";
const MODELS: &str = "devices.kubeedge.io/v1beta1/devicemodels";

async fn define(cloud: &Cloud) {
    for (plural, kind) in [("devicemodels", "DeviceModel"), ("devices", "Device")] {
        let definition = json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": { "name": format!("{plural}.devices.kubeedge.io") },
            "spec": { "group": "devices.kubeedge.io", "scope": "Namespaced",
                "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind },
                "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } });
        cloud
            .create("apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            .await;
    }
    let model = json!({ "kind": "DeviceModel", "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": { "name": "meter", "namespace": "default" },
        "spec": { "protocol": "modbus", "properties": [{ "name": "temp", "type": "INT", "accessMode": "ReadWrite" }] } });
    cloud.create(MODELS, model).await;
}

fn device(name: &str, node: &str) -> Value {
    json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": name, "namespace": "default" },
        "spec": { "deviceModelRef": { "name": "meter" }, "nodeName": node,
            "properties": [{ "name": "temp", "desired": { "value": "20", "metadata": { "type": "int" } } }] } })
}

fn report(value: &str) -> Value {
    json!({ "event_id": "e", "timestamp": 1,
        "twin": { "temp": { "actual": { "value": value, "metadata": { "timestamp": 1 } }, "metadata": { "type": "string" } } } })
}

fn names(message: &Value, device: &str) -> bool {
    message["route"]["group"] == "twin" && message["content"].to_string().contains(device)
}

/// What a Go edge asks right after its first keepalive.
async fn ask_membership(edge: &StockEdge) {
    let detail = json!({ "event_type": "group_membership_event", "event_id": "e", "group_id": edge.node, "operation": "detail", "timestamp": 1 });
    edge.ask(edge.message(
        "twin",
        "resource",
        "get",
        "membership/detail",
        detail.to_string().into(),
    ))
    .await;
}

#[tokio::test]
async fn l4_l9_a_returning_node_hears_which_devices_are_its_own() {
    let mut cloud = Cloud::hasty().await;
    define(&cloud).await;
    let mut edge = StockEdge::join(&cloud, "edge-1").await;
    cloud.connected("edge-1").await;
    ask_membership(&edge).await;
    cloud.create(DEVICES, device("first", "edge-1")).await;
    edge.until(|seen| {
        let told = seen.log.iter().any(|(_, message)| names(message, "first"));
        told && seen.has("default/device/first") && seen.has("default/devicemodel/meter")
    })
    .await;
    // Devices are acknowledged from a module of the edge's own.
    cloud
        .until_depth("edge-1", |queued, in_flight| queued + in_flight == 0)
        .await;
    let rows = edge.cut().await;
    cloud.event(HubEvent::Disconnected(id("edge-1"))).await;
    cloud.create(DEVICES, device("second", "edge-1")).await;
    let identity = cloud.ca.node("edge-1");
    let mut edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, rows).await;
    ask_membership(&edge).await;
    edge.until(|seen| {
        let told = seen.log.iter().any(|(_, message)| names(message, "second"));
        told && seen.has("default/device/second")
    })
    .await;
}

#[tokio::test]
async fn s5_a_node_reports_of_its_own_devices_only() {
    let cloud = Cloud::new().await;
    define(&cloud).await;
    cloud.create(DEVICES, device("mine", "edge-1")).await;
    cloud.create(DEVICES, device("far", "edge-2")).await;
    let identity = cloud.ca.node("edge-1");
    let edge = StockEdge::resume(&cloud, "edge-1", Habits::default(), identity, Rows::new()).await;
    let before = cloud.get(DEVICES, Some("default"), "far").await;
    for (device, taken) in [("mine", true), ("far", false), ("none", false)] {
        let resource = format!("device/default/{device}/twin/edge_updated");
        let message = edge.message("twin", "resource", "update", &resource, report("21"));
        let answer = edge.ask(message).await;
        assert_eq!(answer["content"] == "OK", taken, "{device}: {answer}");
    }
    assert_eq!(cloud.get(DEVICES, Some("default"), "far").await, before);
    let mine = cloud.get(DEVICES, Some("default"), "mine").await.unwrap();
    assert!(mine["status"].to_string().contains("21"), "{mine}");
}
