//! What KubeEdge's clouds say of devices: recorded, and older than the recording.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::twin::{DeviceId, Twins, Value as TwinValue, shape};
use hub_core::codec::{Codec, CodecLimits};
use hub_core::message::{Content, Message, Route};
use hub_core::session::Delivery;
use hub_core::store::{ObjectStore, Stored};
use hub_core::transport::{Capabilities, Received};
use serde_json::{Value, json};

use super::{Bench, Node, confirmation, is_report, lamp, push};
use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Script};
use crate::world::{TestStore, node, within};

/// What the recorded cloud said and the recorded edge answered, in order.
fn recorded() -> Vec<(bool, Message)> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../hub-core/tests/captures/09-devices.jsonl.zst"
    );
    let text = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    let lines = std::str::from_utf8(&text).unwrap().lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let payload = line["payload"].as_str()?.replace("edge1", "edge-1");
        match codec.decode(payload.into()).unwrap() {
            Received::Whole(message) => Some((line["dir"] == "cloud->edge", message)),
            Received::Patched(..) => None,
        }
    });
    lines.collect()
}

#[tokio::test]
async fn the_recorded_cloud_is_understood_and_asked_as_the_recorded_edge_asked() {
    let mut bench = Bench::new(Capabilities::NONE);
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    let asked = bench.cloud.wait_for("membership/detail").await;
    let (mut devices, mut question) = (0, None);
    let sensor = DeviceId::parse("default/web-sensor").unwrap();
    let second = DeviceId::parse("default/web-sensor2").unwrap();
    for (down, message) in recorded() {
        let resource = message.route.resource.to_string();
        if !down {
            if resource == "membership/detail" {
                question = Some(message);
            }
            continue;
        }
        if &*message.route.source != "devicecontroller" && !resource.contains("/devicemodel/") {
            continue;
        }
        let told = format!("{} {resource}", message.route.operation);
        let is_object = resource.contains("/device");
        let delivery = if is_object {
            Delivery::Acked
        } else {
            Delivery::Once(Duration::from_secs(60))
        };
        let version = message
            .header
            .resource_version
            .as_ref()
            .and_then(|version| version.number());
        let mut message = message;
        message.header.timestamp_ms = 0;
        bench.cloud.send(&told, version, delivery, message, None).await;
        if is_object {
            bench.cloud.wait_delivered(&told).await;
        }
        devices += usize::from(resource.contains("/device/"));
        match told.as_str() {
            "insert default/device/web-sensor" => edge.expects(&sensor, "temp", "20").await,
            "update default/device/web-sensor" => edge.expects(&sensor, "temp", "25").await,
            "insert default/device/web-sensor2" => edge.has(&second, true).await,
            "delete default/device/web-sensor2" => edge.has(&second, false).await,
            "delete default/device/web-sensor" => edge.has(&sensor, false).await,
            "insert default/devicemodel/web-dm" => assert!(model(&edge.twins).is_some()),
            "update default/devicemodel/web-dm" => {
                let model: Value = serde_json::from_slice(&model(&edge.twins).unwrap().object.body).unwrap();
                assert_eq!(
                    (&model["spec"]["protocol"], &model["kind"]),
                    (&json!("opcua"), &json!("DeviceModel"))
                );
            }
            _ => {}
        }
    }
    assert!(devices >= 5, "{devices}");
    assert!(edge.twins.list().is_empty() && model(&edge.twins).is_none());

    // The question has the recorded form.
    let question = question.unwrap();
    assert_eq!(asked.route, question.route);
    let form = |message: &Message| {
        let mut content: Value = serde_json::from_str(&message.content.as_string().unwrap()).unwrap();
        assert!(content["event_id"].take().is_string() && content["timestamp"].take().is_i64());
        content
    };
    assert_eq!(form(&asked), form(&question));
    edge.stop().await;
}

fn model(twins: &Twins) -> Option<Arc<Stored>> {
    twins.model("default", "web-dm")
}

#[tokio::test]
async fn what_older_clouds_say_of_devices_without_sending_them() {
    let bench = Bench::new(Capabilities::NONE);
    let edge = Node::start(bench.dialer.clone(), TestStore::new());
    edge.edge.up().await;
    let say = async |resource: &str, operation: &str, content: Value| {
        let route = Route::new("edgemgr", "twin", operation.into(), resource);
        let message = Message::new(route, Content::encode(&content));
        bench
            .cloud
            .send(
                resource,
                None,
                Delivery::Once(Duration::from_secs(60)),
                message,
                None,
            )
            .await;
    };
    let value = |text: &str, cloud: i64| {
        json!({ "level": { "expected": { "value": text }, "metadata": { "type": "int" },
            "expected_version": { "cloud": cloud, "edge": 0 } } })
    };
    say(
        "membership",
        "update",
        json!({ "added_devices": [{ "id": "home/lamp", "name": "lamp", "twin": value("1", 1) }] }),
    )
    .await;
    edge.expects(&lamp(), "level", "1").await;
    say(
        "device/home/lamp/twin/cloud_updated",
        "update",
        json!({ "event_id": "e", "twin": value("2", 2) }),
    )
    .await;
    edge.expects(&lamp(), "level", "2").await;
    // One that comes late is refused, and the cloud hears what is here.
    say(
        "device/home/lamp/twin/cloud_updated",
        "update",
        json!({ "event_id": "f", "twin": value("1", 1) }),
    )
    .await;
    let heard = async {
        while bench.reports.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the newer value to go up", heard).await;
    let report = bench.reports.lock().unwrap()[0].clone();
    let content: shape::TwinMessage = report.content.decode("a report").unwrap();
    let level = content.twin.unwrap()["level"].clone().unwrap();
    assert_eq!(level.expected.unwrap().value.as_deref(), Some("2"));
    assert_eq!(level.expected_version.unwrap().cloud, 2);
    say(
        "membership/detail/result",
        "get_result",
        json!({ "devices": [{ "id": "home/fan", "name": "fan" }] }),
    )
    .await;
    edge.has(&lamp(), false).await;
    edge.has(&DeviceId::parse("home/fan").unwrap(), true).await;
    say(
        "membership",
        "update",
        json!({ "removed_devices": [{ "id": "home/fan" }] }),
    )
    .await;
    edge.has(&DeviceId::parse("home/fan").unwrap(), false).await;
    assert_eq!(
        edge.edge.store.list(edgehub::twin::devices(), None).objects.len(),
        0
    );
    edge.stop().await;
}

/// What KubeEdge's cloud makes of a report (`cloud/pkg/devicecontroller/controller/upstream.go`): a property that it does not know gets an
/// empty place, and its values go into a copy of that; and it confirms.
#[derive(Default)]
struct Forgetful {
    /// Property, what it is, what it should be.
    twins: BTreeMap<String, [String; 2]>,
    reports: Vec<(String, Value)>,
}

impl Forgetful {
    fn hear(&mut self, message: &Message) {
        let content: Value = serde_json::from_slice(&message.content.document()).unwrap();
        for (name, twin) in content["twin"].as_object().into_iter().flatten() {
            let Some(held) = self.twins.get_mut(name) else {
                self.twins.insert(name.clone(), Default::default());
                continue;
            };
            for (held, side) in held.iter_mut().zip(["actual", "expected"]) {
                if let Some(text) = twin[side]["value"].as_str() {
                    *held = text.into();
                }
            }
        }
        self.reports.push((message.header.id.to_string(), content));
    }

    fn shows(&self, name: &str) -> [&str; 2] {
        self.twins[name].each_ref().map(String::as_str)
    }
}

#[tokio::test]
async fn a_cloud_that_forgets_the_first_report_of_a_property_shows_every_property_all_the_same() {
    let heard: Arc<Mutex<Forgetful>> = Arc::default();
    let (hears, rest) = (heard.clone(), nothing_differs());
    let script: Script = Arc::new(move |message| {
        if !is_report(message) {
            return rest(message);
        }
        hears.lock().unwrap().hear(message);
        Some(confirmation(message))
    });
    let (cloud, dialer) = Cloud::start(&node(), Capabilities::NONE, script);
    let store = TestStore::new();
    let edge = Node::start(dialer.clone(), store.clone());
    edge.edge.up().await;
    // A wish, before any mapper is there.
    push(&cloud, "insert", "edge-1", 7, "21").await;
    edge.expects(&lamp(), "temp", "21").await;
    edge.told().await;
    assert_eq!(heard.lock().unwrap().shows("temp"), ["", "21"]);
    edge.temperature("20").await;
    edge.told().await;
    assert_eq!(heard.lock().unwrap().shows("temp"), ["20", "21"]);
    let reports = |heard: &Forgetful| heard.reports.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let ids = reports(&heard.lock().unwrap());
    assert_eq!(
        ids.len(),
        3,
        "the first report of the property goes twice, the second once"
    );
    assert_ne!(ids[0], ids[1], "an id is a message");
    // The cloud begins anew and knows nothing: a report says both values of its property.
    *heard.lock().unwrap() = Forgetful::default();
    dialer.cut();
    let value = [("temp", TwinValue::new("19")), ("on", TwinValue::new("yes"))];
    edge.twins.report(&lamp(), value).await.unwrap();
    edge.told().await;
    {
        let heard = heard.lock().unwrap();
        assert_eq!(
            (heard.shows("temp"), heard.shows("on")),
            (["19", "21"], ["yes", ""])
        );
    }
    edge.stop().await;
}
