//! Twins on a real broker, Debian's mosquitto, with its own clients as the applications.
#![allow(clippy::unwrap_used, reason = "tests may")]

mod broker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use edgehub::twin::{
    self, DeviceId, MqttConfig, MqttTls, TwinConfig, TwinHub, Twins, Value as TwinValue, serve_mqtt,
};
use edgehub::{EdgeHub, EdgeHubConfig};
use hub_core::backoff::Backoff;
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::registry::Registry;
use hub_core::store::{Change, JournalLimits, MemoryJournal, MemoryStore, StoreLimits};
use hub_core::transport::{Endpoint, MemoryConfig, memory};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use broker::Broker;

/// For everything that must happen.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A node whose cloud is away.
struct Node {
    twins: Twins,
    store: MemoryStore,
    work: JoinHandle<()>,
    served: Option<JoinHandle<()>>,
    config: MqttConfig,
}

impl Node {
    fn start(broker: &Broker) -> Self {
        let node = NodeId::new("edge-1").unwrap();
        Self::with(MqttConfig::new(&node, &broker.server()).unwrap())
    }

    fn with(mut config: MqttConfig) -> Self {
        let node = NodeId::new("edge-1").unwrap();
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        let devices = TwinHub::new(TwinConfig::new(node.clone()), Arc::new(store.clone()));
        let twins = devices.handle();
        let (_, dialer) = memory(MemoryConfig::default());
        let hub = EdgeHub::builder(
            EdgeHubConfig::new(node.clone()),
            Arc::new(store.clone()),
            Arc::new(MemoryJournal::new(JournalLimits::default())),
        );
        let hub = hub
            .with_dialer(dialer, Endpoint::parse("cloud:1").unwrap())
            .build();
        let work = tokio::spawn(devices.run(hub.handle()));
        config.backoff = Backoff {
            first: Duration::from_millis(20),
            max: Duration::from_millis(200),
        };
        let mut node = Self {
            twins,
            store,
            work,
            served: None,
            config,
        };
        node.serve();
        node
    }

    fn serve(&mut self) {
        self.served = Some(tokio::spawn(serve_mqtt(self.twins.clone(), self.config.clone())));
    }

    /// As if the program ended, for the broker.
    async fn leave(&mut self) {
        if let Some(served) = self.served.take() {
            served.abort();
            let _ = served.await;
        }
    }

    async fn device(&self, id: &str, version: u64, desired: &str) {
        let id = DeviceId::parse(id).unwrap();
        let body = json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
            "metadata": { "name": id.name(), "namespace": id.namespace(), "uid": id.to_string(),
                "resourceVersion": version.to_string(), "labels": { "description": "a lamp" } },
            "spec": { "nodeName": "edge-1", "properties": [
                { "name": "level", "desired": { "value": desired, "metadata": { "type": "int" } } }] } });
        let mut changes = self.twins.changes();
        let object = Object::from_body(twin::devices().clone(), body.to_string().into()).unwrap();
        self.store.apply_now(vec![Change::Put(object)]).unwrap();
        within("the device", async {
            let wished = || {
                let device = self.twins.get(&id)?;
                let level = device.properties.get("level");
                (desired.is_empty() || level?.expected.text() == Some(desired)).then_some(())
            };
            while wished().is_none() {
                changes.next().await.unwrap();
            }
        })
        .await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.work.abort();
        if let Some(served) = &self.served {
            served.abort();
        }
    }
}

const UPDATE: &str = "$hw/events/device/home/lamp/twin/update";

fn level(kind: &str, text: &str) -> Value {
    json!({ "level": { kind: { "value": text }, "metadata": { "type": "int" } } })
}

fn ask(twin: Value) -> String {
    json!({ "event_id": "e1", "timestamp": 1, "twin": twin }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_reads_and_writes_twins_on_kubeedge_s_topics() {
    let broker = Broker::start().await;
    let mut heard = broker.listen().await;
    let node = Node::start(&broker);
    let here = heard.on("$hw/events/connected/edge-1").await;
    assert_eq!(here["event_type"], "connected");
    node.device("home/lamp", 1, "").await;
    let joined = heard.on("$hw/events/node/edge-1/membership/updated").await;
    assert_eq!(joined["added_devices"][0]["id"], "home/lamp");
    assert!(joined["removed_devices"].is_null());

    // An expected value: what became of it, before and after, and that it is not so yet.
    broker.publish(UPDATE, &ask(level("expected", "7")));
    let said = heard.of("home/lamp", 3).await;
    let ends: Vec<_> = said.iter().map(|(end, _)| end.as_str()).collect();
    assert_eq!(
        ends,
        ["twin/update/result", "twin/update/document", "twin/update/delta"]
    );
    let (result, document, delta) = (&said[0].1, &said[1].1, &said[2].1);
    assert_eq!(
        (&result["event_id"], &result["twin"]["level"]["expected"]["value"]),
        (&json!("e1"), &json!("7"))
    );
    assert!(
        result["twin"]["level"].get("expected_version").is_none(),
        "versions are for the cloud"
    );
    assert!(document["twin"]["level"]["last"].is_null());
    assert_eq!(document["twin"]["level"]["current"]["expected"]["value"], "7");
    assert_eq!(delta["delta"], json!({ "level": "7" }));
    assert_eq!(delta["twin"]["level"]["metadata"]["type"], "int");

    // Done: no delta any more.
    broker.publish(UPDATE, &ask(level("actual", "7")));
    let said = heard.of("home/lamp", 2).await;
    assert_eq!(said[1].0, "twin/update/document");
    broker.publish("$hw/events/device/home/lamp/twin/get", r#"{"event_id":"e2"}"#);
    let said = heard.of("home/lamp", 1).await;
    assert_eq!(said[0].0, "twin/get/result", "there was no delta between");
    assert_eq!(said[0].1["twin"]["level"]["actual"]["value"], "7");

    // Mistakes are told to whoever made them.
    for (topic, payload, code) in [
        (UPDATE, ask(level("actual", "warm")), 400),
        (UPDATE, ask(Value::Null), 400),
        (UPDATE, "{".into(), 400),
        (
            "$hw/events/device/home/fan/twin/update",
            ask(level("actual", "1")),
            404,
        ),
        (UPDATE, ask(json!({ "none": null })), 404),
        (UPDATE, ask(json!({ "a b": { "actual": { "value": "1" } } })), 400),
    ] {
        broker.publish(topic, &payload);
        let failure = heard.on(&format!("{topic}/result")).await;
        assert_eq!(failure["code"], code, "{payload}: {failure}");
        assert!(
            failure["reason"].as_str().is_some_and(|reason| reason.len() > 10),
            "{failure}"
        );
    }

    broker.publish(
        "$hw/events/device/home/lamp/state/update",
        r#"{"event_id":"e3","state":"Online"}"#,
    );
    let state = heard.on("$hw/events/device/home/lamp/state/update/result").await;
    assert_eq!(state["device"]["state"], "online");
    assert!(state["device"]["lastOnlineTime"].as_str().unwrap().ends_with('Z'));
    broker.publish(
        "$hw/events/device/home/lamp/state/update",
        r#"{"state":"asleep"}"#,
    );
    assert_eq!(
        heard.on("$hw/events/device/home/lamp/state/update/result").await["code"],
        400
    );

    broker.publish("$hw/events/node/edge-1/membership/get", r#"{"event_id":"e4"}"#);
    let devices = heard.on("$hw/events/node/edge-1/membership/get/result").await;
    assert_eq!(devices["event_id"], "e4");
    assert_eq!(devices["devices"][0]["id"], "home/lamp");
    assert_eq!(devices["devices"][0]["description"], "a lamp");
    assert_eq!(devices["devices"][0]["state"], "online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_old_applications_name_no_namespace_and_are_answered_in_their_form() {
    let broker = Broker::start().await;
    let mut heard = broker.listen().await;
    let node = Node::start(&broker);
    heard.on("$hw/events/connected/edge-1").await;
    node.device("home/lamp", 1, "").await;
    broker.publish("$hw/events/device/lamp/twin/update", &ask(level("expected", "3")));
    let said = heard.on("$hw/events/device/lamp/twin/update/result").await;
    assert_eq!(said["twin"]["level"]["expected"]["value"], "3");
    assert_eq!(
        heard.on("$hw/events/device/home/lamp/twin/update/delta").await["delta"]["level"],
        "3"
    );
    assert_eq!(
        heard.on("$hw/events/device/lamp/twin/update/delta").await["delta"]["level"],
        "3"
    );
    // Two of one name: nobody knows which is meant.
    node.device("shed/lamp", 2, "").await;
    broker.publish("$hw/events/device/lamp/twin/get", "{}");
    assert_eq!(
        heard.on("$hw/events/device/lamp/twin/get/result").await["code"],
        409
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_broker_is_found_again_and_what_is_wanted_is_said_again() {
    let mut broker = Broker::start().await;
    let mut heard = broker.listen().await;
    let mut node = Node::start(&broker);
    heard.on("$hw/events/connected/edge-1").await;
    node.device("home/lamp", 1, "").await;
    drop(heard);
    broker.stop();
    // The cloud wants something, and mappers report, while there is no broker.
    node.device("home/lamp", 2, "9").await;
    for n in 0..500 {
        let value = TwinValue::new(n.to_string());
        let lamp = DeviceId::parse("home/lamp").unwrap();
        within("the twin", node.twins.report(&lamp, [("level", value)]))
            .await
            .unwrap();
    }
    broker.again().await;
    let mut heard = broker.listen().await;
    let delta = heard.on("$hw/events/device/home/lamp/twin/update/delta").await;
    assert_eq!(delta["delta"], json!({ "level": "9" }));

    // The node is away, the broker says so, and keeps what is said to it.
    node.leave().await;
    let gone = heard.on("$hw/events/disconnected/edge-1").await;
    assert_eq!(gone["event_type"], "disconnected");
    broker.publish(UPDATE, &ask(level("actual", "9")));
    node.serve();
    let result = heard.on("$hw/events/device/home/lamp/twin/update/result").await;
    assert_eq!(result["twin"]["level"]["actual"]["value"], "9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_reached_over_tls_with_a_certificate_again_and_again_and_not_without_one() {
    let mut broker = Broker::start().await;
    let mut heard = broker.listen().await;
    let (server, tls) = broker.tls();
    let node = NodeId::new("edge-1").unwrap();
    let config = MqttConfig::with_tls(&node, &server, Some(tls.clone())).unwrap();
    let here = Node::with(config);
    heard.on("$hw/events/connected/edge-1").await;
    here.device("home/lamp", 1, "").await;
    broker.publish(UPDATE, &ask(level("actual", "7")));
    let result = heard.on(&format!("{UPDATE}/result")).await;
    assert_eq!(result["twin"]["level"]["actual"]["value"], "7");
    assert!(here.twins.broker().unwrap().up);
    drop(heard);
    broker.stop();
    broker.again().await;
    let mut heard = broker.listen().await;
    broker.publish(UPDATE, &ask(level("actual", "8")));
    within("the node", async {
        while here.twins.broker().is_none_or(|broker| !broker.up) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    broker.publish(UPDATE, &ask(level("actual", "9")));
    within("the newer value", async {
        while heard.on(&format!("{UPDATE}/result")).await["twin"]["level"]["actual"]["value"] != "9" {}
    })
    .await;
    drop(here);

    let nobody = MqttTls {
        identity: CredentialFiles::new("/none.pem", "/none.key"),
        ..tls
    };
    let refused = Node::with(MqttConfig::with_tls(&node, &server, Some(nobody)).unwrap());
    within("the refusal", async {
        while refused.twins.broker().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!refused.twins.broker().unwrap().up);
}
