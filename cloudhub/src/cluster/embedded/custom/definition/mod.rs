//! Definitions of custom kinds: what is filled in, what is refused, and in which words
//! (`apiextensions-apiserver/pkg/apis/apiextensions/validation`).

mod hoist;
pub(in crate::cluster::embedded) mod names;
mod schema;
mod spec;
mod structural;
mod versions;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::registry::{Registry, ResourceKind};
use serde_json::{Value, json};

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::set::default;

/// 403 for a new object of a kind whose definition is on its way out.
pub(in crate::cluster::embedded) fn takes_new(
    state: &State,
    kind: &ResourceKind,
    name: &str,
) -> Result<(), Status> {
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let resource = &kind.resource;
    let own = format!("{}.{}", resource.resource, resource.group);
    let held = state.get(&ObjectKey::new(definitions, None, &own));
    let metadata = held.and_then(|held| Metadata::parse(&held.body).ok());
    match metadata.is_some_and(|metadata| metadata.deletion_timestamp.is_some()) {
        true => Err(fault::forbidden(
            kind,
            name,
            "create not allowed while custom resource definition is terminating",
        )),
        false => Ok(()),
    }
}

/// Fills in what a definition leaves out, and refuses one that no API server would take. What has to be said of one that is taken.
pub(in crate::cluster::embedded) fn complete(
    kind: &ResourceKind,
    old: Option<&Value>,
    value: &mut Value,
) -> Result<Vec<String>, Status> {
    let spec = &mut value["spec"];
    let of_kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if !of_kind.is_empty() {
        default(&mut spec["names"], "singular", of_kind.to_lowercase().into());
        default(&mut spec["names"], "listKind", format!("{of_kind}List").into());
    }
    default(spec, "conversion", json!({"strategy": "None"}));
    status(old, value);
    if old.is_some_and(|old| old["spec"] == value["spec"]) {
        return Ok(Vec::new());
    }
    let mut found = Found::default();
    spec::check(old, value, &mut found);
    let name = meta(value, "name").to_owned();
    if !found.errors.is_empty() {
        return Err(fault::invalid(kind, &name, &found.errors));
    }
    if name.is_empty() {
        // It is refused as every object without a name is.
        return Ok(found.warnings);
    }
    // What is right as a definition and still no kind that can be served.
    if let Err(error) = Registry::builtin().apply_definition(value.to_string().as_bytes()) {
        let error = FieldError::invalid("spec", &Value::Null, &error.to_string());
        return Err(fault::invalid(kind, &name, &[error]));
    }
    Ok(found.warnings)
}

/// What is wrong with a definition, and what has to be said of it.
#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    warnings: Vec<String>,
}

impl Found {
    fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: &str) {
        self.errors.push(FieldError::invalid(field, value, detail));
    }

    fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.errors.push(FieldError::required(field, detail));
    }

    fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.errors.push(FieldError::forbidden(field, detail));
    }

    fn unsupported(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let (value, supported) = (value.to_string(), supported.join(", "));
        self.errors
            .push(FieldError::unsupported(field, &value, &supported));
    }
}

/// Whether the names are accepted is said right after ([`names`]). Versions in which objects were once stored stay known.
fn status(old: Option<&Value>, value: &mut Value) {
    let held = old.map(|old| &old["status"]).filter(|status| status.is_object());
    let mut stored: Vec<Value> = held
        .and_then(|status| status["storedVersions"].as_array())
        .cloned()
        .unwrap_or_default();
    let versions = value["spec"]["versions"].as_array().into_iter().flatten();
    for version in versions.filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) && (held.is_some() || stored.is_empty()) {
            stored.push(version["name"].clone());
        }
    }
    let of = |field: &str, none: Value| {
        let held = held.and_then(|status| status.get(field));
        held.filter(|held| !held.is_null()).cloned().unwrap_or(none)
    };
    value["status"] = json!({
        "acceptedNames": of("acceptedNames", json!({"kind": "", "plural": ""})),
        "storedVersions": stored,
        "conditions": of("conditions", Value::Null),
    });
}

/// A new definition says with a null that nobody has looked at its names yet.
pub(in crate::cluster::embedded) fn begin(value: &mut Value) {
    value["status"]["conditions"] = Value::Null;
}

/// A text of an object; empty where there is none.
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The elements of a list, with their places.
fn each<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    value[field].as_array().into_iter().flatten().enumerate()
}

#[cfg(test)]
mod tests;
