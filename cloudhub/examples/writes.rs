//! What a write to the embedded cluster costs, by who writes: `cargo run --release -p cloudhub --example writes`.
//!
//! Writes are asked for in groups of 256, which share a commit, so the disk is nearly left out. Of each: until it is answered, and the
//! processor time of the one thread that decides and of all threads.

use std::time::{Duration, Instant};

use cloudhub::cluster::{Cluster, EmbeddedCluster, EmbeddedConfig};
use futures::future::join_all;
use hub_core::api::{ApiRequest, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::ObjectStore;
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let world = World {
        cluster: EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default())?,
    };
    for (who, prefix, query) in [
        ("the hub", "hub", ""),
        ("a client", "client", "fieldManager=client"),
    ] {
        world.make(prefix, query).await?;
        let renewal = |n: usize, round: usize| world.renewal(prefix, query, n, round);
        world.time(&format!("a lease renewed by {who}"), renewal).await?;
        // The hub passes on what nodes say of their pods, whoever made them.
        let status = |n: usize, round: usize| status(prefix, n, round);
        world
            .time(&format!("status of a pod that {who} made"), status)
            .await?;
    }
    world.time("an image applied to a pod", image).await?;
    world
        .time("a pod of 40 variables created by a client", creation)
        .await?;
    Ok(())
}

struct World {
    cluster: EmbeddedCluster,
}

impl World {
    async fn make(&self, prefix: &str, query: &str) -> Result<(), Error> {
        for n in 0..GROUP {
            let metadata = json!({"name": format!("{prefix}-{n}"), "labels": {"app": "a"}});
            let lease = json!({"metadata": metadata, "spec": {"holderIdentity": "a"}});
            let container = json!({"name": "main", "image": "i:1", "env": [{"name": "A", "value": "b"}]});
            let pod = json!({"metadata": metadata, "spec": {"nodeName": "edge", "containers": [container]}});
            for (resource, object) in [(leases(), lease), (pods(), pod)] {
                let create = ApiRequest::resource(Verb::Create, resource, Some("default"), None);
                let mut create = create.with_body("application/json", object.to_string());
                create.query = query.into();
                self.done(create).await?;
            }
        }
        Ok(())
    }

    fn renewal(&self, prefix: &str, query: &str, n: usize, round: usize) -> ApiRequest {
        let name = format!("{prefix}-{n}");
        let held = ObjectStore::get(&self.cluster, &ObjectKey::new(leases(), Some("default"), &name));
        let version = held.map_or(Value::Null, |held| held.object.version.as_str().into());
        let lease = json!({"metadata": {"name": name, "resourceVersion": version, "labels": {"app": "a"}},
            "spec": {"holderIdentity": "a", "renewTime": format!("2026-08-01T10:00:00.{round:06}Z")}});
        let update = ApiRequest::resource(Verb::Update, leases(), Some("default"), Some(&name));
        let mut update = update.with_body("application/json", lease.to_string());
        update.query = query.into();
        update
    }

    /// One write, of many.
    async fn time(&self, what: &str, request: impl Fn(usize, usize) -> ApiRequest) -> Result<(), Error> {
        let mut took = Duration::ZERO;
        let before = (processor_time(Some(WRITER))?, processor_time(None)?);
        for round in 0..ROUNDS {
            let requests: Vec<_> = (0..GROUP).map(|n| request(n, round)).collect();
            let began = Instant::now();
            for answer in join_all(requests.into_iter().map(|request| self.done(request))).await {
                answer?;
            }
            took += began.elapsed();
        }
        let each = |all: Duration| all / u32::try_from(ROUNDS * GROUP).unwrap_or(u32::MAX);
        let (took, writer) = (each(took), each(processor_time(Some(WRITER))? - before.0));
        println!(
            "{what}: {took:?}, writer {writer:?}, all {:?}",
            each(processor_time(None)? - before.1)
        );
        Ok(())
    }

    async fn done(&self, request: ApiRequest) -> Result<(), Error> {
        let answer = self.cluster.execute(request).await?;
        if answer.is_success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&answer.body).into_owned().into())
    }
}

fn status(prefix: &str, n: usize, round: usize) -> ApiRequest {
    let ready = if round.is_multiple_of(2) { "True" } else { "False" };
    let condition = json!({"type": "Ready", "status": ready});
    let status = json!({"phase": "Running", "podIP": format!("10.0.0.{round}"), "conditions": [condition]});
    ApiRequest::resource(
        Verb::Patch,
        pods(),
        Some("default"),
        Some(&format!("{prefix}-{n}")),
    )
    .with_subresource("status")
    .with_body(
        "application/strategic-merge-patch+json",
        json!({ "status": status }).to_string(),
    )
}

fn image(n: usize, round: usize) -> ApiRequest {
    let name = format!("client-{n}");
    let container = json!({"name": "main", "image": format!("i:{round}")});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}});
    let mut apply = ApiRequest::resource(Verb::Patch, pods(), Some("default"), Some(&name))
        .with_body("application/apply-patch+yaml", pod.to_string());
    apply.query = "fieldManager=applier&force=true".into();
    apply
}

/// A pod as the `fleet` program makes them.
fn creation(n: usize, round: usize) -> ApiRequest {
    let variables: Vec<Value> = (0..40)
        .map(|v| json!({"name": format!("VARIABLE_{v}"), "value": format!("value {v} of pod {n}")}))
        .collect();
    let container = json!({"name": "main", "image": "registry.example/app:1", "env": variables});
    let metadata = json!({"name": format!("many-{}", round * GROUP + n), "labels": {"app": "a"}});
    let pod = json!({"metadata": metadata, "spec": {"nodeName": "edge", "containers": [container]}});
    let create = ApiRequest::resource(Verb::Create, pods(), Some("default"), None);
    let mut create = create.with_body("application/json", pod.to_string());
    create.query = "fieldManager=client".into();
    create
}

/// Processor time of this process, or of its thread of a name (Linux, proc_pid_stat(5), in hundredths of a second).
fn processor_time(thread: Option<&str>) -> Result<Duration, Error> {
    let of = |stat: std::path::PathBuf| -> Result<(bool, u64), Error> {
        let stat = std::fs::read_to_string(stat)?;
        let (name, numbers) = stat.rsplit_once(')').ok_or("no name in the thread's state")?;
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        let ticks = numbers[11].parse::<u64>()? + numbers[12].parse::<u64>()?;
        Ok((thread.is_none_or(|thread| name.ends_with(thread)), ticks))
    };
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let (counted, own) = of(task?.path().join("stat"))?;
        ticks += if counted { own } else { 0 };
    }
    Ok(Duration::from_millis(10 * ticks))
}

fn leases() -> GroupVersionResource {
    GroupVersionResource::new("coordination.k8s.io", "v1", "leases")
}

fn pods() -> GroupVersionResource {
    GroupVersionResource::core("pods")
}

/// As the system shortens the name of the thread.
const WRITER: &str = "(embedded-cluste";
const GROUP: usize = 256;
const ROUNDS: usize = 40;
