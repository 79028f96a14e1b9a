//! What objects look like, as schemas of OpenAPI. Made of the facts about fields, so they have no descriptions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::registry::ResourceKind;
use crate::registry::fields::{Field, Kind, Message, Repeated, Table};
use crate::strategic;

/// The schemas that a document needs, by name.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    /// What stands before a name in a reference.
    prefix: &'static str,
    made: BTreeMap<String, Value>,
}

impl Schemas {
    /// Of a document that keeps them under this prefix: `#/definitions/`, …
    pub(super) fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            made: BTreeMap::new(),
        }
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.made.into_iter().collect()
    }

    /// A reference to a message, which from now on is among the schemas.
    pub(super) fn message(&mut self, group_version: &str, name: &str) -> Value {
        let full = full_name(group_version, name);
        if !self.made.contains_key(&full) {
            // It may hold itself.
            self.made.insert(full.clone(), Value::Null);
            let schema = Table::builtin().message(group_version, name).map_or_else(
                || json!({ "type": "object" }),
                |message| self.object(message, name),
            );
            self.made.insert(full.clone(), schema);
        }
        self.to(&full)
    }

    /// A reference to a kind of objects.
    pub(super) fn kind(&mut self, kind: &ResourceKind) -> Value {
        let api_version = kind.resource.api_version();
        if !kind.custom {
            let reference = self.message(&api_version, &kind.kind);
            self.name_kind(&full_name(&api_version, &kind.kind), kind, &kind.kind, true);
            return reference;
        }
        let full = custom_name(kind, &kind.kind);
        if !self.made.contains_key(&full) {
            let schema = kind
                .schema
                .as_ref()
                .and_then(|schema| serde_json::from_str(schema).ok());
            let mut schema = schema.unwrap_or_else(|| json!({ "type": "object" }));
            if !schema["properties"].is_object() {
                schema["properties"] = json!({});
            }
            let metadata = self.message(META, "ObjectMeta");
            schema["properties"]["metadata"] = json!({ "allOf": [metadata] });
            self.made.insert(full.clone(), schema);
            self.name_kind(&full, kind, &kind.kind, true);
        }
        self.to(&full)
    }

    /// A reference to a list of them.
    pub(super) fn list(&mut self, kind: &ResourceKind) -> Value {
        let full = if kind.custom {
            custom_name(kind, &kind.list_kind)
        } else {
            full_name(&kind.resource.api_version(), &kind.list_kind)
        };
        if !self.made.contains_key(&full) {
            let (item, metadata) = (self.kind(kind), self.message(META, "ListMeta"));
            let schema = json!({ "type": "object", "required": ["items"], "properties": {
                "items": { "type": "array", "items": item },
                "metadata": metadata,
            } });
            self.made.insert(full.clone(), schema);
            self.name_kind(&full, kind, &kind.list_kind, true);
        }
        self.to(&full)
    }

    /// A reference to something that is no message: an either-or, a text of a certain form.
    pub(super) fn special(&mut self, full: &str, schema: Value) -> Value {
        self.made.entry(full.to_owned()).or_insert(schema);
        self.to(full)
    }

    fn to(&self, full: &str) -> Value {
        json!({ "$ref": format!("{}{full}", self.prefix) })
    }

    /// Says which kind a schema is of.
    fn name_kind(&mut self, full: &str, kind: &ResourceKind, name: &str, typed: bool) {
        let Some(schema) = self.made.get_mut(full).filter(|schema| schema.is_object()) else {
            return;
        };
        if typed {
            schema["properties"]["apiVersion"] = json!({ "type": "string" });
            schema["properties"]["kind"] = json!({ "type": "string" });
        }
        schema["x-kubernetes-group-version-kind"] = json!([
            { "group": kind.resource.group, "version": kind.resource.version, "kind": name }
        ]);
    }

    fn object(&mut self, message: &'static Message, of: &str) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for name in message.names() {
            let field = name.field;
            let one = self.one(field.kind, name.name);
            let mut property = match field.repeated {
                Repeated::Once => one,
                Repeated::List => json!({ "type": "array", "items": one }),
                Repeated::Map => json!({ "type": "object", "additionalProperties": one }),
            };
            if let Some((key, strategy)) = strategic::patched_by(of, name.name) {
                if property["$ref"].is_string() && self.prefix.starts_with("#/components/") {
                    // In version 3, nothing beside a reference counts.
                    property = json!({ "allOf": [property] });
                }
                property["x-kubernetes-patch-strategy"] = strategy.into();
                if let Some(key) = key {
                    property["x-kubernetes-patch-merge-key"] = key.into();
                }
            }
            properties.insert(name.name.to_owned(), property);
            if is_required(field) {
                required.push(Value::from(name.name));
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn one(&mut self, kind: Kind, field: &str) -> Value {
        let extension = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Int => json!({ "type": "integer" }),
            Kind::Double => json!({ "type": "number" }),
            Kind::Text => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "format": "byte" }),
            Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Kind::Time => {
                let time = json!({ "type": "string", "format": "date-time" });
                self.special(&full_name(META, "Time"), time)
            }
            Kind::MicroTime => {
                let time = json!({ "type": "string", "format": "date-time" });
                self.special(&full_name(META, "MicroTime"), time)
            }
            Kind::Quantity => {
                let quantity = json!({ "type": "string" });
                self.special("io.k8s.apimachinery.pkg.api.resource.Quantity", quantity)
            }
            Kind::IntOrString => {
                let either = json!({ "type": "string", "format": "int-or-string" });
                self.special("io.k8s.apimachinery.pkg.util.intstr.IntOrString", either)
            }
            Kind::Raw => match field {
                "fieldsV1" => self.special(&full_name(META, "FieldsV1"), json!({ "type": "object" })),
                "default" | "example" | "enum" => self.special(&format!("{extension}.JSON"), json!({})),
                _ => self.special(RAW, json!({ "type": "object" })),
            },
            Kind::SchemaOrArray => {
                self.message(EXTENSIONS, "JSONSchemaProps");
                self.special(&format!("{extension}.JSONSchemaPropsOrArray"), json!({}))
            }
            Kind::SchemaOrBool => {
                self.message(EXTENSIONS, "JSONSchemaProps");
                self.special(&format!("{extension}.JSONSchemaPropsOrBool"), json!({}))
            }
            Kind::SchemaOrStrings => {
                self.message(EXTENSIONS, "JSONSchemaProps");
                self.special(&format!("{extension}.JSONSchemaPropsOrStringArray"), json!({}))
            }
            Kind::Message(group_version, name) => self.message(group_version, name),
        }
    }
}

fn is_required(field: &Field) -> bool {
    field.keeps_zero && !field.pointer
}

/// `io.k8s.api.core.v1.Pod`.
fn full_name(group_version: &str, name: &str) -> String {
    let (group, version) = group_version.rsplit_once('/').unwrap_or(("core", group_version));
    match group {
        "meta.k8s.io" => format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{name}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{name}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{name}")
        }
        group => {
            let package = group.split('.').next().unwrap_or_default();
            format!("io.k8s.api.{package}.{version}.{name}")
        }
    }
}

/// `com.example.demo.v1.Widget`.
fn custom_name(kind: &ResourceKind, name: &str) -> String {
    let mut parts: Vec<&str> = kind.resource.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{name}", parts.join("."), kind.resource.version)
}

pub(super) const META: &str = "meta.k8s.io/v1";
pub(super) const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const EXTENSIONS: &str = "apiextensions.k8s.io/v1";
