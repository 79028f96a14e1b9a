//! Which operations there are, and at which paths.

use serde_json::{Map, Value, json};

use super::schema::{META, RAW, Schemas};
use crate::registry::{ResourceKind, Subresource};

/// How a version of OpenAPI writes an operation.
pub(super) trait Dialect {
    /// An operation with its query parameters, the type of its body and that of its answer.
    fn operation(&self, body: Option<(&[&str], Value)>, answer: Value) -> Value;

    /// A parameter of the query.
    fn parameter(&self, name: &str, kind: &str) -> Value;
}

/// Adds the paths of a kind.
pub(super) fn of_kind(
    kind: &ResourceKind,
    dialect: &dyn Dialect,
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
) {
    let has = |verb: &str| kind.verbs.iter().any(|known| **known == *verb);
    let namespace = kind.namespaced.then_some("{namespace}");
    let (collection, object) = (
        kind.resource.path(namespace, None),
        kind.resource.path(namespace, Some("{name}")),
    );
    let (one, gone) = (schemas.kind(kind), schemas.message(META, "Status"));
    let mut maker = Maker {
        kind,
        dialect,
        schemas,
        paths,
    };
    if has("list") {
        let list = maker.schemas.list(kind);
        if kind.namespaced {
            maker.add(&kind.resource.path(None, None), "get", "list", None, list.clone());
        }
        maker.add(&collection, "get", "list", None, list);
    }
    if has("create") {
        maker.add(&collection, "post", "post", Some(one.clone()), one.clone());
    }
    if has("deletecollection") {
        let options = maker.schemas.message(META, "DeleteOptions");
        maker.add(
            &collection,
            "delete",
            "deletecollection",
            Some(options),
            gone.clone(),
        );
    }
    if has("get") {
        maker.add(&object, "get", "get", None, one.clone());
    }
    if has("update") {
        maker.add(&object, "put", "put", Some(one.clone()), one.clone());
    }
    if has("delete") {
        let options = maker.schemas.message(META, "DeleteOptions");
        maker.add(&object, "delete", "delete", Some(options), gone);
    }
    if has("patch") {
        maker.patch(&object, one);
    }
    for below in &kind.subresources {
        maker.below(&object, below);
    }
    if has("watch") && !kind.custom {
        maker.watches(namespace);
    }
}

/// Adds a path that answers a GET with one kind of document.
pub(super) fn of_document(path: &str, answer: Value, dialect: &dyn Dialect, paths: &mut Map<String, Value>) {
    paths.insert(path.to_owned(), json!({ "get": dialect.operation(None, answer) }));
}

struct Maker<'a> {
    kind: &'a ResourceKind,
    dialect: &'a dyn Dialect,
    schemas: &'a mut Schemas,
    paths: &'a mut Map<String, Value>,
}

impl Maker<'_> {
    fn add(&mut self, path: &str, method: &str, action: &str, body: Option<Value>, answer: Value) {
        let operation = self
            .dialect
            .operation(body.map(|body| (&["*/*"][..], body)), answer);
        self.put(path, method, action, operation);
    }

    fn patch(&mut self, path: &str, answer: Value) {
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
        let patch = self.schemas.special(name, json!({ "type": "object" }));
        let types = if self.kind.custom {
            &PATCHES[..3]
        } else {
            &PATCHES[..]
        };
        let operation = self.dialect.operation(Some((types, patch)), answer);
        self.put(path, "patch", "patch", operation);
    }

    fn put(&mut self, path: &str, method: &str, action: &str, mut operation: Value) {
        let mut parameters: Vec<Value> = Vec::new();
        let mut has = |name: &str, kind: &str| parameters.push(self.dialect.parameter(name, kind));
        if matches!(action, "post" | "put" | "patch") {
            // kubectl looks for these before it sends a file.
            has("dryRun", "string");
            has("fieldManager", "string");
            has("fieldValidation", "string");
        }
        if action == "patch" {
            has("force", "boolean");
        }
        if let Some(Value::Array(given)) = operation.get_mut("parameters") {
            given.append(&mut parameters);
        } else if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let resource = &self.kind.resource;
        operation["x-kubernetes-action"] = action.into();
        operation["x-kubernetes-group-version-kind"] =
            json!({ "group": resource.group, "version": resource.version, "kind": self.kind.kind });
        if !self.paths.contains_key(path) {
            let named: Vec<Value> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .map(|name| {
                    let mut parameter = self.dialect.parameter(name, "string");
                    parameter["in"] = "path".into();
                    parameter["required"] = true.into();
                    parameter
                })
                .collect();
            let parameters = if named.is_empty() {
                json!({})
            } else {
                json!({ "parameters": named })
            };
            self.paths.insert(path.to_owned(), parameters);
        }
        self.paths[path][method] = operation;
    }

    fn below(&mut self, object: &str, below: &Subresource) {
        let path = format!("{object}/{}", below.name);
        let text = json!({ "type": "string" });
        match &*below.name {
            "attach" | "exec" | "portforward" => {
                for method in ["get", "post"] {
                    self.add(&path, method, "connect", None, text.clone());
                }
                return;
            }
            "proxy" => {
                for path in [&path, &format!("{path}/{{path}}")] {
                    for method in ["get", "put", "post", "delete", "options", "head", "patch"] {
                        self.add(path, method, "connect", None, text.clone());
                    }
                }
                return;
            }
            "log" => return self.add(&path, "get", "get", None, text),
            _ => {}
        }
        let (api_version, name) = self.kind.body(Some(&below.name));
        let own = api_version == self.kind.resource.api_version() && *name == *self.kind.kind;
        let body = if own {
            self.schemas.kind(self.kind)
        } else {
            self.schemas.message(&api_version, &name)
        };
        for verb in &below.verbs {
            match &**verb {
                "get" => self.add(&path, "get", "get", None, body.clone()),
                "update" => self.add(&path, "put", "put", Some(body.clone()), body.clone()),
                "create" => self.add(&path, "post", "post", Some(body.clone()), body.clone()),
                "patch" => self.patch(&path, body.clone()),
                "delete" => self.add(&path, "delete", "delete", None, body.clone()),
                _ => {}
            }
        }
    }

    /// The outdated paths of watches, which real servers describe too.
    fn watches(&mut self, namespace: Option<&str>) {
        let raw = self.schemas.special(RAW, json!({ "type": "object" }));
        let event = json!({ "type": "object", "required": ["type", "object"],
            "properties": { "type": { "type": "string" }, "object": raw } });
        let event = self
            .schemas
            .special("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", event);
        let resource = &self.kind.resource;
        let mut places = vec![
            (resource.path(namespace, None), "watchlist"),
            (resource.path(namespace, Some("{name}")), "watch"),
        ];
        if namespace.is_some() {
            places.push((resource.path(None, None), "watchlist"));
        }
        let base = match &*resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        for (path, action) in places {
            let path = path.replacen(&base, &format!("{base}/watch"), 1);
            self.add(&path, "get", action, None, event.clone());
        }
    }
}

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];
