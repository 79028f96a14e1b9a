//! Values as a kube-apiserver writes them into its refusals: objects in the order of Go's fields where a patch left them alone, what a
//! strategic patch says as Go prints it, and texts as Go quotes them.

use std::collections::BTreeSet;

use hub_core::registry::fields::{Kind, Message, Table};
use serde_json::{Map, Value};

/// What a JSON patch or a merge patch has made of an object, as text. What it went through stands in the order of the names there.
pub(in crate::cluster::embedded) fn patched(object: &Value, custom: bool, patch: &Value) -> String {
    let mut touched = BTreeSet::from([String::new()]);
    match patch {
        Value::Array(operations) => {
            for operation in operations {
                for field in ["path", "from"] {
                    steps(operation[field].as_str().unwrap_or_default(), &mut touched);
                }
            }
        }
        merge => merged(merge, "", &mut touched),
    }
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let mut written = String::new();
    let table = Table::builtin();
    // Of an object that says of itself what there is not, at least the metadata is known.
    let message = Some(table).filter(|_| !custom).and_then(|table| {
        table
            .message(text("apiVersion"), text("kind"))
            .or_else(|| table.message("v1", "ConfigMap"))
    });
    write(object, message, "", &touched, &mut written);
    written
}

/// A value as Go's `fmt` prints it.
pub(in crate::cluster::embedded) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(shown).collect();
            format!("[{}]", elements.join(" "))
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", shown(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        plain => plain.to_string(),
    }
}

/// A strategic patch as it is printed once it was carried out: lists whose order it says were merged, and are not in it any more.
pub(in crate::cluster::embedded) fn carried_out(patch: &Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let ordered = |name: &str| fields.contains_key(&format!("$setElementOrder/{name}"));
            let left = fields.iter().filter(|(name, _)| {
                let directive = ["$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"];
                !directive.iter().any(|prefix| name.starts_with(prefix)) && !ordered(name)
            });
            left.map(|(name, value)| (name.clone(), carried_out(value)))
                .collect()
        }
        plain => plain.clone(),
    }
}

/// Why a value is none of its type, in the words of what makes objects of maps rather than of text
/// (`apimachinery/pkg/runtime/converter.go`).
pub(in crate::cluster::embedded) fn not_restored(why: &str) -> String {
    let parts = why
        .strip_prefix("json: cannot unmarshal ")
        .and_then(|rest| rest.split_once(" into Go struct field "))
        .and_then(|(found, rest)| Some((found, rest.rsplit_once(" of type ")?.1)));
    let Some((found, wanted)) = parts else {
        return why.to_owned();
    };
    let found = match found.split(' ').next().unwrap_or_default() {
        "number" if found.contains('.') => "float64",
        "number" => "int64",
        "array" => "slice",
        "object" => "map",
        plain => plain,
    };
    if (found, wanted) == ("int64", "string") {
        "cannot convert int64 to string".into()
    } else if wanted.starts_with("[]") {
        format!("cannot restore slice from {found}")
    } else if wanted.starts_with("map[") {
        format!("cannot restore map from {found}")
    } else if wanted.contains('.') {
        format!("cannot restore struct from: {found}")
    } else {
        format!("unrecognized type: {wanted}")
    }
}

/// A text as Go's `%q` writes it.
pub(in crate::cluster::embedded) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// What an operation went through on its way.
fn steps(path: &str, touched: &mut BTreeSet<String>) {
    for (at, _) in path.match_indices('/') {
        touched.insert(path[..at].to_owned());
    }
}

/// What a merge went through, and what it brought.
fn merged(patch: &Value, path: &str, touched: &mut BTreeSet<String>) {
    if let Value::Object(fields) = patch {
        touched.insert(path.to_owned());
        for (name, value) in fields {
            merged(value, &format!("{path}/{name}"), touched);
        }
    }
}

fn write(
    value: &Value,
    message: Option<&'static Message>,
    path: &str,
    touched: &BTreeSet<String>,
    text: &mut String,
) {
    match value {
        Value::Object(fields) => {
            text.push('{');
            for (index, name) in order(fields, message, touched.contains(path))
                .into_iter()
                .enumerate()
            {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                let within = message.and_then(|message| inner(message, name));
                write(&fields[name], within, &format!("{path}/{name}"), touched, text);
            }
            text.push('}');
        }
        Value::Array(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(element, message, &format!("{path}/{index}"), touched, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

fn order<'f>(
    fields: &'f Map<String, Value>,
    message: Option<&'static Message>,
    by_name: bool,
) -> Vec<&'f String> {
    let mut names: Vec<&String> = fields.keys().collect();
    if let Some(message) = message.filter(|_| !by_name) {
        let known = message.names();
        let owner = fields.contains_key("uid") && fields.contains_key("kind");
        names.sort_by_key(
            |name| match OWNER.iter().position(|first| *first == name.as_str()) {
                // The one type whose fields are numbered in another order.
                Some(at) if owner => at,
                _ => known
                    .iter()
                    .position(|known| known.name == name.as_str())
                    .unwrap_or(known.len()),
            },
        );
    }
    names
}

fn inner(message: &'static Message, name: &str) -> Option<&'static Message> {
    match message.named(name)?.field.kind {
        Kind::Message(group_version, name) => Table::builtin().message(group_version, name),
        _ => None,
    }
}

const OWNER: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "uid",
    "controller",
    "blockOwnerDeletion",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_patch_left_alone_stands_in_the_order_of_the_type() {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"x": 1}, "metadata": {
            "name": "a", "namespace": "d", "creationTimestamp": "t", "uid": "u",
            "managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "m", "operation": "Update"}]}});
        let metadata = r#"{"name":"a","namespace":"d","uid":"u","creationTimestamp":"t","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1"}]}"#;
        assert_eq!(
            patched(&object, false, &json!({"data": {"x": 1}})),
            format!(r#"{{"apiVersion":"v1","data":{{"x":1}},"kind":"ConfigMap","metadata":{metadata}}}"#)
        );
        let touched = patched(
            &object,
            false,
            &json!([{"op": "add", "path": "/metadata/labels", "value": {}}]),
        );
        assert!(
            touched.contains(r#""metadata":{"creationTimestamp":"t","managedFields":[{"manager""#),
            "{touched}"
        );
    }

    #[test]
    fn a_strategic_patch_is_shown_and_refused_as_go_does() {
        let patch = json!({"spec": {"a": ["x", null, 1], "b": {"c": true}}});
        assert_eq!(shown(&patch), "map[spec:map[a:[x <nil> 1] b:map[c:true]]]");
        let patch = json!({"b": 1, "containers": [{"name": "c"}], "$setElementOrder/containers": [{"name": "c"}], "volumes": []});
        assert_eq!(shown(&carried_out(&patch)), "map[b:1 volumes:[]]");
        let why = |found: &str, wanted: &str| {
            not_restored(&format!(
                "json: cannot unmarshal {found} into Go struct field A.b of type {wanted}"
            ))
        };
        assert_eq!(why("string", "int32"), "unrecognized type: int32");
        assert_eq!(
            why("string", "[]v1.Container"),
            "cannot restore slice from string"
        );
        assert_eq!(
            why("number", "map[string]string"),
            "cannot restore map from int64"
        );
        assert_eq!(why("array", "v1.PodSpec"), "cannot restore struct from: slice");
        assert_eq!(
            not_restored("strict decoding error: x"),
            "strict decoding error: x"
        );
    }

    #[test]
    fn odd_letters_are_quoted_as_go_quotes_them() {
        assert_eq!(quoted("a\u{7}\"\u{1}"), "\"a\\a\\\"\\x01\"");
    }
}
