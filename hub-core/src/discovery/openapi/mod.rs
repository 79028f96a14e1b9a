//! OpenAPI: which operations there are and what objects look like, for kubectl (`explain`, and the check before it sends a file) and
//! for generators of clients. Made of the registry and of the facts about fields, so it has no descriptions.
//!
//! kubectl asks whether the server checks fields before it sends a file; without an answer it refuses to send.

mod paths;
mod protobuf;
mod schema;

use serde_json::{Map, Value, json};

use self::paths::Dialect;
use self::schema::{META, Schemas};
use super::{Document, tag};
use crate::registry::ResourceKind;

/// The document of version 3 at a place below `/openapi/v3`: `api/v1`, `apis/apps`, `version`. None where there is none.
pub(super) fn version_3(kinds: &[std::sync::Arc<ResourceKind>], place: &str) -> Option<Value> {
    let mut schemas = Schemas::new("#/components/schemas/");
    let mut paths = Map::new();
    add_documents(kinds, place, &Version3, &mut schemas, &mut paths);
    for kind in kinds.iter().filter(|kind| place_of(kind) == place) {
        paths::of_kind(kind, &Version3, &mut schemas, &mut paths);
    }
    (!paths.is_empty()).then(|| {
        json!({ "openapi": "3.0.0", "info": { "title": TITLE, "version": "1.36" }, "paths": paths,
            "components": { "schemas": schemas.finish() } })
    })
}

/// The places of all documents of version 3.
pub(super) fn places(kinds: &[std::sync::Arc<ResourceKind>]) -> Vec<String> {
    let mut places: Vec<String> = [
        ".well-known/openid-configuration",
        "api",
        "apis",
        "openid/v1/jwks",
        "version",
    ]
    .map(Into::into)
    .into();
    for kind in kinds {
        places.push(place_of(kind));
        if !kind.custom && !kind.resource.group.is_empty() {
            places.push(format!("apis/{}", kind.resource.group));
        }
    }
    places.sort();
    places.dedup();
    places
}

/// The index of the documents of version 3. Each has its hash in its URL, so that clients need not ask for it again.
pub(super) fn index<'a>(documents: impl Iterator<Item = (String, &'a Document)>) -> Value {
    let mut paths = Map::new();
    for (place, document) in documents {
        let hash = document.etag.as_deref().unwrap_or_default().trim_matches('"');
        let url = format!("/openapi/v3/{place}?hash={hash}");
        paths.insert(place, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// The document of version 2, in JSON.
pub(super) fn version_2(kinds: &[std::sync::Arc<ResourceKind>]) -> Value {
    let mut schemas = Schemas::new("#/definitions/");
    let mut paths = Map::new();
    for place in places(kinds) {
        add_documents(kinds, &place, &Version2, &mut schemas, &mut paths);
    }
    for kind in kinds {
        paths::of_kind(kind, &Version2, &mut schemas, &mut paths);
    }
    json!({ "swagger": "2.0", "info": { "title": TITLE, "version": "1.36" }, "paths": paths,
        "definitions": schemas.finish() })
}

/// A document as it is kept.
pub(super) fn kept(value: &Value, tagged: bool) -> Document {
    let body = value.to_string().into_bytes();
    Document {
        etag: tagged.then(|| tag(&body)),
        body: body.into(),
    }
}

/// A document of version 2 in protobuf, out of the same in JSON.
pub(super) fn in_protobuf_2(document: &Value) -> Document {
    let body = protobuf::version_2(document);
    Document {
        etag: Some(tag(&body)),
        body: body.into(),
    }
}

/// A document of version 3 in protobuf, out of the same in JSON, whose tag it has.
pub(super) fn in_protobuf_3(json: &Document) -> Option<Document> {
    let document = serde_json::from_slice(&json.body).ok()?;
    Some(Document {
        etag: json.etag.clone(),
        body: protobuf::version_3(&document).into(),
    })
}

/// The type of the protobuf form of the document at a path, if a client wants that. Older ones ask with an `@` in it, which no content
/// type may have in an answer.
pub fn wanted_protobuf(path: &str, accept: &str) -> Option<&'static str> {
    let content_type = match path {
        "/openapi/v2" => PROTOBUF_2,
        path if path.starts_with("/openapi/v3/") => PROTOBUF_3,
        _ => return None,
    };
    accept
        .replace('@', ".")
        .contains(content_type)
        .then_some(content_type)
}

/// The paths of discovery, and those that are about the server itself.
fn add_documents(
    kinds: &[std::sync::Arc<ResourceKind>],
    place: &str,
    dialect: &dyn Dialect,
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
) {
    let built_in =
        |wanted: &dyn Fn(&ResourceKind) -> bool| kinds.iter().any(|kind| !kind.custom && wanted(kind));
    let text = json!({ "type": "string" });
    let answer = match place {
        ".well-known/openid-configuration" | "openid/v1/jwks" => text,
        "api" => schemas.message(META, "APIVersions"),
        "apis" => schemas.message(META, "APIGroupList"),
        "version" => schemas.special("io.k8s.apimachinery.pkg.version.Info", info()),
        group if built_in(&|kind| format!("apis/{}", kind.resource.group) == group) => {
            schemas.message(META, "APIGroup")
        }
        version if built_in(&|kind| place_of(kind) == version) => schemas.message(META, "APIResourceList"),
        _ => return,
    };
    paths::of_document(&format!("/{place}/"), answer, dialect, paths);
}

fn info() -> Value {
    let text = json!({ "type": "string" });
    let fields = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| ((*field).to_owned(), text.clone()))
        .collect();
    json!({ "type": "object", "required": fields, "properties": properties })
}

/// `api/v1`, `apis/apps/v1`.
fn place_of(kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    match &*resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

struct Version3;

impl Dialect for Version3 {
    fn operation(&self, body: Option<(&[&str], Value)>, answer: Value) -> Value {
        let content = |types: &[&str], schema: &Value| -> Map<String, Value> {
            let one = |media: &&str| ((*media).to_owned(), json!({ "schema": schema }));
            types.iter().map(one).collect()
        };
        let answered = content(&["application/json"], &answer);
        let mut operation = json!({ "responses": {
            "200": { "description": "OK", "content": answered },
            "401": { "description": "Unauthorized" },
        } });
        if let Some((types, schema)) = body {
            operation["requestBody"] = json!({ "content": content(types, &schema) });
        }
        operation
    }

    fn parameter(&self, name: &str, kind: &str) -> Value {
        json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
    }
}

struct Version2;

impl Dialect for Version2 {
    fn operation(&self, body: Option<(&[&str], Value)>, answer: Value) -> Value {
        let mut operation = json!({ "produces": ["application/json"], "responses": {
            "200": { "description": "OK", "schema": answer },
            "401": { "description": "Unauthorized" },
        } });
        if let Some((types, schema)) = body {
            operation["consumes"] = types.into();
            operation["parameters"] =
                json!([{ "name": "body", "in": "body", "required": true, "schema": schema }]);
        }
        operation
    }

    fn parameter(&self, name: &str, kind: &str) -> Value {
        json!({ "name": name, "in": "query", "type": kind, "uniqueItems": true })
    }
}

const TITLE: &str = "Kubernetes";

/// The content type of version 2 in protobuf (kube-openapi `handler/handler.go`).
pub const PROTOBUF_2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The same of version 3 (kube-openapi `handler3/handler.go`).
pub const PROTOBUF_3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Discovery;
    use crate::registry::Registry;

    fn read(path: &str) -> Option<Value> {
        let registry = Registry::builtin();
        let document = Discovery::default().openapi(&registry, path)?;
        Some(serde_json::from_slice(&document.body).unwrap())
    }

    #[test]
    fn both_versions_are_said_in_protobuf() {
        let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "1"}, "paths": {"/a": {"get": {"responses": {}}}},
            "definitions": {"D": {"type": "object", "x-a": [1], "properties": {"f": {"$ref": "r"}}}}});
        assert_eq!(
            in_protobuf_2(&document).body.escape_ascii().to_string(),
            r"\n\x032.0\x12\x06\n\x01K\x12\x011B\x0c\x12\n\n\x02/a\x12\x04\x12\x02J\x00J.\n,\n\x01D\x12\'\xb2\x01\x08\n\x06object\xca\x01\n\n\x08\n\x01f\x12\x03\n\x01r\xfa\x01\x0c\n\x03x-a\x12\x05\x12\x03[1]"
        );
        let document = json!({"openapi": "3.0.0", "info": {"title": "K", "version": "1"},
            "paths": {"/a": {"get": {"responses": {}}}},
            "components": {"schemas": {"D": {"type": "object", "properties": {"f": {"$ref": "r"}}}}}});
        let json = kept(&document, true);
        let made = in_protobuf_3(&json).unwrap();
        assert_eq!(made.etag, json.etag, "it has the tag of the same in JSON");
        assert_eq!(
            made.body.escape_ascii().to_string(),
            r#"\n\x053.0.0\x12\x06\n\x01K2\x011\"\x0c\n\n\n\x02/a\x12\x04\"\x02B\x00*#\n!\n\x1f\n\x01D\x12\x1a\n\x18\xca\x01\x06object\xfa\x01\x0c\n\n\n\x01f\x12\x05\x12\x03\n\x01r"#
        );
    }

    #[test]
    fn every_kind_that_can_be_patched_says_that_fields_are_checked() {
        let index = read("/openapi/v3").unwrap();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap();
        assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
        let core = read("/openapi/v3/api/v1").unwrap();
        let patch = &core["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "ConfigMap");
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"));
        assert!(read("/openapi/v3/apis/no.such/v1").is_none());
    }

    #[test]
    fn a_kind_is_explained_field_by_field() {
        let leases = read("/openapi/v3/apis/coordination.k8s.io/v1").unwrap();
        let schemas = leases["components"]["schemas"].as_object().unwrap();
        let spec = &schemas["io.k8s.api.coordination.v1.LeaseSpec"]["properties"];
        assert_eq!(spec["holderIdentity"]["type"], "string");
        assert_eq!(
            spec["renewTime"]["$ref"],
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
        );
        let named: Vec<&str> = schemas
            .keys()
            .filter_map(|name| name.strip_prefix("io.k8s.api.coordination.v1."))
            .collect();
        assert_eq!(named, ["Lease", "LeaseList", "LeaseSpec"]);
        let old = read("/openapi/v2").unwrap();
        assert!(old["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"].is_object());
    }

    #[test]
    fn a_client_is_told_which_lists_are_merged_by_what() {
        let apps = read("/openapi/v3/apis/apps/v1").unwrap();
        let schemas = &apps["components"]["schemas"];
        let pod = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"];
        assert_eq!(pod["containers"]["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(pod["containers"]["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(pod["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
        let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
        assert_eq!(
            *strategy,
            serde_json::json!({"x-kubernetes-patch-strategy": "retainKeys",
                "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]})
        );
        let old = read("/openapi/v2").unwrap();
        let spec = &old["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
        assert_eq!(
            spec["$ref"],
            "#/definitions/io.k8s.api.apps.v1.DeploymentStrategy"
        );
    }
}
