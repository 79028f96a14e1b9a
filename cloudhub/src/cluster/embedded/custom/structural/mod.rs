//! The structural schema of a custom kind: what falls away, what is filled in, and what is refused.
//!
//! Rules in CEL (`x-kubernetes-validations`) are evaluated within a budget (decision 0028).

pub(super) mod defaults;
mod rules;
mod scale;
mod text;
mod validate;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Map, Value};

use super::cel::Budget;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;

use rules::Rules;
pub(super) use validate::validate;

/// What the definition says about a version of its kind.
#[derive(Clone)]
pub(in crate::cluster::embedded) struct Definition {
    version: Arc<Value>,
    /// Read when an object first needs them.
    rules: Arc<OnceLock<Option<Rules>>>,
}

/// Definitions as they were read, so that not every write of an object reads the definition of its kind.
#[derive(Default)]
pub(in crate::cluster::embedded) struct Read {
    by_kind: RefCell<HashMap<GroupVersionResource, (Bytes, Option<Definition>)>>,
}

impl Definition {
    /// Of a custom kind. None when its definition has gone.
    pub(in crate::cluster::embedded) fn of(state: &State, kind: &ResourceKind) -> Option<Self> {
        let mut read = state.definitions.by_kind.borrow_mut();
        let Some(held) = state.get(&Self::key(kind)) else {
            read.remove(&kind.resource);
            return None;
        };
        // The same bytes in the same place: they are held here, so nothing else can have come there.
        if let Some((body, definition)) = read.get(&kind.resource)
            && body.as_ptr() == held.body.as_ptr()
        {
            return definition.clone();
        }
        let definition = serde_json::from_slice(&held.body)
            .ok()
            .and_then(|definition| Self::new(definition, kind));
        read.insert(kind.resource.clone(), (held.body.clone(), definition.clone()));
        definition
    }

    /// The definition of a custom kind.
    pub(in crate::cluster::embedded) fn key(kind: &ResourceKind) -> ObjectKey {
        let definitions =
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let name = format!("{}.{}", kind.resource.resource, kind.resource.group);
        ObjectKey::new(definitions, None, &name)
    }

    /// Out of a CustomResourceDefinition. None when it does not have the kind's version.
    pub(in crate::cluster::embedded) fn new(mut definition: Value, kind: &ResourceKind) -> Option<Self> {
        let versions = definition["spec"]["versions"].as_array_mut()?;
        let version = versions
            .iter_mut()
            .find(|version| version["name"] == *kind.resource.version)?;
        Some(Self {
            version: Arc::new(version.take()),
            rules: Arc::default(),
        })
    }

    /// The schema of the version.
    pub(in crate::cluster::embedded) fn schema(&self) -> Option<&Value> {
        self.version.get("schema")?.get("openAPIV3Schema")
    }

    /// Where the kind keeps a part of its scale, as the steps of a path: `specReplicasPath`, …
    pub(in crate::cluster::embedded) fn scale(&self, path: &str) -> Option<Vec<&str>> {
        let path = self.version["subresources"]["scale"][path].as_str()?;
        Some(path.trim_start_matches('.').split('.').collect())
    }

    /// Takes what the schema does not know out of an object, and fills its defaults in. The paths of what was taken.
    pub(in crate::cluster::embedded) fn shape(&self, value: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        if let Some(schema) = self.schema() {
            prune(value, schema, true, "", &mut unknown);
            default(value, schema, true);
        }
        unknown
    }

    /// Fills the defaults of the schema in, and takes nothing out: what was applied is not read as a whole object is.
    pub(in crate::cluster::embedded) fn fill(&self, value: &mut Value) {
        if let Some(schema) = self.schema() {
            default(value, schema, false);
        }
    }

    /// What is wrong with an object, but for what was so before already; that is in the texts.
    pub(in crate::cluster::embedded) fn errors(
        &self,
        value: &Value,
        old: Option<&Value>,
        budget: Budget,
    ) -> (Vec<FieldError>, Vec<String>) {
        let Some(schema) = self.schema() else {
            return Default::default();
        };
        let mut errors = Vec::new();
        validate(value, old, schema, "", &mut errors);
        scale::check(self, value, &mut errors);
        let Some(rules) = self.rules.get_or_init(|| Rules::new(schema)) else {
            return (errors, Vec::new());
        };
        if errors.iter().any(FieldError::hides_others) {
            errors.push(FieldError::invalid(
                "<nil>",
                &Value::Null,
                fault::RULES_NOT_CHECKED,
            ));
            return (errors, Vec::new());
        }
        let found = rules.check(value, old, budget);
        errors.extend(found.errors);
        (errors, found.warnings)
    }
}

fn prune(value: &mut Value, schema: &Value, whole: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let preserve = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let more = &schema["additionalProperties"];
            let whole = whole || schema["x-kubernetes-embedded-resource"] == true;
            fields.retain(|key, field| {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                if whole && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    // Of the object itself that is looked at elsewhere.
                    if key == "metadata" && path != "metadata" {
                        known_metadata(field, &path, unknown);
                    }
                    return true;
                }
                match properties.and_then(|properties| properties.get(key)) {
                    Some(schema) => prune(field, schema, false, &path, unknown),
                    None if more.is_object() => prune(field, more, false, &path, unknown),
                    None if preserve || *more == true => {}
                    None => {
                        unknown.push(path);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(elements) => {
            let items = &schema["items"];
            for (index, element) in elements.iter_mut().enumerate().filter(|_| items.is_object()) {
                prune(element, items, false, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// An object within an object has no other metadata than any.
fn known_metadata(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) {
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|field, _| {
            let known = METADATA.contains(&field.as_str());
            if !known {
                unknown.push(format!("{path}.{field}"));
            }
            known
        });
    }
}

/// The fields of `ObjectMeta`.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// With `drop`, nulls go where the schema does not say that nothing is a value.
fn default(value: &mut Value, schema: &Value, drop: bool) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                let given = fields.get(name);
                let empty = given.is_none_or(|given| given.is_null() && schema["nullable"] != true);
                if let (true, Some(to)) = (empty, schema.get("default")) {
                    fields.insert(name.clone(), to.clone());
                }
                match fields.get_mut(name) {
                    Some(Value::Null) if drop && schema["nullable"] != true => {
                        fields.remove(name);
                    }
                    Some(field) => default(field, schema, drop),
                    None => {}
                }
            }
            let more = &schema["additionalProperties"];
            if more.is_object() {
                fields.retain(|_, field| !drop || !field.is_null() || more["nullable"] == true);
                let others = fields
                    .iter_mut()
                    .filter(|(name, _)| schema["properties"].get(*name).is_none());
                others.for_each(|(_, field)| default(field, more, drop));
            }
        }
        Value::Array(elements) => {
            for element in elements {
                default(element, &schema["items"], drop);
            }
        }
        _ => {}
    }
}

/// The path of a field.
fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Whether a rule in CEL stands anywhere in a schema.
fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.contains_key("x-kubernetes-validations") || fields.values().any(has_rules)
        }
        Value::Array(elements) => elements.iter().any(has_rules),
        _ => false,
    }
}

/// The value at the end of a path of fields.
pub(in crate::cluster::embedded) fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, step| &value[*step])
}

/// Puts a value at the end of a path of fields, whose steps are made where they lack.
pub(in crate::cluster::embedded) fn put(value: &mut Value, path: &[&str], to: Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = to;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    put(&mut value[*step], rest, to);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["color"], "properties": {
            "color": {"type": "string", "enum": ["red", "green"]},
            "size": {"type": "integer", "default": 1, "maximum": 100},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "port": {"x-kubernetes-int-or-string": true},
            "once": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}})
    }

    fn definition() -> Definition {
        Definition {
            version: Arc::new(json!({"schema": {"openAPIV3Schema": schema()}})),
            rules: Arc::default(),
        }
    }

    #[test]
    fn what_a_schema_does_not_know_falls_away_and_defaults_are_filled_in() {
        let mut value = json!({"kind": "Widget", "metadata": {"name": "a"}, "bogus": 1,
            "spec": {"color": "red", "odd": 2, "free": {"any": [1]}, "port": null}});
        let unknown = definition().shape(&mut value);
        assert_eq!(unknown, ["bogus", "spec.odd"]);
        let expected = json!({"kind": "Widget", "metadata": {"name": "a"},
            "spec": {"color": "red", "size": 1, "free": {"any": [1]}}});
        assert_eq!(value, expected);
    }

    #[test]
    fn what_a_schema_forbids_is_named_as_a_real_server_names_it() {
        let said = |spec: Value| -> Vec<String> {
            let budget = Budget {
                steps: 1000,
                steps_each: 1000,
            };
            let given = json!({"metadata": {"name": "x"}, "spec": spec});
            let (errors, _) = definition().errors(&given, None, budget);
            errors.iter().map(FieldError::to_string).collect()
        };
        let unchecked = format!("<nil>: Invalid value: null: {}", fault::RULES_NOT_CHECKED);
        assert_eq!(
            said(json!({"color": "pink", "size": 500})),
            [
                "spec.color: Unsupported value: \"pink\": supported values: \"red\", \"green\"",
                "spec.size: Invalid value: 500: spec.size in body should be less than or equal to 100",
                &unchecked
            ]
        );
        assert_eq!(
            said(json!({"color": "red", "size": "big"})),
            [
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
                &unchecked
            ]
        );
        assert_eq!(
            said(json!({"color": "red", "tags": ["a", "a"]})),
            ["spec.tags[1]: Duplicate value: \"a\""]
        );
        assert_eq!(said(json!({"size": 2}))[0], "spec.color: Required value");
        assert!(said(json!({"color": "red", "port": 1, "size": 100})).is_empty());
        assert!(said(json!({"color": "red", "port": "http"})).is_empty());
    }
}
