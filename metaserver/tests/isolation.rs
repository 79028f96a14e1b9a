//! What goes wrong inside one request, or on the disk, stays there (T20, K25).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, UpstreamError};
use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{
    Change, Compacted, Coverage, Listing, MemoryStore, ObjectStore, StoreError, StoreLimits, Stored, Watch,
};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use metaserver::{LocalWrites, MetaConfig, MetaServer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;

/// A store whose disk may be full, and that has a mistake where Secrets are listed.
#[derive(Clone)]
struct Broken {
    inner: MemoryStore,
    full: Arc<AtomicBool>,
}

impl ObjectStore for Broken {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.inner.get(key)
    }

    fn list(&self, resource: &GroupVersionResource, namespace: Option<&str>) -> Listing {
        assert_ne!(&*resource.resource, "secrets", "the mistake");
        self.inner.list(resource, namespace)
    }

    fn watch(&self, resource: &GroupVersionResource, after: Revision) -> Result<Watch, Compacted> {
        self.inner.watch(resource, after)
    }

    fn resources(&self) -> Vec<GroupVersionResource> {
        self.inner.resources()
    }

    fn coverage(&self, _: &Scope) -> Coverage {
        Coverage::Complete
    }

    fn scopes(&self) -> Vec<(Scope, Coverage)> {
        self.inner.scopes()
    }

    fn scopes_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.scopes_changed()
    }

    fn registry(&self) -> &Registry {
        self.inner.registry()
    }

    fn trouble(&self) -> Option<String> {
        self.full.load(Ordering::SeqCst).then(|| FULL.into())
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        if self.full.load(Ordering::SeqCst) {
            return futures::future::ready(Err(StoreError::Disk(FULL.into()))).boxed();
        }
        self.inner.apply(changes)
    }
}

const FULL: &str = "database or disk is full";

/// A node without a cloud, and one connection to it that everything goes over.
struct Site {
    store: Broken,
    address: std::net::SocketAddr,
    connection: SendRequest<Full<Bytes>>,
}

impl Site {
    async fn start() -> Self {
        let store = Broken {
            inner: MemoryStore::new(StoreLimits::default(), Registry::builtin()),
            full: Arc::default(),
        };
        let body = json!({ "kind": "Node", "apiVersion": "v1",
            "metadata": { "name": "edge-1", "uid": "u", "resourceVersion": "5" } });
        let nodes = GroupVersionResource::core("nodes");
        let object = Object::from_body(nodes, body.to_string().into()).unwrap();
        store.apply(vec![Change::Put(object)]).await.unwrap();
        let config = MetaConfig {
            local_writes: LocalWrites::of_node("edge-1"),
            ..MetaConfig::default()
        };
        let away = service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
        let server = MetaServer::with_config(config, store.clone(), away);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { server.serve_on(listener, std::future::pending()).await });
        Self {
            store,
            address,
            connection: connect(address).await,
        }
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node");
        let request = request.header("content-type", "application/merge-patch+json");
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        self.connection.ready().await.unwrap();
        let response = self.connection.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = || String::from_utf8_lossy(&body).into_owned().into();
        (code, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }
}

async fn connect(address: std::net::SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(driver);
    connection
}

#[tokio::test]
async fn a_panic_in_one_request_is_a_500_and_the_connection_goes_on() {
    let mut site = Site::start().await;
    let mut other = connect(site.address).await;
    let watch = http::Request::get("/api/v1/nodes?watch=true")
        .body(Full::default())
        .unwrap();
    let mut watch = other.send_request(watch).await.unwrap().into_body();
    assert!(watch.frame().await.is_some());
    let (code, status) = site.ask("GET", "/api/v1/secrets", "").await;
    assert_eq!(
        (code, &status["kind"], &status["reason"]),
        (500, &"Status".into(), &"InternalError".into())
    );
    assert_eq!(site.ask("GET", "/api/v1/nodes/edge-1", "").await.0, 200);
    // Whoever watched before is not disturbed.
    let (code, _) = site
        .ask(
            "PATCH",
            "/api/v1/nodes/edge-1",
            r#"{"metadata":{"annotations":{"a":"b"}}}"#,
        )
        .await;
    assert_eq!(code, 200);
    assert!(watch.frame().await.is_some());
}

#[tokio::test]
async fn with_a_full_disk_reads_go_on_writes_are_refused_with_the_cause_and_room_ends_it() {
    let mut site = Site::start().await;
    let patch = r#"{"metadata":{"annotations":{"a":"b"}}}"#;
    site.store.full.store(true, Ordering::SeqCst);
    let (code, status) = site.ask("PATCH", "/api/v1/nodes/edge-1", patch).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (503, &"InsufficientStorage".into())
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    assert!(status["message"].as_str().unwrap().contains(FULL), "{status}");
    let (code, node) = site.ask("GET", "/api/v1/nodes/edge-1", "").await;
    assert_eq!(
        (code, &node["metadata"]["annotations"]),
        (200, &Value::Null),
        "nothing was changed"
    );
    let (code, ready) = site.ask("GET", "/readyz?verbose", "").await;
    let ready = ready.as_str().unwrap();
    assert!(
        code == 500 && ready.contains(&format!("[-]store failed: {FULL}")),
        "{ready}"
    );
    assert!(ready.ends_with("readyz check failed\n"), "{ready}");
    let (_, alive) = site.ask("GET", "/livez?verbose", "").await;
    assert!(
        alive.as_str().unwrap().contains("[+]store takes no changes"),
        "{alive}"
    );
    for alive in ["/healthz", "/livez", "/livez?verbose"] {
        assert_eq!(
            site.ask("GET", alive, "").await.0,
            200,
            "{alive}: nobody must restart it for that"
        );
    }
    site.store.full.store(false, Ordering::SeqCst);
    assert_eq!(site.ask("PATCH", "/api/v1/nodes/edge-1", patch).await.0, 200);
    assert_eq!(site.ask("GET", "/readyz", "").await.0, 200);
}
