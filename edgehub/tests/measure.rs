//! What the durable store costs. Run by hand, in a release build, on the disk in question (`TMPDIR`):
//!
//! `cargo test --release -p edgehub --test measure -- --ignored --nocapture --test-threads 1`

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::fs;
use std::time::{Duration, Instant};

use edgehub::store::EdgeStore;
use hub_core::store::{Change, ObjectStore};
use hub_core::testing::store::{config_map, config_maps};
use tempfile::TempDir;

#[tokio::test]
#[ignore = "a measurement"]
async fn durable_puts_of_4_kib() {
    let folder = TempDir::new().unwrap();
    let store = EdgeStore::open(folder.path().join("edge.db")).unwrap();
    let mut puts = Vec::new();
    for n in 0..1000u64 {
        store.apply(vec![put(n, 1)]).await.unwrap();
    }
    let before = written();
    for n in 0..1000u64 {
        let begin = Instant::now();
        store.apply(vec![put(n * 7 % 1000, 2 + n)]).await.unwrap();
        puts.push(begin.elapsed());
    }
    let bytes = (written() - before) / 1000;
    puts.sort_unstable();
    println!(
        "one at a time: p50 {:?}, p99 {:?}, {bytes} bytes to the device each",
        puts[500], puts[990]
    );

    let (begin, before) = (Instant::now(), written());
    let many = (0..1000u64).map(|n| store.apply(vec![put(n, 5000 + n)]));
    for applied in futures::future::join_all(many).await {
        applied.unwrap();
    }
    let (took, bytes) = (begin.elapsed(), (written() - before) / 1000);
    println!("1,000 at once: {took:?}, {bytes} bytes to the device each");
}

#[tokio::test]
#[ignore = "a measurement"]
async fn opening_and_memory() {
    for objects in [1000u64, 10_000] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("edge.db");
        let store = EdgeStore::open(&path).unwrap();
        for first in (0..objects).step_by(500) {
            store
                .apply((first..first + 500).map(|n| put(n, 1)).collect())
                .await
                .unwrap();
        }
        drop(store);
        let (mut best, mut anonymous) = (Duration::MAX, 0);
        for _ in 0..5 {
            let before = resident();
            let begin = Instant::now();
            let store = EdgeStore::open(&path).unwrap();
            assert_eq!(store.list(&config_maps(), None).objects.len() as u64, objects);
            best = best.min(begin.elapsed());
            anonymous = anonymous.max(resident().saturating_sub(before));
        }
        let file = fs::metadata(&path).unwrap().len() >> 10;
        println!("{objects} objects: open and list {best:?}, {anonymous} KiB resident, file {file} KiB");
    }
}

/// A ConfigMap of 4 KiB, about as compressible as a pod.
fn put(n: u64, version: u64) -> Change {
    let data: String = (0..200)
        .map(|line| {
            format!(
                "key-{line}: value-{:06} ",
                (n * 131 + line * 7919 + version) % 999_983
            )
        })
        .collect();
    Change::Put(config_map(
        &format!("c{n}"),
        &format!("{n}"),
        &version.to_string(),
        &data[..3900],
    ))
}

fn written() -> u64 {
    number("/proc/self/io", "write_bytes:")
}

fn resident() -> u64 {
    number("/proc/self/status", "RssAnon:")
}

fn number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
