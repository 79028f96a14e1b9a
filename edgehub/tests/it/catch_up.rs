//! What a returning node lacks, asked of our own cloud.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_core::catch_up::{
    BUCKETS_OF, Buckets, COMPLETE, Complete, Differ, Difference, HAVE, Have, Inventory, LOST, Refused,
    SOURCE, ScopeText, VERSIONS_OF, Versions,
};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::service::Reply;
use hub_core::session::{Delivery, Lane};
use hub_core::store::{Change, Coverage, ObjectStore};
use hub_core::transport::Capabilities;

use crate::cloud::{Cloud, Script};
use crate::world::{Edge, TestStore, config, config_map, config_map_key, config_maps, journal, node};

/// A cloud that finds nothing different.
pub fn nothing_differs() -> Script {
    cloud_with(Inventory::default(), Arc::default())
}

/// A cloud that holds this, and notes what it found to be different.
fn cloud_with(inventory: Inventory, found: Arc<Mutex<Vec<Difference>>>) -> Script {
    Arc::new(move |message| {
        let answer = match message.route.resource.as_str() {
            HAVE => {
                let have: Have = message.content.decode("have").unwrap();
                let empty = inventory.digests().is_empty();
                Content::encode(&if empty {
                    Differ::default()
                } else {
                    inventory.differing(&have)
                })
            }
            BUCKETS_OF => {
                let buckets: Buckets = message.content.decode("buckets").unwrap();
                Content::encode(&inventory.differing_buckets(&buckets))
            }
            VERSIONS_OF => {
                let versions: Versions = message.content.decode("versions").unwrap();
                found.lock().unwrap().push(inventory.difference(&versions));
                Content::ok()
            }
            _ => return Some(Reply::Done),
        };
        Some(Reply::Answer(message.response(answer), Lane::Urgent))
    })
}

async fn complete(cloud: &mut Cloud, complete: &Complete) {
    let route = Route::new(SOURCE, "resource", Operation::Update, COMPLETE);
    let message = Message::new(route, Content::encode(complete));
    cloud.send(COMPLETE, None, Delivery::Barrier, message, None).await;
    cloud.wait_delivered(COMPLETE).await;
}

fn store_of(n: u64) -> Arc<TestStore> {
    let store = TestStore::new();
    (0..n).for_each(|i| store.put(config_map(&format!("o{i}"), 1, "x")));
    store
}

fn inventory_of(objects: impl Iterator<Item = (u64, u64)>) -> Inventory {
    let mut inventory = Inventory::default();
    for (i, version) in objects {
        let name = format!("o{i}");
        inventory.add(&config_map_key(&name), &format!("u-{name}"), &version.to_string());
    }
    inventory
}

#[tokio::test]
async fn a_node_that_lacks_nothing_says_one_sentence() {
    let found: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let script = cloud_with(inventory_of((0..500).map(|i| (i, 1))), found.clone());
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
    let edge = Edge::over(config(), dialer, store_of(500), journal());
    let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
    assert_eq!(have.digests["/v1/configmaps"].count, 500);
    let names: Vec<_> = have.scopes.iter().map(|scope| &*scope.resource).collect();
    assert_eq!(
        names,
        ["apiextensions.k8s.io/v1/customresourcedefinitions"],
        "its own pods come unasked"
    );
    complete(&mut cloud, &Complete::default()).await;
    assert!(found.lock().unwrap().is_empty() && cloud.inbox.try_recv().is_err());
    let own = Scope {
        fields: "spec.nodeName=edge-1".into(),
        ..Scope::all(GroupVersionResource::core("pods"))
    };
    edge.coverage(&own, Coverage::Complete).await;
}

#[tokio::test]
async fn only_what_changed_is_asked_for_and_what_is_gone_is_deleted() {
    // Of 500, five are newer in the cloud, and two are gone.
    let there = (0..498).map(|i| (i, if i % 100 == 0 { 2 } else { 1 }));
    let found: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let script = cloud_with(inventory_of(there), found.clone());
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
    let edge = Edge::over(config(), dialer, store_of(500), journal());
    cloud.wait_for(VERSIONS_OF).await;
    let difference = found.lock().unwrap().pop().unwrap();
    assert_eq!((difference.send.len(), difference.delete.len()), (5, 2));
    for key in difference.send {
        let resource = format!("shop/configmap/{}", key.name);
        cloud
            .push("update", &resource, Some(2), &config_map(&key.name, 2, "y"))
            .await;
    }
    for (key, uid) in difference.delete {
        let resource = format!("shop/configmap/{}", key.name);
        let body = format!(
            r#"{{"metadata":{{"name":"{}","namespace":"shop","uid":"{uid}"}}}}"#,
            key.name
        );
        cloud.push("delete", &resource, None, &body).await;
    }
    complete(&mut cloud, &Complete::default()).await;
    let held = edge.store.list(&config_maps(), None).objects;
    let newer = held
        .iter()
        .filter(|stored| stored.object.version.as_str() == "2")
        .count();
    assert_eq!((held.len(), newer), (498, 5));
}

#[tokio::test]
async fn a_scope_that_somebody_wants_is_asked_for_and_becomes_complete() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer);
    cloud.wait_for(HAVE).await;
    let scope = Scope::namespaced(config_maps(), "shop");
    edge.store.apply(vec![Change::Want(scope.clone())]).await.unwrap();
    let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
    assert!(have.scopes.contains(&ScopeText::from(&scope)));
    assert_eq!(edge.store.coverage(&scope), Coverage::Loading);
    let done = Complete {
        scopes: vec![ScopeText::from(&scope)],
        refused: vec![],
    };
    complete(&mut cloud, &done).await;
    assert_eq!(edge.store.coverage(&scope), Coverage::Complete);
}

#[tokio::test]
async fn a_scope_that_the_cloud_refuses_is_wanted_no_more() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer);
    cloud.wait_for(HAVE).await;
    let scope = Scope::all(GroupVersionResource::core("secrets"));
    edge.store.apply(vec![Change::Want(scope.clone())]).await.unwrap();
    cloud.wait_for(HAVE).await;
    let refused = Refused {
        scope: ScopeText::from(&scope),
        reason: "forbidden".into(),
    };
    let refused = Complete {
        scopes: vec![],
        refused: vec![refused],
    };
    complete(&mut cloud, &refused).await;
    assert_eq!(edge.store.coverage(&scope), Coverage::Absent);
    let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
    assert_eq!(have.scopes.len(), 1);
}

#[tokio::test]
async fn a_scope_that_the_cloud_stops_to_follow_is_wanted_no_more_and_one_of_the_configuration_again_on_the_next_connection()
 {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let scope = Scope::all(config_maps());
    let mut config = config();
    config.prefetch.push(scope.clone());
    let edge = Edge::start(config, dialer.clone());
    cloud.wait_for(HAVE).await;
    let done = Complete {
        scopes: vec![ScopeText::from(&scope)],
        refused: vec![],
    };
    complete(&mut cloud, &done).await;
    assert_eq!(edge.store.coverage(&scope), Coverage::Complete);
    let lost = Refused {
        scope: ScopeText::from(&scope),
        reason: "the kind is gone".into(),
    };
    let route = Route::new(SOURCE, "resource", Operation::Update, LOST);
    let message = Message::new(route, Content::encode(&lost));
    cloud.send(LOST, None, Delivery::Acked, message, None).await;
    cloud.wait_delivered(LOST).await;
    assert_eq!(edge.store.coverage(&scope), Coverage::Absent);
    dialer.cut();
    loop {
        let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
        if have.scopes.contains(&ScopeText::from(&scope)) {
            break;
        }
    }
    assert_eq!(edge.store.coverage(&scope), Coverage::Loading);
}

#[tokio::test]
async fn scopes_stay_complete_while_the_cloud_is_away_and_are_told_again_when_it_is_back() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer.clone());
    let scope = Scope::all(config_maps());
    edge.store.apply(vec![Change::Want(scope.clone())]).await.unwrap();
    let text = ScopeText::from(&scope);
    loop {
        let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
        if have.scopes.contains(&text) {
            break;
        }
    }
    let done = Complete {
        scopes: vec![text.clone()],
        refused: vec![],
    };
    complete(&mut cloud, &done).await;
    dialer.cut();
    let have: Have = cloud.wait_for(HAVE).await.content.decode("have").unwrap();
    assert!(have.scopes.contains(&text));
    assert_eq!(edge.store.coverage(&scope), Coverage::Complete);
}

/// Tells the edge to delete what the cloud found to be gone, as a catch-up does, and ends the catch-up.
async fn delete(cloud: &mut Cloud, found: &Mutex<Vec<Difference>>, scope: &Scope) -> usize {
    cloud.wait_for(VERSIONS_OF).await;
    let difference = found.lock().unwrap().pop().unwrap();
    let count = difference.delete.len();
    for (key, uid) in difference.delete {
        let resource = format!("shop/configmap/{}", key.name);
        let body = format!(
            r#"{{"metadata":{{"name":"{}","namespace":"shop","uid":"{uid}"}}}}"#,
            key.name
        );
        cloud.push("delete", &resource, None, &body).await;
    }
    let done = Complete {
        scopes: vec![ScopeText::from(scope)],
        refused: vec![],
    };
    complete(cloud, &done).await;
    count
}

fn left(edge: &Edge) -> usize {
    edge.store.list(&config_maps(), None).objects.len()
}

#[tokio::test]
async fn a_cloud_that_lost_nearly_everything_is_believed_only_at_a_second_look() {
    let found: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let script = cloud_with(inventory_of((0..10).map(|i| (i, 1))), found.clone());
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
    let mut config = config();
    config.mass_deletion.second_look = Some(Duration::from_millis(700));
    let scope = Scope::all(config_maps());
    config.prefetch.push(scope.clone());
    let edge = Edge::over(config, dialer, store_of(100), journal());
    assert_eq!(delete(&mut cloud, &found, &scope).await, 90);
    assert_eq!(left(&edge), 100, "nothing was deleted");
    let held_back = edge.handle.held_back().borrow().clone();
    assert_eq!((held_back[0].deletions, held_back[0].held), (90, 100));
    assert_eq!(held_back[0].scope, scope);
    assert_eq!(
        edge.store.coverage(&scope),
        Coverage::Loading,
        "it is not known to be all"
    );
    // What the cloud tells of one object as it happens is done at once.
    cloud
        .push("delete", "shop/configmap/o0", Some(7), &config_map("o0", 7, "x"))
        .await;
    cloud.wait_delivered("shop/configmap/o0").await;
    assert_eq!(left(&edge), 99);
    assert_eq!(delete(&mut cloud, &found, &scope).await, 90);
    assert_eq!(left(&edge), 9);
    edge.coverage(&scope, Coverage::Complete).await;
    assert!(edge.handle.held_back().borrow().is_empty());
}

#[tokio::test]
async fn an_operator_may_confirm_what_is_held_back_and_a_cloud_that_has_it_again_ends_the_doubt() {
    let found: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let script = cloud_with(inventory_of((0..10).map(|i| (i, 1))), found.clone());
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
    let mut config = config();
    config.mass_deletion.second_look = None;
    let edge = Edge::over(config, dialer, store_of(100), journal());
    let scope = Scope::all(config_maps());
    delete(&mut cloud, &found, &scope).await;
    for i in 10..20 {
        let name = format!("o{i}");
        let resource = format!("shop/configmap/{name}");
        cloud
            .push("insert", &resource, Some(2), &config_map(&name, 2, "y"))
            .await;
        cloud.wait_delivered(&resource).await;
    }
    let held_back = edge.handle.held_back().borrow().clone();
    assert_eq!(held_back[0].deletions, 80, "what came again is not in doubt");
    assert_eq!(edge.handle.allow_deletions("/api/v1/secrets").await.unwrap(), 0);
    assert_eq!(
        edge.handle.allow_deletions("/api/v1/configmaps").await.unwrap(),
        80
    );
    assert_eq!(left(&edge), 20);
    assert!(edge.handle.held_back().borrow().is_empty());
}

#[tokio::test]
async fn what_is_denied_to_a_node_goes_without_a_doubt() {
    let found: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let script = cloud_with(inventory_of((0..1).map(|i| (i, 1))), found.clone());
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
    let mut config = config();
    config.mass_deletion.second_look = None;
    let scope = Scope::all(config_maps());
    config.prefetch.push(scope.clone());
    let edge = Edge::over(config, dialer, store_of(100), journal());
    cloud.wait_for(VERSIONS_OF).await;
    let difference = found.lock().unwrap().pop().unwrap();
    for (key, _) in difference.delete {
        let resource = format!("shop/configmap/{}", key.name);
        let body = format!(r#"{{"metadata":{{"name":"{}","namespace":"shop"}}}}"#, key.name);
        cloud.push("delete", &resource, None, &body).await;
    }
    let refused = Refused {
        scope: ScopeText::from(&scope),
        reason: "forbidden".into(),
    };
    let denied = Complete {
        scopes: vec![],
        refused: vec![refused],
    };
    complete(&mut cloud, &denied).await;
    assert_eq!(left(&edge), 1);
}
