//! A thermometer beside the node: a Device in the cluster, and a mapper that speaks to it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use cloudhub::cluster::EmbeddedCluster;
use edgehub::twin::Twins;
use examples::api::Api;
use examples::show::Show;
use examples::thermometer::{self, ThermometerConfig};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::ObjectStore;
use hyper::Method;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::PATIENCE;

/// Puts the thermometer into the cluster, and starts its mapper. It ends with what is returned.
pub(crate) async fn furnish(
    show: &Show,
    folder: &Path,
    cluster: &EmbeddedCluster,
    api: &str,
) -> Result<AbortOnDropHandle<Result<(), String>>, String> {
    let folder = folder.join("edge");
    let mapper = thermometer::run(ThermometerConfig {
        node: folder.join("dmi.sock"),
        socket: folder.join("thermometer.sock"),
        protocol: "thermometer".into(),
        every: Duration::from_millis(200),
    });
    let mapper = AbortOnDropHandle::new(tokio::spawn(mapper));
    let create = async {
        let mut api = Api::connect(api).await.map_err(|error| error.to_string())?;
        for text in include_str!("../../../thermometer.yaml").split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
            object["metadata"]["namespace"] = NAMESPACE.into();
            let created = api.create(cluster.registry(), &object).await;
            created.map_err(|error| error.to_string())?;
        }
        Ok(((), "a Device and its model".into()))
    };
    show.step("into the cluster", create).await?;
    show.step("cloud → mapper → cloud", told(cluster, "")).await?;
    Ok(mapper)
}

/// Sets it on the node, and waits until the mapper has done so.
pub(crate) async fn set(edge_api: SocketAddr, twins: &Twins, value: &str) -> Result<((), String), String> {
    let mut api = Api::connect(&edge_api.to_string())
        .await
        .map_err(|error| error.to_string())?;
    let path = devices().path(Some(NAMESPACE), Some(NAME));
    let mut device = api.get(&path).await.map_err(|error| error.to_string())?;
    device["spec"]["properties"][1]["desired"]["value"] = value.into();
    let put = api
        .send(Method::PUT, &path, "application/json", device.to_string())
        .await;
    let (status, said) = put.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&said)));
    }
    wait(|| on_node(twins).ends_with(&format!("set to {value}.0"))).await?;
    Ok(((), on_node(twins)))
}

/// Waits until the cluster has that setpoint, or any, as reported.
pub(crate) async fn told(cluster: &EmbeddedCluster, value: &str) -> Result<((), String), String> {
    wait(|| in_cluster(cluster).contains(&format!("set to {value}"))).await?;
    Ok(((), in_cluster(cluster)))
}

/// What the cluster has of it.
pub(crate) fn in_cluster(cluster: &EmbeddedCluster) -> String {
    let statuses = GroupVersionResource::new("devices.kubeedge.io", "v1beta1", "devicestatuses");
    let stored = cluster_object(cluster, statuses);
    let twins = stored
        .as_ref()
        .and_then(|status| status["status"]["twins"].as_array());
    let value = |name: &str| {
        let twin = twins?.iter().find(|twin| twin["propertyName"] == name)?;
        twin["reported"]["value"].as_str()
    };
    shown(value("temperature"), value("setpoint"))
}

/// What the node has of it.
pub(crate) fn on_node(twins: &Twins) -> String {
    let device = twins.list().into_iter().find(|device| device.id.name() == NAME);
    let value = |name: &str| device.as_ref()?.properties.get(name)?.actual.text();
    shown(value("temperature"), value("setpoint"))
}

fn shown(temperature: Option<&str>, setpoint: Option<&str>) -> String {
    match (temperature, setpoint) {
        (Some(temperature), Some(setpoint)) => format!("{temperature} °C, set to {setpoint}"),
        _ => "nothing yet".into(),
    }
}

fn cluster_object(cluster: &EmbeddedCluster, resource: GroupVersionResource) -> Option<Value> {
    let stored = ObjectStore::get(cluster, &ObjectKey::new(resource, Some(NAMESPACE), NAME))?;
    serde_json::from_slice(&stored.served).ok()
}

async fn wait(mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return Err("not within a minute; see the log with RUST_LOG=info".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn devices() -> GroupVersionResource {
    GroupVersionResource::new("devices.kubeedge.io", "v1beta1", "devices")
}

const NAMESPACE: &str = "shop";
const NAME: &str = "parlour";
