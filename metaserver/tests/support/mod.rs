//! A node under test: a server on a real socket, a store, a scripted cloud, and what carries objects between the two.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    reason = "part of several tests; none uses all of it"
)]

mod answer;
mod cloud;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hub_core::api::ApiRequest;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::store::{Change, Coverage, MemoryStore, ObjectStore, Restored, RevisionSource, StoreLimits};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use metaserver::{MetaConfig, MetaServer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::service_fn;

pub use answer::{Answer, Events};
pub use cloud::{Cloud, Mood};

use cloud::replicate;

pub struct Node {
    pub store: MemoryStore,
    pub cloud: Cloud,
    pub address: String,
    pub meta: MetaServer,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Node {
    pub async fn start() -> Self {
        Self::with(MetaConfig::default()).await
    }

    pub async fn with(config: MetaConfig) -> Self {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        let cloud = Cloud::default();
        Self::over(config, store, cloud).await
    }

    async fn over(config: MetaConfig, store: MemoryStore, cloud: Cloud) -> Self {
        tokio::spawn(replicate(store.clone(), cloud.clone()));
        let upstream = cloud.clone();
        let server = MetaServer::with_config(
            config,
            store.clone(),
            service_fn(move |request| upstream.clone().call(request)),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let meta = server.clone();
        let server = tokio::spawn(async move {
            server
                .serve_on(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        Self {
            store,
            cloud,
            address,
            meta,
            stop: Some(stop),
            server,
        }
    }

    /// How many watches the server has open.
    pub fn open_watches(&self) -> usize {
        self.meta.watchers().len()
    }

    /// The server, for what is asked of it beside its API.
    pub fn meta(&self) -> &MetaServer {
        &self.meta
    }

    /// What the server keeps of local writes.
    pub fn journal(&self) -> metaserver::LocalJournal {
        self.meta.local_journal()
    }

    /// Ends the server, and begins another one on what its store holds, as a new process would.
    pub async fn restart(self, config: MetaConfig) -> Self {
        let (store, cloud) = (self.store.clone(), self.cloud.clone());
        self.stop().await;
        let objects = store.objects();
        let restored = Restored {
            revision: store.revision(),
            begin: store.revision(),
            deletions: Vec::new(),
            objects: objects
                .iter()
                .map(|stored| (stored.object.clone(), stored.revision))
                .collect(),
            scopes: store.scopes(),
            tombstones: Vec::new(),
        };
        let source = RevisionSource::Own;
        let store = MemoryStore::restore(StoreLimits::default(), Registry::builtin(), source, restored);
        Self::over(config, store, cloud).await
    }

    /// What objects of a collection are called.
    pub fn meta_kind(&self, resource: &GroupVersionResource) -> Arc<str> {
        let kind = self.store.registry().by_resource(resource);
        kind.unwrap_or_else(|| panic!("no {resource}")).kind.clone()
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.send(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        Answer {
            code: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub async fn watch(&self, path: &str) -> Events {
        self.watch_as(path, &[]).await
    }

    pub async fn watch_as(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let response = self.send("GET", path, headers, "").await;
        assert_eq!(response.status(), 200);
        Events {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// Puts an object into the store as the tunnel would.
    pub async fn hold(&self, resource: &str, object: Value) {
        self.cloud.put(resource, object.clone());
        let gvr = GroupVersionResource::core(resource);
        let name = object["metadata"]["name"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str();
        let body = self.cloud.get(&gvr, namespace, name).expect("it is in the cloud");
        let object = Object::from_body(gvr, body.to_string().into()).unwrap();
        self.store.apply(vec![Change::Put(object)]).await.unwrap();
    }

    /// A node whose cloud is away, and that holds these collections as a whole.
    pub async fn alone(resources: &[GroupVersionResource]) -> Self {
        let node = Self::start().await;
        node.cloud.mood(Mood::Unreachable);
        let scopes = resources.iter().cloned().map(hub_core::scope::Scope::all);
        let changes = scopes.flat_map(|scope| [Change::Want(scope.clone()), Change::Complete(scope)]);
        node.store.apply(changes.collect()).await.unwrap();
        node
    }

    /// Puts an object into the store in a version of the cloud's, as the tunnel would; the scripted cloud does not hear of it.
    pub async fn receives(&self, resource: &GroupVersionResource, mut object: Value, version: u64) {
        object["metadata"]["resourceVersion"] = version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", object["metadata"]["name"]).into();
        }
        let object = Object::from_body(resource.clone(), object.to_string().into()).unwrap();
        self.store.apply(vec![Change::Put(object)]).await.unwrap();
    }

    /// The names in a list.
    pub async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await;
        assert_eq!(
            answer.code,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        let items = list["items"].as_array().unwrap();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect()
    }

    /// Waits until the store holds everything that anybody asked for.
    pub async fn settled(&self) {
        let mut changed = self.store.scopes_changed();
        soon(async {
            while self
                .store
                .scopes()
                .iter()
                .any(|(_, coverage)| *coverage != Coverage::Complete)
            {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }

    /// Waits until the store holds all of a scope.
    pub async fn complete(&self, scope: hub_core::scope::Scope) {
        let mut changed = self.store.scopes_changed();
        soon(async {
            while self.store.coverage(&scope) != Coverage::Complete {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }
}

/// What must happen within ten seconds.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it takes too long")
}

pub fn config_map(namespace: &str, name: &str, value: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name, "namespace": namespace,
        "labels": { "app": value } }, "data": { "v": value } })
}

/// A custom kind with a field to select by.
pub fn pools() -> Value {
    json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "name": "pools.crd.example.com" },
        "spec": { "group": "crd.example.com", "scope": "Namespaced",
            "names": { "plural": "pools", "singular": "pool", "kind": "Pool", "listKind": "PoolList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "schema": { "openAPIV3Schema": { "type": "object" } } }] } })
}
