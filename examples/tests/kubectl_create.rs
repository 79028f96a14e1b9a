//! kubectl's typed clients, which write protobuf, against a cluster of our own.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use cloudhub::cluster::{EmbeddedCluster, EmbeddedConfig};
use hub_core::testing::tools;
use metaserver::{MetaConfig, MetaServer, Revisions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

struct World {
    kubectl: &'static Path,
    folder: TempDir,
    address: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl World {
    async fn start() -> Self {
        let found = tokio::task::spawn_blocking(|| tools::kubectl(env!("CARGO_TARGET_TMPDIR")));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.db");
        let cluster = EmbeddedCluster::open(&file, EmbeddedConfig::default()).unwrap();
        let config = MetaConfig {
            revisions: Revisions::Authoritative,
            ..MetaConfig::default()
        };
        let api = MetaServer::with_config(config, cluster.clone(), cluster.upstream());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { api.serve_on(listener, std::future::pending()).await });
        Self {
            kubectl: found.await.unwrap(),
            folder,
            address,
            server,
        }
    }

    async fn output(&self, arguments: &str) -> Output {
        let output = Command::new(self.kubectl)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.folder.path())
            .args(["--server", &format!("http://{}", self.address)])
            .args(arguments.split(' '))
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(Duration::from_secs(60), output)
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

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_creates_by_command_is_there_as_it_was_meant() {
    let world = World::start().await;
    // Each: what is created, what is read back, and what must be there.
    for (create, read, expected) in [
        ("namespace shop", "namespace shop", "{.status.phase}=Active"),
        (
            "configmap settings -n shop --from-literal=a=1 --from-literal=b=two",
            "configmap settings -n shop",
            "{.data}={\"a\":\"1\",\"b\":\"two\"}",
        ),
        (
            "secret generic key -n shop --from-literal=password=hidden",
            "secret key -n shop",
            "{.data.password}/{.type}=aGlkZGVu/Opaque",
        ),
        (
            "serviceaccount robot -n shop",
            "serviceaccount robot -n shop",
            "{.metadata.name}=robot",
        ),
        (
            "service clusterip web -n shop --tcp=80:8080 --tcp=443:https",
            "service web -n shop",
            "{.spec.ports[*].targetPort}/{.spec.selector.app}=8080 https/web",
        ),
        (
            "deployment web -n shop --image=registry.example/web:1 --replicas=0 --port=8080",
            "deployment web -n shop",
            "{.spec.replicas}/{.spec.template.spec.containers[0].image}/{.spec.template.spec.nodeName}=0/registry.example/web:1/",
        ),
        (
            "role reader -n shop --verb=get,list --resource=pods,configmaps",
            "role reader -n shop",
            "{.rules[0].verbs}/{.rules[0].resources}=[\"get\",\"list\"]/[\"pods\",\"configmaps\"]",
        ),
        (
            "rolebinding read -n shop --role=reader --serviceaccount=shop:robot",
            "rolebinding read -n shop",
            "{.roleRef.name}/{.subjects[0].name}=reader/robot",
        ),
        (
            "job once -n shop --image=registry.example/job:1 -- run --fast",
            "job once -n shop",
            "{.spec.template.spec.containers[0].command}=[\"run\",\"--fast\"]",
        ),
        (
            "cronjob nightly -n shop --image=registry.example/job:1 --schedule=@daily",
            "cronjob nightly -n shop",
            "{.spec.schedule}=@daily",
        ),
        (
            "quota small -n shop --hard=cpu=1,pods=2",
            "quota small -n shop",
            "{.spec.hard}={\"cpu\":\"1\",\"pods\":\"2\"}",
        ),
        (
            "ingress front -n shop --rule=shop.example/*=web:80",
            "ingress front -n shop",
            "{.spec.rules[0].http.paths[0].backend.service}={\"name\":\"web\",\"port\":{\"number\":80}}",
        ),
        (
            "poddisruptionbudget keep -n shop --selector=app=web --min-available=50%",
            "pdb keep -n shop",
            "{.spec.minAvailable}=50%",
        ),
        (
            "priorityclass low --value=-5 --description=waits",
            "priorityclass low",
            "{.value}/{.globalDefault}=-5/",
        ),
    ] {
        world.run(&format!("create {create}")).await;
        let (path, expected) = expected.split_once('=').unwrap();
        let found = world.run(&format!("get {read} -o jsonpath={path}")).await;
        assert_eq!(found, expected, "kubectl create {create}");
    }
    let again = world.output("create configmap settings -n shop").await;
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        !again.status.success() && said.contains("already exists"),
        "{said}"
    );
    world.run("delete deployment web -n shop").await;
    world.run("delete configmap settings -n shop").await;
    assert!(
        !world
            .output("get configmap settings -n shop")
            .await
            .status
            .success()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kubectl_apply_installs_the_cloud_half_and_the_next_changes_nothing() {
    let world = World::start().await;
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");
    let apply = format!("apply -k {manifests}");
    let first = world.run(&apply).await;
    assert!(first.lines().all(|line| line.ends_with(" created")), "{first}");
    for (read, expected) in [
        (
            "deployment cloudcore -n kubeedge",
            "{.spec.template.spec.serviceAccountName}=cloudcore",
        ),
        ("service cloudcore -n kubeedge", "{.spec.selector.app}=cloudcore"),
        (
            "clusterrolebinding edge-tunnel-cloudcore",
            "{.subjects[0].namespace}=kubeedge",
        ),
        (
            "crd devices.devices.kubeedge.io",
            "{.status.conditions[?(@.type=='Established')].status}=True",
        ),
    ] {
        let (path, expected) = expected.split_once("}=").unwrap();
        let found = world.run(&format!("get {read} -o jsonpath={path}}}")).await;
        assert_eq!(found, expected, "{read}");
    }
    let again = world.run(&apply).await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    assert_eq!(first.lines().count(), again.lines().count());
}
