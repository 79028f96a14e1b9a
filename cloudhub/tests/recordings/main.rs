//! The recordings of real KubeEdge programs, the edge's side played against our cloud over the embedded cluster.
//!
//! What a stock cloud answered and told, ours answers and tells too, but for the differences in [`BETTER`].
#![allow(clippy::unwrap_used, missing_docs)]

mod compare;
mod kubectl;
mod replay;
#[path = "../hub/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the hub")]
mod world;

use std::collections::BTreeSet;

/// Where ours differs on purpose: what a difference begins with (up to `*`, which stands for anything), and why.
const BETTER: &[(&str, &str)] = &[];

fn is_better(difference: &str) -> bool {
    BETTER.iter().any(|(pattern, _)| matches(pattern, difference))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    for (index, part) in pattern.split('*').enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('*')
}

async fn check(name: &str) {
    let found = replay::replay(name, is_better).await;
    let unexplained: BTreeSet<_> = found.iter().filter(|difference| !is_better(difference)).collect();
    assert!(unexplained.is_empty(), "{name}: {unexplained:#?}");
}

macro_rules! recordings {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            check($name).await;
        })+
    };
}

recordings! {
    first_join = "01-first-join",
    the_life_of_a_pod = "02-pod-lifecycle",
    changes_of_configs = "03-configmap-secret-updates",
    edits_of_the_node = "04-node-edits",
    reads_of_the_api = "05-metaserver-reads",
    writes_of_the_api = "06-metaserver-writes",
    watches_and_a_restart = "07-watch-and-cloudcore-restart",
    a_cut_link = "08-disconnect-reconnect",
    devices = "09-devices",
    the_end_of_pods_and_of_the_node = "10-events-grace-node-deletion",
    queries_of_what_is_absent = "11-query-errors",
    with_authorization = "12-authorization-enabled",
    a_real_runtime = "13-stock-edgecore-events",
    odd_clients = "17-odd-clients",
}
