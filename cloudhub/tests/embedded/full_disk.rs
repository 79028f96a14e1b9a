//! A disk that is really full: a small file system of its own, in a user namespace.

use std::time::{Duration, Instant};

use cloudhub::cluster::{Cluster as _, EmbeddedCluster, EmbeddedConfig};
use hub_core::store::ObjectStore as _;
use hub_core::testing::{on_small_disk, small_disk};
use serde_json::json;

use crate::{Body, request};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn a_cluster_whose_disk_is_full_says_so_refuses_writes_keeps_reads_and_heals_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    on_small_disk(folder.path(), "2m", "full_disk::the_disk_is_full");
}

#[tokio::test]
#[ignore = "runs on the file system that the other test mounts"]
async fn the_disk_is_full() {
    let folder = small_disk();
    let cluster = EmbeddedCluster::open(&folder.join("cluster.db"), EmbeddedConfig::default()).unwrap();
    let create = async |name: &str, bytes: usize| {
        let map = json!({ "metadata": { "name": name }, "data": { "k": "x".repeat(bytes) } });
        let Body(media, body) = map.into();
        let answer = cluster.execute(request("POST", CONFIG_MAPS, &media, body)).await;
        answer.unwrap()
    };
    assert_eq!(create("before", 10).await.code, 201);
    assert_eq!(cluster.trouble(), None);
    let other = folder.join("other");
    std::fs::write(&other, vec![1; 1200 << 10]).unwrap();
    let mut fitted = 0;
    let refused = loop {
        let answer = create(&format!("c{fitted}"), 50_000).await;
        if answer.code != 201 {
            break answer;
        }
        fitted += 1;
    };
    assert_eq!(refused.code, 500);
    let said = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(said.contains("could not write"), "{said}");
    assert!(
        cluster.trouble().unwrap().contains("full"),
        "{:?}",
        cluster.trouble()
    );
    let Body(media, body) = ().into();
    let list = cluster
        .execute(request("GET", CONFIG_MAPS, &media, body))
        .await
        .unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(
        list["items"].as_array().unwrap().len(),
        fitted + 1,
        "what was refused never was"
    );

    std::fs::remove_file(&other).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while cluster.trouble().is_some() {
        assert!(Instant::now() < end, "it does not notice that there is room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(create("after", 50_000).await.code, 201);
}
