//! What all records promise, of whichever make.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloudhub::records::{FileRecords, MemoryRecords, Recorded, RecordsConfig, RecordsError, SyncRecords};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn object(name: &str, uid: &str) -> Recorded {
    Recorded {
        key: ObjectKey::new(GroupVersionResource::core("configmaps"), Some("d"), name),
        uid: uid.into(),
        kind: "ConfigMap".into(),
    }
}

async fn of(records: &dyn SyncRecords, name: &str) -> Vec<String> {
    let records = records.of(&node(name)).await.unwrap();
    let text = |record: &cloudhub::records::SyncRecord| {
        let version = record.version.as_ref().map_or("-", |version| version.as_str());
        format!("{} {} {version}", record.object.key.name, record.object.uid)
    };
    let mut texts: Vec<_> = records.iter().map(text).collect();
    texts.sort();
    texts
}

async fn keeps_its_promises(records: &dyn SyncRecords) {
    let (a, b) = (node("edge-a"), node("edge-b"));
    records
        .intend(&a, vec![object("c", "1"), object("d", "2")])
        .await
        .unwrap();
    records.intend(&b, vec![object("c", "1")]).await.unwrap();
    assert_eq!(of(records, "edge-a").await, ["c 1 -", "d 2 -"]);
    records.acked(&a, object("c", "1"), "5".into());
    records.acked(&a, object("c", "1"), "odd".into());
    // Told and not written is known already.
    assert_eq!(of(records, "edge-a").await, ["c 1 odd", "d 2 -"]);
    records.intend(&a, vec![object("c", "1")]).await.unwrap();
    assert_eq!(of(records, "edge-a").await, ["c 1 odd", "d 2 -"]);
    // A successor of the same name has its own.
    records.intend(&a, vec![object("c", "3")]).await.unwrap();
    records.forget(&a, object("c", "1"));
    assert_eq!(of(records, "edge-a").await, ["c 3 -", "d 2 -"]);
    // Forgotten, and sent again: nothing is acknowledged.
    records.acked(&a, object("d", "2"), "6".into());
    records.forget(&a, object("d", "2"));
    records.intend(&a, vec![object("d", "2")]).await.unwrap();
    records.flush().await;
    assert_eq!(of(records, "edge-a").await, ["c 3 -", "d 2 -"]);
    // An acknowledgement makes good a record that was lost.
    records.acked(&b, object("e", "9"), "7".into());
    assert_eq!(of(records, "edge-b").await, ["c 1 -", "e 9 7"]);
    assert_eq!(records.nodes().await.unwrap().len(), 2);
    records.forget_node(&a);
    assert!(of(records, "edge-a").await.is_empty());
    records.intend(&a, vec![object("c", "4")]).await.unwrap();
    records.flush().await;
    assert_eq!(of(records, "edge-a").await, ["c 4 -"]);
    assert_eq!(of(records, "nobody").await, Vec::<String>::new());
}

#[tokio::test]
async fn in_memory() {
    keeps_its_promises(&MemoryRecords::default()).await;
    let small = MemoryRecords::new(&RecordsConfig {
        records_max: 1,
        ..RecordsConfig::default()
    });
    small.intend(&node("a"), vec![object("c", "1")]).await.unwrap();
    let full = small.intend(&node("a"), vec![object("d", "2")]).await;
    assert_eq!(full, Err(RecordsError::Full("records_max")));
    small.forget_node(&node("a"));
    small.intend(&node("a"), vec![object("d", "2")]).await.unwrap();
}

#[tokio::test]
async fn in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let records = FileRecords::open(&path, RecordsConfig::default()).unwrap();
    keeps_its_promises(&records).await;
    let before = [of(&records, "edge-a").await, of(&records, "edge-b").await];
    assert!(
        FileRecords::open(&path, RecordsConfig::default()).is_err(),
        "one process at a time"
    );
    drop(records);
    let records = FileRecords::open(&path, RecordsConfig::default()).unwrap();
    assert_eq!(
        [of(&records, "edge-a").await, of(&records, "edge-b").await],
        before
    );
}

#[tokio::test]
async fn an_intention_survives_a_crash_and_acknowledgements_cost_no_write_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let slow = RecordsConfig {
        gather: Duration::from_secs(3600),
        ..RecordsConfig::default()
    };
    let records = Arc::new(FileRecords::open(&path, slow).unwrap());
    records.intend(&node("a"), vec![object("c", "1")]).await.unwrap();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let wal = folder.path().join("records.db-wal");
    let written = size(&wal);
    for version in 0..10_000 {
        records.acked(&node("a"), object("c", "1"), version.to_string().into());
    }
    assert_eq!(of(&*records, "a").await, ["c 1 9999"]);
    assert_eq!(size(&wal), written);
    // What a crash leaves.
    let crashed = folder.path().join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(&wal, folder.path().join("crashed.db-wal")).unwrap();
    let after = FileRecords::open(&crashed, RecordsConfig::default()).unwrap();
    assert_eq!(of(&after, "a").await, ["c 1 -"]);
}
