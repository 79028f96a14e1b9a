//! What every [`ObjectStore`] that counts its own revisions promises. Run it against yours:
//!
//! ```
//! # use hub_core::{registry::Registry, store::{MemoryStore, StoreLimits}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! hub_core::testing::store::keeps_its_promises(|| MemoryStore::new(StoreLimits::default(), Registry::builtin())).await;
//! # }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::ArcWake;
use serde_json::Value;

use crate::object::{GroupVersionResource, Metadata, Object, ObjectKey, Revision};
use crate::scope::Scope;
use crate::store::{Change, Coverage, EventKind, ObjectStore};

/// Checks all promises, each on a fresh store. Panics with the promise that does not hold.
pub async fn keeps_its_promises<S: ObjectStore>(fresh: impl Fn() -> S) {
    an_object_is_served_with_the_store_s_own_revision(&fresh()).await;
    the_newest_version_wins(&fresh()).await;
    a_version_that_is_no_number_counts_as_newer(&fresh()).await;
    a_deletion_needs_the_right_incarnation(&fresh()).await;
    a_late_copy_of_a_deleted_object_stays_deleted(&fresh()).await;
    what_was_not_needed_for_a_while_comes_back_as_it_was(&fresh()).await;
    a_refresh_changes_only_what_is_held(&fresh()).await;
    another_incarnation_is_a_deletion_and_an_addition(&fresh()).await;
    lists_are_ordered_and_watches_go_on_from_them(&fresh()).await;
    a_watch_replays_and_then_follows(&fresh()).await;
    a_quiet_collection_wakes_nobody(&fresh()).await;
    history_before_the_beginning_is_compacted(&fresh()).await;
    a_batch_becomes_visible_at_one_instant(&fresh()).await;
    scopes_cover_what_they_contain(&fresh()).await;
}

/// A ConfigMap of namespace `shop`.
pub fn config_map(name: &str, uid: &str, version: &str, data: &str) -> Object {
    let body = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"shop","uid":"{uid}","resourceVersion":"{version}"}},"data":{{"x":"{data}"}}}}"#
    );
    Object::from_body(config_maps(), Bytes::from(body)).expect("the body is an object")
}

/// Puts objects, in their order: definitions of custom kinds come before what they define.
///
/// # Panics
/// When one is of a kind that the store does not know, or is not taken.
pub async fn put_documents<'d>(store: &impl ObjectStore, documents: impl IntoIterator<Item = &'d Value>) {
    for document in documents {
        let text = |field: &str| document[field].as_str().expect("an object says what it is");
        let kind = store.registry().by_kind(text("apiVersion"), text("kind"));
        let resource = kind.expect("the kind is known").resource.clone();
        let object =
            Object::from_body(resource, document.to_string().into()).expect("the document is an object");
        store
            .apply(vec![Change::Put(object)])
            .await
            .expect("a put is taken");
    }
}

/// The collection of [`config_map`]s.
pub fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(config_maps(), Some("shop"), name)
}

async fn put(store: &impl ObjectStore, name: &str, uid: &str, version: &str) -> Revision {
    let change = Change::Put(config_map(name, uid, version, version));
    store.apply(vec![change]).await.expect("a put is taken")
}

async fn delete(store: &impl ObjectStore, name: &str, uid: Option<&str>, version: Option<&str>) -> Revision {
    let change = Change::Delete {
        key: key(name),
        uid: uid.map(Into::into),
        version: version.map(Into::into),
    };
    store.apply(vec![change]).await.expect("a deletion is taken")
}

fn version(store: &impl ObjectStore, name: &str) -> Option<String> {
    Some(store.get(&key(name))?.object.version.to_string())
}

async fn an_object_is_served_with_the_store_s_own_revision(store: &impl ObjectStore) {
    assert_ne!(store.revision(), Revision(0), "a revision is never 0");
    let before = store.revision();
    let revision = put(store, "a", "u", "7").await;
    assert!(revision > before, "every change has a newer revision");
    assert_eq!(store.revision(), revision);
    let stored = store.get(&key("a")).expect("what was put is there");
    assert_eq!(stored.revision, revision);
    assert_eq!(
        stored.object,
        config_map("a", "u", "7", "7"),
        "the cloud's object is kept as it came"
    );
    let served = Metadata::parse(&stored.served).expect("what is served is an object");
    assert_eq!(&*served.resource_version, revision.to_string());
    assert_eq!(store.resources(), [config_maps()]);
    assert_eq!(store.get(&key("b")), None);
}

async fn the_newest_version_wins(store: &impl ObjectStore) {
    let at = put(store, "a", "u", "7").await;
    let mut watch = store.watch(&config_maps(), at).expect("the present is kept");
    assert_eq!(put(store, "a", "u", "6").await, at, "an older version is ignored");
    assert_eq!(put(store, "a", "u", "7").await, at, "the same version is ignored");
    assert_eq!(version(store, "a").as_deref(), Some("7"));
    assert!(watch.available(9).expect("nothing is compacted").is_empty());
    assert!(
        put(store, "a", "u", "10").await > at,
        "versions are compared as numbers"
    );
    assert_eq!(version(store, "a").as_deref(), Some("10"));
    assert!(
        put(store, "a", "other", "3").await > at,
        "another incarnation has its own versions"
    );
}

async fn a_version_that_is_no_number_counts_as_newer(store: &impl ObjectStore) {
    for text in ["7", "x", "", "99999999999999999999999", "3"] {
        put(store, "a", "u", text).await;
        assert_eq!(version(store, "a").as_deref(), Some(text));
    }
    delete(store, "a", Some("u"), Some("y")).await;
    assert_eq!(version(store, "a"), None);
}

async fn a_deletion_needs_the_right_incarnation(store: &impl ObjectStore) {
    let at = put(store, "a", "u", "7").await;
    assert_eq!(
        delete(store, "a", Some("other"), Some("9")).await,
        at,
        "another uid is ignored"
    );
    assert_eq!(
        delete(store, "a", Some("u"), Some("6")).await,
        at,
        "an older deletion is ignored"
    );
    assert_eq!(
        delete(store, "b", None, None).await,
        at,
        "what is not there cannot go"
    );
    assert!(delete(store, "a", Some("u"), Some("7")).await > at);
    assert_eq!(version(store, "a"), None);
    assert!(store.resources().is_empty());
    put(store, "a", "v", "8").await;
    delete(store, "a", None, None).await;
    assert_eq!(version(store, "a"), None, "without uid and version any will do");
}

async fn a_late_copy_of_a_deleted_object_stays_deleted(store: &impl ObjectStore) {
    put(store, "a", "u", "7").await;
    let at = delete(store, "a", Some("u"), Some("9")).await;
    assert_eq!(put(store, "a", "u", "8").await, at);
    assert_eq!(version(store, "a"), None);
    delete(store, "b", Some("w"), Some("9")).await;
    assert_eq!(
        put(store, "b", "w", "8").await,
        at,
        "even if the deletion came first"
    );
    assert!(
        put(store, "a", "u", "10").await > at,
        "what is newer than the deletion is no late copy"
    );
    assert!(
        put(store, "b", "x", "1").await > at,
        "another incarnation is another object"
    );
}

async fn what_was_not_needed_for_a_while_comes_back_as_it_was(store: &impl ObjectStore) {
    for told in [Some("7"), None] {
        put(store, "a", "u", "7").await;
        delete(store, "a", Some("u"), told).await;
        assert_eq!(version(store, "a"), None);
        put(store, "a", "u", "6").await;
        assert_eq!(version(store, "a"), None, "an older state is a late copy");
        put(store, "a", "u", "7").await;
        assert_eq!(version(store, "a").as_deref(), Some("7"), "{told:?}");
    }
    // It was on its way when it was needed no more.
    delete(store, "b", Some("w"), Some("9")).await;
    put(store, "b", "w", "9").await;
    assert_eq!(version(store, "b").as_deref(), Some("9"));
}

async fn a_refresh_changes_only_what_is_held(store: &impl ObjectStore) {
    let refresh = async |uid: &str, version: &str| {
        let change = Change::Refresh(config_map("a", uid, version, version));
        store.apply(vec![change]).await.expect("a refresh is taken")
    };
    let at = store.revision();
    assert_eq!(refresh("u", "9").await, at, "what is not here stays away");
    put(store, "a", "u", "7").await;
    refresh("u", "9").await;
    assert_eq!(version(store, "a").as_deref(), Some("9"));
    refresh("u", "8").await;
    assert_eq!(
        version(store, "a").as_deref(),
        Some("9"),
        "the newest version wins"
    );
    refresh("v", "10").await;
    assert_eq!(
        version(store, "a").as_deref(),
        Some("9"),
        "another incarnation is not meant"
    );
    // A deletion that does not say its version cannot tell what comes after it.
    delete(store, "a", Some("u"), None).await;
    refresh("u", "11").await;
    assert_eq!(version(store, "a"), None);
}

async fn another_incarnation_is_a_deletion_and_an_addition(store: &impl ObjectStore) {
    let at = put(store, "a", "u", "7").await;
    put(store, "a", "v", "9").await;
    let mut watch = store.watch(&config_maps(), at).expect("the present is kept");
    let events = watch.available(9).expect("nothing is compacted");
    let seen: Vec<_> = events.iter().map(|e| (e.kind, &*e.stored.object.uid)).collect();
    assert_eq!(seen, [(EventKind::Deleted, "u"), (EventKind::Added, "v")]);
    assert!(events[0].revision < events[1].revision);
    assert_eq!(
        put(store, "a", "u", "7").await,
        events[1].revision,
        "the first one does not come back"
    );
}

async fn lists_are_ordered_and_watches_go_on_from_them(store: &impl ObjectStore) {
    for (namespace, name) in [("shop", "b"), ("shop", "a"), ("bank", "z"), ("shopping", "a")] {
        let mut object = config_map(name, &format!("{namespace}-{name}"), "1", "");
        object.key.namespace = Some(namespace.into());
        store
            .apply(vec![Change::Put(object)])
            .await
            .expect("a put is taken");
    }
    let names = |namespace| {
        let listing = store.list(&config_maps(), namespace);
        assert_eq!(listing.revision, store.revision());
        let keys = listing.objects.iter().map(|s| s.object.key.to_string());
        keys.map(|key| key.replace("v1/configmaps ", ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["bank/z", "shop/a", "shop/b", "shopping/a"]);
    assert_eq!(names(Some("shop")), ["shop/a", "shop/b"]);
    assert!(names(Some("none")).is_empty());
    let listing = store.list(&config_maps(), None);
    let mut watch = store
        .watch(&config_maps(), listing.revision)
        .expect("a list can be followed");
    assert_eq!(watch.progress(), Some(listing.revision));
    let revision = put(store, "c", "c", "1").await;
    assert_eq!(watch.progress(), None, "an event is waiting");
    assert_eq!(
        watch.next().await.expect("nothing is compacted").revision,
        revision
    );
    assert_eq!(watch.progress(), Some(revision));
}

async fn a_watch_replays_and_then_follows(store: &impl ObjectStore) {
    let start = store.revision();
    put(store, "a", "u", "1").await;
    put(store, "a", "u", "2").await;
    let mut watch = store.watch(&config_maps(), start).expect("the history is kept");
    let first = watch.next().await.expect("nothing is compacted");
    assert_eq!((first.kind, first.previous.is_none()), (EventKind::Added, true));
    let second = watch.next().await.expect("nothing is compacted");
    assert_eq!(second.kind, EventKind::Modified);
    assert_eq!(second.previous.as_ref(), Some(&first.stored));
    let (event, revision) = futures::join!(watch.next(), delete(store, "a", Some("u"), Some("3")));
    let event = event.expect("nothing is compacted");
    assert_eq!(
        (event.kind, event.revision, event.stored.revision),
        (EventKind::Deleted, revision, revision)
    );
    assert_eq!(event.previous.as_ref(), Some(&second.stored));
    let last = Metadata::parse(&event.stored.served).expect("the last state is an object");
    assert_eq!(&*last.resource_version, revision.to_string());
    put(store, "b", "b", "1").await;
    put(store, "c", "c", "1").await;
    assert_eq!(watch.next_batch(9).await.expect("nothing is compacted").len(), 2);
}

async fn a_quiet_collection_wakes_nobody(store: &impl ObjectStore) {
    struct Wakes(AtomicUsize);
    impl ArcWake for Wakes {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = futures::task::waker(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut watch = store
        .watch(&GroupVersionResource::core("secrets"), store.revision())
        .expect("the present is kept");
    let mut next = std::pin::pin!(watch.next());
    assert!(next.as_mut().poll(&mut context).is_pending());
    put(store, "a", "u", "1").await;
    assert_eq!(
        wakes.0.load(Ordering::SeqCst),
        0,
        "others' changes wake nobody here"
    );
    let mut secret = config_map("s", "s", "1", "");
    secret.key.resource = GroupVersionResource::core("secrets");
    store
        .apply(vec![Change::Put(secret)])
        .await
        .expect("a put is taken");
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
}

async fn history_before_the_beginning_is_compacted(store: &impl ObjectStore) {
    let begin = store.revision();
    put(store, "a", "u", "1").await;
    let compacted = store
        .watch(&config_maps(), Revision(begin.0 - 1))
        .expect_err("nobody knows it");
    assert_eq!(compacted.oldest, begin);
    assert!(store.watch(&config_maps(), begin).is_ok());
}

async fn a_batch_becomes_visible_at_one_instant(store: &impl ObjectStore) {
    const ROUNDS: usize = 50;
    let writes = async {
        for round in 1..=ROUNDS {
            let objects =
                ["a", "b", "c"].map(|name| Change::Put(config_map(name, name, &round.to_string(), "")));
            store.apply(objects.into()).await.expect("a batch is taken");
        }
    };
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.expect("a runtime can be built").block_on(writes);
        });
        while !writer.is_finished() {
            let listing = store.list(&config_maps(), None).objects;
            let versions: Vec<_> = listing.iter().map(|s| s.object.version.clone()).collect();
            assert!(versions.iter().all(|v| *v == versions[0]) && [0, 3].contains(&versions.len()));
        }
        writer.join().expect("all batches are taken");
    });
    assert_eq!(version(store, "c"), Some(ROUNDS.to_string()));
}

async fn scopes_cover_what_they_contain(store: &impl ObjectStore) {
    let all = Scope::all(config_maps());
    let shop = Scope::namespaced(config_maps(), "shop");
    let changed = store.scopes_changed();
    assert_eq!(store.coverage(&shop), Coverage::Absent);
    let apply = |changes| async { store.apply(changes).await.expect("scopes are taken") };
    apply(vec![Change::Complete(all.clone())]).await;
    assert_eq!(store.coverage(&all), Coverage::Absent, "nobody asked for it");
    apply(vec![Change::Want(all.clone())]).await;
    assert!(changed.has_changed().expect("the store is there"));
    assert_eq!(store.coverage(&shop), Coverage::Loading);
    apply(vec![Change::Want(shop.clone()), Change::Complete(shop.clone())]).await;
    assert_eq!(
        (store.coverage(&shop), store.coverage(&all)),
        (Coverage::Complete, Coverage::Loading)
    );
    apply(vec![Change::Want(shop.clone())]).await;
    assert_eq!(
        store.coverage(&shop),
        Coverage::Complete,
        "wanting again takes nothing away"
    );
    assert_eq!(
        store.scopes(),
        [
            (all.clone(), Coverage::Loading),
            (shop.clone(), Coverage::Complete)
        ]
    );
    apply(vec![Change::Drop(shop.clone()), Change::Complete(all.clone())]).await;
    assert_eq!(store.coverage(&shop), Coverage::Complete, "the wider one has it");
    assert_eq!(store.scopes().len(), 1);
}
