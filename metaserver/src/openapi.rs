//! OpenAPI v3 as far as clients need it to write: which kinds can be patched, and with which parameters.
//!
//! kubectl asks whether the server checks fields before it sends a file; without an answer it refuses to send. Where the cloud
//! has full documents these are passed on, and this one is not used.

use std::fmt::Write as _;

use hub_core::registry::{Registry, ResourceKind};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

/// The document at a path below `/openapi/v3`, or the index of them.
pub(crate) fn document(registry: &Registry, path: &str) -> Option<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
