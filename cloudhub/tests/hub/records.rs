//! A stock edge comes back: it is sent what changed, hears of what was deleted, and nothing else; whatever died in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudhub::CloudHubConfig;
use cloudhub::records::{FileRecords, MemoryRecords, RecordsConfig, SyncRecords};
use hub_core::api::{ApiRequest, Verb};
use hub_core::application::Application;
use hub_core::message::{Content, Message, Operation};
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};

use crate::world::{Edge, Manners, World, config, node, pod, secret, service};

/// A node with a pod, its ConfigMap and its Secret, and records in a file.
struct Scene {
    world: World,
    records: Arc<FileRecords>,
    lives: usize,
}

impl Scene {
    async fn new() -> Self {
        let world = World::with(quick(), |hub| hub);
        let records = Arc::new(open(&world, 0));
        let scene = Self {
            records: records.clone(),
            world: world.killed(quick(), |hub| hub.with_records(records)).await,
            lives: 0,
        };
        scene.world.create("nodes", node("edge-1")).await;
        scene.world.create("configmaps", config("blue", "blue")).await;
        scene.world.create("secrets", secret("door")).await;
        let pod = pod("web", "edge-1", "blue", "door");
        scene.world.create("pods", pod).await;
        scene
    }

    /// The cloud's process is killed: of its records there is what the disk has at this moment.
    async fn killed(mut self) -> Self {
        for end in ["", "-wal"] {
            let (from, to) = (path(&self.world, self.lives), path(&self.world, self.lives + 1));
            std::fs::copy(
                format!("{}{end}", from.display()),
                format!("{}{end}", to.display()),
            )
            .unwrap();
        }
        self.lives += 1;
        let records = Arc::new(open(&self.world, self.lives));
        self.records = records.clone();
        self.world = self.world.killed(quick(), |hub| hub.with_records(records)).await;
        self
    }

    /// The records say that the edge acknowledged what it holds, and the disk has them.
    async fn acked(&self, edge: &Edge) {
        acknowledged(&*self.records, edge).await;
        self.records.flush().await;
    }

    /// The edge comes back with the database that it left with.
    async fn back(&self, edge: Edge) -> Edge {
        let held = edge.held;
        drop(edge.transport);
        let mut edge = self.world.stock("edge-1").await;
        edge.held = held;
        edge
    }
}

fn path(world: &World, life: usize) -> PathBuf {
    world.folder().join(format!("records-{life}.db"))
}

fn open(world: &World, life: usize) -> FileRecords {
    let config = RecordsConfig {
        gather: Duration::from_millis(10),
        ..RecordsConfig::default()
    };
    FileRecords::open(&path(world, life), config).unwrap()
}

/// A hub that soon sends again.
pub(crate) fn quick() -> CloudHubConfig {
    let mut config = CloudHubConfig::default();
    let session = Arc::make_mut(&mut config.driver.session);
    session.resend = Duration::from_millis(100);
    session.resend_max = Duration::from_millis(400);
    config
}

/// The records say that the edge acknowledged what it holds.
pub(crate) async fn acknowledged(records: &dyn SyncRecords, edge: &Edge) {
    for _ in 0..1000 {
        let recorded = records.of(&edge.node).await.unwrap();
        let holds = |object: &Bytes| {
            let object: Value = serde_json::from_slice(object).unwrap();
            let metadata = &object["metadata"];
            recorded.iter().any(|record| {
                metadata["uid"] == *record.object.uid
                    && record
                        .version
                        .as_ref()
                        .is_some_and(|v| metadata["resourceVersion"] == *v.as_str())
            })
        };
        if recorded.len() == edge.held.len() && edge.held.values().all(holds) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never acknowledged: {:?}", records.of(&edge.node).await);
}

/// Nothing else was to be told: the next message is about a pod that is made now.
async fn nothing_more(world: &World, edge: &mut Edge) {
    world
        .create("pods", pod("marker", "edge-1", "blue", "door"))
        .await;
    assert_eq!(edge.told(1).await, ["insert default/pod/marker"]);
}

async fn paint(world: &World, color: &str) {
    let patch = json!({ "data": { "color": color } });
    world.patch("configmaps", Some("default"), "blue", patch).await;
}

#[tokio::test]
async fn a_deletion_is_told_though_the_cloud_was_killed_in_between() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    let pod = scene.world.patch("pods", Some("default"), "web", json!({})).await;
    scene.world.delete("pods", Some("default"), "web").await;
    let scene = scene.killed().await;
    scene
        .world
        .create("pods", self::pod("web-2", "edge-1", "blue", "door"))
        .await;
    let mut edge = scene.back(edge).await;
    let told = [edge.next().await, edge.next().await];
    assert_eq!(told[0].route.resource.as_str(), "default/pod/web");
    assert_eq!(told[1].route.operation, Operation::Insert);
    // What a stock cloud says of what it knows by its record only, and the kind and a version besides: without them an edge's
    // metaServer keeps the object, and its clients hear nothing.
    assert_eq!(
        (&*told[0].route.source, &*told[0].route.group),
        ("edgecontroller", "resource")
    );
    assert_eq!(told[0].route.operation, Operation::Delete);
    assert_eq!(told[0].header.resource_version, None);
    let body: Value = told[0].content.decode("a deletion").unwrap();
    let (uid, version) = (&pod["metadata"]["uid"], &body["metadata"]["resourceVersion"]);
    assert_eq!(
        body,
        json!({ "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": "web", "namespace": "default", "uid": uid, "resourceVersion": version } })
    );
    let newest = |version: &Value| version.as_str().unwrap().parse::<u64>().unwrap();
    assert!(newest(version) > newest(&pod["metadata"]["resourceVersion"]));
    nothing_more(&scene.world, &mut edge).await;
}

#[tokio::test]
async fn what_the_edge_asked_for_by_name_and_is_gone_when_it_is_back_is_told() {
    let scene = Scene::new().await;
    let claim = json!({ "metadata": { "name": "disk", "namespace": "default" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    scene.world.create("persistentvolumeclaims", claim).await;
    let mut pod = pod("db", "edge-1", "blue", "door");
    pod["spec"]["volumes"][0] = json!({ "name": "d", "persistentVolumeClaim": { "claimName": "disk" } });
    scene.world.create("pods", pod).await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.contains_key("default/pod/db")).await;
    let question = "default/persistentvolumeclaim/disk";
    let given = edge
        .edged(Operation::Query, question, Content::from_json("null".into()))
        .await;
    assert_eq!(given.route.operation, Operation::Response);
    while !scene
        .records
        .of(&edge.node)
        .await
        .unwrap()
        .iter()
        .any(|record| &*record.object.kind == "PersistentVolumeClaim")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.records.flush().await;
    let scene = scene.killed().await;
    // Its pod uses it, so it goes only by force.
    let forced = json!({ "metadata": { "finalizers": null } });
    scene
        .world
        .patch("persistentvolumeclaims", Some("default"), "disk", forced)
        .await;
    scene
        .world
        .delete("persistentvolumeclaims", Some("default"), "disk")
        .await;
    let mut edge = scene.back(edge).await;
    loop {
        let told = edge.next().await;
        if told.route.resource.as_str() == question {
            assert_eq!(told.route.operation, Operation::Delete);
            return;
        }
    }
}

#[tokio::test]
async fn only_what_changed_while_it_was_away_is_sent_dependencies_first() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    let held = edge.held.clone();
    drop(edge);
    let patch = json!({ "metadata": { "labels": { "tier": "front" } } });
    scene.world.patch("pods", Some("default"), "web", patch).await;
    paint(&scene.world, "navy").await;
    let scene = scene.killed().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.held = held;
    assert_eq!(
        edge.told(2).await,
        ["update default/configmap/blue", "update default/pod/web"]
    );
    nothing_more(&scene.world, &mut edge).await;
}

#[tokio::test]
async fn what_was_sent_and_not_acknowledged_before_a_crash_is_deleted_all_the_same() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.manners = Manners::Silent;
    edge.until(|held| held.len() == 4).await;
    let mut scene = scene.killed().await;
    scene.world.delete("pods", Some("default"), "web").await;
    edge = scene.back(edge).await;
    edge.ask(watch_sync(&[])).await;
    edge.until(|held| held.len() == 1).await;
    assert!(edge.held.contains_key("null/node/edge-1"));
    // Told, and the word that it was done is lost with the next crash: it is told twice.
    let held = edge.held.clone();
    edge.manners = Manners::Silent;
    scene
        .world
        .create("pods", pod("web", "edge-1", "blue", "door"))
        .await;
    edge.until(|held| held.len() == 4).await;
    scene = scene.killed().await;
    scene.world.delete("pods", Some("default"), "web").await;
    edge = scene.back(edge).await;
    edge.ask(watch_sync(&[])).await;
    edge.until(|now| now.len() == held.len()).await;
}

#[tokio::test]
async fn an_error_in_place_of_an_acknowledgement_is_none() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    edge.manners = Manners::Refusing;
    paint(&scene.world, "navy").await;
    assert_eq!(edge.told(1).await, ["update default/configmap/blue"]);
    scene.records.flush().await;
    let scene = scene.killed().await;
    let mut edge = scene.back(edge).await;
    assert_eq!(edge.told(1).await, ["update default/configmap/blue"]);
    nothing_more(&scene.world, &mut edge).await;
}

#[tokio::test]
async fn a_successor_waits_until_the_deletion_of_its_predecessor_is_acknowledged() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    edge.manners = Manners::Refusing;
    scene.world.delete("configmaps", Some("default"), "blue").await;
    scene.world.create("configmaps", config("blue", "red")).await;
    // It stores by name: were the successor there, a deletion that comes again would hit it.
    assert_eq!(edge.told(3).await, ["delete default/configmap/blue"; 3]);
    edge.manners = Manners::Good;
    assert_eq!(
        edge.told(2).await,
        ["delete default/configmap/blue", "insert default/configmap/blue"]
    );
    nothing_more(&scene.world, &mut edge).await;
}

#[tokio::test]
async fn another_object_of_the_same_name_is_told_as_two() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    let scene = scene.killed().await;
    scene.world.delete("configmaps", Some("default"), "blue").await;
    scene.world.create("configmaps", config("blue", "red")).await;
    let mut edge = scene.back(edge).await;
    assert_eq!(
        edge.told(2).await,
        ["delete default/configmap/blue", "insert default/configmap/blue"]
    );
    nothing_more(&scene.world, &mut edge).await;
}

#[tokio::test]
async fn an_edge_that_lost_its_database_is_healed_when_it_registers() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    let told = edge.received;
    // What it was told on this connection it has.
    edge.edged(
        Operation::Insert,
        "null/node/edge-1",
        Content::encode(&node("edge-1")),
    )
    .await;
    assert_eq!(edge.received, told);
    edge.held.clear();
    let mut edge = scene.back(edge).await;
    edge.edged(
        Operation::Insert,
        "null/node/edge-1",
        Content::encode(&node("edge-1")),
    )
    .await;
    edge.until(|held| held.len() == 4).await;
    // The same where the cloud does not remember its session.
    let mut scene = scene;
    scene.acked(&edge).await;
    edge.held.clear();
    scene = scene.killed().await;
    let mut edge = scene.back(edge).await;
    edge.edged(
        Operation::Insert,
        "null/node/edge-1",
        Content::encode(&node("edge-1")),
    )
    .await;
    edge.until(|held| held.len() == 4).await;
}

pub(crate) fn watch_services(node: &NodeId) -> Application {
    let services = GroupVersionResource::core("services");
    let watch = ApiRequest::resource(Verb::Watch, services, Some("default"), None);
    Application {
        tunnel: None,
        ..Application::request(node, &watch)
    }
}

/// What a stock edge says on every connection.
pub(crate) fn watch_sync(applications: &[Application]) -> Message {
    let all: serde_json::Map<String, Value> = applications
        .iter()
        .map(|application| (application.id.clone(), serde_json::to_value(application).unwrap()))
        .collect();
    let mut sync = watch_services(&NodeId::new("edge-1").unwrap()).to_message();
    sync.route.resource = "watchapp/sync".into();
    sync.content = Content::encode(&all);
    sync
}

#[tokio::test]
async fn what_its_clients_watch_is_recorded_too() {
    let scene = Scene::new().await;
    for name in ["shop", "bar", "inn"] {
        scene.world.create("services", service(name)).await;
    }
    let mut edge = scene.world.stock("edge-1").await;
    let watch = watch_services(&edge.node);
    edge.ask(watch.to_message()).await;
    edge.until(|held| held.len() == 7).await;
    scene.acked(&edge).await;
    let scene = scene.killed().await;
    scene.world.delete("services", Some("default"), "bar").await;
    let patch = json!({ "metadata": { "labels": { "tier": "front" } } });
    scene.world.patch("services", Some("default"), "inn", patch).await;
    let mut edge = scene.back(edge).await;
    assert_eq!(edge.told(1).await, ["delete default/service/bar"]);
    let sync = watch_sync(&[watch]);
    edge.ask(sync).await;
    assert_eq!(
        edge.told(1).await,
        ["update default/service/inn"],
        "shop is as it was"
    );
    nothing_more(&scene.world, &mut edge).await;
}

/// It was there when the edge came back, and no watch saw it go.
#[tokio::test]
async fn what_went_before_its_clients_watch_again_is_told_with_the_watch() {
    let scene = Scene::new().await;
    scene.world.create("services", service("bar")).await;
    let mut edge = scene.world.stock("edge-1").await;
    let watch = watch_services(&edge.node);
    edge.ask(watch.to_message()).await;
    edge.until(|held| held.len() == 5).await;
    scene.acked(&edge).await;
    let scene = scene.killed().await;
    let mut edge = scene.back(edge).await;
    nothing_more(&scene.world, &mut edge).await;
    scene.world.delete("services", Some("default"), "bar").await;
    edge.ask(watch_sync(&[watch])).await;
    assert_eq!(edge.told(1).await, ["delete default/service/bar"]);
}

#[tokio::test]
async fn what_it_has_no_right_to_any_more_goes_unless_a_watch_asks_for_it() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    let scene = scene.killed().await;
    scene.world.create("secrets", secret("other")).await;
    scene.world.delete("pods", Some("default"), "web").await;
    let pod = pod("web-2", "edge-1", "blue", "other");
    scene.world.create("pods", pod).await;
    let mut edge = scene.back(edge).await;
    let mut told = edge.told(3).await;
    told.sort();
    assert_eq!(
        told,
        [
            "delete default/pod/web",
            "insert default/pod/web-2",
            "update default/secret/other"
        ]
    );
    edge.ask(watch_sync(&[])).await;
    edge.until(|held| !held.contains_key("default/secret/door")).await;
    assert_eq!(edge.held.len(), 4);
}

#[tokio::test]
async fn the_records_of_a_node_go_with_it() {
    let scene = Scene::new().await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    let id = edge.node.clone();
    scene.acked(&edge).await;
    assert_eq!(scene.records.of(&id).await.unwrap().len(), 4);
    scene.world.delete("nodes", None, "edge-1").await;
    edge.closed().await;
    records_vanish(&scene, &id).await;
    // Gone while nobody looked.
    scene.world.create("nodes", node("edge-1")).await;
    let mut edge = scene.world.stock("edge-1").await;
    edge.until(|held| held.len() == 4).await;
    scene.acked(&edge).await;
    drop(edge);
    let Scene { world, records, .. } = scene;
    world.serving.abort();
    world.delete("nodes", None, "edge-1").await;
    let kept = records.clone();
    let world = world.killed(quick(), |hub| hub.with_records(kept)).await;
    let scene = Scene {
        world,
        records,
        lives: 0,
    };
    records_vanish(&scene, &id).await;
}

async fn records_vanish(scene: &Scene, id: &NodeId) {
    for _ in 0..500 {
        if scene.records.of(id).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("records of a node that is gone");
}

#[tokio::test]
async fn an_edge_of_our_own_kind_leaves_no_records() {
    let scene = Scene::new().await;
    let mut edge = scene.world.connect("edge-1", Capabilities::ALL).await;
    edge.catch_up(vec![]).await;
    paint(&scene.world, "navy").await;
    edge.until(|held| String::from_utf8_lossy(&held["default/configmap/blue"]).contains("navy"))
        .await;
    scene.records.flush().await;
    assert_eq!(scene.records.nodes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn records_in_memory_outlive_a_hub_of_one_process() {
    let records = MemoryRecords::default();
    let kept = records.clone();
    let world = World::with(quick(), |hub| hub.with_records(kept));
    world.create("nodes", node("edge-1")).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 1).await;
    acknowledged(&records, &edge).await;
    drop(edge);
    let world = world.killed(quick(), |hub| hub.with_records(records)).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let mut edge = world.stock("edge-1").await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let mut told = edge.told(3).await;
    told.sort();
    assert_eq!(
        told[0], "insert default/configmap/blue",
        "the node was not told again"
    );
}
