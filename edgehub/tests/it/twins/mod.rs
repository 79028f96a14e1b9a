//! Device twins against scripted clouds, ours and KubeEdge's.

mod stock;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::twin::{
    Change, Changes, DeviceId, DeviceState, TwinConfig, TwinHub, Twins, Value as TwinValue, Which,
};
use edgehub::{EdgeHub, EdgeHubConfig};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::transport::{Capabilities, Dialer, Endpoint, Rejection};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, CutDialer, Script};
use crate::world::{Edge, TestStore, config, journal, node, within};

/// A node with twins.
struct Node {
    edge: Edge,
    twins: Twins,
    work: JoinHandle<()>,
}

impl Node {
    fn start(dialer: impl Dialer + 'static, store: Arc<TestStore>) -> Self {
        let twins = TwinConfig {
            confirm_within: Duration::from_millis(100),
            ..TwinConfig::new(node())
        };
        Self::with(config(), twins, dialer, store)
    }

    fn with(
        config: EdgeHubConfig,
        twins: TwinConfig,
        dialer: impl Dialer + 'static,
        store: Arc<TestStore>,
    ) -> Self {
        let devices = TwinHub::new(twins, store.clone());
        let twins = devices.handle();
        let hub = EdgeHub::builder(config, store.clone(), Arc::new(journal()))
            .with_dialer(dialer, Endpoint::parse("cloud:10000").unwrap())
            .with_routes(twins.routes())
            .build();
        let handle = hub.handle();
        let work = tokio::spawn(devices.run(handle));
        Self {
            edge: Edge::of(hub, store),
            twins,
            work,
        }
    }

    /// Waits until there is such a device, or none.
    async fn has(&self, id: &DeviceId, there: bool) {
        let mut changes = self.twins.changes();
        let reached = async {
            while self.twins.get(id).is_some() != there {
                changes.next().await.unwrap();
            }
        };
        within("a device that comes or goes", reached).await;
    }

    async fn expects(&self, id: &DeviceId, name: &str, text: &str) {
        let mut changes = self.twins.changes();
        let expected = || {
            let device = self.twins.get(id)?;
            device.properties.get(name)?.expected.text().map(str::to_owned)
        };
        let reached = async {
            while expected().as_deref() != Some(text) {
                changes.next().await.unwrap();
            }
        };
        within("an expected value", reached).await;
    }

    async fn temperature(&self, text: &str) {
        let value = [("temp", TwinValue::new(text))];
        within("the disk", self.twins.report(&lamp(), value))
            .await
            .unwrap();
    }

    /// Waits until the cloud has confirmed everything.
    async fn told(&self) {
        let told = async {
            while self.twins.owing() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within("the confirmation of the cloud", told).await;
    }

    async fn stop(self) {
        self.work.abort();
        self.edge.stop().await;
    }
}

fn lamp() -> DeviceId {
    DeviceId::parse("home/lamp").unwrap()
}

fn body(name: &str, node: &str, uid: &str, version: u64, desired: &str) -> String {
    json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": { "name": name, "namespace": "home", "uid": uid, "resourceVersion": version.to_string() },
        "spec": { "deviceModelRef": { "name": "m" }, "nodeName": node, "properties": [
            { "name": "temp", "desired": { "value": desired, "metadata": { "type": "int" } } }, { "name": "on" } ] } })
    .to_string()
}

async fn push(cloud: &Cloud, operation: &str, node: &str, version: u64, desired: &str) {
    let body = body("lamp", node, "u1", version, desired);
    cloud
        .push(operation, "home/device/lamp", Some(version), &body)
        .await;
}

/// KubeEdge's confirmation (`cloud/pkg/devicecontroller/controller/upstream.go`).
fn confirmation(message: &Message) -> Reply {
    let mut answer = message.response(Content::ok());
    answer.route = Route::new("devicecontroller", "twin", Operation::Response, "twin");
    Reply::Answer(answer, Lane::Own)
}

fn is_report(message: &Message) -> bool {
    let resource = message.route.resource.as_str();
    resource == "twin/reports" || resource.starts_with("device/")
}

/// A cloud that confirms reports while it is asked to, and keeps them.
fn confirming(reports: &Arc<Mutex<Vec<Message>>>, confirms: &Arc<Mutex<bool>>) -> Script {
    let (reports, confirms, rest) = (reports.clone(), confirms.clone(), nothing_differs());
    Arc::new(move |message| {
        if !is_report(message) {
            return rest(message);
        }
        reports.lock().unwrap().push(message.clone());
        confirms.lock().unwrap().then(|| confirmation(message))
    })
}

struct Bench {
    cloud: Cloud,
    dialer: CutDialer,
    reports: Arc<Mutex<Vec<Message>>>,
    confirms: Arc<Mutex<bool>>,
}

impl Bench {
    fn new(capabilities: Capabilities) -> Self {
        let (reports, confirms) = (Arc::default(), Arc::new(Mutex::new(true)));
        let (cloud, dialer) = Cloud::start(&node(), capabilities, confirming(&reports, &confirms));
        Self {
            cloud,
            dialer,
            reports,
            confirms,
        }
    }

    /// The properties of the lamp in the reports so far: `temp=5`.
    fn said(&self) -> Vec<String> {
        let mut said = Vec::new();
        for message in &*self.reports.lock().unwrap() {
            let content: Value = serde_json::from_slice(&message.content.document()).unwrap();
            let twins = match &content["devices"] {
                Value::Array(devices) => devices.iter().map(|device| device["twin"].clone()).collect(),
                _ => vec![content["twin"].clone()],
            };
            for twin in twins.iter().filter_map(Value::as_object) {
                for (name, property) in twin {
                    if let Some(text) = property["actual"]["value"].as_str() {
                        said.push(format!("{name}={text}"));
                    }
                }
            }
        }
        said
    }

    fn cut(&self) {
        *self.cloud.refusing.lock().unwrap() = Some(Rejection {
            code: 503,
            reason: "away".into(),
            retry_after_seconds: None,
        });
        self.dialer.cut();
    }

    fn restore(&self) {
        *self.cloud.refusing.lock().unwrap() = None;
    }
}

#[tokio::test]
async fn l8_reports_of_an_outage_arrive_once_when_it_is_over_the_newest_of_each_property() {
    for capabilities in [Capabilities::ALL, Capabilities::NONE] {
        let bench = Bench::new(capabilities);
        let store = TestStore::new();
        let edge = Node::start(bench.dialer.clone(), store.clone());
        edge.edge.up().await;
        push(&bench.cloud, "insert", "edge-1", 7, "").await;
        edge.has(&lamp(), true).await;
        edge.temperature("0").await;
        edge.told().await;
        bench.cut();
        edge.edge.down().await;
        for n in 1..=100 {
            edge.temperature(&n.to_string()).await;
        }
        edge.twins
            .set_state(&Which::Id(lamp()), DeviceState::Online)
            .await
            .unwrap();
        // The program ends and begins again meanwhile.
        edge.stop().await;
        let edge = Node::start(bench.dialer.clone(), store);
        edge.twins
            .report(&lamp(), [("on", TwinValue::new("yes"))])
            .await
            .unwrap();
        bench.restore();
        edge.edge.up().await;
        edge.told().await;
        // A stock cloud is told twice of what is new to it.
        let (said, reports): (&[&str], _) = match capabilities.twins {
            true => (&["temp=0", "on=yes", "temp=100"], 2),
            false => (
                &["temp=0", "temp=0", "on=yes", "temp=100", "on=yes", "temp=100"],
                5,
            ),
        };
        assert_eq!(bench.said(), said, "{capabilities}");
        let sent = bench.reports.lock().unwrap().len();
        assert_eq!(sent, reports, "values, and then values with the state");
        edge.stop().await;
    }
}

#[tokio::test]
async fn l9_what_a_cloud_never_confirms_is_not_repeated_for_ever() {
    let mut bench = Bench::new(Capabilities::NONE);
    *bench.confirms.lock().unwrap() = false;
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    let question = bench.cloud.wait_for("membership/detail").await;
    assert_eq!(question.route.operation, Operation::Get);
    push(&bench.cloud, "insert", "edge-1", 7, "").await;
    edge.has(&lamp(), true).await;
    edge.temperature("1").await;
    let three = async {
        while bench.dialer.sent("device/").len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("three attempts", three).await;
    // Longer than any of the pauses before.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ids = bench.dialer.sent("device/");
    assert_eq!(ids.len(), 3, "and no more");
    assert!(ids.iter().all(|id| *id == ids[0]), "a copy is known by its id");
    assert_eq!(bench.said(), ["temp=1"]);
    assert_eq!(edge.twins.owing(), 1, "it is not forgotten either");

    // The question is asked once a connection; the report goes again, since this may be another cloud.
    *bench.confirms.lock().unwrap() = true;
    bench.dialer.cut();
    bench.cloud.wait_for("membership/detail").await;
    edge.told().await;
    assert_eq!(
        bench.said(),
        ["temp=1", "temp=1", "temp=1"],
        "and once more, confirmed"
    );
    assert_eq!(bench.dialer.sent("membership/detail").len(), 2);
    edge.stop().await;
}

#[tokio::test]
async fn l4_a_device_whose_membership_message_was_lost_comes_and_goes_with_its_device() {
    let bench = Bench::new(Capabilities::NONE);
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    push(&bench.cloud, "insert", "edge-1", 7, "20").await;
    edge.has(&lamp(), true).await;
    assert_eq!(edge.twins.get(&lamp()).unwrap().delta()["temp"], "20");
    push(&bench.cloud, "delete", "edge-1", 8, "20").await;
    edge.has(&lamp(), false).await;
    // Another one of its name begins anew.
    let other = body("lamp", "edge-1", "u2", 9, "");
    bench
        .cloud
        .push("insert", "home/device/lamp", Some(9), &other)
        .await;
    edge.has(&lamp(), true).await;
    assert!(edge.twins.get(&lamp()).unwrap().properties.is_empty());
    edge.stop().await;
}

#[tokio::test]
async fn a_device_that_moves_to_another_node_leaves_the_first_and_says_nothing_more_from_there() {
    let bench = Bench::new(Capabilities::ALL);
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    push(&bench.cloud, "insert", "edge-1", 7, "20").await;
    edge.has(&lamp(), true).await;
    edge.temperature("1").await;
    edge.told().await;
    bench.cut();
    edge.edge.down().await;
    edge.temperature("2").await;
    let mut changes = edge.twins.changes();
    bench.restore();
    // The move is on its way before the report is confirmed.
    *bench.confirms.lock().unwrap() = false;
    edge.edge.up().await;
    push(&bench.cloud, "update", "edge-2", 8, "20").await;
    edge.has(&lamp(), false).await;
    let removed =
        async { while !matches!(changes.next().await.unwrap(), Change::Removed(id) if id == lamp()) {} };
    within("the word that it is gone", removed).await;
    assert_eq!(edge.twins.owing(), 0);
    let error = edge
        .twins
        .report(&lamp(), [("temp", TwinValue::new("3"))])
        .await
        .unwrap_err();
    assert_eq!(error.code(), 404);
    edge.stop().await;
}

#[tokio::test]
async fn a_wish_of_the_cloud_is_a_delta_here_and_is_seen_there() {
    let bench = Bench::new(Capabilities::ALL);
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    push(&bench.cloud, "insert", "edge-1", 7, "20").await;
    edge.expects(&lamp(), "temp", "20").await;
    edge.told().await;
    let mut changes = edge.twins.changes();
    push(&bench.cloud, "update", "edge-1", 8, "25").await;
    let delta = next_delta(&mut changes).await;
    assert_eq!(delta, json!({ "temp": "25" }));
    edge.temperature("25").await;
    assert_eq!(next_delta(&mut changes).await, json!({}));
    edge.told().await;
    let last = bench.reports.lock().unwrap().iter().rev().find_map(|message| {
        let content: Value = message.content.decode("a report").unwrap();
        content["devices"][0]["twin"]["temp"]["expected"]["value"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(
        last.as_deref(),
        Some("25"),
        "what DeviceStatus calls observedDesired"
    );
    edge.stop().await;
}

async fn next_delta(changes: &mut Changes) -> Value {
    let next = async {
        loop {
            if let Change::Twin(change) = changes.next().await.unwrap() {
                return json!(change.updated.delta);
            }
        }
    };
    within("a change of the twin", next).await
}

#[tokio::test]
async fn a_failed_disk_is_an_error_and_changes_nothing() {
    let bench = Bench::new(Capabilities::ALL);
    let store = TestStore::new();
    let edge = Node::start(bench.dialer.clone(), store.clone());
    edge.edge.up().await;
    push(&bench.cloud, "insert", "edge-1", 7, "").await;
    edge.has(&lamp(), true).await;
    edge.temperature("1").await;
    edge.told().await;
    store.failures.store(1, std::sync::atomic::Ordering::SeqCst);
    let error = edge
        .twins
        .report(&lamp(), [("temp", TwinValue::new("2"))])
        .await
        .unwrap_err();
    assert_eq!(error.code(), 500);
    assert_eq!(
        edge.twins.get(&lamp()).unwrap().properties["temp"].actual.text(),
        Some("1")
    );
    assert_eq!(edge.twins.owing(), 0);
    edge.stop().await;
}

#[tokio::test]
async fn a_disk_that_refuses_a_new_device_holds_up_no_other_and_gets_it_later() {
    let bench = Bench::new(Capabilities::ALL);
    let store = TestStore::new();
    let twins = TwinConfig {
        backoff: config().backoff,
        ..TwinConfig::new(node())
    };
    let edge = Node::with(config(), twins, bench.dialer.clone(), store.clone());
    edge.edge.up().await;
    push(&bench.cloud, "insert", "edge-1", 7, "").await;
    edge.has(&lamp(), true).await;
    *store.refused.lock().unwrap() = Some("fan");
    let body = body("fan", "edge-1", "u2", 8, "3");
    bench
        .cloud
        .push("insert", "home/device/fan", Some(8), &body)
        .await;
    // The Device itself is on the disk and is acknowledged; its twin is not there yet.
    for n in 0..20 {
        edge.temperature(&n.to_string()).await;
    }
    edge.told().await;
    assert_eq!(bench.said().last().unwrap(), "temp=19");
    let fan = DeviceId::parse("home/fan").unwrap();
    let value = [("temp", TwinValue::new("1"))];
    assert_eq!(edge.twins.report(&fan, value).await.unwrap_err().code(), 404);
    *store.refused.lock().unwrap() = None;
    edge.expects(&fan, "temp", "3").await;
    edge.told().await;
    edge.stop().await;
}
