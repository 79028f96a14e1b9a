//! Bodies as typed clients of Go send them, and what the cloud gets to see of them.
//!
//! The golden data are objects that a real kube-apiserver 1.36 answered in protobuf and in JSON. Left out: what protobuf does
//! not carry (nulls, the types of claim templates), and the managed fields of all but the Deployment.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, ApiResponse};
use hub_core::object::Object;
use hub_core::registry::Registry;
use hub_core::store::{Change, MemoryStore, ObjectStore as _, StoreLimits};
use metaserver::MetaServer;
use serde_json::{Value, json};
use tower::{ServiceExt as _, service_fn};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CONFIG_MAPS: &str = "/api/v1/namespaces/write/configmaps";
/// A ConfigMap `pb-1` with `k: v`, recorded.
const CONFIG_MAP: &[u8] =
    b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x10\n\x06\n\x04pb-1\x12\x06\n\x01k\x12\x01v";

struct World {
    meta: MetaServer,
    registry: Registry,
    asked: Arc<Mutex<Vec<ApiRequest>>>,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        let definitions: Vec<Value> = serde_json::from_str(include_str!("golden/definitions.json")).unwrap();
        for definition in definitions {
            let kind = store
                .registry()
                .by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition");
            let object = Object::from_body(kind.unwrap().resource.clone(), definition.to_string().into());
            store.apply(vec![Change::Put(object.unwrap())]).await.unwrap();
        }
        let registry = store.registry().clone();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let cloud = service_fn(move |request: ApiRequest| {
            let answer = ApiResponse::json(201, request.body.clone());
            if !request.verb.is_read() {
                log.lock().unwrap().push(request);
            }
            async { Ok(answer) }
        });
        let meta = MetaServer::new(store, cloud);
        Self {
            meta,
            registry,
            asked,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json")
            .header("content-type", PROTOBUF)
            .body(Full::new(body.into()))
            .unwrap();
        let answer = self.meta.service().oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The last body that came to the cloud, which must say that it is JSON.
    fn sent(&self) -> Value {
        let request = self.asked.lock().unwrap().pop().unwrap();
        assert_eq!(request.content_type, "application/json");
        serde_json::from_slice(&request.body).unwrap()
    }
}

#[tokio::test]
async fn recorded_objects_reach_the_cloud_as_the_json_that_was_recorded_of_them() {
    let world = World::new().await;
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/protobuf.json")).unwrap();
    assert!(cases.len() > 40);
    let mut faults = Vec::new();
    for case in &cases {
        let expected = &case["json"];
        let text = |field: &str| expected[field].as_str().unwrap();
        let kind = world.registry.by_kind(text("apiVersion"), text("kind")).unwrap();
        let namespace = expected["metadata"]["namespace"].as_str();
        let path = kind.resource.path(namespace, None);
        let body = STANDARD.decode(case["protobuf"].as_str().unwrap()).unwrap();
        let (code, answer) = world.ask("POST", &path, body).await;
        if code != 201 {
            faults.push(format!("{path}: {answer}"));
            continue;
        }
        let sent = world.sent();
        if sent != *expected {
            faults.push(format!("{path}:\n   sent {sent}\nrecorded {expected}"));
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn options_of_a_delete_are_read_in_every_group() {
    let world = World::new().await;
    for (path, api_version) in [
        ("/api/v1/namespaces/write/configmaps/a", "v1"),
        ("/apis/apps/v1/namespaces/write/deployments/a", "apps/v1"),
        (
            "/apis/demo.example.com/v1/namespaces/write/widgets/a",
            "demo.example.com/v1",
        ),
    ] {
        let mut meta = field(1, api_version.as_bytes());
        meta.extend(field(2, b"DeleteOptions"));
        // gracePeriodSeconds: 0, preconditions.uid, propagationPolicy.
        let mut raw = vec![8, 0];
        raw.extend(field(2, &field(1, b"u-1")));
        raw.extend(field(4, b"Background"));
        let (code, answer) = world.ask("DELETE", path, envelope(&meta, &raw)).await;
        assert!(code < 300, "{path}: {answer}");
        assert_eq!(
            world.sent(),
            json!({"kind": "DeleteOptions", "apiVersion": api_version, "gracePeriodSeconds": 0,
                "preconditions": {"uid": "u-1"}, "propagationPolicy": "Background"})
        );
        let (code, _) = world.ask("DELETE", path, "").await;
        assert!(code < 300);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_does_not_reach_the_cloud() {
    let world = World::new().await;
    let widgets = "/apis/demo.example.com/v1/namespaces/write/widgets";
    let of_kind = |api_version: &str, kind: &str| {
        let mut meta = field(1, api_version.as_bytes());
        meta.extend(field(2, kind.as_bytes()));
        envelope(&meta, &[])
    };
    for (method, path, body, code, message) in [
        (
            "POST",
            CONFIG_MAPS,
            CONFIG_MAP[..36].to_vec(),
            400,
            "the object provided is unrecognized (must be of type ConfigMap): unexpected EOF \
             (6b3873000a0f0a0276311209436f6e6669674d617012100a060a0470622d ...)",
        ),
        (
            "POST",
            CONFIG_MAPS,
            b"{}".to_vec(),
            400,
            "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a \
             protobuf message, expected prefix [107 56 115 0] (7b7d)",
        ),
        ("POST", CONFIG_MAPS, of_kind("v9", "ConfigMap"), 415, ""),
        ("POST", CONFIG_MAPS, of_kind("v1", "Gadget"), 415, ""),
        ("POST", widgets, of_kind("demo.example.com/v1", "Widget"), 415, ""),
        ("POST", widgets, CONFIG_MAP.to_vec(), 415, ""),
        (
            "PATCH",
            "/api/v1/namespaces/write/configmaps/a",
            CONFIG_MAP.to_vec(),
            415,
            "415: Unsupported Media Type",
        ),
        ("POST", CONFIG_MAPS, many(1 << 18), 400, ""),
    ] {
        let (got, answer) = world.ask(method, path, body).await;
        let shown = answer["message"].as_str().unwrap_or_default();
        assert_eq!((got, answer["kind"].as_str()), (code, Some("Status")), "{shown}");
        assert!(message.is_empty() || shown == message, "{shown}");
        assert!(world.asked.lock().unwrap().is_empty(), "{shown}");
    }
}

#[tokio::test]
async fn a_recorded_body_is_read() {
    let world = World::new().await;
    let (code, _) = world.ask("POST", CONFIG_MAPS, CONFIG_MAP).await;
    assert_eq!(code, 201);
    assert_eq!(
        world.sent(),
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "pb-1"}, "data": {"k": "v"}})
    );
}

#[tokio::test]
async fn the_kind_of_a_body_that_names_none_is_that_of_its_place() {
    let world = World::new().await;
    let (code, _) = world
        .ask("POST", CONFIG_MAPS, envelope(&[], &field(1, &field(1, b"a"))))
        .await;
    assert_eq!(code, 201);
    assert_eq!(
        world.sent(),
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}})
    );
    let eviction = "/api/v1/namespaces/write/pods/a/eviction";
    let (code, _) = world
        .ask("POST", eviction, envelope(&[], &field(1, &field(1, b"a"))))
        .await;
    assert_eq!(code, 201);
    assert_eq!(
        world.sent(),
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "a"}})
    );
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        encoded.push(length as u8 | 0x80);
        length >>= 7;
    }
    encoded.push(length as u8);
    encoded.extend_from_slice(bytes);
    encoded
}

fn envelope(meta: &[u8], raw: &[u8]) -> Vec<u8> {
    [b"k8s\0".to_vec(), field(1, meta), field(2, raw)].concat()
}

/// A ConfigMap with very many empty values.
fn many(count: usize) -> Vec<u8> {
    envelope(&[], &[0x12, 0].repeat(count + 1))
}
