//! An operator asks a node: `edgecore meta`, and what it says when a port is taken.

use std::net::TcpListener;
use std::path::Path;

use examples::cloud::Addresses;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Api;
use crate::process::Program;
use crate::world::{CONFIGMAPS, CloudHalf, NODE, PODS, SERVICES, Tunnel, config_map, pod, service, until};

const EDGECORE: &str = env!("CARGO_BIN_EXE_edgecore");

/// `edgecore meta`, with a socket in a folder: whether it ended well, and what it said.
async fn meta(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let config = folder.join("asking.yaml");
    let socket = folder.join("edgecore.sock").display().to_string();
    let text = json!({ "edgeTunnel": { "admin": { "socket": socket } } });
    std::fs::write(&config, text.to_string()).unwrap();
    let config = config.display().to_string();
    let arguments = [&["--config", &config, "meta"], arguments].concat();
    let (status, said) = Program::start(EDGECORE, &arguments).ended().await;
    (status.success(), said.join("\n"))
}

async fn asked(folder: &Path, arguments: &[&str]) -> String {
    let (good, said) = meta(folder, arguments).await;
    assert!(good, "{arguments:?}: {said}");
    said
}

#[tokio::test]
async fn t24_k25_a_taken_port_leaves_the_node_agent_running_and_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    let config = json!({
        "modules": { "edged": { "hostnameOverride": NODE }, "edgeHub": { "enable": false },
            "metaManager": { "metaServer": { "enable": true, "server": address.to_string() } } },
    });
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let data = folder.path().display().to_string();
    let mut edge = Program::configured(EDGECORE, &file, &["--data-dir", &data]);
    edge.line("the node's API is not served yet").await;
    edge.line("edgecore is ready").await;
    let said = asked(folder.path(), &["scopes"]).await;
    assert!(
        said.contains("the node's API does not listen") && said.contains(&address.to_string()),
        "{said}"
    );
    drop(busy);
    edge.line("is served on").await;
    assert_eq!(Api(address).get("/healthz").await.status, 200);
    let said = asked(folder.path(), &["scopes", "--output", "json"]).await;
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(said["apiTrouble"].is_null(), "{said}");
    edge.stop("-TERM").await;
    let (good, said) = meta(folder.path(), &["scopes"]).await;
    assert!(!good && said.contains("is it running"), "{said}");
}

#[tokio::test]
async fn an_operator_sees_what_a_node_holds_who_watches_and_why_it_answers_so() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    cloud.api.create(CONFIGMAPS, config_map("web", "1")).await;
    cloud.api.create(PODS, pod("web", Some(NODE), "web", "web")).await;
    cloud.api.create(SERVICES, service("web")).await;
    let edge = cloud.edge(NODE, &["services"]).await;
    let folder = edge.folder();
    let row = until("the services", async || {
        let said = asked(folder, &["scopes"]).await;
        let row = said.lines().find(|line| line.starts_with("/api/v1/services "))?;
        row.contains(" live ").then(|| row.to_owned())
    })
    .await;
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!((cells[1], cells[2], cells[4]), ("live", "1", "-"), "{row}");

    let _watch = edge.api.watch(&format!("{SERVICES}?watch=true")).await;
    let row = until("the watch", async || {
        let said = asked(folder, &["watchers"]).await;
        said.lines()
            .find(|line| line.starts_with(SERVICES))
            .map(str::to_owned)
    })
    .await;
    assert!(row.contains("watch=true"), "{row}");

    let said = asked(folder, &["why", &format!("{SERVICES}/web")]).await;
    for wanted in [
        "200 from the store",
        "/api/v1/services",
        "delete: refused with 503",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    edge.cut().await;
    let said = asked(folder, &["why", "/api/v1/secrets?labelSelector=a%3Db"]).await;
    assert!(
        said.contains("503 from the server itself") && said.contains("away for"),
        "{said}"
    );
    let said = asked(folder, &["why", "/api/v1/secrets", "-o", "json"]).await;
    let why: metaserver::Why = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((why.code, why.source.as_str()), (Some(503), "own"));

    // What is written while the cloud is away waits for it.
    let annotated = json!({ "metadata": { "annotations": { "a": "b" } } });
    edge.api.merge(&format!("/api/v1/nodes/{NODE}"), annotated).await;
    let said = asked(folder, &["journal"]).await;
    assert!(said.contains(&format!("/api/v1/nodes/{NODE}")), "{said}");
    let (good, said) = meta(folder, &["allow", "--all"]).await;
    assert!(!good && said.contains("nothing is held back"), "{said}");
    let (good, said) = meta(folder, &["allow"]).await;
    assert!(!good && said.contains("required"), "{said}");
}

#[tokio::test]
async fn metrics_of_a_node_are_taken_when_somebody_asks() {
    let folder = TempDir::new().unwrap();
    let config = json!({
        "modules": { "edged": { "hostnameOverride": NODE }, "edgeHub": { "enable": false },
            "metaManager": { "metaServer": { "enable": true, "server": "127.0.0.1:0" } } },
        "edgeTunnel": { "metrics": "127.0.0.1:0" },
    });
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let data = folder.path().display().to_string();
    let mut edge = Program::configured(EDGECORE, &file, &["--data-dir", &data]);
    let at = Addresses::parse(&edge.line("edgecore is ready").await);
    assert_eq!(Api(at.api.unwrap()).get("/api/v1/pods").await.status, 503);
    let numbers = Api(at.metrics.unwrap()).text("/metrics").await;
    for wanted in [
        "metaserver_cloud_away_seconds",
        "metaserver_objects",
        "code=\"503\"",
        "edge_link_up 0",
    ] {
        assert!(numbers.contains(wanted), "{wanted}: {numbers}");
    }
    edge.stop("-TERM").await;
}
