//! Answers in every form that a client may ask for. The golden data are answers of a real kube-apiserver 1.36, recorded.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use flate2::read::GzDecoder;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, ApiResponse};
use hub_core::object::{Object, Revision};
use hub_core::registry::Registry;
use hub_core::store::{Change, MemoryStore, ObjectStore as _, Restored, RevisionSource, StoreLimits};
use metaserver::{MetaConfig, MetaServer, Revisions};
use serde_json::{Value, json};
use tower::{ServiceExt as _, service_fn};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CONFIG_MAPS: &str = "/api/v1/namespaces/shop/configmaps";

struct World {
    meta: MetaServer,
    store: MemoryStore,
}

impl World {
    /// A server of the cluster itself; what is written to it comes back as it is.
    async fn new(objects: &[Value], cbor: bool) -> Self {
        let nothing = Restored {
            revision: Revision(1),
            begin: Revision(1),
            deletions: Vec::new(),
            objects: Vec::new(),
            scopes: Vec::new(),
            tombstones: Vec::new(),
        };
        // The versions of the objects are those that clients see.
        let source = RevisionSource::Version;
        let store = MemoryStore::restore(StoreLimits::default(), Registry::builtin(), source, nothing);
        let config = MetaConfig {
            revisions: Revisions::Authoritative,
            cbor,
            ..MetaConfig::default()
        };
        let echo = service_fn(async |request: ApiRequest| Ok(ApiResponse::json(201, request.body)));
        let meta = MetaServer::with_config(config, store.clone(), echo);
        let world = Self { meta, store };
        let custom = |object: &&Value| {
            let text = |field: &str| object[field].as_str().unwrap();
            world
                .store
                .registry()
                .by_kind(text("apiVersion"), text("kind"))
                .is_none()
        };
        let mut all = objects.to_vec();
        if objects.iter().any(|object| custom(&object)) {
            let definitions: Vec<Value> =
                serde_json::from_str(include_str!("golden/definitions.json")).unwrap();
            all.extend(definitions);
        }
        all.sort_by_key(|object| {
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        });
        for object in &all {
            world.put(object).await;
        }
        world
    }

    async fn put(&self, object: &Value) {
        let text = |field: &str| object[field].as_str().unwrap();
        let kind = self
            .store
            .registry()
            .by_kind(text("apiVersion"), text("kind"))
            .unwrap();
        let object = Object::from_body(kind.resource.clone(), object.to_string().into()).unwrap();
        self.store.apply(vec![Change::Put(object)]).await.unwrap();
    }

    fn path(&self, object: &Value) -> String {
        let text = |field: &str| object[field].as_str().unwrap();
        let kind = self
            .store
            .registry()
            .by_kind(text("apiVersion"), text("kind"))
            .unwrap();
        let metadata = &object["metadata"];
        kind.resource
            .path(metadata["namespace"].as_str(), metadata["name"].as_str())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, HeaderMap, Bytes) {
        let answer = self.meta.service().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (
            head.status.as_u16(),
            head.headers,
            body.collect().await.unwrap().to_bytes(),
        )
    }

    /// The body of an answer that must be a good one of this type.
    async fn get(&self, path: &str, accept: &str, content_type: &str) -> Bytes {
        let request = Request::get(path).header("accept", accept);
        let (code, headers, body) = self.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(
            (code, headers["content-type"].to_str().unwrap()),
            (200, content_type),
            "{path}"
        );
        body
    }
}

#[tokio::test]
async fn objects_come_in_protobuf_byte_by_byte_as_they_were_recorded() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/protobuf.json")).unwrap();
    let mut faults = Vec::new();
    for case in &cases {
        let recorded = STANDARD.decode(case["protobuf"].as_str().unwrap()).unwrap();
        let world = World::new(std::slice::from_ref(&case["json"]), false).await;
        let path = world.path(&case["json"]);
        let ours = world.get(&path, PROTOBUF, PROTOBUF).await;
        if ours != recorded {
            faults.push(format!(
                "{path}\n  {}\n  {}",
                ours.escape_ascii(),
                recorded.escape_ascii()
            ));
        }
    }
    assert!(cases.len() > 40);
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn objects_come_in_yaml_byte_by_byte_as_they_were_recorded() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/yaml.json")).unwrap();
    for case in &cases {
        let world = World::new(std::slice::from_ref(&case["json"]), false).await;
        let path = world.path(&case["json"]);
        let ours = world.get(&path, "application/yaml", "application/yaml").await;
        assert_eq!(
            String::from_utf8_lossy(&ours),
            case["yaml"].as_str().unwrap(),
            "{path}"
        );
    }
}

fn config_map(name: &str, version: u64, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop", "uid": name,
        "resourceVersion": version.to_string()},
        "data": {"k": data}})
}

#[tokio::test]
async fn a_list_in_protobuf_is_its_objects_in_one_envelope_also_the_second_time() {
    let maps = [config_map("a", 11, "1"), config_map("b", 12, "2")];
    let world = World::new(&maps, false).await;
    let item = |name: &str, version: &str, data: &str| {
        format!(
            "\x12\x22\n\x18\n\x01{name}\x12\0\x1a\x04shop\"\0*\x01{name}2\x02{version}8\0B\0\x12\x06\n\x01k\x12\x01{data}"
        )
    };
    for _ in 0..2 {
        let list = world.get(CONFIG_MAPS, PROTOBUF, PROTOBUF).await;
        let (one, two) = (item("a", "11", "1"), item("b", "12", "2"));
        let expected = format!(
            "k8s\0\n\x13\n\x02v1\x12\rConfigMapList\x12\x52\n\x08\n\0\x12\x0212\x1a\0{one}{two}\x1a\0\"\0"
        );
        assert_eq!(String::from_utf8_lossy(&list), expected);
    }
}

#[tokio::test]
async fn a_watch_in_protobuf_is_framed_by_lengths() {
    let world = World::new(&[config_map("a", 11, "1")], false).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let request = Request::get(path)
        .header("accept", PROTOBUF)
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = world.meta.service().oneshot(request).await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let mut body = answer.into_body();
    let mut read = Vec::new();
    for expected in ["ADDED", "BOOKMARK"] {
        let length = loop {
            if let Some((length, rest)) = read.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    break length;
                }
            }
            let mut data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            while data.has_remaining() {
                let length = data.chunk().len();
                read.extend_from_slice(&data.copy_to_bytes(length));
            }
        };
        let event: Vec<u8> = read.drain(..4 + length).skip(4).collect();
        let name = expected.as_bytes();
        assert_eq!(
            event[..2 + name.len()],
            [&[0x0a, name.len() as u8], name].concat()
        );
        let has = |bytes: &[u8]| event.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap"));
        assert_eq!(has(b"k8s.io/initial-events-end"), expected == "BOOKMARK");
    }
}

#[tokio::test]
async fn metadata_of_any_kind_comes_in_protobuf_and_custom_kinds_do_not() {
    let widget = json!({"apiVersion": "demo.example.com/v1", "kind": "Widget", "spec": {"size": 1},
        "metadata": {"name": "w", "namespace": "shop", "uid": "w", "resourceVersion": "1100"}});
    let world = World::new(&[widget], false).await;
    let path = "/apis/demo.example.com/v1/namespaces/shop/widgets";
    let metadata = |kind: &str| format!("{PROTOBUF};as={kind};g=meta.k8s.io;v=v1");
    let one = world
        .get(&format!("{path}/w"), &metadata("PartialObjectMetadata"), PROTOBUF)
        .await;
    assert!(one.starts_with(b"k8s\0\n'\n\x0emeta.k8s.io/v1\x12\x15PartialObjectMetadata\x12"));
    let list = world
        .get(path, &metadata("PartialObjectMetadataList"), PROTOBUF)
        .await;
    assert!(list.starts_with(b"k8s\0\n+\n\x0emeta.k8s.io/v1\x12\x19PartialObjectMetadataList\x12"));
    // The next form that the client takes; if there is none, a refusal that it can read.
    world
        .get(path, &format!("{PROTOBUF},application/json"), "application/json")
        .await;
    let request = Request::get(path)
        .header("accept", PROTOBUF)
        .body(Full::default())
        .unwrap();
    let (code, headers, body) = world.send(request).await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (406, PROTOBUF));
    assert!(body.starts_with(b"k8s\0\n\x0c\n\x02v1\x12\x06Status\x12"));
}

#[tokio::test]
async fn what_went_wrong_comes_in_the_form_that_was_asked_for() {
    let world = World::new(&[], false).await;
    // As recorded.
    let status = b"k8s\0\n\x0c\n\x02v1\x12\x06Status\x12M\n\x06\n\0\x12\0\x1a\0\x12\x07Failure\x1a\x17pods \"absent\" not found\
        \"\x08NotFound*\x14\n\x06absent\x12\0\x1a\x04pods(\x002\x000\x94\x03\x1a\0\"\0";
    let yaml = b"apiVersion: v1\ncode: 404\ndetails:\n  kind: pods\n  name: absent\nkind: Status\nmessage: pods \"absent\" not found\n\
        metadata: {}\nreason: NotFound\nstatus: Failure\n";
    for (accept, expected) in [(PROTOBUF, &status[..]), ("application/yaml", yaml)] {
        let request = Request::get("/api/v1/namespaces/shop/pods/absent").header("accept", accept);
        let (code, headers, body) = world.send(request.body(Full::default()).unwrap()).await;
        assert_eq!((code, headers["content-type"].to_str().unwrap()), (404, accept));
        assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(expected));
    }
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true")).header("accept", "application/yaml");
    let (code, _, body) = world.send(request.body(Full::default()).unwrap()).await;
    let expected = "message: 'only the following media types are accepted: application/json;stream=watch,\n  \
        application/vnd.kubernetes.protobuf;stream=watch'";
    assert!(
        code == 406 && String::from_utf8_lossy(&body).contains(expected),
        "{body:?}"
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_can_read_that() {
    let maps: Vec<Value> = (0..4)
        .map(|i| config_map(&format!("m{i}"), 11 + i, &"x".repeat(40_000)))
        .collect();
    let world = World::new(&maps, false).await;
    for accept in ["application/json", PROTOBUF] {
        let plain = world.get(CONFIG_MAPS, accept, accept).await;
        for (coding, compressed) in [("gzip, deflate", true), ("br, deflate", false)] {
            let request = Request::get(CONFIG_MAPS)
                .header("accept", accept)
                .header("accept-encoding", coding);
            let (_, headers, body) = world.send(request.body(Full::default()).unwrap()).await;
            assert_eq!(headers.contains_key("content-encoding"), compressed);
            if compressed {
                assert_eq!(headers["vary"], "Accept-Encoding");
                let mut read = Vec::new();
                GzDecoder::new(&*body).read_to_end(&mut read).unwrap();
                assert_eq!(read, plain);
            } else {
                assert_eq!(body, plain);
            }
        }
    }
}

#[tokio::test]
async fn bodies_come_in_yaml_and_in_cbor() {
    let world = World::new(&[], true).await;
    let yaml = &b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata:\n  k: |\n    x\n    y\n"[..];
    let cbor = &b"\xd9\xd9\xf7\xa4japiVersionbv1dkindiConfigMaphmetadata\xa2dnameaainamespacedshopddata\xa1akdx\ny\n"[..];
    for (content_type, body) in [("application/yaml", yaml), ("application/cbor", cbor)] {
        let request = Request::post(CONFIG_MAPS).header("content-type", content_type);
        let (code, _, answer) = world.send(request.body(Full::from(body)).unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (code, &answer["data"]["k"]),
            (201, &json!("x\ny\n")),
            "{content_type}: {answer}"
        );
    }
    let request = Request::post(CONFIG_MAPS).header("content-type", "application/yaml");
    let (code, ..) = world.send(request.body(Full::from(&b"a: ["[..])).unwrap()).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn cbor_is_spoken_where_it_is_switched_on() {
    let map = config_map("a", 11, "1");
    let world = World::new(std::slice::from_ref(&map), true).await;
    let path = format!("{CONFIG_MAPS}/a");
    let cbor = world.get(&path, "application/cbor", "application/cbor").await;
    assert!(cbor.starts_with(b"\xd9\xd9\xf7\xa4"));
    let read: ciborium::Value = ciborium::from_reader(&*cbor).unwrap();
    let bytes = |text: &str| ciborium::Value::Bytes(text.into());
    let fields = read.as_tag().unwrap().1.as_map().unwrap();
    assert!(fields.contains(&(bytes("kind"), bytes("ConfigMap"))));
    let world = World::new(&[map], false).await;
    world
        .get(&path, "application/cbor,application/json", "application/json")
        .await;
}
