//! What a schema refuses, in the words of a real API server (`apiextensions-apiserver/pkg/apiserver/validation`).

use serde_json::Value;

use super::below;
use crate::cluster::embedded::fault::FieldError;

/// Adds what is wrong with a value at a path, unless it was the same before.
pub(in crate::cluster::embedded) fn validate(
    value: &Value,
    old: Option<&Value>,
    schema: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) || (value.is_null() && schema["nullable"] == true) {
        return;
    }
    let shown = path.to_owned();
    if !has_type(value, schema) {
        let (found, wanted) = (type_of(value), wanted(schema));
        errors.push(FieldError::of_type(
            shown,
            &format!("Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\""),
        ));
        if value.is_number() && schema["type"] == "integer" {
            let shown = match schema["format"].as_str() {
                None | Some("") => "(default format)".to_owned(),
                Some(format) => format!("with format {format}"),
            };
            let detail = format!("Checked value must be of type integer {shown} in {path}");
            errors.push(FieldError::invalid("<nil>", &"".into(), &detail));
        }
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let supported: Vec<String> = allowed.iter().map(Value::to_string).collect();
        errors.push(FieldError::unsupported(
            shown.clone(),
            &value.to_string(),
            &supported.join(", "),
        ));
    }
    let mut wrong = |detail: String| {
        errors.push(FieldError::invalid(
            shown.clone(),
            value,
            &format!("{path} in body {detail}"),
        ));
    };
    match value {
        Value::Number(_) => number(value, schema, &mut wrong),
        Value::String(text) => {
            if let Some(least) = schema["minLength"]
                .as_u64()
                .filter(|least| count(text.chars()) < *least)
            {
                wrong(format!("should be at least {least} chars long"));
            }
            let most = schema["maxLength"]
                .as_u64()
                .filter(|most| count(text.chars()) > *most);
            if let Some(most) = most.and_then(|most| usize::try_from(most).ok()) {
                errors.push(FieldError::too_long(shown.clone(), most));
            }
            super::text::check(text, value, schema, path, errors);
        }
        Value::Array(elements) => length(elements.len(), schema, "Items", "items", path, errors),
        Value::Object(fields) => length(fields.len(), schema, "Properties", "properties", path, errors),
        _ => {}
    }
    if schema["format"] == "int32"
        && value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_err())
    {
        let detail = format!("Checked value must be of type integer with format int32 in {path}");
        errors.push(FieldError::invalid("<nil>", &"".into(), &detail));
    }
    combined(value, schema, path, errors);
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let items = schema.get("items");
                if let Some(items) = items {
                    let old = old.and_then(|old| counterpart(element, old, schema));
                    validate(element, old, items, &format!("{path}[{index}]"), errors);
                }
            }
            duplicates(elements, schema, path, errors);
        }
        Value::Object(fields) => {
            if schema["x-kubernetes-embedded-resource"] == true {
                embedded(value, path, errors);
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                let name = required.as_str().unwrap_or_default();
                if !fields.contains_key(name) {
                    errors.push(FieldError::required(below(path, name), ""));
                }
            }
            for (name, field) in fields {
                let known = schema["properties"].get(name);
                let more = schema.get("additionalProperties").filter(|more| more.is_object());
                if let Some(schema) = known.or(more) {
                    let old = old.and_then(|old| old.get(name));
                    validate(field, old, schema, &below(path, name), errors);
                }
            }
        }
        _ => {}
    }
}

/// An object within an object says what it is.
fn embedded(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(below(path, field), ""));
        }
    }
    let path = below(path, "metadata.labels");
    crate::cluster::embedded::kinds::validate::labels(&value["metadata"]["labels"], &path, errors);
}

fn number(value: &Value, schema: &Value, wrong: &mut dyn FnMut(String)) {
    let Some(number) = value.as_f64() else { return };
    if let Some(least) = schema["minimum"].as_f64() {
        let exclusive = schema["exclusiveMinimum"] == true;
        if number < least || (exclusive && number <= least) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            wrong(format!("should be greater than{or_equal} {}", schema["minimum"]));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let exclusive = schema["exclusiveMaximum"] == true;
        if number > most || (exclusive && number >= most) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            wrong(format!("should be less than{or_equal} {}", schema["maximum"]));
        }
    }
    if let Some(unit) = schema["multipleOf"].as_f64().filter(|unit| *unit > 0.0)
        && (number / unit).fract() != 0.0
    {
        wrong(format!("should be a multiple of {}", schema["multipleOf"]));
    }
}

fn length(found: usize, schema: &Value, what: &str, unit: &str, path: &str, errors: &mut Vec<FieldError>) {
    let bound = |prefix: &str| schema[format!("{prefix}{what}")].as_u64();
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if let Some(least) = bound("min").filter(|least| found < *least) {
        let detail = format!("{path} in body should have at least {least} {unit}");
        errors.push(FieldError::invalid(path, &found.into(), &detail));
    }
    if let Some(most) = bound("max").filter(|most| found > *most) {
        errors.push(FieldError::too_many(path, found, most));
    }
}

fn count(all: impl Iterator) -> u64 {
    u64::try_from(all.count()).unwrap_or(u64::MAX)
}

fn combined(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let faults = |schema: &Value| {
        let mut errors = Vec::new();
        validate(value, None, schema, path, &mut errors);
        errors
    };
    let holds = |schema: &Value| faults(schema).is_empty();
    let all = |keyword: &str| schema[keyword].as_array().filter(|all| !all.is_empty());
    // Of what none of several holds, Kubernetes does not say where.
    let wrong = |detail: &str| FieldError::invalid("<nil>", &"".into(), &format!("{path:?} {detail}"));
    if let Some(any) = all("anyOf")
        && !any.iter().any(holds)
    {
        errors.push(wrong("must validate at least one schema (anyOf)"));
        errors.extend(any.first().map(faults).into_iter().flatten());
    }
    if let Some(one) = all("oneOf") {
        match one.iter().filter(|schema| holds(schema)).count() {
            0 => {
                errors.push(wrong(
                    "must validate one and only one schema (oneOf). Found none valid",
                ));
                errors.extend(one.first().map(faults).into_iter().flatten());
            }
            1 => {}
            found => errors.push(wrong(&format!(
                "must validate one and only one schema (oneOf). Found {found} valid alternatives"
            ))),
        }
    }
    if schema.get("not").is_some_and(holds) {
        errors.push(wrong("must not validate the schema (not)"));
    }
    for schema in all("allOf").into_iter().flatten() {
        validate(value, None, schema, path, errors);
    }
}

/// The element of a list that is a map which has the same keys.
fn counterpart<'v>(element: &Value, old: &'v Value, schema: &Value) -> Option<&'v Value> {
    if schema["x-kubernetes-list-type"] != "map" {
        return None;
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
    let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
    let same = |held: &&Value| keys.iter().all(|key| held[*key] == element[*key]);
    old.as_array()?.iter().find(same)
}

/// Lists that are sets, or maps by keys, hold nothing twice.
fn duplicates(elements: &[Value], schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Vec::new(),
        Some("map") => schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
        _ if schema["uniqueItems"] == true => Vec::new(),
        _ => return,
    };
    let key_of = |element: &Value| -> Value {
        if keys.is_empty() {
            return element.clone();
        }
        keys.iter()
            .map(|key| ((*key).to_owned(), element[*key].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut seen = std::collections::HashSet::new();
    for (index, element) in elements.iter().enumerate() {
        if !keys.is_empty() && !element.is_object() {
            let detail = "must be an object for an array of list-type map";
            errors.push(FieldError::invalid(format!("{path}[{index}]"), element, detail));
            continue;
        }
        let key = key_of(element);
        if !seen.insert(key.to_string()) {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), &key));
        }
    }
}

fn has_type(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => true,
    }
}

fn wanted(schema: &Value) -> &str {
    if schema["x-kubernetes-int-or-string"] == true {
        return "integer,string";
    }
    schema["type"].as_str().unwrap_or_default()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
