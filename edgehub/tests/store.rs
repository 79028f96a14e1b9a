//! The durable store on a real disk: what it keeps, what it refuses, and what it does with a damaged file.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use edgehub::store::{EdgeStore, EdgeStoreConfig, IdentityError, OpenError};
use hub_core::message::{Content, Message, Route};
use hub_core::node::NodeId;
use hub_core::object::{Object, ObjectKey, Revision};
use hub_core::scope::Scope;
use hub_core::session::Lane;
use hub_core::store::{Change, Coverage, Draft, Journal, JournalLimits, LocalCopy, ObjectStore, StoreError};
use hub_core::testing::store::{config_map, config_maps, keeps_its_promises};
use tempfile::TempDir;

fn put(name: &str, version: &str, data: &str) -> Change {
    Change::Put(config_map(name, name, version, data))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(config_maps(), Some("shop"), name)
}

fn draft(key: &str, lane: Lane, text: &str) -> Draft {
    let route = Route::new("edged", "meta", "update".into(), "shop/podstatus/web");
    let message = Message::new(route, Content::string(text));
    Draft::new(key, lane, &message, 7).unwrap()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("edge.db")
}

fn damaged(folder: &TempDir) -> usize {
    let names = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| {
            name.to_string_lossy().contains(".damaged-") && !name.to_string_lossy().ends_with("-wal")
        })
        .count()
}

/// A closed store with 40 objects, a complete scope, an unsent message and an owner. Returns its last revision.
async fn filled(path: &Path) -> Revision {
    let store = EdgeStore::open(path).unwrap();
    let incompressible: String = (0..3000u32)
        .map(|n| char::from(33 + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 58))
        .collect();
    let incompressible = incompressible.replace(['\\', '"'], "x");
    store
        .apply(vec![Change::Want(Scope::all(config_maps()))])
        .await
        .unwrap();
    for n in 0..40 {
        store
            .apply(vec![put(&format!("c{n}"), "1", &incompressible)])
            .await
            .unwrap();
    }
    store
        .apply(vec![Change::Complete(Scope::all(config_maps()))])
        .await
        .unwrap();
    store.append(draft("k", Lane::Own, "unsent")).await.unwrap();
    store.bind(&NodeId::new("edge-1").unwrap()).await.unwrap();
    store.revision()
}

#[tokio::test]
async fn the_durable_store_keeps_all_promises() {
    let folder = TempDir::new().unwrap();
    let mut stores = 0;
    let next = std::cell::RefCell::new(&mut stores);
    keeps_its_promises(|| {
        let mut stores = next.borrow_mut();
        **stores += 1;
        EdgeStore::open(folder.path().join(format!("{stores}.db"))).unwrap()
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let long = "x".repeat(10_000);
    let (objects, scopes, revision, instance);
    {
        let store = EdgeStore::open(file(&folder)).unwrap();
        let cluster_scoped = Object::from_body(
            hub_core::object::GroupVersionResource::new("apps", "v1", "things"),
            Bytes::from_static(br#"{"metadata":{"name":"t","uid":"t","resourceVersion":"x"}}"#),
        );
        let all = Scope::all(config_maps());
        let one = Scope {
            labels: "a=b".into(),
            fields: "metadata.name=x".into(),
            ..Scope::object(&key("a"))
        };
        store
            .apply(vec![
                put("a", "1", &long),
                put("b", "2", ""),
                put("c", "3", ""),
                Change::Put(cluster_scoped.unwrap()),
                Change::Want(all.clone()),
                Change::Want(one.clone()),
                Change::Want(Scope::namespaced(config_maps(), "shop")),
            ])
            .await
            .unwrap();
        store
            .apply(vec![put("a", "4", &long), Change::Complete(one)])
            .await
            .unwrap();
        let gone = Change::Delete {
            key: key("b"),
            uid: Some("b".into()),
            version: Some("9".into()),
        };
        store.apply(vec![gone, Change::Drop(all)]).await.unwrap();
        objects = store.list(&config_maps(), None).objects;
        scopes = store.scopes();
        revision = store.revision();
        instance = store.instance().to_owned();
    }
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert_eq!(store.list(&config_maps(), None).objects, objects);
    assert_eq!((store.resources().len(), store.held().len()), (2, 3));
    assert_eq!(store.scopes(), scopes);
    assert_eq!(
        store.revision(),
        revision,
        "a clean stop loses no revision, so watches go on"
    );
    assert_eq!(store.instance(), instance);
    assert!(store.watch(&config_maps(), revision).is_ok());
    assert!(store.watch(&config_maps(), Revision(revision.0 - 1)).is_err());
    store.apply(vec![put("b", "8", "late")]).await.unwrap();
    assert_eq!(store.get(&key("b")), None, "deletions are remembered too");
    assert!(store.apply(vec![put("c", "10", "")]).await.unwrap() > revision);
}

#[tokio::test]
async fn unsent_messages_keep_their_order_over_a_restart() {
    let folder = TempDir::new().unwrap();
    let before;
    {
        let store = EdgeStore::open(file(&folder)).unwrap();
        for (key, lane) in [
            ("a", Lane::Rest),
            ("b", Lane::Bulk),
            ("c", Lane::Urgent),
            ("d", Lane::Rest),
        ] {
            store.append(draft(key, lane, key)).await.unwrap();
        }
        let replaced = store.append(draft("e", Lane::Own, "old")).await.unwrap();
        store.append(draft("a", Lane::Rest, "newer")).await.unwrap();
        store.append(draft("d", Lane::Urgent, "newer")).await.unwrap();
        store.append(draft("e", Lane::Bulk, "new")).await.unwrap();
        assert!(!store.remove(replaced).await.unwrap());
        let urgent = store.first(1)[0].id;
        assert!(store.remove(urgent).await.unwrap());
        before = store.first(99);
        assert_eq!(
            before.iter().map(|e| &*e.draft.key).collect::<Vec<_>>(),
            ["d", "e", "a", "b"]
        );
    }
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert_eq!(store.first(99), before);
    assert_eq!(before[2].message().unwrap().content, Content::string("newer"));
    assert!(store.append(draft("f", Lane::Own, "")).await.unwrap() > before[0].id);
}

#[tokio::test]
async fn a_full_journal_gives_the_message_back() {
    let folder = TempDir::new().unwrap();
    let journal = JournalLimits {
        entries_max: 1,
        ..JournalLimits::default()
    };
    let store = EdgeStore::open_with(
        file(&folder),
        EdgeStoreConfig {
            journal,
            ..EdgeStoreConfig::default()
        },
    )
    .unwrap();
    store.append(draft("event", Lane::Bulk, "")).await.unwrap();
    store.append(draft("a", Lane::Own, "")).await.unwrap();
    assert_eq!((store.depth().entries, store.depth().dropped), (1, 1));
    let refused = store.append(draft("b", Lane::Own, "")).await;
    assert!(matches!(refused, Err(hub_core::store::JournalError::Full(draft)) if &*draft.key == "b"));
}

#[tokio::test]
async fn a_store_is_one_node_s_for_good() {
    let folder = TempDir::new().unwrap();
    let (mine, other) = (NodeId::new("edge-1").unwrap(), NodeId::new("edge-2").unwrap());
    {
        let store = EdgeStore::open(file(&folder)).unwrap();
        store.bind(&mine).await.unwrap();
        store.bind(&mine).await.unwrap();
    }
    let store = EdgeStore::open(file(&folder)).unwrap();
    let refused = store.bind(&other).await.unwrap_err();
    assert!(matches!(&refused, IdentityError::OtherNode { held, .. } if *held == mine));
    assert!(refused.to_string().contains("edge-1"));
}

#[tokio::test]
async fn two_stores_never_share_a_file() {
    let folder = TempDir::new().unwrap();
    let first = EdgeStore::open(file(&folder)).unwrap();
    assert!(matches!(EdgeStore::open(file(&folder)), Err(OpenError::InUse(_))));
    first.apply(vec![put("a", "1", "")]).await.unwrap();
    drop(first);
    assert!(EdgeStore::open(file(&folder)).unwrap().get(&key("a")).is_some());
}

#[tokio::test]
async fn another_program_s_database_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let theirs = rusqlite::Connection::open(file(&folder)).unwrap();
    theirs.execute_batch("CREATE TABLE meta (key TEXT)").unwrap();
    theirs.close().unwrap();
    assert!(matches!(
        EdgeStore::open(file(&folder)),
        Err(OpenError::Disk { .. })
    ));
    assert_eq!(damaged(&folder), 0);
    assert!(matches!(
        EdgeStore::open(folder.path().join("no/such/folder")),
        Err(OpenError::Disk { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_becomes_visible() {
    let folder = TempDir::new().unwrap();
    let config = EdgeStoreConfig {
        file_bytes_max: 200 << 10,
        compress_min: usize::MAX,
        ..EdgeStoreConfig::default()
    };
    let big = "x".repeat(20_000);
    let mut fitted = 0;
    let full = {
        let store = EdgeStore::open_with(file(&folder), config.clone()).unwrap();
        let full = loop {
            let before = store.revision();
            match store.apply(vec![put(&format!("c{fitted}"), "1", &big)]).await {
                Ok(_) => fitted += 1,
                Err(error) => {
                    assert_eq!(store.revision(), before);
                    assert_eq!(store.get(&key(&format!("c{fitted}"))), None);
                    break error;
                }
            }
        };
        assert!(store.append(draft("k", Lane::Own, &big.repeat(2))).await.is_err());
        assert_eq!(store.depth().entries, 0);
        let gone = Change::Delete {
            key: key("c0"),
            uid: None,
            version: None,
        };
        store.apply(vec![gone]).await.unwrap();
        store.apply(vec![put("again", "1", &big)]).await.unwrap();
        full
    };
    assert!(matches!(full, StoreError::Disk(_)), "{full}");
    let store = EdgeStore::open_with(file(&folder), config).unwrap();
    assert_eq!(store.held().len(), fitted);
    assert!(store.get(&key("again")).is_some() && store.get(&key("c0")).is_none());
}

#[tokio::test]
async fn a_truncated_file_is_set_aside_and_the_scopes_are_wanted_again() {
    let folder = TempDir::new().unwrap();
    let revision = filled(&file(&folder)).await;
    let length = fs::metadata(file(&folder)).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(file(&folder))
        .unwrap()
        .set_len(length / 2)
        .unwrap();
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert!(store.held().is_empty());
    assert_eq!(damaged(&folder), 1);
    let notice = store.notice().unwrap();
    assert!(
        notice.contains(".damaged-") && notice.contains("1 messages to the cloud were saved"),
        "{notice}"
    );
    assert!(
        store.revision() > revision,
        "old clients' revisions lie in the past"
    );
    assert!(store.watch(&config_maps(), revision).is_err());
    assert_eq!(store.coverage(&Scope::all(config_maps())), Coverage::Loading);
    assert_eq!(
        store
            .first(9)
            .iter()
            .map(|e| e.message().unwrap().content)
            .collect::<Vec<_>>(),
        [Content::string("unsent")]
    );
    assert!(
        store.bind(&NodeId::new("edge-2").unwrap()).await.is_err(),
        "it is still edge-1's"
    );
    drop(store);
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert_eq!(
        (damaged(&folder), store.scopes().len(), store.depth().entries),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn garbage_is_set_aside_and_only_so_many_damaged_files_are_kept() {
    let folder = TempDir::new().unwrap();
    for round in 1..5usize {
        fs::write(
            file(&folder),
            format!("this is no database {round} ").repeat(1000),
        )
        .unwrap();
        let store = EdgeStore::open(file(&folder)).unwrap();
        store.apply(vec![put("a", "1", "")]).await.unwrap();
        drop(store);
        assert_eq!(
            damaged(&folder),
            round.min(EdgeStoreConfig::default().damaged_max)
        );
    }
    assert!(EdgeStore::open(file(&folder)).unwrap().get(&key("a")).is_some());
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_set_aside() {
    let folder = TempDir::new().unwrap();
    filled(&file(&folder)).await;
    let newer = rusqlite::Connection::open(file(&folder)).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    newer.close().unwrap();
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert_eq!((store.held().len(), damaged(&folder)), (0, 1));
    assert_eq!(store.coverage(&Scope::all(config_maps())), Coverage::Loading);
}

/// Wherever a byte is wrong: what is served is what was written, or the store says that it begins anew.
#[tokio::test]
async fn a_flipped_bit_is_found_or_harmless() {
    const FLIPS: u64 = 150;
    let folder = TempDir::new().unwrap();
    filled(&file(&folder)).await;
    let sound = fs::read(file(&folder)).unwrap();
    let expected = EdgeStore::open(file(&folder))
        .unwrap()
        .list(&config_maps(), None)
        .objects;
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..FLIPS {
        let folder = TempDir::new().unwrap();
        let mut bytes = sound.clone();
        let bit = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        fs::write(file(&folder), bytes).unwrap();
        match EdgeStore::open(file(&folder)) {
            Ok(store) if damaged(&folder) == 1 => {
                assert!(store.held().is_empty());
                assert!(
                    store
                        .scopes()
                        .iter()
                        .all(|(_, coverage)| *coverage == Coverage::Loading)
                );
                found += 1;
            }
            Ok(store) => {
                assert_eq!(store.list(&config_maps(), None).objects, expected, "bit {bit}");
                harmless += 1;
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
    assert!(found > FLIPS / 3, "{found} found, {harmless} harmless");
}

#[tokio::test]
async fn a_local_copy_is_served_after_a_restart_and_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| LocalCopy {
        key: key(name),
        body: Bytes::from(format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"here"}},"data":"local"}}"#
        )),
        note: Bytes::from_static(b"{}"),
    };
    let local = |store: &EdgeStore, name: &str| {
        let served = store.get(&key(name)).unwrap().served.clone();
        String::from_utf8_lossy(&served).contains("local")
    };
    {
        let store = EdgeStore::open(file(&folder)).unwrap();
        let changes = vec![
            put("a", "1", ""),
            copy("a").put().unwrap(),
            copy("b").put().unwrap(),
        ];
        store.apply(changes).await.unwrap();
    }
    let store = EdgeStore::open(file(&folder)).unwrap();
    assert!(local(&store, "a") && local(&store, "b"));
    let held: Vec<_> = store
        .held()
        .into_iter()
        .filter(|held| !held.version.as_str().is_empty())
        .collect();
    assert_eq!(held.len(), 1, "the cloud is told of what it has only");
    assert_eq!(
        &*store.get(&key("a")).unwrap().object.body,
        &*config_map_body("a", "1")
    );
    // Neither news nor a deletion by the cloud reaches clients while there is a copy.
    store.apply(vec![put("a", "2", "")]).await.unwrap();
    assert!(local(&store, "a"));
    let gone = Change::Delete {
        key: key("a"),
        uid: None,
        version: Some("3".into()),
    };
    store.apply(vec![gone]).await.unwrap();
    assert!(local(&store, "a"));
    let revision = store.revision();
    store
        .apply(vec![LocalCopy::forget(&key("a")), LocalCopy::forget(&key("b"))])
        .await
        .unwrap();
    assert!(store.revision() > revision);
    assert!(store.get(&key("a")).is_none() && store.get(&key("b")).is_none());
    assert!(store.resources().is_empty());
}

fn config_map_body(name: &str, version: &str) -> Bytes {
    config_map(name, name, version, "").body
}
