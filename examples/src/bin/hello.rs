//! Two hubs in one process: a ConfigMap goes in at the cloud's end and comes out at the edge's.

use cloudhub::cluster::{EmbeddedCluster, EmbeddedConfig};
use cloudhub::{CloudHub, CloudHubConfig};
use edgehub::store::EdgeStore;
use edgehub::{EdgeHub, EdgeHubConfig};
use hub_core::api::{ApiRequest, Verb};
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::store::ObjectStore;
use hub_core::transport::{Endpoint, Listener, MemoryConfig, memory};
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (listener, dialer) = memory(MemoryConfig::default());

    // The cloud: a cluster of its own, and a hub that speaks for it.
    let cluster = EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default())?;
    let mut config = CloudHubConfig::default();
    // Without this a node may read only the ConfigMaps that its own pods use.
    config.authorization.read_all_configs = true;
    let cloud = CloudHub::new(config, cluster.clone())?;
    let listener: Box<dyn Listener> = Box::new(listener);
    tokio::spawn(cloud.serve([listener]).into_future());

    // The edge: a store on disk, and a hub that fills it. It wants to hold all ConfigMaps.
    let configmaps = GroupVersionResource::core("configmaps");
    let node = NodeId::new("edge-1")?;
    let mut config = EdgeHubConfig::new(node.clone());
    config
        .prefetch
        .push(Scope::namespaced(configmaps.clone(), "default"));
    let store = EdgeStore::open(folder.path().join("edge.db"))?;
    let edge = EdgeHub::with_store(config, store.clone())
        .with_dialer(
            dialer.with_common_name(&node.user_name()),
            Endpoint {
                host: "cloud".into(),
                port: 1,
            },
        )
        .build();
    tokio::spawn(edge.run());

    let mut changes = store.watch(&configmaps, store.revision())?;

    // A change in the cluster …
    let hello = r#"{"metadata":{"name":"hello"},"data":{"text":"from the cloud"}}"#;
    let create = ApiRequest::resource(Verb::Create, configmaps, Some("default"), None)
        .with_body("application/json", hello);
    cluster.upstream().oneshot(create).await?;

    // … is an event on the edge.
    let event = changes.next().await?;
    println!(
        "{:?} {}",
        event.kind,
        String::from_utf8_lossy(&event.stored.object.body)
    );
    Ok(())
}
