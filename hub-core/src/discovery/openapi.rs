//! OpenAPI as far as clients need it to write: in version 3 which kinds can be patched, and with which parameters; in version 2,
//! which kubectl before 1.27 asks for, that there is a server and that it describes no kinds: then they are not checked beforehand.
//!
//! kubectl asks whether the server checks fields before it sends a file; without an answer it refuses to send. Where the cloud
//! has full documents these are passed on, and this one is not used.

use std::fmt::Write as _;

use crate::registry::{Registry, ResourceKind};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

/// The document at a path below `/openapi/v3`, or the index of them.
pub fn document(registry: &Registry, path: &str) -> Option<Value> {
    let below = path.strip_prefix("/openapi/v3")?.trim_matches('/');
    if !below.is_empty() {
        return version(registry, below);
    }
    let mut paths = Map::new();
    for kind in registry.all() {
        let place = place(&kind);
        if paths.contains_key(&place) {
            continue;
        }
        if let Some(document) = version(registry, &place) {
            let url = format!("/openapi/v3/{place}?hash={}", hash(&document));
            paths.insert(place, json!({ "serverRelativeURL": url }));
        }
    }
    Some(json!({ "paths": paths }))
}

/// The document of OpenAPI v2, in JSON.
pub fn version_2(kubernetes_version: &str) -> Value {
    json!({ "swagger": "2.0", "info": { "title": TITLE, "version": kubernetes_version }, "paths": {}, "definitions": {} })
}

/// The same in protobuf (gnostic `openapiv2.proto`: `Document.swagger = 1`, `Document.info = 2`, `Info.title = 1`,
/// `Info.version = 2`), the only form that kubectl reads.
pub fn version_2_protobuf(kubernetes_version: &str) -> Vec<u8> {
    let info = [text(1, TITLE.as_bytes()), text(2, kubernetes_version.as_bytes())].concat();
    [text(1, b"2.0"), text(2, &info)].concat()
}

/// A length-delimited field. Whatever is too long for a length of one byte is cut.
fn text(number: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().min(127);
    let mut field = vec![number << 3 | 2, length as u8];
    field.extend_from_slice(&content[..length]);
    field
}

fn version(registry: &Registry, wanted: &str) -> Option<Value> {
    let mut paths = Map::new();
    for kind in registry.all().iter().filter(|kind| place(kind) == wanted) {
        let namespace = kind.namespaced.then_some("{namespace}");
        let mut operations = Map::new();
        for (method, verb) in [("patch", "patch"), ("put", "update")] {
            if kind.verbs.iter().any(|known| **known == *verb) {
                operations.insert(method.into(), operation(kind, method));
            }
        }
        let mut collection = Map::new();
        if kind.verbs.iter().any(|known| **known == *"create") {
            collection.insert("post".into(), operation(kind, "post"));
        }
        for (path, operations) in [
            (kind.resource.path(namespace, None), collection),
            (kind.resource.path(namespace, Some("{name}")), operations),
        ] {
            if !operations.is_empty() {
                paths.insert(path, operations.into());
            }
        }
    }
    (!paths.is_empty()).then(|| {
        json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1" }, "paths": paths,
            "components": { "schemas": {} } })
    })
}

fn operation(kind: &ResourceKind, action: &str) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    json!({
        "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": kind.resource.group, "version": kind.resource.version, "kind": kind.kind,
        },
    })
}

/// `api/v1`, `apis/apps/v1`.
fn place(kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    match &*resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

fn hash(document: &Value) -> String {
    let mut text = String::with_capacity(128);
    for byte in Sha512::digest(document.to_string()) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

const TITLE: &str = "Kubernetes";

/// The content type of the protobuf form (kube-openapi `handler.go`).
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether a client wants the protobuf form. Older ones ask with an `@` in it, which no content type may have in an answer.
pub fn wants_protobuf(accept: &str) -> bool {
    accept.replace('@', ".").contains(PROTOBUF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_the_same_in_json_and_in_protobuf() {
        assert!(wants_protobuf(
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        ));
        assert!(!wants_protobuf("application/json"));
        assert_eq!(version_2("v1.36.2")["info"]["version"], "v1.36.2");
        assert_eq!(
            version_2_protobuf("v1.36.2"),
            b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.36.2"
        );
    }

    #[test]
    fn every_kind_that_can_be_patched_says_that_fields_are_checked() {
        let registry = Registry::builtin();
        let index = document(&registry, "/openapi/v3").unwrap();
        assert!(
            index["paths"]["apis/apps/v1"]["serverRelativeURL"]
                .as_str()
                .unwrap()
                .contains("?hash=")
        );
        let core = document(&registry, "/openapi/v3/api/v1").unwrap();
        let patch = &core["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "ConfigMap");
        assert!(
            patch["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .any(|p| p["name"] == "fieldValidation")
        );
        assert!(document(&registry, "/openapi/v3/apis/no.such/v1").is_none());
    }
}
