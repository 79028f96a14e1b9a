//! A thermometer with a setpoint, from the cluster to the mapper and back.

use std::time::Duration;

use examples::thermometer::{self, ThermometerConfig};
use hyper::Method;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::world::{CloudHalf, EdgeHalf, NODE, Tunnel, over_both, until};

/// What `examples/thermometer.yaml` has, in the namespace `shop`.
async fn thermometer(cloud: &CloudHalf) {
    let file = include_str!("../../thermometer.yaml");
    for text in file.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(text).unwrap();
        object["metadata"]["namespace"] = "shop".into();
        let plural = if object["kind"] == "Device" {
            "devices"
        } else {
            "devicemodels"
        };
        cloud.api.create(&format!("{GROUP}/{plural}"), object).await;
    }
}

fn mapper(edge: &EdgeHalf) -> AbortOnDropHandle<Result<(), String>> {
    let config = ThermometerConfig {
        node: edge.path("dmi.sock"),
        socket: edge.path("thermometer.sock"),
        protocol: "thermometer".into(),
        every: Duration::from_millis(50),
    };
    AbortOnDropHandle::new(tokio::spawn(thermometer::run(config)))
}

fn set(value: &str) -> Value {
    json!([{ "op": "replace", "path": "/spec/properties/1/desired/value", "value": value }])
}

/// What the cluster has of a property, as `reported of observed`.
async fn reported(cloud: &CloudHalf, property: &str) -> Option<String> {
    let status = cloud.api.get(STATUS).await;
    let twins = status.body["status"]["twins"].as_array()?.clone();
    let twin = twins.into_iter().find(|twin| twin["propertyName"] == property)?;
    let value = |side: &str| twin[side]["value"].as_str().unwrap_or_default().to_owned();
    Some(format!("{} of {}", value("reported"), value("observedDesired")))
}

async fn reports(cloud: &CloudHalf, property: &str, expected: &str) {
    until(&format!("{property} {expected}"), async || {
        (reported(cloud, property).await.as_deref() == Some(expected)).then_some(())
    })
    .await;
}

over_both!(a_desired_value_reaches_the_mapper_and_what_it_does_is_reported);
async fn a_desired_value_reaches_the_mapper_and_what_it_does_is_reported(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let edge = cloud.edge(NODE, &[]).await;
    let _mapper = mapper(&edge);
    thermometer(&cloud).await;
    reports(&cloud, "setpoint", "21.0 of 21").await;
    let json_patch = "application/json-patch+json";
    cloud
        .api
        .send(Method::PATCH, DEVICE, json_patch, set("23.5").to_string())
        .await
        .ok(DEVICE);
    reports(&cloud, "setpoint", "23.5 of 23.5").await;
    let status = cloud.api.read(STATUS).await;
    assert_eq!(status["status"]["state"], "online");

    // The same on the node, by its own API.
    let mut device = edge.api.read(DEVICE).await;
    device["spec"]["properties"][1]["desired"]["value"] = "19".into();
    edge.api
        .send(Method::PUT, DEVICE, "application/json", device.to_string())
        .await
        .ok(DEVICE);
    reports(&cloud, "setpoint", "19.0 of 19").await;
    edge.end().await;
    cloud.end().await;
}

over_both!(a_node_alone_takes_a_device_s_wish_and_the_cluster_hears_of_it_later);
async fn a_node_alone_takes_a_device_s_wish_and_the_cluster_hears_of_it_later(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let edge = cloud.edge(NODE, &[]).await;
    let _mapper = mapper(&edge);
    thermometer(&cloud).await;
    reports(&cloud, "setpoint", "21.0 of 21").await;
    edge.cut().await;
    for plural in ["devices", "devicemodels"] {
        let listed = edge.api.get(&format!("{GROUP}/{plural}")).await;
        assert_eq!(
            listed.body["items"].as_array().unwrap().len(),
            1,
            "{plural}: {}",
            listed.body
        );
        assert!(listed.header("warning").contains("only what is this node's own"));
    }
    let mut device = edge.api.read(DEVICE).await;
    device["spec"]["properties"][1]["desired"]["value"] = "25".into();
    edge.api
        .send(Method::PUT, DEVICE, "application/json", device.to_string())
        .await
        .ok(DEVICE);
    until("the thermometer's new setpoint", async || {
        let twins = examples::admin::ask("edgecore", &edge.path("edgecore.sock"), "/twins")
            .await
            .unwrap();
        let twins: Value = serde_json::from_slice(&twins).unwrap();
        let properties = twins["devices"][0]["properties"].as_array().unwrap().clone();
        let setpoint = properties
            .into_iter()
            .find(|property| property["name"] == "setpoint")?;
        (setpoint["reported"]["value"] == "25.0" && setpoint["reported"]["waiting"] == true).then_some(())
    })
    .await;
    device["spec"]["nodeName"] = "edge-2".into();
    let refused = edge
        .api
        .send(Method::PUT, DEVICE, "application/json", device.to_string())
        .await;
    assert!(
        refused.status.is_server_error() || refused.status.is_client_error(),
        "{}",
        refused.body
    );
    assert!(reported(&cloud, "setpoint").await.unwrap().starts_with("21.0"));
    edge.restore().await;
    until("the new setpoint in the cluster", async || {
        let device = cloud.api.read(DEVICE).await;
        (device["spec"]["properties"][1]["desired"]["value"] == "25").then_some(())
    })
    .await;
    reports(&cloud, "setpoint", "25.0 of 25").await;
    edge.end().await;
    cloud.end().await;
}

const GROUP: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop";
const DEVICE: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop/devices/parlour";
const STATUS: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop/devicestatuses/parlour";
