//! The outage: the cable is pulled, both ends go on, and agree afterwards.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cloudhub::cluster::EmbeddedCluster;
use edgehub::EdgeHandle;
use edgehub::store::EdgeStore;
use edgehub::twin::Twins;
use examples::api::Api;
use examples::show::{Show, time};
use hub_core::object::{GroupVersionResource, Metadata};
use hub_core::store::ObjectStore;
use hub_core::testing::{Wire, WireConditions};
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{link, parlour, synced};

/// Everything that takes part.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) wire: &'a Wire,
    pub(crate) handle: &'a EdgeHandle,
    pub(crate) store: &'a EdgeStore,
    pub(crate) twins: &'a Twins,
    pub(crate) cluster: &'a EmbeddedCluster,
    /// The cluster's API.
    pub(crate) api: &'a str,
    /// The node's.
    pub(crate) edge_api: SocketAddr,
}

impl Scene<'_> {
    /// Cuts the link for a while, and shows what both ends make of it.
    pub(crate) async fn play(&self, show: &Show, outage: Duration) -> Result<(), String> {
        let Self {
            wire,
            handle,
            store,
            twins,
            cluster,
            api,
            edge_api,
        } = *self;
        show.heading(&format!("Outage of {}", time(outage)));
        let start = Instant::now();
        wire.stall();
        wire.cut();
        show.step("the cable is pulled", link(handle, false)).await?;
        show.step("the cloud goes on changing", change(api)).await?;
        show.step("the node still answers", read(edge_api)).await?;
        show.step("the parlour is set to 23 °C", parlour::set(edge_api, twins, "23"))
            .await?;
        show.table(&["", "IN THE CLOUD", "ON THE NODE"], &self.both());
        tokio::time::sleep(outage.saturating_sub(start.elapsed())).await;

        wire.set(WireConditions::default());
        show.step("the cable is back", link(handle, true)).await?;
        show.step("caught up", synced(store, cluster)).await?;
        show.step("the cloud hears of it", parlour::told(cluster, "23"))
            .await?;
        show.table(&["", "IN THE CLOUD", "ON THE NODE"], &self.both());
        Ok(())
    }

    fn both(&self) -> [Vec<String>; 3] {
        let sensors = GroupVersionResource::new("factory.example.com", "v1", "sensors");
        let (cluster, store) = (self.cluster, self.store);
        [
            vec!["sensors".into(), names(cluster, &sensors), names(store, &sensors)],
            vec!["greeting".into(), greeting(cluster), greeting(store)],
            vec![
                "parlour".into(),
                parlour::in_cluster(cluster),
                parlour::on_node(self.twins),
            ],
        ]
    }
}

/// A change, a deletion and a creation, through the cluster's API.
async fn change(api: &str) -> Result<((), String), String> {
    let mut api = Api::connect(api).await.map_err(|error| error.to_string())?;
    let sensors = "/apis/factory.example.com/v1/namespaces/shop/sensors";
    let greeting = json!({"data": {"greeting": format!("Changed at {:?}", std::time::SystemTime::now())}});
    let fridge = json!({"apiVersion": "factory.example.com/v1", "kind": "Sensor", "metadata": {"name": "fridge"}, "spec": {"unit": "celsius", "limit": 5}});
    let steps = [
        (
            Method::PATCH,
            "/api/v1/namespaces/shop/configmaps/web-config".to_owned(),
            "application/merge-patch+json",
            greeting.to_string(),
        ),
        (
            Method::DELETE,
            format!("{sensors}/freezer"),
            "application/json",
            String::new(),
        ),
        (
            Method::POST,
            sensors.to_owned(),
            "application/json",
            fridge.to_string(),
        ),
    ];
    for (method, path, content_type, body) in steps {
        let (status, answer) = api
            .send(method, &path, content_type, body)
            .await
            .map_err(|error| error.to_string())?;
        // A kept cluster may have been through this before.
        if !status.is_success() && !matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)));
        }
    }
    Ok(((), "1 changed, 1 deleted, 1 created".into()))
}

async fn read(edge_api: SocketAddr) -> Result<((), String), String> {
    let mut api = Api::connect(&edge_api.to_string())
        .await
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let pods = api.get("/api/v1/pods").await.map_err(|error| error.to_string())?;
    let count = pods["items"].as_array().map_or(0, Vec::len);
    Ok(((), format!("{count} pods listed in {}", time(start.elapsed()))))
}

fn names(store: &impl ObjectStore, resource: &GroupVersionResource) -> String {
    let objects = store.list(resource, Some("shop")).objects;
    objects
        .iter()
        .map(|stored| stored.object.key.name.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn greeting(store: &impl ObjectStore) -> String {
    let configmaps = store
        .list(&GroupVersionResource::core("configmaps"), Some("shop"))
        .objects;
    let found = configmaps
        .iter()
        .find(|stored| &*stored.object.key.name == "web-config");
    let version = found.and_then(|stored| {
        Metadata::parse(&stored.object.body)
            .ok()
            .map(|m| m.resource_version.into_owned())
    });
    version.map_or("not here".into(), |version| {
        format!("web-config at version {version}")
    })
}
