//! What stands behind an API server is away: a webhook, the server of an API that it passes on to. Or the server itself hangs, or is of another
//! make.

use std::time::Duration;

use cloudhub::cluster::Cluster;
use hub_core::api::{ApiRequest, UpstreamError, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use serde_json::json;

use crate::server::{Mood, Server};
use crate::view::{View, within};

fn all() -> Scope {
    Scope::all(GroupVersionResource::core("configmaps"))
}

/// A server that was silent counts as just started for so long: longer than these tests take.
const SETTLING: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_webhook_that_is_away_fails_what_is_written_and_nobody_takes_the_server_for_silent() {
    let server = Server::new();
    let cluster = server.cluster_with(|config| config.settling = SETTLING);
    let mut view = View::of(&cluster, all());
    view.synced().await;
    server.mood(Mood::NoWebhook);
    let body = json!({ "metadata": { "name": "a" } }).to_string();
    let resource = GroupVersionResource::core("configmaps");
    let create = ApiRequest::resource(Verb::Create, resource.clone(), Some("default"), None)
        .with_body("application/json", body);
    let answer = cluster.execute(create).await.unwrap();
    assert_eq!(answer.code, 500);
    assert_eq!(cluster.silence(), None);
    // More than any restart takes later it answers a read, and what it denies then is denied.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let read = ApiRequest::resource(Verb::List, resource, Some("default"), None);
    assert_eq!(cluster.execute(read.clone()).await.unwrap().code, 200);
    server.mood(Mood::Forbids("configmaps"));
    assert_eq!(cluster.execute(read).await.unwrap().code, 403);
}

#[tokio::test]
async fn an_api_whose_server_is_away_is_kept_as_it_was_known_and_all_else_goes_on() {
    let server = Server::new();
    let cluster = server.cluster();
    let mut view = View::of(&cluster, all());
    view.synced().await;
    let jobs = GroupVersionResource::new("batch", "v1", "jobs");
    server.mood(Mood::NoApi("batch"));
    // A look at the kinds that finds the new one finds the others away.
    let lamps = GroupVersionResource::new("example.com", "v1", "lamps");
    define(&server, &lamps).await;
    within("the new kind", async {
        while cluster.registry().by_resource(&lamps).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(cluster.registry().by_resource(&jobs).is_some());
    let read = ApiRequest::resource(Verb::List, jobs, Some("default"), None);
    assert_eq!(
        cluster.execute(read).await.unwrap_err(),
        UpstreamError::Unreachable
    );
    assert_eq!(cluster.silence(), None);
    server.put("a", "x", "1").await;
    view.until("what changes meanwhile", |view| view.names() == ["a"])
        .await;
    assert_eq!((view.restarts, view.gone.len()), (0, 0));
}

#[tokio::test]
async fn a_server_that_takes_requests_and_answers_none_is_silent() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let cluster = server.cluster_with(|config| config.request_deadline = Duration::from_millis(100));
    let mut view = View::of(&cluster, all());
    view.synced().await;
    server.mood(Mood::Hangs);
    server.cut();
    within("silence", async {
        while cluster.silence().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.mood(Mood::Good);
    server.put("b", "x", "1").await;
    view.until("its return", |view| view.names() == ["a", "b"]).await;
    assert_eq!((view.restarts, view.gone.len()), (0, 0));
}

#[tokio::test]
async fn a_server_whose_store_tells_of_no_progress_is_listed_in_pages_and_watched_as_any_other() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    server.mood(Mood::NoBookmarks);
    let cluster = server.cluster_with(|config| config.stream_patience = Duration::from_millis(100));
    // Before that nobody knows that it should stream lists.
    within("discovery", async {
        while server.seen(|line| line.contains("/apis")).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut view = View::of(&cluster, all());
    view.synced().await;
    server.put("b", "x", "1").await;
    view.until("a change", |view| view.names() == ["a", "b"]).await;
    server.cut();
    server.delete("a").await;
    view.until("what happened meanwhile", |view| view.names() == ["b"])
        .await;
    assert_eq!(view.restarts, 0);
    // Whichever collection came first has tried how it is otherwise done.
    assert!(!server.seen(|line| line.contains("sendInitialEvents")).is_empty());
    let lists = server.seen(|line| line.contains("/configmaps?") && line.contains("limit="));
    assert_eq!(lists.len(), 1);
}

async fn define(server: &Server, kind: &GroupVersionResource) {
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definition = json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "name": format!("{}.{}", kind.resource, kind.group) },
        "spec": {
            "group": &*kind.group, "scope": "Namespaced",
            "names": { "plural": &*kind.resource, "singular": "lamp", "kind": "Lamp", "listKind": "LampList" },
            "versions": [{ "name": &*kind.version, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    let create = ApiRequest::resource(Verb::Create, definitions, None, None)
        .with_body("application/json", definition.to_string());
    assert_eq!(server.truth.execute(create).await.unwrap().code, 201);
}
