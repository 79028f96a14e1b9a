//! kubectl against a node, with the cloud and without it, and against the embedded cluster.

use std::path::Path;
use std::process::Stdio;

use examples::api::manifests;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::Registry;
use hub_core::store::{Coverage, ObjectStore};
use hub_core::testing::tools;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::client::Api;
use crate::world::{CloudHalf, EdgeHalf, NODE, PODS, Tunnel, config_map, pod, until, within};

pub(crate) struct Kubectl {
    program: &'static Path,
    home: TempDir,
    server: Api,
}

impl Kubectl {
    pub(crate) async fn at(server: Api) -> Self {
        let found = tokio::task::spawn_blocking(|| tools::kubectl(env!("CARGO_TARGET_TMPDIR")));
        Self {
            program: found.await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            server,
        }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.program);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home.path())
            // As a person would who changes the tag of every image.
            .env("EDITOR", "sed -i s/web:[0-9]/web:edited/")
            .current_dir(self.home.path())
            .args(["--server", &format!("http://{}", self.server.0)])
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &str) -> String {
        let output = within(arguments, self.command(arguments).output()).await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether it went well, and all that it said.
    pub(crate) async fn say(&self, arguments: &str) -> (bool, String) {
        let output = within(arguments, self.command(arguments).output()).await.unwrap();
        let [out, error] =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        (output.status.success(), out + &error)
    }

    async fn refused(&self, arguments: &str) -> String {
        let output = within(arguments, self.command(arguments).output()).await.unwrap();
        assert!(!output.status.success(), "kubectl {arguments}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A place for a file, which commands name without its folder.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file for `-f`.
    pub(crate) fn file(&self, object: &serde_json::Value) -> String {
        let file = self.path("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        file.display().to_string()
    }
}

/// The quickstart's cluster, and an edge that holds what clients have asked for.
async fn quickstart() -> (CloudHalf, EdgeHalf) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let mut api = examples::api::Api::connect(&cloud.api.0.to_string())
        .await
        .unwrap();
    // One registry learns the kinds that the manifests define.
    let registry = Registry::builtin();
    let objects = manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")).unwrap();
    for object in &objects {
        if object["kind"] == "Sensor" {
            cloud
                .api
                .create(
                    "/apis/factory.example.com/v1/namespaces/shop/sensors",
                    object.clone(),
                )
                .await;
        } else {
            api.create(&registry, object).await.unwrap();
        }
    }
    // kubectl before 1.31 describes a Service by these.
    let endpoints = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "web", "namespace": "shop" } });
    cloud
        .api
        .create("/api/v1/namespaces/shop/endpoints", endpoints)
        .await;
    let edge = cloud.edge(NODE, &["services", "namespaces"]).await;
    (cloud, edge)
}

/// What people type, and what must be in the answer.
const READS: [(&str, &[&str]); 13] = [
    (
        "get pods -A",
        &["NAMESPACE", "shop", "web-0", "web-1", "camera-7"],
    ),
    ("get pods -n shop -o wide", &["NODE", "edge-1", "edge-2"]),
    (
        "get pod web-0 -n shop -o yaml",
        &["kind: Pod", "nodeName: edge-1", "name: web-config"],
    ),
    ("get svc -n shop", &["TYPE", "CLUSTER-IP", "camera", "80/TCP"]),
    ("get svc web -n shop -o jsonpath={.spec.selector.app}", &["web"]),
    ("get nodes", &["STATUS", "edge-1"]),
    (
        "get configmap web-config -n shop -o yaml",
        &["worker_processes 1;"],
    ),
    ("get sensors -n shop", &["UNIT", "LIMIT", "oven", "240"]),
    (
        "describe pod web-0 -n shop",
        &["Name:", "edge-1/", "ConfigMap", "web-tls"],
    ),
    ("describe svc web -n shop", &["Selector:", "app=web"]),
    ("describe configmap web-config -n shop", &["greeting"]),
    ("api-resources", &["pods", "Sensor", "networkpolicies"]),
    ("version", &["v1.36.2"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_read_on_a_node_they_read_there_without_the_cloud_too() {
    let (cloud, edge) = quickstart().await;
    let kubectl = Kubectl::at(edge.api).await;
    for (command, wanted) in READS {
        let said = kubectl.run(command).await;
        assert!(
            wanted.iter().all(|text| said.contains(text)),
            "kubectl {command}:\n{said}"
        );
    }
    let mut child = kubectl
        .command("get svc -n shop -w -o name")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for wanted in ["service/camera", "service/web"] {
        assert_eq!(
            within("a line", lines.next_line()).await.unwrap().unwrap(),
            wanted
        );
    }
    until("all that was asked for", async || {
        let scopes = edge.store.scopes();
        scopes
            .iter()
            .all(|(_, coverage)| *coverage == Coverage::Complete)
            .then_some(())
    })
    .await;
    edge.cut().await;
    for (command, wanted) in READS {
        let said = kubectl.run(command).await;
        assert!(
            wanted.iter().all(|text| said.contains(text)),
            "kubectl {command}:\n{said}"
        );
    }
    // What nobody asked for while the cloud was there is not an empty list.
    let said = kubectl.refused("get deployments -A --request-timeout 3s").await;
    assert!(!said.contains("No resources found"), "{said}");
    Kubectl::at(cloud.api)
        .await
        .run("label svc web -n shop tier=front")
        .await;
    edge.restore().await;
    assert_eq!(
        within("an event", lines.next_line()).await.unwrap().unwrap(),
        "service/web"
    );
    edge.end().await;
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_first_after_the_cable_was_pulled_sees_the_node_and_what_it_runs() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    cloud.api.create(PODS, pod("web", Some(NODE), "a", "none")).await;
    let edge = cloud
        .edge_with(NODE, &[], |config, _| {
            let kubelet = &mut config.modules.edged.tailored_kubelet_config;
            kubelet.node_lease_duration_seconds = 4;
        })
        .await;
    let renewed = async || {
        let leases = cloud
            .api
            .read("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
            .await;
        let at = leases["items"][0]["spec"]["renewTime"].clone();
        at.is_string().then_some(at)
    };
    // A second one says that the node has heard what became of the first.
    let first = until("the node's lease", &renewed).await;
    until("the next one", async || renewed().await.filter(|at| *at != first)).await;
    let pods = GroupVersionResource::core("pods");
    until("the node's pod", async || {
        (!edge.store.list(&pods, None).objects.is_empty()).then_some(())
    })
    .await;
    let kubectl = Kubectl::at(edge.api).await;
    edge.cut().await;
    for (command, wanted) in [
        (
            format!("describe node {NODE}"),
            ["HolderIdentity:", "shop", "web", "edge-1"],
        ),
        ("get pods -A".into(), ["NAMESPACE", "shop", "web", "READY"]),
        (
            format!("get lease -n kube-node-lease {NODE} -o name"),
            ["lease", "coordination.k8s.io", "/", NODE],
        ),
    ] {
        let said = kubectl.run(&command).await;
        assert!(
            wanted.iter().all(|text| said.contains(text)),
            "kubectl {command}:\n{said}"
        );
    }
    // With the cloud there, it is the cloud's lease that is read.
    edge.restore().await;
    until("the cloud's own word", async || {
        let held = edge.store.get(&ObjectKey::new(
            GroupVersionResource::new("coordination.k8s.io", "v1", "leases"),
            Some("kube-node-lease"),
            NODE,
        ));
        held.is_none().then_some(())
    })
    .await;
    edge.end().await;
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_cluster_is_changed_with_kubectl_as_any_other() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let kubectl = Kubectl::at(cloud.api).await;
    let text = async || {
        kubectl
            .run("get configmap a -n shop -o jsonpath={.data.text}/{.metadata.labels.tier}")
            .await
    };
    kubectl.run("create namespace other").await;
    let file = kubectl.file(&config_map("a", "created"));
    kubectl.run(&format!("create -f {file}")).await;
    assert!(
        kubectl
            .refused(&format!("create -f {file}"))
            .await
            .contains("AlreadyExists")
    );
    assert_eq!(text().await, "created/");
    kubectl.run("label configmap a -n shop tier=back").await;
    kubectl
        .run(r#"patch configmap a -n shop --type merge -p {"data":{"text":"merged"}}"#)
        .await;
    assert_eq!(text().await, "merged/back");
    kubectl
        .run(r#"patch configmap a -n shop --type json -p [{"op":"replace","path":"/data/text","value":"patched"}]"#)
        .await;
    kubectl
        .run(r#"patch configmap a -n shop -p {"metadata":{"labels":{"tier":"front"}}}"#)
        .await;
    assert_eq!(text().await, "patched/front");
    kubectl
        .run(&format!(
            "replace -f {}",
            kubectl.file(&config_map("a", "replaced"))
        ))
        .await;
    assert_eq!(text().await, "replaced/");
    kubectl
        .run(&format!("apply -f {}", kubectl.file(&config_map("a", "applied"))))
        .await;
    assert_eq!(text().await, "applied/");
    kubectl.run("delete configmap a -n shop").await;
    assert!(
        kubectl
            .refused("get configmap a -n shop")
            .await
            .contains("NotFound")
    );
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_on_the_server_and_is_told_who_else_wants_what() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let kubectl = Kubectl::at(cloud.api).await;
    let apply = async |text: &str, more: &str| {
        let file = kubectl.file(&config_map("a", text));
        kubectl.run(&format!("apply --server-side -f {file}{more}")).await
    };
    let said = apply("first", "").await;
    assert!(said.contains("serverside-applied"), "{said}");
    let owners = async || {
        kubectl
            .run("get configmap a -n shop -o jsonpath={.metadata.managedFields[*].manager}/{.metadata.managedFields[*].operation}")
            .await
    };
    assert_eq!(owners().await, "kubectl/Apply");
    // Somebody else changes it in another way, and owns what it changed.
    kubectl
        .run(r#"patch configmap a -n shop --type merge -p {"data":{"text":"other"}} --field-manager other"#)
        .await;
    assert_eq!(owners().await, "other/Update");
    let file = kubectl.file(&config_map("a", "second"));
    let refused = kubectl.refused(&format!("apply --server-side -f {file}")).await;
    assert!(
        refused.contains("Apply failed with 1 conflict")
            && refused.contains(r#"conflict with "other" using v1: .data.text"#),
        "{refused}"
    );
    apply("second", " --force-conflicts").await;
    assert_eq!(owners().await, "kubectl/Apply");
    let shown = kubectl.run("get configmap a -n shop -o yaml").await;
    assert!(shown.contains("text: second"), "{shown}");
    // Older ones show it always.
    if kubectl.run("get --help").await.contains("--show-managed-fields") {
        assert!(!shown.contains("managedFields"), "{shown}");
        let shown = kubectl
            .run("get configmap a -n shop -o yaml --show-managed-fields")
            .await;
        assert!(shown.contains("f:text: {}"), "{shown}");
    }
    // What was applied in the older way is taken over as one's own.
    let file = kubectl.file(&config_map("b", "older"));
    kubectl.run(&format!("apply -f {file}")).await;
    let last = kubectl.run("apply view-last-applied configmap/b -n shop").await;
    assert!(last.contains("text: older"), "{last}");
    let file = kubectl.file(&config_map("b", "newer"));
    kubectl.run(&format!("apply --server-side -f {file}")).await;
    let last = kubectl.run("apply view-last-applied configmap/b -n shop").await;
    assert!(last.contains("text: newer"), "{last}");
    cloud.end().await;
}
