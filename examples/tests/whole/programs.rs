//! `cloudcore` and `edgecore` as processes: joined with a token, killed, started again, stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use examples::cloud::Addresses;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::Api;
use crate::process::Program;
use crate::world::{
    CONFIGMAPS, NODE, PODS, SECRETS, Tunnel, cloud_config, config_map, edge_config, over_both, pod, secret,
    until, within,
};

const CLOUDCORE: &str = env!("CARGO_BIN_EXE_cloudcore");
const EDGECORE: &str = env!("CARGO_BIN_EXE_edgecore");

/// Both programs' files.
struct Site {
    cloud: TempDir,
    edge: TempDir,
    tunnel: Tunnel,
    addresses: Addresses,
}

impl Site {
    async fn start(tunnel: Tunnel) -> (Self, Program) {
        let mut site = Self {
            cloud: tempfile::tempdir().unwrap(),
            edge: tempfile::tempdir().unwrap(),
            tunnel,
            addresses: Addresses::default(),
        };
        let cloud = site.cloudcore().await;
        (site, cloud)
    }

    /// Starts the cloud; a second time on the ports of the first.
    async fn cloudcore(&mut self) -> Program {
        let mut config = cloud_config(self.cloud.path(), self.tunnel);
        config.edge_tunnel.standalone.enable = false;
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let (hub, at) = (&mut config.modules.cloud_hub, &self.addresses);
        hub.websocket.port = port(at.websocket);
        hub.quic.port = port(at.quic);
        hub.https.port = port(at.https);
        config.edge_tunnel.standalone.server = format!("127.0.0.1:{}", port(at.api));
        let file = yaml(self.cloud.path(), &config);
        let mut cloud = Program::configured(CLOUDCORE, &file, &["--standalone"]);
        self.addresses = Addresses::parse(&cloud.line("cloudcore is ready").await);
        cloud
    }

    async fn token(&self) -> String {
        let output = Command::new(CLOUDCORE)
            .arg("--config")
            .arg(self.cloud.path().join("config.yaml"))
            .args(["token", "--node", NODE])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `cloudcore nodes`: whether it ended well, and what it said.
    async fn nodes(&self, more: &[&str]) -> (bool, String) {
        let config = self.cloud.path().join("config.yaml").display().to_string();
        let arguments = [&["--config", &config, "nodes"], more].concat();
        let (status, said) = Program::start(CLOUDCORE, &arguments).ended().await;
        (status.success(), said.join("\n"))
    }

    /// Starts the edge, and tells where its API is.
    async fn edgecore(&self, token: &str) -> (Program, Api) {
        let at = &self.addresses;
        let tunnel = at.websocket.or(at.quic).unwrap();
        let config = edge_config(self.edge.path(), NODE, at, tunnel, token, &["services"]);
        let file = yaml(self.edge.path(), &config);
        let mut edge = Program::configured(EDGECORE, &file, &[]);
        let ready = edge.line("edgecore is ready").await;
        let api = Addresses::parse(&ready).api.unwrap();
        (edge, Api(api))
    }

    fn cluster(&self) -> Api {
        Api(self.addresses.api.unwrap())
    }
}

fn yaml(folder: &Path, config: &impl Serialize) -> PathBuf {
    let file = folder.join("config.yaml");
    std::fs::write(&file, serde_saphyr::to_string(config).unwrap()).unwrap();
    file
}

/// Waits until the node serves this version of the ConfigMap from its own disk.
async fn serves(edge: Api, text: &str) {
    until(&format!("version {text}"), async || {
        let answer = edge.get(&format!("{CONFIGMAPS}/web")).await;
        (answer.body["data"]["text"] == text).then_some(())
    })
    .await;
}

async fn change(cluster: Api, text: &str) {
    cluster
        .merge(&format!("{CONFIGMAPS}/web"), json!({ "data": { "text": text } }))
        .await;
}

over_both!(either_program_may_be_killed_and_the_node_catches_up);
async fn either_program_may_be_killed_and_the_node_catches_up(tunnel: Tunnel) {
    let (mut site, cloud) = Site::start(tunnel).await;
    let cluster = site.cluster();
    cluster
        .create("/api/v1/namespaces", json!({ "metadata": { "name": "shop" } }))
        .await;
    cluster.create(CONFIGMAPS, config_map("web", "1")).await;
    cluster.create(SECRETS, secret("web")).await;
    cluster.create(PODS, pod("web", Some(NODE), "web", "web")).await;
    let (mut edge, api) = site.edgecore(&site.token().await).await;
    edge.line("connected to the cloud").await;
    serves(api, "1").await;
    until("the pod", async || {
        (api.names("/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1")
            .await
            == ["web"])
        .then_some(())
    })
    .await;

    // Nothing runs containers here: a pod says so, and one that is to go is gone.
    cluster.create(PODS, pod("brief", Some(NODE), "web", "web")).await;
    until("what the pod waits for", async || {
        let pod = cluster.get(&format!("{PODS}/brief")).await;
        (pod.body["status"]["reason"] == "NoContainerRuntime").then_some(())
    })
    .await;
    cluster.delete(&format!("{PODS}/brief")).await;
    until("the end of the pod", async || {
        (cluster.names(PODS).await == ["web"]).then_some(())
    })
    .await;

    // The cloud dies and comes back: what was acknowledged is there, and the node hears what is new.
    cloud.kill().await;
    edge.line("the link to the cloud is down").await;
    serves(api, "1").await;
    let cloud = site.cloudcore().await;
    edge.line("connected to the cloud").await;
    assert_eq!(cluster.names(PODS).await, ["web"]);
    change(cluster, "2").await;
    serves(api, "2").await;

    // The node dies; meanwhile things change, and the cloud dies too.
    edge.kill().await;
    change(cluster, "3").await;
    cluster.delete(&format!("{SECRETS}/web")).await;
    cloud.kill().await;

    // Without a cloud and without a token it answers from its disk.
    let (mut edge, api) = site.edgecore("").await;
    serves(api, "2").await;
    api.read(&format!("{SECRETS}/web")).await;
    let cloud = site.cloudcore().await;
    edge.line("connected to the cloud").await;
    serves(api, "3").await;
    until("the deletion", async || {
        (api.get(&format!("{SECRETS}/web")).await.status == 404).then_some(())
    })
    .await;

    let said = edge.stop("-TERM").await;
    assert!(said.last().unwrap().contains("edgecore has stopped"), "{said:#?}");
    let said = cloud.stop("-TERM").await;
    assert!(
        said.last().unwrap().contains("cloudcore has stopped"),
        "{said:#?}"
    );
    let trouble: Vec<_> = said
        .iter()
        .filter(|line| line.contains("panic") || line.contains("ERROR"))
        .collect();
    assert!(trouble.is_empty(), "{trouble:#?}");
}

over_both!(an_operator_sees_who_is_there_and_who_left);
async fn an_operator_sees_who_is_there_and_who_left(tunnel: Tunnel) {
    let (mut site, cloud) = Site::start(tunnel).await;
    let (mut edge, _) = site.edgecore(&site.token().await).await;
    edge.line("connected to the cloud").await;

    let transport = if tunnel == Tunnel::Quic {
        "quic"
    } else {
        "websocket"
    };
    let row = until("a healthy row", async || {
        let (_, said) = site.nodes(&[]).await;
        let row = said
            .lines()
            .find(|line| line.starts_with(NODE))
            .unwrap_or_default()
            .to_owned();
        (row.contains(" ok ") && row.contains("ms") && row.contains("edgecore-v")).then_some(row)
    })
    .await;
    assert!(row.contains(transport), "{row}");
    let (_, said) = site.nodes(&["--output", "json", "--node", NODE]).await;
    let all: examples::admin::Nodes = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(all.nodes.len(), 1);
    assert!(
        all.nodes[0].connected && all.nodes[0].address.is_some(),
        "{all:?}"
    );
    let (good, said) = site.nodes(&["--node", "nobody"]).await;
    assert!(
        !good && said.contains("node nobody has no session here"),
        "{said}"
    );

    // The numbers of the lanes are taken when somebody asks.
    let numbers = Api(site.addresses.metrics.unwrap()).text("/metrics").await;
    for wanted in [
        "cloudhub_lane_messages{lane=\"own\"}",
        "cloudhub_delivery_seconds_count{lane=",
        "KubeEdge_CloudHub_connected_nodes 1",
    ] {
        assert!(numbers.contains(wanted), "{wanted}: {numbers}");
    }

    // It says goodbye: over QUIC a killed one is only missed after half a minute.
    edge.stop("-TERM").await;
    until("the node's absence", async || {
        let (_, said) = site.nodes(&[]).await;
        said.contains("0 connected, 1 away").then_some(())
    })
    .await;

    // Another one with the same socket serves nodes, and says that it cannot be asked; the first still can.
    let first = site.addresses.clone();
    site.addresses = Addresses::default();
    let other = tempfile::tempdir().unwrap();
    let mut config = cloud_config(other.path(), tunnel);
    config.edge_tunnel.admin.socket = site.cloud.path().join("admin.sock");
    let mut second = Program::configured(CLOUDCORE, &yaml(other.path(), &config), &[]);
    second.line("another program answers there").await;
    second.line("cloudcore is ready").await;
    second.stop("-TERM").await;
    assert!(site.nodes(&[]).await.0);

    // A dead one leaves its socket; its successor takes it.
    site.addresses = first;
    cloud.kill().await;
    let (good, said) = site.nodes(&[]).await;
    assert!(!good && said.contains("is it running"), "{said}");
    let cloud = site.cloudcore().await;
    assert!(site.nodes(&[]).await.0);
    cloud.stop("-TERM").await;
    assert!(!site.cloud.path().join("admin.sock").exists());
}

#[tokio::test]
async fn help_is_help_and_says_where_settings_come_from() {
    for (program, wanted) in [
        (CLOUDCORE, ["--standalone", "token", "CLOUDCORE__", "RUST_LOG"]),
        (EDGECORE, ["--config", "--data-dir", "EDGECORE__", "RUST_LOG"]),
    ] {
        let (status, said) = Program::start(program, &["--help"]).ended().await;
        let said = said.join("\n");
        assert!(
            status.success() && wanted.iter().all(|text| said.contains(text)),
            "{said}"
        );
    }
}

over_both!(quickstart_shows_what_it_promises_and_ends_on_ctrl_c);
async fn quickstart_shows_what_it_promises_and_ends_on_ctrl_c(tunnel: Tunnel) {
    let transport = if tunnel == Tunnel::Quic {
        "quic"
    } else {
        "websocket"
    };
    let mut quickstart = Program::start(
        env!("CARGO_BIN_EXE_quickstart"),
        &[
            "--transport",
            transport,
            "--outage",
            "2s",
            "--edge-port",
            "0",
            "--cloud-port",
            "0",
        ],
    );
    for wanted in [
        "embedded cluster, tunnel",
        "connected",
        "everything it should hold",
        "RESOURCE",
        "v1/secrets",
        "cloud → mapper → cloud",
        "the cable is pulled",
        "the node still answers",
        "the parlour is set to 23 °C",
        "freezer, oven",
        "caught up",
        "the cloud hears of it",
        "fridge, oven",
    ] {
        quickstart.line(wanted).await;
    }
    let command = quickstart.line("curl http://").await;
    let url = command.trim().strip_prefix("curl http://").unwrap();
    let (address, path) = url.split_once('/').unwrap();
    let pods = within(
        "the printed command",
        Api(address.parse().unwrap()).names(&format!("/{path}")),
    )
    .await;
    assert_eq!(pods, ["camera-7", "web-0", "web-1"]);
    quickstart.line("Ctrl-C").await;
    let said = quickstart.stop("-INT").await;
    assert!(
        !said
            .iter()
            .any(|line| line.contains("(409)") || line.contains("ERROR")),
        "{said:#?}"
    );
}

#[tokio::test]
async fn a_busy_port_is_told_in_a_sentence() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    for [mine, other] in [["--edge-port", "--cloud-port"], ["--cloud-port", "--edge-port"]] {
        let arguments = [mine, port.as_str(), other, "0"];
        let (status, said) = Program::start(env!("CARGO_BIN_EXE_quickstart"), &arguments)
            .ended()
            .await;
        assert!(!status.success());
        let wanted = format!("cannot listen on 127.0.0.1:{port}");
        assert!(
            said.iter()
                .any(|line| line.contains(&wanted) && line.contains("is another program there?")),
            "{said:#?}"
        );
    }
}
