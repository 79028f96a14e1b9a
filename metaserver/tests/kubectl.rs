//! kubectl against a node, with the cloud and without it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::store::{Change, ObjectStore as _};
use hub_core::testing::tools;
use metaserver::MetaConfig;
use serde_json::json;
use support::{Mood, Node, config_map, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

struct Kubectl {
    program: &'static Path,
    home: tempfile::TempDir,
    server: String,
}

impl Kubectl {
    async fn of(node: &Node) -> Self {
        let found = tokio::task::spawn_blocking(|| tools::kubectl(env!("CARGO_TARGET_TMPDIR")));
        Self {
            program: found.await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            server: format!("http://{}", node.address),
        }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.program);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home.path())
            .args(["--server", &self.server, "--request-timeout", "20s"])
            .args(arguments.split(' '))
            .kill_on_drop(true);
        command
    }

    async fn output(&self, arguments: &str) -> Output {
        tokio::time::timeout(
            std::time::Duration::from_secs(60),
            self.command(arguments).output(),
        )
        .await
        .unwrap()
        .unwrap()
    }

    async fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn node() -> Node {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.cloud.put(
        "pods",
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "edge-1", "containers": [{"name": "main", "image": "web:1"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses":
                [{"name": "main", "ready": true, "restartCount": 2, "state": {"running": {}}}]}}),
    );
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_works_alike_with_the_cloud_and_without_it() {
    let node = node().await;
    let kubectl = Kubectl::of(&node).await;
    let commands = [
        "get pods -n shop",
        "get pods -A -o wide",
        "get pods -n shop -o json",
        "get configmap a -n shop -o yaml",
        "get configmaps -n shop --show-labels",
        "describe configmap a -n shop",
        "api-resources",
        "api-versions",
        "get --raw /apis/apps/v1",
        "version -o json",
    ];
    let mut online = Vec::new();
    for command in commands {
        online.push(kubectl.run(command).await);
    }
    assert!(
        online[0].contains("web") && online[0].contains("1/1") && online[0].contains("Running"),
        "{}",
        online[0]
    );
    assert!(
        online[1].contains("10.0.0.7") && online[1].contains("edge-1"),
        "{}",
        online[1]
    );
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    for (command, online) in commands.into_iter().zip(online) {
        assert_eq!(kubectl.run(command).await, online, "{command}");
    }
    let refused = kubectl.output("get secrets -n shop --request-timeout 3s").await;
    assert!(!refused.status.success(), "what is not held is no empty list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_works_with_the_cloud_and_is_refused_without_it() {
    let node = node().await;
    let kubectl = Kubectl::of(&node).await;
    kubectl.run("get configmaps -n shop").await;
    let file = kubectl.home.path().join("b.json");
    std::fs::write(&file, config_map("shop", "b", "1").to_string()).unwrap();
    kubectl.run(&format!("create -f {}", file.display())).await;
    kubectl.run("label configmap b -n shop tier=front").await;
    kubectl
        .run(r#"patch configmap b -n shop --type merge -p {"data":{"k":"w"}}"#)
        .await;
    kubectl
        .run(r#"patch configmap b -n shop --type json -p [{"op":"replace","path":"/data/k","value":"x"}]"#)
        .await;
    assert_eq!(
        kubectl
            .run("get configmap b -n shop -o jsonpath={.data.k}/{.metadata.labels.tier}")
            .await,
        "x/front"
    );
    std::fs::write(
        &file,
        kubectl
            .run("get configmap b -n shop -o json")
            .await
            .replace("\"x\"", "\"y\""),
    )
    .unwrap();
    kubectl.run(&format!("replace -f {}", file.display())).await;
    assert_eq!(
        kubectl.run("get configmap b -n shop -o jsonpath={.data.k}").await,
        "y"
    );
    kubectl.run("delete configmap b -n shop --wait=false").await;
    assert!(!kubectl.output("get configmap b -n shop").await.status.success());
    node.cloud.mood(Mood::Unreachable);
    let refused = kubectl
        .output("label configmap a -n shop tier=front --request-timeout 3s")
        .await;
    assert!(!refused.status.success());
    assert_eq!(
        kubectl
            .run("get configmap a -n shop -o jsonpath={.metadata.labels.tier}")
            .await,
        ""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_created_by_command_reaches_the_cloud_though_kubectl_writes_protobuf() {
    let node = node().await;
    let kubectl = Kubectl::of(&node).await;
    for (create, read, expected) in [
        (
            "namespace lab",
            "namespace lab -o jsonpath={.metadata.name}",
            "lab",
        ),
        (
            "configmap b -n shop --from-literal=k=v",
            "configmap b -n shop -o jsonpath={.data.k}",
            "v",
        ),
        (
            "secret generic s -n shop --from-literal=k=v",
            "secret s -n shop -o jsonpath={.data.k}",
            "dg==",
        ),
        (
            "service clusterip web -n shop --tcp=80:8080",
            "service web -n shop -o jsonpath={.spec.ports[0].targetPort}",
            "8080",
        ),
        (
            "deployment web -n shop --image=web:1 --replicas=0",
            "deployment web -n shop -o jsonpath={.spec.replicas}{.spec.template.spec.containers[0].image}",
            "0web:1",
        ),
    ] {
        kubectl.run(&format!("create {create}")).await;
        assert_eq!(kubectl.run(&format!("get {read}")).await, expected, "{create}");
    }
    let again = kubectl.output("create configmap b -n shop").await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_through_an_outage() {
    let node = node().await;
    let kubectl = Kubectl::of(&node).await;
    let mut child = kubectl
        .command("get configmaps -n shop -w -o name --request-timeout 0")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(soon(lines.next_line()).await.unwrap().unwrap(), "configmap/a");
    node.cloud.mood(Mood::Unreachable);
    node.cloud.put("configmaps", config_map("shop", "b", "1"));
    node.cloud.mood(Mood::Up);
    assert_eq!(soon(lines.next_line()).await.unwrap().unwrap(), "configmap/b");
}

/// A node that holds its own pod and one ConfigMap, as every node does, and was asked for nothing else.
async fn cut_off(config: MetaConfig) -> Node {
    let node = Node::with(config).await;
    let pods = GroupVersionResource::core("pods");
    let pod = |name: &str, on: &str| json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"}, "spec": {"nodeName": on}});
    node.receives(&pods, pod("web", "edge-1"), 1).await;
    node.hold("configmaps", config_map("shop", "settings", "1")).await;
    let own = Scope {
        fields: "spec.nodeName=edge-1".into(),
        ..Scope::all(pods)
    };
    let changes = vec![Change::Want(own.clone()), Change::Complete(own)];
    node.store.apply(changes).await.unwrap();
    node.cloud.mood(Mood::Unreachable);
    node
}

#[tokio::test]
async fn people_see_what_is_held_of_a_kind_and_programs_hear_that_it_is_not_all() {
    let node = cut_off(MetaConfig::default()).await;
    for (path, held) in [
        ("/api/v1/pods?limit=500", "web"),
        ("/api/v1/namespaces/shop/pods?limit=500", "web"),
        ("/api/v1/namespaces/shop/configmaps?limit=500", "settings"),
    ] {
        let shown = node.ask("GET", path, KUBECTL, "").await;
        assert_eq!(
            (shown.code.as_u16(), shown.names()),
            (200, vec![held.into()]),
            "{path}"
        );
        assert!(
            shown.header("warning").contains("only what this node holds"),
            "{path}"
        );
        assert_eq!(node.get(path).await.code, 503, "{path}: a program");
    }
    let mut watch = node.watch_as("/api/v1/pods?watch=true", KUBECTL).await;
    assert_eq!(watch.short().await, "ADDED web");
    for path in [
        // Nothing of it is held, so an empty list would be a lie.
        "/api/v1/namespaces/other/pods?limit=500",
        "/apis/apps/v1/deployments",
        // `kubectl wait --for=delete` takes an empty list for a deletion.
        "/api/v1/namespaces/shop/configmaps?fieldSelector=metadata.name%3Dother",
        "/api/v1/namespaces/shop/configmaps?fieldSelector=metadata.name%3Dsettings",
    ] {
        assert_eq!(node.ask("GET", path, KUBECTL, "").await.code, 503, "{path}");
    }
}

#[tokio::test]
async fn describing_the_own_node_asks_for_a_part_of_the_pods_that_every_node_holds() {
    let node = cut_off(MetaConfig::default()).await;
    let running = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1%2Cstatus.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&limit=500";
    let pods = node.get(running).await;
    assert_eq!((pods.code.as_u16(), pods.names()), (200, vec!["web".into()]));
    assert_eq!(
        node.get("/api/v1/pods?fieldSelector=status.phase%21%3DFailed")
            .await
            .code,
        503
    );
}

#[tokio::test]
async fn once_the_cloud_is_long_away_people_hear_at_once_what_cannot_be_had() {
    let lost = "/apis/apps/v1/namespaces/shop/deployments/d";
    let node = cut_off(MetaConfig::default()).await;
    let refused = node.ask("GET", lost, KUBECTL, "").await;
    assert_eq!(
        (refused.code.as_u16(), refused.header("retry-after")),
        (503, "1"),
        "it may be back in a moment"
    );
    let node = cut_off(MetaConfig {
        people_wait: Duration::ZERO,
        ..MetaConfig::default()
    })
    .await;
    for (method, path) in [
        ("GET", lost),
        ("DELETE", lost),
        ("GET", "/api/v1/namespaces/shop/pods/web/log"),
        ("GET", "/apis/apps/v1/deployments?watch=true"),
    ] {
        let refused = node.ask(method, path, KUBECTL, "").await;
        assert_eq!(
            (refused.code.as_u16(), refused.headers.get("retry-after")),
            (503, None),
            "{path}"
        );
        let refused = node.ask(method, path, &[], "").await;
        assert_eq!(
            (refused.code.as_u16(), refused.header("retry-after")),
            (503, "1"),
            "{path}: a program"
        );
    }
}

/// As it names itself.
const KUBECTL: &[(&str, &str)] = &[("user-agent", "kubectl/v1.36.4 (linux/amd64) kubernetes/0000000")];
