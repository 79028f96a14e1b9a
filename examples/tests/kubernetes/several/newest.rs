//! A node that is connected to two instances belongs to the newer one.

use hub_core::node::NodeId;

use super::fleet::{Fleet, STOCK, Stock, node, settled};
use crate::world::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_connection_wins_over_all_instances_while_the_old_one_is_half_open() {
    let fleet = Fleet::new(2, |_| {}).await;
    fleet.put("nodes", node(STOCK), "").await;
    let stock = Stock::start(fleet.way(STOCK), 1);
    let name = NodeId::new(STOCK).unwrap();
    let holder = async || {
        let mut holders = Vec::new();
        for (at, instance) in fleet.instances.iter().enumerate() {
            let nodes = instance.hub.nodes().await;
            holders.extend(nodes.iter().filter(|known| known.node == name).map(|_| at));
        }
        holders
    };
    let mut last = until("a first holder", async || holder().await.first().copied()).await;
    for _ in 0..4 {
        settled(&fleet, STOCK, || stock.held()).await;
        // Dials go to the instances in turn.
        stock.reconnect(true);
        last = until("one holder, and another", async || {
            let holders = holder().await;
            (holders == [1 - last]).then_some(1 - last)
        })
        .await;
    }
}
