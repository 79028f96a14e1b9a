//! The link comes and goes; the node stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::{EdgeHub, Link, RunError};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::session::Lane;
use hub_core::transport::{Capabilities, Rejection};

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Told};
use crate::world::{Edge, TestStore, config, config_map, journal, node, within};

#[tokio::test]
async fn a_cut_link_is_known_at_once_and_made_anew() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer.clone());
    edge.up().await;
    let mut link = edge.handle.link();
    let states: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = states.clone();
    let watching = tokio::spawn(async move {
        while link.changed().await.is_ok() && seen.lock().unwrap().len() < 2 {
            let up = link.borrow_and_update().is_up();
            seen.lock().unwrap().push(up);
        }
    });
    for _ in 0..5 {
        cloud.wait_told(&Told::Attached).await;
        dialer.cut();
    }
    cloud.wait_told(&Told::Attached).await;
    edge.up().await;
    assert_eq!(states.lock().unwrap().first(), Some(&false));
    watching.abort();
}

#[tokio::test]
async fn a_new_connection_beside_the_old_one_is_no_gap() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer);
    edge.up().await;
    let mut link = edge.handle.link();
    cloud.wait_told(&Told::Attached).await;
    let downs = tokio::spawn(async move { link.wait_for(|link| !link.is_up()).await.is_ok() });
    for n in 0..20 {
        edge.handle.reconnect();
        cloud.wait_told(&Told::Attached).await;
        let resource = format!("shop/configmap/o{n}");
        cloud
            .push(
                "insert",
                &resource,
                Some(1),
                &config_map(&format!("o{n}"), 1, "x"),
            )
            .await;
        cloud.wait_delivered(&resource).await;
    }
    assert_eq!(*cloud.asked.borrow(), 21);
    assert!(!downs.is_finished(), "the link never went down");
    downs.abort();
}

#[tokio::test]
async fn a_refused_node_comes_back_slowly_and_is_let_in_once_it_may() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let rejection = Rejection {
        code: 403,
        reason: "node edge-1 is not registered".into(),
        retry_after_seconds: None,
    };
    *cloud.refusing.lock().unwrap() = Some(rejection);
    let mut config = config();
    config.refused_pause = Duration::from_millis(400);
    let edge = Edge::start(config, dialer);
    within("a dial", cloud.asked.wait_for(|n| *n == 1)).await.unwrap();
    let refused =
        |link: &Link| matches!(link, Link::Down { reason, .. } if reason.contains("not registered"));
    within("the reason", edge.handle.link().wait_for(refused))
        .await
        .unwrap();
    let second = tokio::time::timeout(Duration::from_millis(200), cloud.asked.wait_for(|n| *n == 2)).await;
    assert!(second.is_err(), "an ordinary failure is tried again within 20 ms");
    *cloud.refusing.lock().unwrap() = None;
    edge.up().await;
}

#[tokio::test]
async fn stopping_tells_the_cloud_and_ends_the_run() {
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let edge = Edge::start(config(), dialer);
    edge.up().await;
    let link = edge.handle.link();
    edge.stop().await;
    cloud.wait_told(&Told::Detached).await;
    assert!(!link.borrow().is_up());
}

#[tokio::test]
async fn a_hub_that_may_never_connect_says_what_to_do() {
    let hub = EdgeHub::builder(config(), TestStore::new(), Arc::new(journal())).build();
    let error = hub.run().await.unwrap_err();
    assert!(
        matches!(error, RunError::NoEndpoint) && error.to_string().contains("websocket.server"),
        "{error}"
    );

    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.websocket = vec![hub_core::transport::Endpoint::parse("127.0.0.1:1").unwrap()];
    config.enroll.ca_file = directory.path().join("ca.crt");
    let files = (directory.path().join("a.crt"), directory.path().join("a.key"));
    config.enroll.files = hub_core::credentials::CredentialFiles::new(&files.0, &files.1);
    let hub = EdgeHub::builder(config.clone(), TestStore::new(), Arc::new(journal())).build();
    let error = hub.run().await.unwrap_err();
    assert!(error.to_string().contains("modules.edgeHub.token"), "{error}");

    // With something to serve it goes on, and looks for files now and then.
    let store = TestStore::new();
    store.put(config_map("a", 1, "x"));
    let hub = EdgeHub::builder(config, store, Arc::new(journal())).build();
    let handle = hub.handle();
    let run = tokio::spawn(hub.run());
    let looking = |link: &Link| matches!(link, Link::Down { reason, .. } if reason.contains("certificate"));
    within("a reason", handle.link().wait_for(looking)).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), handle.link().wait_for(Link::is_up))
            .await
            .is_err()
    );
    assert!(!run.is_finished());
    handle.stop();
    within("the end", run).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stock_cloud_is_kept_alive_with_its_own_message() {
    // A stock cloud knows no pings: the keepalive message is not seen by handlers, but the session counts as heard.
    let (mut cloud, dialer) = Cloud::start(&node(), Capabilities::NONE, nothing_differs());
    let edge = Edge::start(config(), dialer);
    edge.up().await;
    let Link::Up { capabilities, .. } = *edge.handle.link().borrow() else {
        panic!()
    };
    assert_eq!(capabilities, Capabilities::NONE);
    let message = Message::new(
        Route::new("me", "resource", Operation::Update, "a/b/c"),
        Content::null(),
    );
    edge.handle
        .session()
        .call(message, Lane::Rest, Duration::from_millis(50))
        .await
        .unwrap_err();
    cloud.wait_for("a/b/c").await;
}
