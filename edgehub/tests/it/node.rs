//! A node without a kubelet speaks for itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::NodeAgentConfig;
use hub_core::message::{Content, Message};
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Script};
use crate::world::{Edge, config, node};

const LEASE: &str = "kube-node-lease/lease/edge-1";
const PATCH: &str = "null/nodepatch/edge-1";

/// EdgeController, with the lease's version; a lease may be updated only by its version.
fn controller(node_exists: Arc<Mutex<bool>>) -> Script {
    let rest = nothing_differs();
    let lease: Mutex<Option<u64>> = Mutex::new(Some(7));
    Arc::new(move |message| {
        let object = |object: Value| json!({ "Object": object, "Err": null });
        let failure =
            |code: u16| json!({ "Object": null, "Err": { "ErrStatus": { "code": code, "message": "no" } } });
        let content: Value = serde_json::from_slice(&message.content.document()).unwrap_or_default();
        let answer = match (message.route.operation.as_str(), message.route.resource.as_str()) {
            ("insert", "null/node/edge-1") => object(json!({ "metadata": { "uid": "n" } })),
            ("patch", PATCH) if !*node_exists.lock().unwrap() => failure(404),
            ("patch", PATCH) => object(json!({})),
            (operation, LEASE) => {
                let mut version = lease.lock().unwrap();
                match (operation, *version) {
                    ("insert", Some(_)) => failure(409),
                    ("query", Some(v)) => {
                        object(json!({ "metadata": { "resourceVersion": v.to_string() }, "spec": {} }))
                    }
                    ("update", Some(v))
                        if content["metadata"]["resourceVersion"].as_str() == Some(&v.to_string()) =>
                    {
                        *version = Some(v + 1);
                        let mut lease = content;
                        lease["metadata"]["resourceVersion"] = (v + 1).to_string().into();
                        object(lease)
                    }
                    _ => failure(409),
                }
            }
            _ => return rest(message),
        };
        Some(Reply::Answer(
            message.response(Content::encode(&answer)),
            Lane::Urgent,
        ))
    })
}

fn operation(message: &Message) -> &str {
    message.route.operation.as_str()
}

async fn start(exists: &Arc<Mutex<bool>>) -> (Cloud, Edge) {
    let (cloud, dialer) = Cloud::start(&node(), Capabilities::NONE, controller(exists.clone()));
    let mut config = config();
    config.agent = Some(NodeAgentConfig {
        lease_interval: Duration::from_millis(20),
        status_interval: Duration::from_millis(20),
        register_again: None,
        ..NodeAgentConfig::default()
    });
    (cloud, Edge::start(config, dialer))
}

#[tokio::test]
async fn it_registers_reports_ready_and_renews_the_lease_it_finds() {
    let (mut cloud, _edge) = start(&Arc::new(Mutex::new(true))).await;
    let registered = cloud.wait_for("null/node/edge-1").await;
    assert_eq!(
        (
            operation(&registered),
            &*registered.route.source,
            &*registered.route.group
        ),
        ("insert", "edged", "meta")
    );
    // Another life of this node left a lease: it is taken up, with its version.
    let mut operations = Vec::new();
    while operations.len() < 3 {
        operations.push(cloud.wait_for(LEASE).await);
    }
    let said: Vec<_> = operations.iter().map(operation).collect();
    assert_eq!(said, ["query", "update", "update"]);
    let last: Value = serde_json::from_slice(&operations[2].content.document()).unwrap();
    assert_eq!(last["metadata"]["resourceVersion"], "8");
    assert!(last["spec"]["renewTime"].as_str().unwrap().ends_with('Z'));
    let patch = cloud.wait_for(PATCH).await;
    let patch: Value = serde_json::from_str(&patch.content.as_string().unwrap()).unwrap();
    assert_eq!(patch["status"]["conditions"][3]["type"], "Ready");
}

#[tokio::test]
async fn a_deleted_node_does_not_come_back_by_itself() {
    let exists = Arc::new(Mutex::new(true));
    let (mut cloud, _edge) = start(&exists).await;
    cloud.wait_for(PATCH).await;
    *exists.lock().unwrap() = false;
    let silence = async {
        while tokio::time::timeout(Duration::from_millis(200), cloud.inbox.recv())
            .await
            .is_ok()
        {}
    };
    crate::world::within("silence", silence).await;
}
