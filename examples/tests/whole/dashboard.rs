//! The dashboard and the operations page name only metrics that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudhub::CloudHub;
use cloudhub::cluster::{Credentials, KubeCluster, KubeClusterConfig};
use edgehub::dmi::DmiMetrics;
use edgehub::store::EdgeStore;
use edgehub::twin::{TwinConfig, TwinHub};
use hub_core::node::NodeId;
use hub_core::registry::Registry as Kinds;
use hub_core::store::{JournalLimits, MemoryJournal, MemoryStore, ObjectStore, StoreLimits};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The names by which Prometheus knows what both programs register.
async fn names() -> Vec<String> {
    let server = "http://127.0.0.1:1".to_owned();
    let cluster = KubeCluster::connect(Credentials::Anonymous { server }, KubeClusterConfig::default());
    let cluster = cluster.await.unwrap();
    let mut registry = Registry::default();
    cluster.register_metrics(&mut registry);
    CloudHub::new(cloudhub::CloudHubConfig::default(), cluster)
        .unwrap()
        .register_metrics(&mut registry);
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(StoreLimits::default(), Kinds::builtin()));
    let journal = Arc::new(MemoryJournal::new(JournalLimits::default()));
    let config = edgehub::EdgeHubConfig::new(NodeId::new("edge-1").unwrap());
    let edge = edgehub::EdgeHub::builder(config, store, journal).build();
    edge.register_metrics(&mut registry);
    let folder = tempfile::tempdir().unwrap();
    let durable = EdgeStore::open(folder.path().join("edge.db")).unwrap();
    let twins = TwinConfig::new(NodeId::new("edge-1").unwrap());
    TwinHub::new(twins, Arc::new(durable)).register_metrics(&mut registry);
    DmiMetrics::default().register(&mut registry);
    let held = MemoryStore::new(StoreLimits::default(), Kinds::builtin());
    metaserver::MetaServer::new(held, edge.handle()).register_metrics(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let kinds: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .chain(UNSEEN)
        .collect();
    let endings = |kind: &str| match kind {
        "counter" => &["_total"][..],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    kinds
        .into_iter()
        .flat_map(|(name, kind)| endings(kind).iter().map(move |ending| format!("{name}{ending}")))
        .collect()
}

/// The words of a text that look like metrics of ours.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ours = ["cloudhub_", "cluster_", "KubeEdge_", "edge_", "metaserver_"];
    text.split(move |c| !of_name(c))
        .filter(move |word| ours.iter().any(|ours| word.starts_with(ours)))
}

#[tokio::test]
async fn the_dashboard_asks_for_metrics_that_there_are() {
    let names = names().await;
    let text = include_str!("../../grafana/edge-tunnel.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let asked: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(asked.iter().all(|expr| metrics(expr).count() > 0), "{asked:#?}");
    for metric in asked.iter().flat_map(|expr| metrics(expr)) {
        assert!(
            names.iter().any(|name| name == metric),
            "{metric} is not among {names:#?}"
        );
    }
}

#[tokio::test]
async fn the_operations_page_explains_every_metric_and_no_other() {
    let names = names().await;
    let page = include_str!("../../../docs/operations.md");
    let (_, section) = page.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let plain = |name: &str| {
        let ends = ["_total", "_bucket", "_sum", "_count"];
        let end = ends.iter().find_map(|end| name.strip_suffix(end));
        end.unwrap_or(name).to_owned()
    };
    let known: std::collections::BTreeSet<_> = names.iter().map(|name| plain(name)).collect();
    let told: std::collections::BTreeSet<_> = metrics(section).map(plain).collect();
    assert_eq!(told, known);
}

/// Families by labels that show themselves only once something was counted.
const UNSEEN: [(&str, &str); 18] = [
    ("cloudhub_rejections", "counter"),
    ("cloudhub_disconnections", "counter"),
    ("cloudhub_catch_up_objects", "counter"),
    ("cloudhub_denied_reports", "counter"),
    ("cloudhub_messages_handled", "counter"),
    ("cluster_requests", "counter"),
    ("edge_messages_handled", "counter"),
    ("edge_twin_reports", "counter"),
    ("edge_twin_changes_refused", "counter"),
    ("edge_broker_messages", "counter"),
    ("edge_mapper_calls", "counter"),
    ("edge_mapper_tells", "counter"),
    ("metaserver_authentications", "counter"),
    ("metaserver_authorizations", "counter"),
    ("metaserver_requests", "counter"),
    ("metaserver_request_duration_seconds", "histogram"),
    ("metaserver_cloud_bytes", "counter"),
    ("metaserver_scopes", "gauge"),
];
