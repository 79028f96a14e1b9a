//! What lists and maps are told apart by.

use serde_json::Value;

use super::super::{Found, each, text};

pub(super) fn check(schema: &Value, path: &str, found: &mut Found) {
    let of = text(schema, "type");
    let at_type = format!("{path}.type");
    let given = |field: &str| schema[field].as_str().map(str::to_owned);
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        found.invalid(path, &false.into(), "must be true or undefined");
    }
    let must_be = |wanted: &str, field: &str, found: &mut Found| {
        let detail = format!("must be {wanted} if {field} is specified");
        match of {
            "" => found.required(&at_type, &detail),
            of => found.invalid(&at_type, &of.into(), &detail),
        }
    };
    if let Some(kind) = given("x-kubernetes-map-type") {
        if of != "object" {
            must_be("object", "x-kubernetes-map-type", found);
        }
        if !matches!(&*kind, "atomic" | "granular") {
            let path = format!("{path}.x-kubernetes-map-type");
            found.unsupported(path, &kind.into(), &["atomic", "granular"]);
        }
    }
    let items = schema.get("items").filter(|items| items.is_object());
    let kind = given("x-kubernetes-list-type");
    if kind.is_some() && of != "array" {
        must_be("array", "x-kubernetes-list-type", found);
    } else if kind.as_deref() == Some("set")
        && let Some(items) = items
    {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (list, map) = (&items["x-kubernetes-list-type"], &items["x-kubernetes-map-type"]);
        if items["type"] == "array" && !list.is_null() && list != "atomic" {
            found.invalid(format!("{path}.items.x-kubernetes-list-type"), list, detail);
        }
        if items["type"] == "object" && map != "atomic" {
            found.invalid(format!("{path}.items.x-kubernetes-map-type"), list, detail);
        }
    }
    if let Some(kind) = kind.as_deref()
        && !matches!(kind, "atomic" | "set" | "map")
    {
        let path = format!("{path}.x-kubernetes-list-type");
        found.unsupported(path, &kind.into(), &["atomic", "set", "map"]);
    }
    let keys: Vec<&str> = each(schema, "x-kubernetes-list-map-keys")
        .filter_map(|(_, key)| key.as_str())
        .collect();
    let at_kind = format!("{path}.x-kubernetes-list-type");
    let needs_map = "must be map if x-kubernetes-list-map-keys is non-empty";
    match kind.as_deref() {
        _ if keys.is_empty() => {}
        None => found.required(at_kind, needs_map),
        Some("map") => {}
        Some(kind) => found.invalid(at_kind, &kind.into(), needs_map),
    }
    if kind.as_deref() == Some("map") {
        keyed(schema, items, &keys, path, found);
    }
    if let (Some(kind @ ("map" | "set")), Some(items)) = (kind.as_deref(), items) {
        elements(items, kind, &keys, path, found);
    }
}

fn keyed(schema: &Value, items: Option<&Value>, keys: &[&str], path: &str, found: &mut Found) {
    let at_keys = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        found.required(&at_keys, "must not be empty if x-kubernetes-list-type is map");
    }
    let Some(items) = items else {
        if schema["items"].is_null() {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            found.required(format!("{path}.items"), detail);
        }
        return;
    };
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        found.invalid(format!("{path}.items.type"), &text(items, "type").into(), detail);
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let given = &schema["x-kubernetes-list-map-keys"];
        match items["properties"].get(key) {
            Some(of) if of["type"] == "array" || of["type"] == "object" => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                found.invalid(
                    format!("{path}.items.properties[{key}].type"),
                    &"object".into(),
                    detail,
                );
            }
            Some(_) => {}
            None => found.invalid(&at_keys, given, "entries must all be names of item properties"),
        }
        if keys[..index].contains(key) {
            found.invalid(&at_keys, given, "must not contain duplicate entries");
        }
    }
}

/// Nothing that tells elements apart can be missing.
fn elements(items: &Value, kind: &str, keys: &[&str], path: &str, found: &mut Found) {
    if items["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        found.forbidden(format!("{path}.items.nullable"), &detail);
    }
    if kind != "map" {
        return;
    }
    for key in keys {
        let Some(of) = items["properties"].get(key) else {
            continue;
        };
        let path = format!("{path}.items.properties[{key}]");
        if of["default"].is_null() && !each(items, "required").any(|(_, name)| name == key) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            found.required(format!("{path}.default"), detail);
        }
        if of["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            found.forbidden(format!("{path}.nullable"), detail);
        }
    }
}
