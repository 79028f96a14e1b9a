//! An instance stops: its nodes are with the others before anybody notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloudhub::Readiness;
use cloudhub::cluster::EmbeddedCluster;
use edgehub::NodeAgentConfig;
use hub_core::object::GroupVersionResource;
use hub_core::store::ObjectStore;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Ours};
use crate::world::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_an_instance_that_stops_are_with_another_at_once_and_no_lease_is_late() {
    let mut fleet = Fleet::new(1, |_| {}).await;
    fleet.ready().await;
    let agent = || NodeAgentConfig {
        lease_interval: INTERVAL,
        ..NodeAgentConfig::default()
    };
    let edges: Vec<_> = (0..EDGES)
        .map(|number| Ours::start(&fleet, &format!("edge-{number}"), Some(agent())))
        .collect();
    for edge in &edges {
        edge.up().await;
    }
    fleet.start().await;
    fleet.ready().await;
    until("all leases", async || {
        (renewals(&fleet.server.truth).len() == EDGES).then_some(())
    })
    .await;

    let end = CancellationToken::new();
    let watching = tokio::spawn(longest_gap(fleet.server.truth.clone(), end.clone()));
    let readiness = fleet.instances[0].hub.readiness();
    let other = fleet.instances[1].hub.clone();
    let began = Instant::now();
    fleet.drain(0).await;
    assert_eq!(*readiness.borrow(), Readiness::Draining);
    until("all nodes at the other", async || {
        (other.nodes().await.len() == EDGES).then_some(())
    })
    .await;
    let took = began.elapsed();
    // Each has renewed there.
    let moved = renewals(&fleet.server.truth);
    until("the renewals", async || {
        let now = renewals(&fleet.server.truth);
        now.iter()
            .all(|(node, renewed)| moved[node] != *renewed)
            .then_some(())
    })
    .await;
    end.cancel();
    let gap = watching.await.unwrap();
    eprintln!(
        "{EDGES} nodes moved within {} ms; longest time without a renewal: {} ms",
        took.as_millis(),
        gap.as_millis()
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A renewal each 10 s, and a grace of 40 s.
    assert!(gap < 4 * INTERVAL, "{gap:?}");
    for edge in edges {
        edge.end().await;
    }
}

/// When each node renewed its lease.
fn renewals(truth: &EmbeddedCluster) -> BTreeMap<Arc<str>, String> {
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let leases = truth.list(&leases, None).objects;
    let renewed = leases.iter().map(|lease| {
        let body: Value = serde_json::from_slice(&lease.object.body).unwrap();
        (
            lease.object.key.name.clone(),
            body["spec"]["renewTime"].as_str().unwrap().to_owned(),
        )
    });
    renewed.collect()
}

/// The longest time for which a lease stayed as it was.
async fn longest_gap(truth: EmbeddedCluster, end: CancellationToken) -> Duration {
    let mut known: BTreeMap<_, (String, Instant)> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    while !end.is_cancelled() {
        for (node, renewed) in renewals(&truth) {
            let (last, since) = known
                .entry(node)
                .or_insert_with(|| (renewed.clone(), Instant::now()));
            longest = longest.max(since.elapsed());
            if *last != renewed {
                (*last, *since) = (renewed, Instant::now());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    longest
}

const EDGES: usize = 20;
const INTERVAL: Duration = Duration::from_millis(500);
