//! What the server says of itself, and of what it is not sure of.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Empty};
use hub_core::api::{ApiRequest, ApiResponse, Reach, UpstreamError};
use hub_core::object::{GroupVersionResource, Object};
use hub_core::registry::Registry;
use hub_core::scope::{HeldBack, Scope};
use hub_core::store::{Change, MemoryStore, ObjectStore, StoreLimits};
use metaserver::{LocalWrites, MetaConfig, MetaServer};
use support::{Mood, Node, config_map};
use tokio::sync::watch;
use tower::{Service, ServiceExt as _};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

/// A cloud that is there and says nothing, and deletions that are in doubt.
#[derive(Clone)]
struct Doubtful(watch::Receiver<Arc<[HeldBack]>>);

impl Service<ApiRequest> for Doubtful {
    type Response = ApiResponse;
    type Error = UpstreamError;
    type Future = BoxFuture<'static, Result<ApiResponse, UpstreamError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ApiRequest) -> Self::Future {
        Box::pin(std::future::pending())
    }
}

impl Reach for Doubtful {
    fn held_back(&self) -> Option<watch::Receiver<Arc<[HeldBack]>>> {
        Some(self.0.clone())
    }
}

fn config_maps() -> Scope {
    Scope::all(GroupVersionResource::core("configmaps"))
}

async fn get(server: &MetaServer, path: &str, agent: &str) -> (u16, http::HeaderMap, String) {
    let request = http::Request::get(path).header("user-agent", agent);
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let (head, body) = server.service().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        head.status.as_u16(),
        head.headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn what_the_cloud_may_have_lost_is_shown_as_stale_until_that_is_confirmed() {
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let mut object = config_map("shop", "a", "1");
    object["metadata"]["resourceVersion"] = "5".into();
    let object = Object::from_body(config_maps().resource, object.to_string().into()).unwrap();
    let changes = vec![
        Change::Put(object),
        Change::Want(config_maps()),
        Change::Complete(config_maps()),
    ];
    store.apply(changes).await.unwrap();
    let (doubts, held_back) = watch::channel(Arc::from(Vec::new()));
    let server = MetaServer::new(store, Doubtful(held_back));
    let mark = async || {
        let (code, headers, _) = get(&server, SHOP, "kubectl/v1.36").await;
        assert_eq!(code, 200);
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text("x-edge-cache").unwrap(), text("warning").unwrap_or_default())
    };
    assert_eq!(mark().await, ("live".into(), String::new()));
    doubts.send_replace(Arc::from([HeldBack {
        scope: config_maps(),
        deletions: 40,
        held: 41,
        since_ms: 1_000,
        second_look_ms: None,
    }]));
    let (cache, warning) = mark().await;
    assert!(
        cache.starts_with("stale;age=") && cache.ends_with(";held-back=40"),
        "{cache}"
    );
    assert!(
        warning.contains("40 of 41 objects held here may be gone"),
        "{warning}"
    );
    let (code, _, ready) = get(&server, "/readyz?verbose", "x").await;
    assert!(
        code == 200 && ready.contains("deletions held back: 40 of 41 in /api/v1/configmaps"),
        "{ready}"
    );
    let scopes = server.scopes();
    assert_eq!(
        (scopes.scopes[0].state.as_str(), scopes.scopes[0].objects),
        ("held back", 1)
    );
    assert_eq!(server.why(SHOP).held_back.unwrap().deletions, 40);
    // Another kind is not in doubt.
    assert!(server.why("/api/v1/secrets").held_back.is_none());
    doubts.send_replace(Arc::from(Vec::new()));
    assert_eq!(mark().await.0, "live");
}

#[tokio::test]
async fn why_says_what_a_request_is_then_really_answered() {
    let node = Node::with(MetaConfig {
        local_writes: LocalWrites::of_node("edge-1"),
        ..MetaConfig::default()
    })
    .await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.get(SHOP).await;
    node.get("/apis/example.com/v1/things").await;
    node.settled().await;
    let paths = [
        "/healthz",
        "/readyz?verbose",
        "/version",
        "/apis",
        "/metrics",
        "//api/v1/pods",
        "/api/v1/things",
        "/apis/example.com/v1/things",
        "/api/v1/secrets",
        "/api/v1/namespaces/shop/secrets/s",
        "/api/v1/configmaps?fieldSelector=spec.x%3Dy",
        "/api/v1/configmaps?limit=many",
        SHOP,
        "/api/v1/namespaces/shop/configmaps?labelSelector=app%3D1",
        "/api/v1/namespaces/shop/configmaps/a",
        "/api/v1/namespaces/shop/configmaps/b",
        "/api/v1/namespaces/shop/configmaps?watch=true&timeoutSeconds=1",
        "/api/v1/namespaces/shop/pods/p/log",
    ];
    for mood in [Mood::Up, Mood::Unreachable] {
        node.cloud.mood(mood);
        // A request that fails is how this cloud's absence is noticed.
        node.get("/api/v1/nodes/noticed").await;
        for path in paths {
            let why = node.meta().why(path);
            let Some(code) = why.code else {
                assert_eq!((why.source.as_str(), mood), ("cloud", Mood::Up), "{path}");
                continue;
            };
            let really = node.get(path).await;
            assert_eq!(really.code.as_u16(), code, "{mood:?} {path}: {why:#?}");
            let from_store = really.headers.contains_key("x-edge-cache");
            let is_read = why.request != "watch" && code == 200;
            assert_eq!(from_store, is_read && why.source == "store", "{path}: {why:#?}");
        }
    }
}

#[tokio::test]
async fn why_tells_which_writes_this_node_takes_and_what_covers_an_object() {
    let node = Node::with(MetaConfig {
        local_writes: LocalWrites::of_node("edge-1"),
        ..MetaConfig::default()
    })
    .await;
    let own = serde_json::json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "edge-1" } });
    node.cloud.put("nodes", own);
    node.get("/api/v1/nodes/edge-1").await;
    node.settled().await;
    let why = node.meta().why("/api/v1/nodes/edge-1");
    assert_eq!(
        (why.source.as_str(), why.state.as_deref()),
        ("store", Some("live"))
    );
    assert_eq!(why.covered_by, ["/api/v1/nodes/edge-1"]);
    let rule = |verb: &str| {
        let answer = why.writes.iter().find(|answer| answer.verb == verb);
        answer.unwrap().rule.clone()
    };
    assert!(rule("patch").unwrap().starts_with("own"), "{why:#?}");
    assert_eq!(rule("delete"), None);
    let other = node.meta().why("/api/v1/nodes/edge-2");
    assert!(
        other.writes.iter().all(|answer| answer.rule.is_none()),
        "{other:#?}"
    );
}

#[tokio::test]
async fn open_watches_are_shown_with_who_watches_and_what_was_sent() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let path = format!("{SHOP}?watch=true");
    let mut watch = node.watch_as(&path, &[("user-agent", "coredns/1.11")]).await;
    assert_eq!(watch.short().await, "ADDED a");
    let watchers = node.meta().watchers();
    assert_eq!(watchers.len(), 1);
    let [one] = &watchers[..] else { unreachable!() };
    assert_eq!((one.path.as_str(), one.client.as_str()), (&*path, "coredns/1.11"));
    assert_eq!((one.events, one.websocket), (1, false));
    assert!(one.revision > 1 && one.last_event_ms.is_some(), "{one:?}");
    drop(watch);
    support::soon(async {
        while !node.meta().watchers().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}
