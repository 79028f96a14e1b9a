//! What makes a schema structural (`apiextensions-apiserver/pkg/apiserver/schema/validation.go`).

use regex::Regex;
use serde_json::Value;

use super::{Found, each, text};

/// Where in a schema something stands, as messages tell it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Looks for all that keeps a schema from being structural, in the order of the messages.
pub(super) fn check(schema: &Value, path: &str, found: &mut Found) {
    if unreadable(schema) {
        // It is said of each field where it stands.
        return;
    }
    let mut all = Found::default();
    node(schema, Level::Root, path, &mut all);
    complete(schema, path, &mut all);
    all.errors.sort_by_key(ToString::to_string);
    found.errors.extend(all.errors);
}

fn node(schema: &Value, level: Level, path: &str, found: &mut Found) {
    let is = |extension: &str| schema[extension] == true;
    let (embedded, either) = (
        is("x-kubernetes-embedded-resource"),
        is("x-kubernetes-int-or-string"),
    );
    let preserve = is("x-kubernetes-preserve-unknown-fields");
    let of = text(schema, "type");
    let items = schema.get("items").filter(|items| items.is_object());
    if of == "array" && items.is_none() {
        found.required(format!("{path}.items"), "must be specified");
    }
    if let Some(items) = items {
        node(items, Level::Item, &format!("{path}.items"), found);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        node(schema, Level::Field, &format!("{path}.properties[{name}]"), found);
    }
    if let Some(more) = schema.get("additionalProperties").filter(|more| !more.is_null()) {
        let path = format!("{path}.additionalProperties");
        if level == Level::Root {
            found.forbidden(&path, "must not be used at the root");
        }
        if more.is_object() {
            node(more, Level::Field, &path, found);
        }
        if embedded {
            found.forbidden(path, "must not be used if x-kubernetes-embedded-resource is set");
        }
    }
    let must_be_false = "must be false if x-kubernetes-int-or-string is true";
    if either && preserve {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        found.invalid(path, &true.into(), must_be_false);
    }
    if either && embedded {
        let path = format!("{path}.x-kubernetes-embedded-resource");
        found.invalid(path, &true.into(), must_be_false);
    }
    values(
        schema,
        is_either(schema),
        is_either(&schema["allOf"][0]),
        path,
        found,
    );
    let at_type = format!("{path}.type");
    let shown = Value::from(of);
    if embedded && of != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match of {
            "" => found.required(&at_type, detail),
            _ => found.invalid(&at_type, &shown, detail),
        }
    } else if of.is_empty() && !either && !preserve {
        found.required(
            &at_type,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !of.is_empty() && of != "object" {
        found.invalid(at_type, &shown, "must be object at the root");
    }
    let properties = &schema["properties"];
    if level == Level::Root || embedded {
        for (field, wanted) in [
            ("kind", "string"),
            ("apiVersion", "string"),
            ("metadata", "object"),
        ] {
            if let Some(schema) = properties
                .get(field)
                .filter(|schema| text(schema, "type") != wanted)
            {
                let path = format!("{path}.properties[{field}].type");
                found.invalid(path, &text(schema, "type").into(), &format!("must be {wanted}"));
            }
        }
    }
    if level == Level::Root
        && let Some(metadata) = properties.get("metadata").and_then(Value::as_object)
    {
        let mut more = metadata.keys().filter(|key| {
            !matches!(key.as_str(), "type" | "default" | "properties" | "description")
                && !metadata[*key].is_null()
        });
        let named = metadata.get("properties").and_then(Value::as_object);
        let only_names =
            named.is_none_or(|named| named.keys().all(|key| key == "name" || key == "generateName"));
        if more.next().is_some() || !only_names || metadata.contains_key("description") {
            let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            found.forbidden(format!("{path}.properties[metadata]"), detail);
        }
    }
    let empty = properties.as_object().is_none_or(serde_json::Map::is_empty);
    if embedded && !preserve && empty {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        found.required(format!("{path}.properties"), detail);
    }
}

/// A number or a text, in the only form in which that may be said twice.
fn is_either(schema: &Value) -> bool {
    schema["anyOf"] == serde_json::json!([{"type": "integer"}, {"type": "string"}])
}

/// What refines values: it must not say what they are.
fn values(schema: &Value, skip_any: bool, skip_first: bool, path: &str, found: &mut Found) {
    if !skip_any {
        for (index, schema) in each(schema, "anyOf") {
            nested(schema, false, &format!("{path}.anyOf[{index}]"), found);
        }
    }
    for (index, schema) in each(schema, "allOf") {
        let skip = skip_first && index == 0;
        nested(schema, skip, &format!("{path}.allOf[{index}]"), found);
    }
    for (index, schema) in each(schema, "oneOf") {
        nested(schema, false, &format!("{path}.oneOf[{index}]"), found);
    }
    if schema["not"].is_object() {
        nested(&schema["not"], false, &format!("{path}.not"), found);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = Regex::new(pattern) {
        let detail = format!(
            "must be a valid regular expression, but isn't: {}",
            go_error(pattern, &error)
        );
        found.invalid(format!("{path}.pattern"), &pattern.into(), &detail);
    }
}

fn nested(schema: &Value, skip_any: bool, path: &str, found: &mut Found) {
    values(schema, skip_any, false, path, found);
    if schema["items"].is_object() {
        nested(&schema["items"], false, &format!("{path}.items"), found);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        nested(schema, false, &format!("{path}.properties[{name}]"), found);
    }
    for (field, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let given = &schema[field];
        if !(given.is_null() || given == "" || *given == false) {
            found.forbidden(format!("{path}.{field}"), detail);
        }
    }
    if schema["properties"].get("metadata").is_some() {
        let path = format!("{path}.properties[metadata]");
        found.forbidden(path, "must not be specified in a nested context");
    }
}

/// Whether anything in a schema says what no structural schema can hold.
fn unreadable(schema: &Value) -> bool {
    let unknown = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ];
    let given = |field: &&str| {
        let given = &schema[*field];
        !given.is_null() && given != "" && given.as_object().is_none_or(|given| !given.is_empty())
    };
    unknown.iter().any(given)
        || schema["items"].is_array()
        || ["items", "additionalProperties", "not"]
            .iter()
            .any(|field| unreadable_below(&schema[*field]))
        || ["allOf", "anyOf", "oneOf"]
            .iter()
            .any(|field| each(schema, field).any(|(_, below)| unreadable(below)))
        || schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .any(|(_, below)| unreadable(below))
}

fn unreadable_below(schema: &Value) -> bool {
    schema.is_object() && unreadable(schema)
}

/// What the root refines must be there (`…/schema/complete.go`).
fn complete(schema: &Value, path: &str, found: &mut Found) {
    for field in ["anyOf", "allOf", "oneOf"] {
        for (index, inner) in each(schema, field) {
            refined(inner, schema, &format!("{path}.{field}[{index}]"), path, found);
        }
    }
    if schema["not"].is_object() {
        refined(&schema["not"], schema, &format!("{path}.not"), path, found);
    }
}

fn refined(inner: &Value, schema: &Value, path: &str, of: &str, found: &mut Found) {
    for (name, inner) in inner["properties"].as_object().into_iter().flatten() {
        let (path, below) = (
            format!("{path}.properties[{name}]"),
            format!("{of}.properties[{name}]"),
        );
        match schema["properties"].get(name) {
            Some(schema) => refined(inner, schema, &path, &below, found),
            None => found.required(below, &format!("because it is defined in {path}")),
        }
    }
    if inner["items"].is_object() {
        let (path, below) = (format!("{path}.items"), format!("{of}.items"));
        match schema.get("items").filter(|items| items.is_object()) {
            Some(schema) => refined(&inner["items"], schema, &path, &below, found),
            None => found.required(below, &format!("because it is defined in {path}")),
        }
    }
    for field in ["anyOf", "allOf", "oneOf"] {
        for (index, inner) in each(inner, field) {
            refined(inner, schema, &format!("{path}.{field}[{index}]"), of, found);
        }
    }
    if inner["not"].is_object() {
        refined(&inner["not"], schema, &format!("{path}.not"), of, found);
    }
}

/// As Go's parser says it, for what is wrong most often.
fn go_error(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let about = |what: &str| format!("error parsing regexp: {what}: `{pattern}`");
    if text.contains("unclosed group") {
        about("missing closing )")
    } else if text.contains("unclosed character class") {
        let part = pattern.rfind('[').map_or(pattern, |at| &pattern[at..]);
        format!("error parsing regexp: missing closing ]: `{part}`")
    } else if text.contains("unopened group") {
        about("unexpected )")
    } else if text.contains("look-around") {
        let at = ["(?=", "(?!", "(?<"].iter().find(|part| pattern.contains(**part));
        format!(
            "error parsing regexp: invalid or unsupported Perl syntax: `{}`",
            at.map_or(pattern, |part| part)
        )
    } else {
        about("invalid syntax")
    }
}
