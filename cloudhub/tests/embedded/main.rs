//! The embedded cluster, as its users see it.

#![allow(
    clippy::unwrap_used,
    reason = "the functions that the tests share are tests too"
)]

mod admission;
mod allocation;
mod applying;
mod connecting;
mod doors;
mod durability;
mod escalation;
mod full_disk;
mod garbage;
mod kinds;
mod recorded;
mod roles;
mod rules;
mod semantics;
mod tokens;
mod versions;
mod watching;

use bytes::Bytes;
use cloudhub::cluster::{Cluster, EmbeddedCluster, EmbeddedConfig};
use hub_core::api::{ApiRequest, ApiResponse, Target, Verb};
use hub_core::object::GroupVersionResource;
use serde_json::Value;

/// A cluster in a folder of its own.
struct World {
    cluster: EmbeddedCluster,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster =
            EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
        Self { cluster, folder }
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let Body(content_type, body) = body.into();
        let answer = self
            .cluster
            .execute(request(method, path, &content_type, body))
            .await
            .unwrap();
        (answer.code, parse(&answer))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, ()).await
    }

    /// A call that must succeed.
    async fn ok(&self, method: &str, path: &str, body: impl Into<Body>) -> Value {
        let (code, value) = self.call(method, path, body).await;
        assert!((200..300).contains(&code), "{method} {path}: {code} {value}");
        value
    }
}

/// A media type and a body.
struct Body(String, Bytes);

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self(String::new(), Bytes::new())
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self("application/json".into(), value.to_string().into())
    }
}

impl From<(&str, Value)> for Body {
    fn from((patch, value): (&str, Value)) -> Self {
        Self(format!("application/{patch}+json"), value.to_string().into())
    }
}

fn parse(answer: &ApiResponse) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// The request that a front end makes of an HTTP request.
fn request(method: &str, path: &str, content_type: &str, body: Bytes) -> ApiRequest {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => panic!("no resource: {path}"),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..]
            if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) =>
        {
            (Some(*namespace), rest)
        }
        rest => (None, rest),
    };
    let name = rest.get(1).copied();
    let verb = match (method, name) {
        ("GET", Some(_)) => Verb::Get,
        ("GET", None) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", Some(_)) => Verb::Delete,
        ("DELETE", None) => Verb::DeleteCollection,
        other => panic!("{other:?}"),
    };
    let target = Target::Resource {
        resource: GroupVersionResource::new(group, version, rest[0]),
        namespace: namespace.map(Into::into),
        name: name.map(Into::into),
        subresource: rest
            .get(2..)
            .map(|below| below.join("/").trim_end_matches('/').into())
            .filter(|below: &std::sync::Arc<str>| !below.is_empty()),
    };
    ApiRequest {
        query: query.into(),
        ..ApiRequest::new(verb, target).with_body(content_type, body)
    }
}
