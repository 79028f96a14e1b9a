//! Whatever happens to the hubs, the API server and the links: in the end each node holds the truth.

use hub_core::random::Random;
use std::time::Duration;

use super::fleet::{Fleet, OURS, Ours, STOCK, Stock, config, node, pod, settled};
use crate::server::Mood;

/// `SCHEDULE_SEED=7` plays one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_schedule_an_edge_of_ours_holds_the_truth_wherever_it_landed() {
    schedules(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_schedule_a_stock_edge_holds_the_truth_wherever_it_landed() {
    schedules(true).await;
}

async fn schedules(is_stock: bool) {
    let only = std::env::var("SCHEDULE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let only: Option<u64> = only;
    for seed in only.map_or(SEEDS.to_vec(), |seed| vec![seed]) {
        eprintln!("SCHEDULE_SEED={seed}");
        play(seed, is_stock).await;
    }
}

async fn play(seed: u64, is_stock: bool) {
    let mut random = Random::new(seed);
    let mut fleet = Fleet::new(3, |_| {}).await;
    fleet.address.seed(random.number());
    for name in [OURS, STOCK] {
        fleet.put("nodes", node(name), "").await;
    }
    let ours = Ours::start(&fleet, OURS, None);
    let stock = Stock::start(fleet.way(STOCK), random.number());
    for _ in 0..STEPS {
        step(&mut fleet, &ours, &stock, &mut random).await;
    }
    fleet.server.mood(Mood::Good);
    settled(&fleet, OURS, || ours.held()).await;
    if is_stock {
        settled(&fleet, STOCK, || stock.held()).await;
    }
    ours.end().await;
}

async fn step(fleet: &mut Fleet, ours: &Ours, stock: &Stock, random: &mut Random) {
    let (name, word) = (random.below(3), format!("w{}", random.below(1_000_000)));
    match random.below(20) {
        0..4 => fleet.put("configmaps", config(&format!("c{name}")), &word).await,
        4..8 => {
            let node = [OURS, STOCK][random.below(2) as usize];
            let pod = pod(&format!("{node}-p{name}"), node, &format!("c{}", random.below(3)));
            fleet.put("pods", pod, &word).await;
        }
        8 => fleet.remove("configmaps", &format!("c{name}")).await,
        9 | 10 => {
            let node = [OURS, STOCK][random.below(2) as usize];
            fleet.remove("pods", &format!("{node}-p{name}")).await;
        }
        11 => ours.handle.reconnect(),
        12 => stock.reconnect(false),
        13 => stock.reconnect(true),
        14 => {
            // Another comes in its place.
            fleet.start().await;
            fleet.drain(random.below(3) as usize).await;
        }
        15 => {
            fleet.kill(random.below(3) as usize).await;
            fleet.start().await;
        }
        16 => fleet.server.cut(),
        17 => fleet.server.mood(Mood::Good),
        _ => fleet.server.mood(match random.below(6) {
            0 => Mood::Away,
            1 => Mood::Slow(Duration::from_millis(random.below(80))),
            2 => Mood::Busy,
            3 => Mood::Garbage("<html>"),
            4 => Mood::Cut,
            _ => Mood::Proxy,
        }),
    }
    if random.below(2) == 0 {
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
    }
}

/// The last four once left a pod behind on a stock edge.
const SEEDS: [u64; 8] = [0, 1, 2, 3, 11, 39, 51, 54];
const STEPS: u64 = 50;
