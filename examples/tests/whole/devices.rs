//! Devices, from whoever measures them to the cluster and back.

use edgehub::twin::{DeviceId, DeviceState, Twins, Value as TwinValue, Which};
use serde_json::{Value, json};

use crate::world::{CloudHalf, NODE, Tunnel, over_both, until};

const DEVICES: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop/devices";
const STATUSES: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop/devicestatuses";
const MODELS: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/shop/devicemodels";

fn model() -> Value {
    json!({ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": { "name": "thermometer", "namespace": "shop" },
        "spec": { "protocol": "demo", "properties": [{ "name": "setpoint", "type": "INT", "accessMode": "ReadWrite" },
            { "name": "temperature", "type": "INT", "accessMode": "ReadOnly" }] } })
}

fn device(node: &str, wish: &str) -> Value {
    json!({ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": { "name": "hall", "namespace": "shop" },
        "spec": { "deviceModelRef": { "name": "thermometer" }, "nodeName": node, "protocol": { "protocolName": "demo" }, "properties": [
            { "name": "setpoint", "desired": { "value": wish, "metadata": { "type": "int" } } }, { "name": "temperature" }] } })
}

fn hall() -> DeviceId {
    DeviceId::parse("shop/hall").unwrap()
}

async fn measured(twins: &Twins, value: usize) {
    let values = [("temperature", TwinValue::new(value.to_string()))];
    twins.report(&hall(), values).await.unwrap();
}

/// The reported value of a property, and what the node has heard that it should be.
async fn shown(cloud: &CloudHalf, property: &str) -> Option<(String, String)> {
    let answer = cloud.api.get(&format!("{STATUSES}/hall")).await;
    let twins = answer.body["status"]["twins"].as_array()?.clone();
    let twin = twins.into_iter().find(|twin| twin["propertyName"] == property)?;
    let text = |side: &str| twin[side]["value"].as_str().unwrap_or_default().to_owned();
    Some((text("reported"), text("observedDesired")))
}

over_both!(a_device_reports_through_an_outage_and_hears_what_it_should_be);
async fn a_device_reports_through_an_outage_and_hears_what_it_should_be(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    cloud.api.create(MODELS, model()).await;
    cloud.api.create(DEVICES, device(NODE, "20")).await;
    let edge = cloud.edge(NODE, &[]).await;
    let wish = async || edge.twins.get(&hall())?.delta().get("setpoint").cloned();
    assert_eq!(until("the wish", wish).await, "20");
    assert!(edge.twins.model("shop", "thermometer").is_some());
    measured(&edge.twins, 18).await;
    edge.twins
        .set_state(&Which::Id(hall()), DeviceState::Online)
        .await
        .unwrap();
    until("the value", async || {
        shown(&cloud, "temperature").await.filter(|shown| shown.0 == "18")
    })
    .await;
    until("the wish in the cloud", async || {
        shown(&cloud, "setpoint").await.filter(|shown| shown.1 == "20")
    })
    .await;

    edge.cut().await;
    for value in 19..40 {
        measured(&edge.twins, value).await;
    }
    cloud
        .api
        .merge(
            &format!("{DEVICES}/hall"),
            json!({ "spec": device(NODE, "25")["spec"] }),
        )
        .await;
    edge.restore().await;
    until("the newest value", async || {
        shown(&cloud, "temperature").await.filter(|shown| shown.0 == "39")
    })
    .await;
    until("the new wish", async || {
        (edge.twins.get(&hall())?.delta().get("setpoint")? == "25").then_some(())
    })
    .await;
    until("the new wish in the cloud", async || {
        shown(&cloud, "setpoint").await.filter(|shown| shown.1 == "25")
    })
    .await;
    until("nothing more to tell", async || {
        (edge.twins.owing() == 0).then_some(())
    })
    .await;
    let status = cloud.api.read(&format!("{STATUSES}/hall")).await;
    assert_eq!(status["status"]["state"], "online");

    // It moves. The first node has it no more, and cannot say anything of it.
    let other = cloud.edge("edge-2", &[]).await;
    cloud
        .api
        .merge(
            &format!("{DEVICES}/hall"),
            json!({ "spec": { "nodeName": "edge-2" } }),
        )
        .await;
    until("its end at the first node", async || {
        edge.twins.get(&hall()).is_none().then_some(())
    })
    .await;
    until("its coming to the second", async || other.twins.get(&hall())).await;
    assert_eq!(edge.twins.owing(), 0);
    measured(&other.twins, 7).await;
    until("the value from there", async || {
        shown(&cloud, "temperature").await.filter(|shown| shown.0 == "7")
    })
    .await;
    cloud.api.delete(&format!("{DEVICES}/hall")).await;
    until("its end", async || {
        other.twins.get(&hall()).is_none().then_some(())
    })
    .await;
    edge.end().await;
    other.end().await;
    cloud.end().await;
}
