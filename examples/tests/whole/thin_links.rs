//! T21 (kubeedge#7278): much changes at once, and the nodes hang on thin links. Nobody may be taken for dead meanwhile.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hub_core::object::GroupVersionResource;
use hub_core::testing::WireConditions;
use serde_json::{Value, json};

use crate::client::Api;
use crate::world::{CloudHalf, EdgeHalf, SERVICES, Tunnel, service};

/// 50 kbit/s.
const BYTES_PER_SECOND: u32 = 50_000 / 8;
/// How long a node may be silent before it is taken for dead.
const LEASE_S: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t21_hundreds_of_services_relabelled_over_thin_links_leave_every_node_ready() {
    relabel(4, 200).await;
}

/// About five minutes; the numbers stand in docs/performance.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and a machine of its own: the one above is the same with fewer"]
async fn t21_two_thousand_services_relabelled_for_forty_nodes() {
    relabel(40, 2000).await;
}

async fn relabel(nodes: usize, services: usize) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    for n in 0..services {
        cloud.api.create(SERVICES, service(&format!("s{n}"))).await;
    }
    let mut edges = Vec::new();
    for n in 0..nodes {
        let change = |config: &mut examples::config::EdgeCore, _: &std::path::Path| {
            config
                .modules
                .edged
                .tailored_kubelet_config
                .node_lease_duration_seconds = LEASE_S;
        };
        edges.push(cloud.edge_with(&format!("edge-{n}"), &["services"], change).await);
    }
    let patience = Duration::from_secs(60 + services as u64 / 5);
    all_hold(&edges, services, None, patience).await;
    for edge in &edges {
        edge.wire.set(WireConditions {
            delay: Duration::from_millis(50),
            bytes_per_second: Some(BYTES_PER_SECOND),
            ..WireConditions::default()
        });
    }

    let start = Instant::now();
    let label = json!({ "metadata": { "labels": { "wave": "2" } } });
    let relabelled = async {
        for n in 0..services {
            cloud.api.merge(&format!("{SERVICES}/s{n}"), label.clone()).await;
        }
        let told = start.elapsed();
        all_hold(&edges, services, Some("2"), patience).await;
        (told, start.elapsed())
    };
    let (told, converged) = tokio::select! {
        done = relabelled => done,
        dead = watched(cloud.api, nodes) => panic!("{dead}"),
    };
    println!("{nodes} nodes, {services} services: told after {told:?}, all hold it after {converged:?}");
    // What is sent is a difference of tens of bytes a Service, not the Service.
    let bytes = Duration::from_secs_f64(services as f64 * 200.0 / f64::from(BYTES_PER_SECOND));
    assert!(
        converged < told + bytes + Duration::from_secs(10),
        "more than 200 bytes a Service were sent: {converged:?}"
    );
    for edge in edges {
        edge.wire.set(WireConditions::default());
        edge.end().await;
    }
    cloud.end().await;
}

async fn all_hold(edges: &[EdgeHalf], services: usize, wave: Option<&str>, patience: Duration) {
    let resource = GroupVersionResource::core("services");
    let holds = |edge: &EdgeHalf| {
        let objects = hub_core::store::ObjectStore::list(&edge.store, &resource, None).objects;
        let relabelled = objects.iter().filter(|stored| {
            let object: Value = serde_json::from_slice(&stored.object.body).unwrap();
            wave.is_none_or(|wave| object["metadata"]["labels"]["wave"] == wave)
        });
        let ours = relabelled.filter(|stored| stored.object.key.namespace.as_deref() == Some("shop"));
        ours.count() == services
    };
    let all = join_all(edges.iter().map(|edge| async {
        while !holds(edge) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }));
    tokio::time::timeout(patience, all)
        .await
        .expect("all nodes hold all of it");
}

/// Ends when a node looks dead: its lease ran out, or it is not ready.
async fn watched(api: Api, nodes: usize) -> String {
    let mut heard: Vec<(Value, Instant)> = vec![(Value::Null, Instant::now()); nodes];
    loop {
        for (n, (renewed, at)) in heard.iter_mut().enumerate() {
            let name = format!("edge-{n}");
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
            let mut lease = api.read(&path).await;
            if lease["spec"]["renewTime"] != *renewed {
                (*renewed, *at) = (lease["spec"]["renewTime"].take(), Instant::now());
            }
            if at.elapsed() > Duration::from_secs(LEASE_S.into()) {
                return format!("{name} was silent for {:?}", at.elapsed());
            }
            let node = api.read(&format!("/api/v1/nodes/{name}")).await;
            let conditions = node["status"]["conditions"].as_array().unwrap().iter();
            let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
            if ready.any(|condition| condition["status"] != "True") {
                return format!("{name} is not ready: {node}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
