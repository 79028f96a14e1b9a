//! The defaults of a schema are held against it before there is an object
//! (`apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go`).

use serde_json::Value;

use super::{below, prune, validate};
use crate::cluster::embedded::fault::FieldError;

/// What is wrong with the defaults of a schema that is structural.
pub(in crate::cluster::embedded) fn check(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let path = below(path, "default");
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        let whole = schema["x-kubernetes-embedded-resource"] == true;
        prune(&mut pruned, schema, whole, "", &mut unknown);
        if !unknown.is_empty() {
            let detail = "must not have unknown fields";
            errors.push(FieldError::invalid(&*path, default, detail));
        }
        let mut found = Vec::new();
        validate(default, None, schema, "", &mut found);
        // A list is looked at for what it has twice only in an object.
        found.retain(|error| !error.is_duplicate());
        errors.extend(found.into_iter().map(|error| error.under(&path)));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        errors.extend(check(schema, &format!("{path}.properties[{name}]")));
    }
    for field in ["items", "additionalProperties"] {
        if schema[field].is_object() {
            errors.extend(check(&schema[field], &below(path, field)));
        }
    }
    errors
}
