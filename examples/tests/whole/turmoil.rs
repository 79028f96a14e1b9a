//! Everything bad at once, by a seed: the link is cut, flaps and freezes, the cloud starts anew, a custom kind comes and goes, a token is
//! no good for a while, and all the time somebody writes at both ends. When it is over, reflectors that no one here wrote hold what the
//! cloud holds, and the cloud has what the node was told it had written, or the node shows why not.
//!
//! `TURMOIL=n` runs one seed alone; `cargo test -p examples --test whole many_turmoils -- --ignored` runs many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::store::ObjectStore as _;
use hub_core::testing::WireConditions;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Config;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::client::Api;
use crate::world::{
    CONFIGMAPS, CloudHalf, EdgeHalf, NODE, PODS, Tunnel, config_map, pod, secret, settles, until,
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const RECIPES: &str = "/apis/kitchen.example.com/v1/namespaces/shop/recipes";
const STEPS: u64 = 40;

type Held = BTreeMap<String, Value>;
type Token = Arc<Mutex<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_at_once_reflectors_end_with_what_the_cloud_has_and_no_write_is_lost() {
    let alone = std::env::var("TURMOIL")
        .ok()
        .map(|seed| vec![seed.parse().unwrap()]);
    // At once: most of their time they wait.
    join_all(alone.unwrap_or(vec![7, 13, 15, 1105]).into_iter().map(turmoil)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "four minutes"]
async fn many_turmoils_end_well() {
    for seeds in (100..160).collect::<Vec<_>>().chunks(4) {
        println!("seeds {seeds:?}");
        join_all(seeds.iter().copied().map(turmoil)).await;
    }
}

async fn turmoil(seed: u64) {
    let mut dice = Dice(seed);
    let (mut cloud, edge) = world().await;
    let good = token(cloud.api).await;
    let token: Token = Arc::new(Mutex::new(good.clone()));
    let mut reflectors = Vec::new();
    for (kind, streaming) in [
        ("ConfigMap", false),
        ("ConfigMap", true),
        ("Recipe", false),
        ("Recipe", true),
    ] {
        reflectors.push(Reflector::start(&edge.path("api.sock"), &token, kind, streaming));
    }
    let (mut noted, mut defined) = (0, true);
    for step in 0..STEPS {
        let name = format!("o{}", dice.below(6));
        match dice.below(16) {
            0..4 => put(cloud.api, CONFIGMAPS, config_map(&name, &step.to_string())).await,
            4 => drop(
                cloud
                    .api
                    .send(Method::DELETE, &format!("{CONFIGMAPS}/{name}"), "", String::new())
                    .await,
            ),
            5..7 if defined => put(cloud.api, RECIPES, recipe(&name, step)).await,
            7 => {
                defined = !defined;
                define(cloud.api, defined).await;
            }
            8..10 => edge.wire.stall(),
            10 => edge.wire.cut(),
            11..13 => edge.wire.set(WireConditions::default()),
            13 => *token.lock().unwrap() = "no good any more".into(),
            14 => *token.lock().unwrap() = good.clone(),
            15 if dice.below(3) == 0 => cloud = cloud.restarted().await,
            _ => {}
        }
        if annotate(&edge, step).await {
            noted = step;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
    }

    edge.wire.set(WireConditions::default());
    edge.wire.cut();
    *token.lock().unwrap() = good;
    if !defined {
        define(cloud.api, true).await;
        put(cloud.api, RECIPES, recipe("after", 0)).await;
    }
    let truths = [
        truth(cloud.api, CONFIGMAPS).await,
        truth(cloud.api, RECIPES).await,
    ];
    for reflector in &reflectors {
        let truth = &truths[usize::from(reflector.kind == "Recipe")];
        let what = format!(
            "seed {seed}: the {} that the cloud has, {truth:?}",
            reflector.kind
        );
        settles(&what, async || reflector.held() == *truth).await;
    }
    let what = format!("seed {seed}: what was written last, {noted}");
    settles(&what, async || {
        let node = cloud.api.read(&format!("/api/v1/nodes/{NODE}")).await;
        let there = &node["metadata"]["annotations"]["turmoil"];
        // A write that was answered by nobody, and done, is somebody else's to the next one, which was made without the cloud.
        says(there, noted) || (shown_as_conflict(&edge, noted) && annotation(&edge) == *there)
    })
    .await;
    drop(reflectors);
    edge.end().await;
    cloud.end().await;
}

/// Whether the node shows that the cloud did not take what it wrote in a step.
fn shown_as_conflict(edge: &EdgeHalf, step: u64) -> bool {
    let conflicts = edge
        .store
        .resources()
        .into_iter()
        .filter(|resource| &*resource.resource == "writeconflicts");
    let mut records = conflicts.flat_map(|resource| edge.store.list(&resource, None).objects);
    records.any(|record| {
        let record: Value = serde_json::from_slice(&record.object.body).unwrap();
        says(&record["local"]["metadata"]["annotations"]["turmoil"], step)
    })
}

/// Whether an annotation is that of a step.
fn says(annotation: &Value, step: u64) -> bool {
    annotation.as_str().and_then(|text| text.parse().ok()) == Some(step)
}

/// What the node shows of its own object.
fn annotation(edge: &EdgeHalf) -> Value {
    let node = ObjectKey::new(GroupVersionResource::core("nodes"), None, NODE);
    let shown = edge.store.get(&node).unwrap();
    let shown: Value = serde_json::from_slice(&shown.served).unwrap();
    shown["metadata"]["annotations"]["turmoil"].clone()
}

/// A node that asks its callers who they are, and a pod on it whose account may read.
async fn world() -> (CloudHalf, EdgeHalf) {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let api = cloud.api;
    define(api, true).await;
    api.create(
        "/api/v1/namespaces/shop/serviceaccounts",
        json!({ "metadata": { "name": "agent" } }),
    )
    .await;
    api.create(CONFIGMAPS, config_map("settings", "1")).await;
    api.create("/api/v1/namespaces/shop/secrets", secret("settings"))
        .await;
    let mut runs = pod("agent-1", Some(NODE), "settings", "settings");
    runs["spec"]["serviceAccountName"] = "agent".into();
    api.create(PODS, runs).await;
    let place = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
    let rules = json!([{ "verbs": ["get", "list", "watch"], "apiGroups": ["", "kitchen.example.com"], "resources": ["configmaps", "recipes"] }]);
    api.create(
        &format!("{place}/roles"),
        json!({ "metadata": { "name": "reader" }, "rules": rules }),
    )
    .await;
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" });
    let subject = json!({ "kind": "ServiceAccount", "name": "agent", "namespace": "shop" });
    let binding = json!({ "metadata": { "name": "agent" }, "roleRef": role, "subjects": [subject] });
    api.create(&format!("{place}/rolebindings"), binding).await;
    let edge = cloud
        .edge_with(NODE, &[], |config, folder: &Path| {
            config.feature_gates.require_authorization = true;
            let meta = &mut config.edge_tunnel.meta_server;
            meta.socket = folder.join("api.sock");
            meta.callers = [("others".to_owned(), "node".to_owned())].into();
            config.modules.meta_manager.meta_server.dummy_server = String::new();
            config.modules.meta_manager.meta_server.tls_ca_file = folder.join("ca.crt");
            config.modules.meta_manager.meta_server.tls_cert_file = folder.join("node.crt");
        })
        .await;
    for resource in ["roles", "rolebindings", "clusterroles", "clusterrolebindings"] {
        let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
        edge.complete(&Scope::all(resource)).await;
    }
    until("the pod", async || edge.held("pods", "agent-1")).await;
    // Written from here it can only be with the node held here.
    until("the node's own object", async || {
        annotate(&edge, 0).await.then_some(())
    })
    .await;
    (cloud, edge)
}

async fn token(api: Api) -> String {
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "agent-1" });
    let path = "/api/v1/namespaces/shop/serviceaccounts/agent/token";
    let answer = api
        .create(path, json!({ "spec": { "boundObjectRef": bound } }))
        .await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

async fn define(api: Api, there: bool) {
    if !there {
        return api
            .delete(&format!("{DEFINITIONS}/recipes.kitchen.example.com"))
            .await;
    }
    let schema =
        json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    api.create(
        DEFINITIONS,
        json!({ "metadata": { "name": "recipes.kitchen.example.com" }, "spec": { "group": "kitchen.example.com", "scope": "Namespaced",
            "names": { "plural": "recipes", "singular": "recipe", "kind": "Recipe", "listKind": "RecipeList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }] } }),
    )
    .await;
}

fn recipe(name: &str, step: u64) -> Value {
    json!({ "apiVersion": "kitchen.example.com/v1", "kind": "Recipe", "metadata": { "name": name, "namespace": "shop" },
        "data": { "text": step.to_string() } })
}

/// Makes an object, or another of it.
async fn put(api: Api, path: &str, object: Value) {
    let body = object.to_string();
    let made = api
        .send(Method::POST, path, "application/json", body.clone())
        .await;
    if made.status == 409 {
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        let merged = api
            .send(Method::PATCH, &path, "application/merge-patch+json", body)
            .await;
        merged.ok(&path);
    } else {
        made.ok(path);
    }
}

/// What the cloud holds of a collection: name and text.
async fn truth(api: Api, path: &str) -> Held {
    let list = api.read(path).await;
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            (
                item["metadata"]["name"].as_str().unwrap().to_owned(),
                item["data"]["text"].clone(),
            )
        })
        .collect()
}

/// The node writes to its own object; whether it was told that this is done.
async fn annotate(edge: &EdgeHalf, step: u64) -> bool {
    let patch = json!({ "metadata": { "annotations": { "turmoil": step.to_string() } } }).to_string();
    let request = Request::patch(format!("/api/v1/nodes/{NODE}"))
        .header(HOST, "node")
        .header("content-type", "application/merge-patch+json")
        .body(http_body_util::Full::<bytes::Bytes>::from(patch));
    let stream = UnixStream::connect(edge.path("api.sock")).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status == 200 || status.is_server_error(), "{status}: {body:?}");
    status == 200
}

/// One of the `kube` crate's.
struct Reflector {
    kind: &'static str,
    store: Store<DynamicObject>,
    task: JoinHandle<()>,
}

impl Reflector {
    fn start(socket: &Path, token: &Token, kind: &'static str, streaming: bool) -> Self {
        let (group, plural) = match kind {
            "Recipe" => ("kitchen.example.com", "recipes"),
            _ => ("", "configmaps"),
        };
        let resource = ApiResource {
            group: group.into(),
            version: "v1".into(),
            api_version: if group.is_empty() {
                "v1".into()
            } else {
                format!("{group}/v1")
            },
            kind: kind.into(),
            plural: plural.into(),
        };
        let api = kube::Api::<DynamicObject>::namespaced_with(client(socket, token), "shop", &resource);
        let config = match streaming {
            true => Config::default().streaming_lists(),
            false => Config::default(),
        };
        let writer = reflector::store::Writer::new(resource);
        let store = writer.as_reader();
        let stream = watcher(api, config).reflect(writer);
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                // As a client that is told to come again; it goes on where it was.
                if event.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        Self { kind, store, task }
    }

    fn held(&self) -> Held {
        let objects = self.store.state();
        let text = |object: &DynamicObject| object.data["data"]["text"].clone();
        let named = objects
            .iter()
            .map(|object| (object.metadata.name.clone().unwrap(), text(object)));
        named.collect()
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client with a token, over the node's socket.
fn client(socket: &Path, token: &Token) -> kube::Client {
    let (socket, token): (PathBuf, Token) = (socket.to_owned(), token.clone());
    let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
        let bearer = format!("Bearer {}", token.lock().unwrap());
        let socket = socket.clone();
        async move {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, bearer.parse()?);
            headers.insert(HOST, "node".parse()?);
            let stream = UnixStream::connect(&socket).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sender.send_request(request).await?)
        }
    });
    kube::Client::new(service, "shop")
}

/// Numbers that a seed makes (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
