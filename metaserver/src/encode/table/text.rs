//! Pieces of objects as cells show them.

use serde_json::Value;

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";

/// The value at a path; null where there is none.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, field| &value[field])
}

/// A text; the empty one where there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}

/// A text, or what stands in its place.
pub(super) fn text_or<'a>(object: &'a Value, path: &str, other: &'a str) -> &'a str {
    match text(object, path) {
        "" => other,
        text => text,
    }
}

/// A number; 0 where there is none.
pub(super) fn number(object: &Value, path: &str) -> i64 {
    at(object, path).as_i64().unwrap_or_default()
}

/// A number or a text, as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The elements of an array; none where there is no array.
pub(super) fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// One field of each element, joined.
pub(super) fn join(object: &Value, path: &str, field: &str) -> String {
    items(object, path)
        .iter()
        .map(|item| text(item, field))
        .collect::<Vec<_>>()
        .join(",")
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(map: &Value) -> String {
    let Some(map) = map.as_object().filter(|map| !map.is_empty()) else {
        return NONE.into();
    };
    let mut pairs: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// A `metav1.LabelSelector` as text, or `<none>`.
pub(super) fn selector(selector: &Value) -> String {
    if selector.is_null() {
        return NONE.into();
    }
    let mut terms: Vec<(&str, String)> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), format!("{key}={}", plain(value))))
        .collect();
    for expression in items(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = items(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.into(),
            _ => format!("!{key}"),
        };
        terms.push((key, term));
    }
    if terms.is_empty() {
        return NONE.into();
    }
    // By key, as a real server's selectors are.
    terms.sort_by_key(|(key, _)| *key);
    let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
    terms.join(",")
}

/// The first few of a list, and how many more there are.
pub(super) fn first(parts: &[String], max: usize, between: &str, none: &str) -> String {
    if parts.is_empty() {
        return none.into();
    }
    let shown = parts[..parts.len().min(max)].join(between);
    match parts.len().saturating_sub(max) {
        0 if shown.is_empty() => none.into(),
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// How many fields an object has.
pub(super) fn count(object: &Value, path: &str) -> usize {
    at(object, path).as_object().map_or(0, serde_json::Map::len)
}

/// The condition of a type, in `status`.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == kind)
}

/// The names and the images of containers.
pub(super) fn containers(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| join(spec, "containers", field).into())
}
