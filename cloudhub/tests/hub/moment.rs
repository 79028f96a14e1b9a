//! What changes in the very moment in which a returning edge is compared with what it should hold.

use std::sync::Arc;

use cloudhub::cluster::{Cluster, ClusterError, ClusterEvent, EmbeddedCluster};
use cloudhub::{CloudHub, CloudHubConfig};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use hub_core::api::{ApiRequest, ApiResponse, UpstreamError};
use hub_core::catch_up::ScopeText;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::transport::Capabilities;
use serde_json::json;
use tokio::sync::watch;

use crate::world::{World, config, node, pod, secret};

#[tokio::test]
async fn a_change_that_comes_together_with_the_end_of_a_comparison_is_sent() {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let doors = [Door::new("services"), Door::new("nodes")];
    let cluster = Doors {
        cluster: world.cluster.clone(),
        doors: doors.clone(),
    };
    let world = world
        .killed(CloudHubConfig::default(), |_| {
            CloudHub::new(CloudHubConfig::default(), cluster).unwrap()
        })
        .await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    let held = std::mem::take(&mut edge.held);
    drop(edge);

    let [services, nodes] = doors;
    services.open.send_replace(false);
    nodes.open.send_replace(false);
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    edge.held = held;
    let all = Scope::all(GroupVersionResource::core("services"));
    let together = async {
        // The comparison waits for the services. Whatever the cloud then reads, it reads in one go.
        services.waits().await;
        let label = json!({ "metadata": { "labels": { "color": "navy" } } });
        world.patch("nodes", None, "edge-1", label).await;
        nodes.waits().await;
        services.open.send_replace(true);
        nodes.open.send_replace(true);
    };
    tokio::join!(edge.catch_up(vec![ScopeText::from(&all)]), together);
    edge.until(|held| String::from_utf8_lossy(&held["null/node/edge-1"]).contains("navy"))
        .await;
}

/// Through which the events of one kind come.
#[derive(Clone)]
struct Door {
    resource: &'static str,
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<bool>>,
}

impl Door {
    fn new(resource: &'static str) -> Self {
        Self {
            resource,
            open: Arc::new(watch::Sender::new(true)),
            waiting: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Until an event stands before the closed door.
    async fn waits(&self) {
        let mut waiting = self.waiting.subscribe();
        let waits = waiting.wait_for(|waiting| *waiting);
        tokio::time::timeout(crate::world::PATIENCE, waits)
            .await
            .unwrap()
            .unwrap();
    }

    async fn pass(self, event: ClusterEvent) -> ClusterEvent {
        let mut open = self.open.subscribe();
        if !*open.borrow_and_update() {
            self.waiting.send_replace(true);
            open.wait_for(|open| *open).await.unwrap();
        }
        event
    }
}

/// A cluster with two doors.
struct Doors {
    cluster: EmbeddedCluster,
    doors: [Door; 2],
}

impl Cluster for Doors {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        let events = Cluster::watch(&self.cluster, scope.clone());
        let door = self
            .doors
            .iter()
            .find(|door| *scope.resource.resource == *door.resource);
        match door.cloned() {
            Some(door) => events.then(move |event| door.clone().pass(event)).boxed(),
            None => events,
        }
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        Cluster::get(&self.cluster, key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        self.cluster.execute(request)
    }

    fn registry(&self) -> &Registry {
        Cluster::registry(&self.cluster)
    }
}
