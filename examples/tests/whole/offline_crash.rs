//! A node that is killed while its agents write with the cable pulled: what was answered is there, what was not is there at most once,
//! and the cloud is told of each once.
//!
//! The node is this test's own program in another process: a metaServer over the node's store, with a cloud that is never there. It
//! is killed with SIGKILL while writes are on their way, many of them between the disk and the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::store::EdgeStore;
use hub_core::api::{ApiRequest, ApiResponse, Target, UpstreamError, Verb};
use hub_core::object::{GroupVersionResource, Object};
use hub_core::scope::Scope;
use hub_core::store::{Change, ObjectStore};
use hub_core::testing::child::other_half;
use hyper::Method;
use metaserver::{LocalWrites, MetaConfig, MetaServer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::client::Api;
use crate::world::{NODE, until, within};

const EVENTS: &str = "/api/v1/namespaces/shop/events";
const OWN: &str = "/api/v1/nodes/edge-1";
const KILLS: usize = 12;
const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_answered_is_there_once_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let own = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE, "uid": "u", "resourceVersion": "7",
        "annotations": {"count": "0"}}});
    let nodes = GroupVersionResource::core("nodes");
    let store = EdgeStore::open(&path).unwrap();
    let object = Object::from_body(nodes, own.to_string().into()).unwrap();
    let events = Scope::namespaced(GroupVersionResource::core("events"), "shop");
    let changes = vec![
        Change::Put(object),
        Change::Want(events.clone()),
        Change::Complete(events),
    ];
    store.apply(changes).await.unwrap();
    drop(store);

    let (mut answered, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let mut counted = 0_u64;
    for round in 0..KILLS {
        let (mut child, api) = child(&path).await;
        let held = count(&api.read(OWN).await);
        assert!(
            held == counted || held == counted + 1,
            "round {round}: {held} after {counted}"
        );
        counted = held;
        let there: BTreeSet<String> = api.names(EVENTS).await.into_iter().collect();
        assert!(
            there.is_superset(&answered),
            "round {round}: {:?} are lost",
            answered.difference(&there)
        );
        assert!(asked.is_superset(&there), "round {round}: nobody wrote these");
        let notes = Arc::new(Mutex::new((Vec::new(), Vec::new(), counted)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(api, round, writer, notes.clone())))
            .collect();
        let some = 3 + round * 5;
        until("some answers", async || {
            (notes.lock().unwrap().1.len() >= some).then_some(())
        })
        .await;
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        for writer in writers {
            let _ = writer.await;
        }
        let notes = notes.lock().unwrap();
        asked.extend(notes.0.iter().cloned());
        answered.extend(notes.1.iter().cloned());
        counted = notes.2;
    }

    // The link is back.
    let told: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let cloud = Cloud {
        own,
        version: 7,
        told: told.clone(),
    };
    let cloud = Arc::new(Mutex::new(cloud));
    let store = EdgeStore::open(&path).unwrap();
    let server = MetaServer::with_config(
        config(),
        store,
        tower::service_fn({
            let cloud = cloud.clone();
            move |request| std::future::ready(Ok(cloud.lock().unwrap().answer(&request)))
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_on(listener, std::future::pending()).await }
    });
    until("the end of what is to be told", async || {
        server.local_journal().pending.is_empty().then_some(())
    })
    .await;
    assert!(server.local_journal().conflicts.is_empty());
    let told = told.lock().unwrap();
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    let names: BTreeSet<String> = told.keys().cloned().collect();
    assert!(names.is_superset(&answered) && asked.is_superset(&names));
    assert!(answered.len() > KILLS);
    let final_count = count(&cloud.lock().unwrap().own);
    assert!(
        final_count == counted || final_count == counted + 1,
        "{final_count} after {counted}"
    );
    serving.abort();
}

/// The names that were asked for, those that were answered, and the last number of the count.
type Notes = (Vec<String>, Vec<String>, u64);

/// Events, and between them a count that goes up by one only from the number that the writer knows.
async fn write(api: Api, round: usize, writer: usize, notes: Arc<Mutex<Notes>>) {
    for n in 0.. {
        let name = format!("e{round}-{writer}-{n}");
        notes.lock().unwrap().0.push(name.clone());
        let event = json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "web"}});
        let made = api
            .send(Method::POST, EVENTS, "application/json", event.to_string())
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        notes.lock().unwrap().1.push(name);
        if writer > 0 {
            continue;
        }
        let known = notes.lock().unwrap().2;
        let step = json!([
            {"op": "test", "path": "/metadata/annotations/count", "value": known.to_string()},
            {"op": "replace", "path": "/metadata/annotations/count", "value": (known + 1).to_string()},
        ]);
        let stepped = api
            .send(
                Method::PATCH,
                OWN,
                "application/json-patch+json",
                step.to_string(),
            )
            .await;
        assert_eq!(stepped.status, 200, "{}", stepped.body);
        notes.lock().unwrap().2 = known + 1;
    }
}

async fn child(path: &Path) -> (tokio::process::Child, Api) {
    let mut command = other_half("offline_crash::the_node_that_is_killed");
    command.env("OFFLINE_CRASH_STORE", path);
    let mut child = Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = within("the child's address", async {
        loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("the child serves until it is killed");
            if let Some((_, address)) = line.split_once("serves ") {
                return address.parse().unwrap();
            }
        }
    })
    .await;
    // Its pipe must stay open as long as it lives.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, Api(address))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other half of the test above, run by it in a process of its own"]
async fn the_node_that_is_killed() {
    let store = EdgeStore::open(std::env::var("OFFLINE_CRASH_STORE").unwrap()).unwrap();
    let server = MetaServer::with_config(
        config(),
        store,
        tower::service_fn(|_: ApiRequest| {
            std::future::ready(Err::<ApiResponse, _>(UpstreamError::Unreachable))
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("serves {}", listener.local_addr().unwrap());
    server.serve_on(listener, std::future::pending()).await.unwrap();
}

/// Takes events, and patches of one node.
struct Cloud {
    own: Value,
    version: u64,
    told: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Cloud {
    fn answer(&mut self, request: &ApiRequest) -> ApiResponse {
        let mut body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let Target::Resource { resource, .. } = &request.target else {
            return hub_core::api::Status::not_found("", "paths", "").into();
        };
        self.version += 1;
        let version = Value::from(self.version.to_string());
        match (&*resource.resource, request.verb) {
            ("events", Verb::Create) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                *self.told.lock().unwrap().entry(name).or_default() += 1;
                body["metadata"]["resourceVersion"] = version;
                body["metadata"]["uid"] = "cloud".into();
                ApiResponse::json(201, body.to_string())
            }
            ("nodes", Verb::Patch) => {
                if let Some(value) = body.pointer("/metadata/annotations/count") {
                    self.own["metadata"]["annotations"]["count"] = value.clone();
                }
                self.own["metadata"]["resourceVersion"] = version;
                ApiResponse::json(200, self.own.to_string())
            }
            ("nodes", Verb::Get) => ApiResponse::json(200, self.own.to_string()),
            _ => hub_core::api::Status::not_found("", &resource.resource, "").into(),
        }
    }
}

fn config() -> MetaConfig {
    MetaConfig {
        cloud_pause: Duration::from_millis(10),
        local_writes: LocalWrites {
            retry_pause: Duration::from_millis(10),
            ..LocalWrites::of_node(NODE)
        },
        ..MetaConfig::default()
    }
}

fn count(node: &Value) -> u64 {
    let count = &node["metadata"]["annotations"]["count"];
    count.as_str().unwrap().parse().unwrap()
}
