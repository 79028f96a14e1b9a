//! What a device said and was told to be taken, survives the program's death at any instant.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgehub::store::EdgeStore;
use edgehub::twin::{self, DeviceId, TwinConfig, TwinHub, Value};
use edgehub::{EdgeHub, EdgeHubConfig};
use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::store::{Change, ObjectStore};
use hub_core::testing::child::{Doomed, other_half};
use hub_core::transport::{Endpoint, MemoryConfig, memory};
use serde_json::json;
use tempfile::TempDir;

#[test]
fn a_report_that_was_taken_is_owed_to_the_cloud_after_a_kill_and_no_older_one_took_its_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("edge.db");
    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..12u64 {
        let mut child = Doomed::start(
            other_half("the_child_reports_until_it_is_killed")
                .env("EDGE_STORE_PATH", &path)
                .env("EDGE_STORE_ROUND", round.to_string()),
        );
        let mut take = |line: &str| {
            let mut words = line.split(' ');
            if words.next() != Some("taken") {
                return 0;
            }
            // The kill may have cut the line.
            let (Some(name), Some(Ok(value)), Some("end")) =
                (words.next(), words.next().map(str::parse), words.next())
            else {
                return 0;
            };
            taken.insert(name.into(), value);
            1
        };
        let mut seen = 0;
        while seen < 20 + round * 7 {
            seen += take(&child.line());
        }
        std::thread::sleep(Duration::from_micros(round * 211));
        for line in child.kill() {
            take(&line);
        }
        let store = EdgeStore::open(&path).unwrap();
        let twins = TwinHub::new(TwinConfig::new(node()), Arc::new(store)).handle();
        for (name, value) in &taken {
            let device = twins.get(&DeviceId::new("home", name).unwrap()).unwrap();
            let held: u64 = device.properties["n"].actual.text().unwrap().parse().unwrap();
            assert!(
                held >= *value,
                "round {round}: {name} has {held}, {value} was taken"
            );
            let owed = device.owed().expect("the cloud was never there");
            let told = owed.twin["n"]
                .as_ref()
                .unwrap()
                .actual
                .as_ref()
                .unwrap()
                .value
                .clone();
            assert_eq!(told, Some(held.to_string()));
        }
    }
    assert_eq!(taken.len(), 4);
}

#[test]
#[ignore = "the other half of the test above, run by it in a process of its own"]
fn the_child_reports_until_it_is_killed() {
    let round: u64 = std::env::var("EDGE_STORE_ROUND").unwrap().parse().unwrap();
    let store = EdgeStore::open(std::env::var("EDGE_STORE_PATH").unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let puts = (0..4).map(|n| {
            let body = json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
                "metadata": { "name": format!("d{n}"), "namespace": "home", "uid": format!("u{n}"), "resourceVersion": "1" },
                "spec": { "nodeName": "edge-1" } });
            Change::Put(Object::from_body(twin::devices().clone(), body.to_string().into()).unwrap())
        });
        store.apply(puts.collect()).await.unwrap();
        let devices = TwinHub::new(TwinConfig::new(node()), Arc::new(store.clone()));
        let twins = devices.handle();
        let (_, dialer) = memory(MemoryConfig::default());
        let hub = EdgeHub::with_store(EdgeHubConfig::new(node()), store);
        let hub = hub.with_dialer(dialer, Endpoint::parse("cloud:1").unwrap()).build();
        let reports = (0..4).map(|n| {
            let twins = twins.clone();
            async move {
                let name = format!("d{n}");
                let id = DeviceId::new("home", &name).unwrap();
                for step in 1u64.. {
                    let value = round * 1_000_000 + step;
                    let taken = twins.report(&id, [("n", Value::new(value.to_string()))]).await;
                    if taken.is_ok() {
                        println!("taken {name} {value} end");
                    }
                }
            }
        });
        tokio::join!(devices.run(hub.handle()), futures::future::join_all(reports));
    });
}

fn node() -> NodeId {
    NodeId::new("edge-1").unwrap()
}
