//! The API server behind the cloud: objects by their route on the wire, one counter of versions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Objects by `<namespace or null>/<lower-case kind>/<name>`.
#[derive(Debug, Default)]
pub struct Api {
    pub objects: BTreeMap<String, Value>,
    pub version: u64,
    uids: u64,
}

/// A kind that this API server has.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub plural: &'static str,
    pub kind: &'static str,
    pub api_version: &'static str,
}

const KINDS: [Kind; 9] = [
    kind("pods", "Pod", "v1"),
    kind("configmaps", "ConfigMap", "v1"),
    kind("secrets", "Secret", "v1"),
    kind("nodes", "Node", "v1"),
    kind("services", "Service", "v1"),
    kind("leases", "Lease", "coordination.k8s.io/v1"),
    kind(
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "apiextensions.k8s.io/v1",
    ),
    kind("widgets", "Widget", "example.com/v1"),
    kind("devices", "Device", "devices.kubeedge.io/v1beta1"),
];

const fn kind(plural: &'static str, kind: &'static str, api_version: &'static str) -> Kind {
    Kind {
        plural,
        kind,
        api_version,
    }
}

pub fn by_plural(plural: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.plural == plural)
}

pub fn by_word(word: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.kind.to_lowercase() == word)
}

/// The third part of a route, and so on.
pub fn part(route: &str, n: usize) -> &str {
    route.split('/').nth(n).unwrap_or_default()
}

/// `{"ErrStatus":…}`, as Go writes an API server's error.
pub fn error_status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "ErrStatus": { "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code } })
}

pub fn not_found(route: &str) -> Value {
    let message = format!("{} \"{}\" not found", part(route, 1), part(route, 2));
    error_status(404, "NotFound", &message)
}

impl Api {
    /// Creates, or replaces; with kind, uid and a new version.
    pub fn put(&mut self, route: &str, mut object: Value) -> Value {
        self.version += 1;
        let metadata = &mut object["metadata"];
        if part(route, 0) != "null" {
            metadata["namespace"] = part(route, 0).into();
        }
        metadata["name"] = part(route, 2).into();
        metadata["resourceVersion"] = self.version.to_string().into();
        let known = self
            .objects
            .get(route)
            .map(|known| known["metadata"]["uid"].clone());
        if metadata["uid"].is_null() {
            self.uids += 1;
            metadata["uid"] = known.unwrap_or_else(|| format!("uid-{}", self.uids).into());
        }
        if let Some(kind) = by_word(part(route, 1)) {
            object["kind"] = kind.kind.into();
            object["apiVersion"] = kind.api_version.into();
        }
        self.objects.insert(route.into(), object.clone());
        object
    }

    /// Deletes, and gives the last state with the version of the deletion.
    pub fn delete(&mut self, route: &str) -> Option<Value> {
        let mut object = self.objects.remove(route)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Some(object)
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Value> {
        self.objects
            .values()
            .find(|object| object["metadata"]["uid"] == uid)
    }
}

/// The same without kind and apiVersion, as objects are inside an `ObjectResp` and in lists of typed clients.
pub fn untyped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// JSON merge patch (RFC 7386), near enough to a strategic one for status.
pub fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}
