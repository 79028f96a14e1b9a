//! Clients that no one here wrote: Python's, JavaScript's, Go's, and the `kube` crate's. What each does stands beside this file in its own
//! language; here are the clusters and nodes that they are let loose on.

mod go;
mod rust;

use std::path::Path;
use std::process::Stdio;

use hub_core::testing::tools;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::client::Api;
use crate::world::{CONFIGMAPS, CloudHalf, EdgeHalf, NODE, Tunnel, config_map, within};

/// A client in another language.
#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    JavaScript,
}

impl Language {
    /// A run of the client's script.
    async fn command(self, server: Api, arguments: &str) -> Command {
        let folder = env!("CARGO_TARGET_TMPDIR");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/clients");
        let brought = tokio::task::spawn_blocking(move || match self {
            Self::Python => {
                let mut command = Command::new(tools::python(folder));
                command.arg(scripts.join("client.py"));
                command
            }
            Self::JavaScript => {
                let mut command = Command::from(tools::Node::find(folder).command());
                command.arg(scripts.join("client.mjs"));
                command
            }
        });
        let mut command = brought.await.unwrap();
        command
            .arg(format!("http://{}", server.0))
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs to its end, and says what it said.
    async fn run(self, server: Api, arguments: &str) -> String {
        let mut command = self.command(server, arguments).await;
        let output = within(&format!("{self:?} {arguments}"), command.output())
            .await
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn follow(self, server: Api) -> Follower {
        let mut child = self.command(server, "follow shop").await.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { _child: child, lines }
    }
}

/// A client that tells what it sees.
struct Follower {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    async fn line(&mut self) -> String {
        let line = within("a line", self.lines.next_line()).await.unwrap();
        line.expect("the client goes on").to_lowercase()
    }

    /// Reads on until it has seen all that was there.
    async fn synced(&mut self) {
        while self.line().await != "synced" {}
    }
}

async fn uses_a_cluster_as_any_other(language: Language) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    assert!(language.run(cloud.api, "all").await.ends_with("DONE\n"));
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_uses_the_embedded_cluster_as_any_other() {
    uses_a_cluster_as_any_other(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_javascript_client_uses_the_embedded_cluster_as_any_other() {
    uses_a_cluster_as_any_other(Language::JavaScript).await;
}

/// Lets clients on nodes do with ConfigMaps and events what they like: what they ask is asked in the name of their node.
pub(crate) async fn allow_nodes(cloud: &CloudHalf) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "resources": ["configmaps", "events"], "verbs": ["*"]});
    let role = json!({"metadata": {"name": "nodes"}, "rules": [rule]});
    cloud.api.create(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nodes"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    cloud
        .api
        .create(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
}

/// A node that holds the ConfigMaps of a namespace, of which there is one.
async fn node() -> (CloudHalf, EdgeHalf) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    allow_nodes(&cloud).await;
    cloud.api.create(CONFIGMAPS, config_map("a", "1")).await;
    let edge = cloud.edge(NODE, &["configmaps"]).await;
    (cloud, edge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_on_a_node_live_through_a_cut_and_miss_nothing() {
    let (cloud, edge) = node().await;
    let mut python = Language::Python.follow(edge.api).await;
    let mut javascript = Language::JavaScript.follow(edge.api).await;
    python.synced().await;
    javascript.synced().await;
    cloud.api.create(CONFIGMAPS, config_map("b", "1")).await;
    assert_eq!(python.line().await, "added b");
    assert_eq!(javascript.line().await, "add b");
    edge.cut().await;
    for language in [Language::Python, Language::JavaScript] {
        assert_eq!(
            language.run(edge.api, "offline shop").await,
            "REFUSED\n",
            "{language:?}"
        );
    }
    cloud.api.create(CONFIGMAPS, config_map("c", "1")).await;
    cloud.api.delete(&format!("{CONFIGMAPS}/a")).await;
    edge.restore().await;
    // Which of the two comes first is nobody's to say.
    let sorted = |a: String, b: String| if a < b { [a, b] } else { [b, a] };
    assert_eq!(
        sorted(python.line().await, python.line().await),
        ["added c", "deleted a"]
    );
    assert_eq!(
        sorted(javascript.line().await, javascript.line().await),
        ["add c", "delete a"]
    );
    edge.end().await;
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_speaks_cbor_where_its_file_says_so() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    for speaks in [true, false] {
        let node = if speaks { "edge-1" } else { "edge-2" };
        let edge = cloud
            .edge_with(node, &[], |config, _| {
                config.edge_tunnel.meta_server.cbor = speaks
            })
            .await;
        let mut stream = TcpStream::connect(edge.api.0).await.unwrap();
        let request = "GET /api/v1/namespaces/shop HTTP/1.1\r\nhost: node\r\naccept: application/cbor,application/json\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within("the answer", stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
        // What every document in CBOR begins with, as Kubernetes writes it.
        let is_cbor = answer.windows(3).any(|window| window == b"\xd9\xd9\xf7");
        assert_eq!(is_cbor, speaks);
        edge.end().await;
    }
    cloud.end().await;
}
