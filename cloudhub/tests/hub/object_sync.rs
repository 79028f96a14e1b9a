//! The same beside Go instances: records as ObjectSync and ClusterObjectSync in the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cloudhub::cluster::{Cluster, ClusterError, ClusterEvent, EmbeddedCluster};
use cloudhub::records::{ObjectSyncRecords, RecordsConfig, SyncRecords};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hub_core::api::{ApiRequest, ApiResponse, Target, UpstreamError, Verb};
use hub_core::message::Operation;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use serde_json::{Value, json};

use crate::records::{acknowledged, quick};
use crate::world::{Edge, World, body, config, node, pod, secret};

/// A cluster with KubeEdge's definitions, a node, and a pod with what it needs.
pub(crate) async fn world() -> World {
    let world = World::new();
    for definition in [
        include_str!("../../../examples/kubernetes/crds/objectsync.yaml"),
        include_str!("../../../examples/kubernetes/crds/clusterobjectsync.yaml"),
    ] {
        let definition: Value = serde_saphyr::from_str(definition).unwrap();
        let resource = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let create = ApiRequest::resource(Verb::Create, resource, None, None)
            .with_body("application/json", definition.to_string());
        body(&world.execute(create).await);
    }
    world.create("nodes", node("edge-1")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    world
}

pub(crate) fn records(cluster: impl Cluster) -> Arc<ObjectSyncRecords> {
    let config = RecordsConfig {
        gather: Duration::from_millis(10),
        retry_max: Duration::from_millis(200),
        ..RecordsConfig::default()
    };
    Arc::new(ObjectSyncRecords::new(cluster, config))
}

async fn served(world: World) -> (World, Arc<ObjectSyncRecords>) {
    let records = records(world.cluster.clone());
    let kept = records.clone();
    (world.killed(quick(), |hub| hub.with_records(kept)).await, records)
}

fn syncs() -> GroupVersionResource {
    GroupVersionResource::new("reliablesyncs.kubeedge.io", "v1alpha1", "objectsyncs")
}

fn cluster_syncs() -> GroupVersionResource {
    GroupVersionResource::new("reliablesyncs.kubeedge.io", "v1alpha1", "clusterobjectsyncs")
}

/// Writes a record as a Go cloudcore does.
async fn go_writes(world: &World, object: &Value, version: &str) {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str();
    let resource = if namespace.is_some() {
        syncs()
    } else {
        cluster_syncs()
    };
    let name = format!("edge-1.{}", metadata["uid"].as_str().unwrap());
    let record = json!({
        "apiVersion": "reliablesyncs.kubeedge.io/v1alpha1",
        "kind": if namespace.is_some() { "ObjectSync" } else { "ClusterObjectSync" },
        "metadata": { "name": name },
        "spec": { "objectAPIVersion": object["apiVersion"], "objectKind": object["kind"], "objectName": metadata["name"] },
    });
    let create = ApiRequest::resource(Verb::Create, resource.clone(), namespace, None)
        .with_body("application/json", record.to_string());
    let mut created = body(&world.execute(create).await);
    created["status"] = json!({ "objectResourceVersion": version });
    let update = ApiRequest::resource(Verb::Update, resource, namespace, Some(&name))
        .with_subresource("status")
        .with_body("application/json", created.to_string());
    body(&world.execute(update).await);
}

/// Name of the object and acknowledged version of every record.
async fn written(world: &World, resource: GroupVersionResource) -> Vec<(String, String)> {
    let list = body(
        &world
            .execute(ApiRequest::resource(Verb::List, resource, None, None))
            .await,
    );
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().unwrap().iter();
    let mut written: Vec<_> = items
        .map(|item| {
            (
                text(&item["spec"]["objectName"]),
                text(&item["status"]["objectResourceVersion"]),
            )
        })
        .collect();
    written.sort();
    written
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn get(world: &World, resource: &str, namespace: Option<&str>, name: &str) -> Value {
    let resource = GroupVersionResource::core(resource);
    body(
        &world
            .execute(ApiRequest::resource(Verb::Get, resource, namespace, Some(name)))
            .await,
    )
}

#[tokio::test]
async fn what_go_wrote_is_honoured_and_go_finds_what_it_expects() {
    let world = world().await;
    let gone = world.create("configmaps", config("gone", "grey")).await;
    world.delete("configmaps", Some("default"), "gone").await;
    let blue = get(&world, "configmaps", Some("default"), "blue").await;
    let door = get(&world, "secrets", Some("default"), "door").await;
    let web = get(&world, "pods", Some("default"), "web").await;
    let this = get(&world, "nodes", None, "edge-1").await;
    go_writes(&world, &gone, &version(&gone)).await;
    go_writes(&world, &blue, &version(&blue)).await;
    go_writes(&world, &door, "1").await;
    go_writes(&world, &web, "0").await;
    go_writes(&world, &this, "no number").await;
    let (world, records) = served(world).await;
    let mut edge = world.stock("edge-1").await;
    let mut told = edge.told(4).await;
    told.sort();
    assert_eq!(
        told,
        [
            "delete default/configmap/gone",
            "update default/pod/web",
            "update default/secret/door",
            "update null/node/edge-1"
        ],
        "blue is as it was"
    );
    // What it holds beside: the one that was not sent.
    edge.held
        .insert("default/configmap/blue".into(), Bytes::from(blue.to_string()));
    acknowledged(&*records, &edge).await;
    records.flush().await;
    let expected = [("blue", &blue), ("door", &door), ("web", &web)];
    let expected: Vec<_> = expected
        .map(|(name, object)| (name.to_owned(), version(object)))
        .into();
    assert_eq!(written(&world, syncs()).await, expected);
    assert_eq!(
        written(&world, cluster_syncs()).await,
        [("edge-1".to_owned(), version(&this))]
    );
}

#[tokio::test]
async fn a_record_is_there_before_its_object_is_sent_and_gone_after_its_deletion() {
    let (world, records) = served(world().await).await;
    let mut edge = world.stock("edge-1").await;
    edge.manners = crate::world::Manners::Silent;
    edge.until(|held| held.len() == 4).await;
    let zero = |name: &str| (name.to_owned(), "0".to_owned());
    assert_eq!(
        written(&world, syncs()).await,
        [zero("blue"), zero("door"), zero("web")]
    );
    edge.manners = crate::world::Manners::Good;
    edge.until(|_| true).await;
    let (world, records) = {
        drop(records);
        served(world).await
    };
    world.delete("pods", Some("default"), "web").await;
    let held = edge.held.clone();
    drop(edge);
    let mut edge = world.stock("edge-1").await;
    edge.held = held;
    edge.until(|held| !held.contains_key("default/pod/web")).await;
    while written(&world, syncs())
        .await
        .iter()
        .any(|(name, _)| name == "web")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(records);
}

#[tokio::test]
async fn an_api_that_fails_takes_down_nothing_and_is_tried_again() {
    let world = world().await;
    let broken = Arc::new(AtomicBool::new(true));
    let records = records(Broken {
        cluster: world.cluster.clone(),
        broken: broken.clone(),
    });
    let kept = records.clone();
    let mut config = quick();
    config.downstream.intent_wait = Duration::from_millis(100);
    let world = world.killed(config, |hub| hub.with_records(kept)).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    assert_eq!(written(&world, syncs()).await, []);
    broken.store(false, Ordering::Relaxed);
    acknowledged(&*records, &edge).await;
    records.flush().await;
    while written(&world, syncs()).await.len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        written(&world, syncs())
            .await
            .iter()
            .all(|(_, version)| version != "0")
    );
}

#[tokio::test]
async fn without_the_definitions_nodes_are_served_and_with_them_records_begin() {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    let records = records(world.cluster.clone());
    let kept = records.clone();
    let mut config = quick();
    config.downstream.intent_wait = Duration::from_millis(100);
    let world = world.killed(config, |hub| hub.with_records(kept)).await;
    let mut edge: Edge = world.stock("edge-1").await;
    assert_eq!(edge.next().await.route.operation, Operation::Update);
    for definition in [
        include_str!("../../../examples/kubernetes/crds/objectsync.yaml"),
        include_str!("../../../examples/kubernetes/crds/clusterobjectsync.yaml"),
    ] {
        let definition: Value = serde_saphyr::from_str(definition).unwrap();
        let resource = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let create = ApiRequest::resource(Verb::Create, resource, None, None)
            .with_body("application/json", definition.to_string());
        body(&world.execute(create).await);
    }
    while written(&world, cluster_syncs())
        .await
        .iter()
        .all(|(_, version)| version == "0")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A cluster whose API fails for the records, and only for these.
struct Broken {
    cluster: EmbeddedCluster,
    broken: Arc<AtomicBool>,
}

impl Cluster for Broken {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        Cluster::watch(&self.cluster, scope)
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        Cluster::get(&self.cluster, key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        let is_record = matches!(&request.target, Target::Resource { resource, .. } if &*resource.group == "reliablesyncs.kubeedge.io");
        if is_record && self.broken.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(UpstreamError::Unreachable)));
        }
        self.cluster.execute(request)
    }

    fn registry(&self) -> &Registry {
        Cluster::registry(&self.cluster)
    }
}
