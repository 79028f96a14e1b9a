//! Watches go on after a restart where nothing can be missing, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use edgehub::store::EdgeStore;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::store::{Change, EventKind, ObjectStore, Stored};
use tempfile::TempDir;

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

fn secrets() -> GroupVersionResource {
    GroupVersionResource::core("secrets")
}

fn put(resource: &GroupVersionResource, name: &str, version: u64) -> Change {
    let body = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"{name}","resourceVersion":"{version}"}}}}"#
    );
    Change::Put(Object::from_body(resource.clone(), body.into_bytes().into()).unwrap())
}

fn delete(resource: &GroupVersionResource, name: &str) -> Change {
    Change::Delete {
        key: ObjectKey::new(resource.clone(), Some("shop"), name),
        uid: None,
        version: None,
    }
}

async fn one(store: &EdgeStore, change: Change) -> Revision {
    store.apply(vec![change]).await.unwrap()
}

/// As after a `kill -9`: the file as it is while its store is open.
fn killed(store: EdgeStore, folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    drop(store);
    copy
}

fn open(folder: &TempDir) -> EdgeStore {
    EdgeStore::open(folder.path().join("edge.db")).unwrap()
}

#[tokio::test]
async fn who_saw_the_last_change_of_a_collection_goes_on_after_a_restart_and_who_did_not_begins_anew() {
    for kill in [false, true] {
        let mut folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let first = store.revision();
        one(&store, put(&config_maps(), "a", 1)).await;
        let added = one(&store, put(&config_maps(), "b", 2)).await;
        let deleted = one(&store, delete(&config_maps(), "b")).await;
        let secret = one(&store, put(&secrets(), "s", 3)).await;
        if kill {
            folder = killed(store, &folder);
        } else {
            drop(store);
        }
        let store = open(&folder);
        assert!(
            store.watch(&config_maps(), added).is_err(),
            "it never heard of the deletion"
        );
        assert!(store.watch(&secrets(), deleted).is_err(), "nor of the secret");
        assert!(
            store
                .watch(&GroupVersionResource::core("services"), first)
                .is_ok()
        );
        let mut watch = store.watch(&config_maps(), deleted).unwrap();
        assert!(watch.available(10).unwrap().is_empty());
        assert!(watch.progress().unwrap() >= secret);
        one(&store, put(&config_maps(), "a", 4)).await;
        let event = watch.next().await.unwrap();
        assert_eq!(event.kind, EventKind::Modified);
        assert!(event.revision > secret && event.previous.is_some());
    }
}

#[tokio::test]
async fn a_file_that_another_program_wrote_meanwhile_or_that_never_had_such_notes_lets_nobody_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    for (number, spoil) in [
        "UPDATE run SET reserved = reserved + 1",
        "UPDATE run SET boot = 'another'",
        "DELETE FROM run",
        "DROP TABLE deletion; DROP TABLE run",
        "UPDATE deletion SET revision = 1",
    ]
    .into_iter()
    .enumerate()
    {
        let store = open(&folder);
        let name = format!("a{number}");
        one(&store, put(&config_maps(), &name, 1)).await;
        let last = one(&store, delete(&config_maps(), &name)).await;
        one(&store, put(&secrets(), &name, 2)).await;
        drop(store);
        execute(&path, spoil);
        let store = open(&folder);
        assert!(store.watch(&config_maps(), last).is_err(), "{spoil}");
        let now = store.revision();
        assert!(store.watch(&config_maps(), now).is_ok());
    }
}

fn execute(path: &Path, text: &str) {
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(text)
        .unwrap();
}

/// What a client has seen of a collection, and how far.
#[derive(Default)]
struct Client {
    seen: BTreeMap<String, Revision>,
    at: Revision,
    relists: usize,
}

impl Client {
    fn list(&mut self, store: &EdgeStore) {
        let listing = store.list(&config_maps(), None);
        self.seen = listing.objects.iter().map(shown).collect();
        self.at = listing.revision;
    }

    /// Takes at most so many events from where it was, as a client with a new connection each time.
    fn follow(&mut self, store: &EdgeStore, max: usize) {
        let events = store.watch(&config_maps(), self.at).and_then(|mut watch| {
            let events = watch.available(max)?;
            let done = watch.progress();
            Ok((events, done))
        });
        let Ok((events, done)) = events else {
            self.relists += 1;
            return self.list(store);
        };
        for event in events {
            let (name, revision) = shown(&event.stored);
            match event.kind {
                EventKind::Deleted => assert!(self.seen.remove(&name).is_some(), "{name} was never there"),
                EventKind::Added => assert!(
                    self.seen.insert(name.clone(), revision).is_none(),
                    "{name} was there"
                ),
                EventKind::Modified => assert!(
                    self.seen.insert(name.clone(), revision).is_some(),
                    "{name} was not there"
                ),
            }
            self.at = event.revision;
        }
        // As a bookmark says it.
        self.at = done.unwrap_or(self.at);
    }
}

fn shown(stored: &Arc<Stored>) -> (String, Revision) {
    (stored.object.key.name.to_string(), stored.revision)
}

#[tokio::test]
async fn clients_that_go_on_over_any_restarts_have_what_the_store_has_and_hardly_ever_list() {
    let (mut relists, mut restarts) = (0, 0);
    for seed in 1..20_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % end
        };
        let mut folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder);
        let (mut prompt, mut lazy) = (Client::default(), Client::default());
        prompt.list(&store);
        lazy.list(&store);
        for version in 1..40 {
            let name = format!("o{}", below(4));
            match below(8) {
                0..3 => drop(one(&store, put(&config_maps(), &name, version)).await),
                3..5 => drop(one(&store, delete(&config_maps(), &name)).await),
                5 => drop(one(&store, put(&secrets(), &name, version)).await),
                6 => {
                    drop(store);
                    store = open(&folder);
                    restarts += 1;
                }
                _ => {
                    folder = killed(store, &folder);
                    store = open(&folder);
                    restarts += 1;
                }
            }
            prompt.follow(&store, 100);
            if below(3) == 0 {
                lazy.follow(&store, 1);
            }
        }
        lazy.follow(&store, 100);
        let mut truth = Client::default();
        truth.list(&store);
        assert_eq!(prompt.seen, truth.seen, "seed {seed}");
        assert_eq!(lazy.seen, truth.seen, "seed {seed}");
        assert_eq!(prompt.relists, 0, "seed {seed}: it had always seen everything");
        relists += lazy.relists;
    }
    assert!(
        relists > 0 && restarts > 100,
        "{relists} lists after {restarts} restarts"
    );
}
