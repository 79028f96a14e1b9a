//! A disk that is really full: a small file system of its own, in a user namespace (T20).

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::{Duration, Instant};

use edgehub::store::EdgeStore;
use hub_core::session::Lane;
use hub_core::store::{Change, Draft, Journal, ObjectStore, StoreError};
use hub_core::testing::store::{config_map, config_maps};
use hub_core::testing::{on_small_disk, small_disk};

#[test]
fn a_full_disk_refuses_changes_keeps_reads_and_heals_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    on_small_disk(folder.path(), "1m", "the_disk_is_full");
}

#[tokio::test]
#[ignore = "runs on the file system that the other test mounts"]
async fn the_disk_is_full() {
    let folder = small_disk();
    let store = EdgeStore::open(folder.join("edge.db")).unwrap();
    let put = |name: &str| Change::Put(config_map(name, name, "1", &noise(8_000)));
    store.apply(vec![put("before")]).await.unwrap();
    // Somebody else's file takes nearly all of it.
    let other = folder.join("other");
    std::fs::write(&other, vec![1; 600 << 10]).unwrap();
    let (mut fitted, error) = (0, loop_until_full(&store, put).await);
    while store
        .get(&config_map(&format!("c{fitted}"), "", "1", "").key)
        .is_some()
    {
        fitted += 1;
    }
    assert!(matches!(error, StoreError::Disk(_)), "{error}");
    let trouble = store.trouble().unwrap();
    assert!(error.to_string().contains(&trouble), "{trouble}");
    let message = hub_core::message::Message::new(
        hub_core::message::Route::new("edged", "resource", hub_core::message::Operation::Update, "a/b/c"),
        hub_core::message::Content::string(&noise(8_000)),
    );
    let draft = Draft::new("k", Lane::Own, &message, 0).unwrap();
    assert!(
        store.append(draft.clone()).await.is_err(),
        "no report is taken that would be lost"
    );
    assert_eq!(store.list(&config_maps(), None).objects.len(), fitted + 1);

    std::fs::remove_file(&other).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while store.trouble().is_some() {
        assert!(Instant::now() < end, "it does not notice that there is room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.append(draft).await.unwrap();
    store.apply(vec![put("after")]).await.unwrap();
    drop(store);
    let store = EdgeStore::open(folder.join("edge.db")).unwrap();
    assert_eq!((store.held().len(), store.depth().entries), (fitted + 2, 1));
}

async fn loop_until_full(store: &EdgeStore, put: impl Fn(&str) -> Change) -> StoreError {
    for n in 0.. {
        if let Err(error) = store.apply(vec![put(&format!("c{n}"))]).await {
            return error;
        }
    }
    unreachable!()
}

/// Bytes that do not become fewer by packing.
fn noise(len: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    (0..len).map(|_| next()).collect()
}
