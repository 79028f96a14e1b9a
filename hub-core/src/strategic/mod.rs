//! Strategic merge patches, as Kubernetes' own kinds take them.
//!
//! Like a JSON merge patch, but lists that have a merge key are merged element by element, and directives (`$patch`, `$retainKeys`,
//! `$deleteFromPrimitiveList/…`, `$setElementOrder/…`) say what a merge cannot. The rules are those of Kubernetes
//! `apimachinery/pkg/util/strategicpatch`.

mod keys;

use serde_json::{Map, Value};

use keys::Place;

/// The patch cannot be applied. The caller's move; Kubernetes answers 500 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(String);

/// Applies a strategic merge patch to an object of a built-in kind.
pub fn apply(api_version: &str, kind: &str, object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            merge_map(object, patch, Place::of_kind(api_version, kind))
        }
        _ => Err(PatchError("a strategic merge patch is a JSON object".into())),
    }
}

/// How clients are to patch a field of a type: its merge key, if it has one, and its strategy
/// (`x-kubernetes-patch-merge-key`, `x-kubernetes-patch-strategy`).
pub fn patched_by(type_name: &str, field: &str) -> Option<(Option<&'static str>, &'static str)> {
    keys::said(type_name, field)
}

fn merge_map(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    place: Place,
) -> Result<(), PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(Value::String(directive)) if directive == "delete" => {
            original.clear();
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "replace" => {
            *original = without_directives_in(patch);
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        retain_keys(original, patch, retained)?;
    }
    for (key, value) in patch {
        if let (Some(field), Value::Array(order)) = (key.strip_prefix(SET_ELEMENT_ORDER), value)
            && let Some(Value::Array(list)) = patch.get(field)
        {
            let merge_key = place.field(field).and_then(|field| field.merge.as_deref());
            check_order(list, order, merge_key.unwrap_or_default())?;
        }
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_PRIMITIVES) {
            delete_primitives(original.get_mut(field), value);
        }
    }
    for (key, value) in patch {
        if is_directive(key) {
            continue;
        }
        merge_field(original, key, value, place)?;
    }
    for (key, value) in patch {
        if let (Some(field), Value::Array(order)) = (key.strip_prefix(SET_ELEMENT_ORDER), value)
            && let Some(Value::Array(list)) = original.get_mut(field)
        {
            let merge_key = place.field(field).and_then(|field| field.merge.as_deref());
            let server_order = list.clone();
            arrange(list, order, &server_order, merge_key.unwrap_or_default());
        }
    }
    Ok(())
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    place: Place,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    let rules = place.field(key);
    match (original.get_mut(key), value) {
        (Some(Value::Object(original)), Value::Object(patch))
            if !rules.is_some_and(|rules| rules.replace) =>
        {
            merge_map(original, patch, place.below(key))
        }
        (Some(Value::Array(original)), Value::Array(patch))
            if rules.is_some_and(|rules| rules.merge.is_some()) =>
        {
            let merge_key = rules.and_then(|rules| rules.merge.as_deref()).unwrap_or_default();
            merge_list(original, patch, merge_key, place.below(key))
        }
        // Where nothing is, there is nothing to replace or delete.
        (None, Value::Object(patch)) if patch.contains_key(PATCH) && patch[PATCH] != "merge" => Ok(()),
        _ => {
            original.insert(key.to_owned(), without_directives(value));
            Ok(())
        }
    }
}

/// The elements of a patch come in the order that it wants of the whole list.
fn check_order(list: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let same = |a: &Value, b: &Value| {
        if key.is_empty() {
            a == b
        } else {
            a.get(key) == b.get(key)
        }
    };
    let kept: Vec<&Value> = list
        .iter()
        .filter(|element| element.get(PATCH).is_none())
        .collect();
    let mut wanted = order.iter();
    if kept
        .iter()
        .all(|element| wanted.any(|other| same(element, other)))
    {
        return Ok(());
    }
    let go = |all: &[&Value]| {
        let all: Vec<String> = all.iter().map(|value| crate::apply::go(value)).collect();
        format!("[{}]", all.join(" "))
    };
    let order: Vec<&Value> = order.iter().collect();
    Err(PatchError(format!(
        "The order in patch list:\n{}\n doesn't match {} list:\n{}\n",
        go(&kept),
        SET_ELEMENT_ORDER.trim_end_matches('/'),
        go(&order)
    )))
}

fn merge_list(original: &mut Vec<Value>, patch: &[Value], key: &str, place: Place) -> Result<(), PatchError> {
    let server_order = original.clone();
    if key.is_empty() {
        for value in patch {
            if !original.contains(value) {
                original.push(value.clone());
            }
        }
        // What was there twice is there once now.
        let mut kept = Vec::with_capacity(original.len());
        std::mem::swap(original, &mut kept);
        for value in kept {
            if !original.contains(&value) {
                original.push(value);
            }
        }
        arrange(original, patch, &server_order, key);
        return Ok(());
    }
    let mut ordinary = Vec::new();
    let mut replace = false;
    for element in patch {
        let Value::Object(fields) = element else {
            return Err(PatchError(format!(
                "a list merged by {key} holds something else than objects: {element}"
            )));
        };
        match fields.get(PATCH) {
            None => ordinary.push(element),
            Some(Value::String(directive)) if directive == "delete" => {
                let wanted = merge_value(fields, key)?;
                original.retain(|element| element.get(key) != Some(wanted));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError(
                    "merging lists cannot yet be specified in the patch".into(),
                ));
            }
            Some(other) => return Err(unknown_directive(other, fields)),
        }
    }
    if replace {
        *original = ordinary.into_iter().map(without_directives).collect();
        return Ok(());
    }
    for element in &ordinary {
        let Value::Object(fields) = element else { continue };
        let wanted = merge_value(fields, key)?;
        let found = original
            .iter_mut()
            .find(|element| element.get(key) == Some(wanted));
        match found {
            Some(Value::Object(found)) => merge_map(found, fields, place)?,
            _ => original.push(without_directives(element)),
        }
    }
    arrange(original, patch, &server_order, key);
    Ok(())
}

fn merge_value<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a Value, PatchError> {
    fields.get(key).ok_or_else(|| {
        let fields = go_map(fields);
        PatchError(format!(
            "map: {fields} does not contain declared merge key: {key}"
        ))
    })
}

/// Elements that `order` names come in its order; the others keep their places before those that stood behind them.
fn arrange(list: &mut Vec<Value>, order: &[Value], server_order: &[Value], key: &str) {
    let same = |a: &Value, b: &Value| {
        if key.is_empty() {
            a == b
        } else {
            a.get(key).is_some() && a.get(key) == b.get(key)
        }
    };
    let rank = |order: &[Value], value: &Value| order.iter().position(|other| same(other, value));
    let (mut named, others): (Vec<_>, Vec<_>) = std::mem::take(list)
        .into_iter()
        .partition(|value| rank(order, value).is_some());
    named.sort_by_key(|value| rank(order, value));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(named)) => {
                let ranks = (rank(server_order, other), rank(server_order, named));
                matches!(ranks, (Some(other), Some(named)) if other < named)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return,
        };
        list.extend(if other_first { others.next() } else { named.next() });
    }
}

fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    retained: &Value,
) -> Result<(), PatchError> {
    let Value::Array(retained) = retained else {
        return Err(PatchError("$retainKeys must be a list".into()));
    };
    let named = |key: &str| retained.iter().any(|value| value.as_str() == Some(key));
    if patch.keys().any(|key| !is_directive(key) && !named(key)) {
        return Err(PatchError(
            "all fields of a patch with $retainKeys must be named in that list".into(),
        ));
    }
    original.retain(|key, _| named(key));
    Ok(())
}

fn delete_primitives(original: Option<&mut Value>, values: &Value) {
    if let (Some(Value::Array(original)), Value::Array(values)) = (original, values) {
        original.retain(|value| !values.contains(value));
    }
}

/// A patch where nothing was before: what it says, without nulls and directives.
fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives_in(fields)),
        Value::Array(elements) => elements
            .iter()
            .filter(|element| element.get(PATCH).is_none())
            .map(without_directives)
            .collect(),
        other => other.clone(),
    }
}

fn without_directives_in(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(key, value)| !is_directive(key) && !value.is_null())
        .map(|(key, value)| (key.clone(), without_directives(value)))
        .collect()
}

/// Other keys may begin with a dollar: `$ref` in the schema of a CustomResourceDefinition does.
fn is_directive(key: &str) -> bool {
    key == PATCH
        || key == RETAIN_KEYS
        || key.starts_with(SET_ELEMENT_ORDER)
        || key.starts_with(DELETE_FROM_PRIMITIVES)
}

fn unknown_directive(directive: &Value, fields: &Map<String, Value>) -> PatchError {
    let directive = go_value(directive);
    PatchError(format!(
        "unknown patch type: {directive} in map: {}",
        go_map(fields)
    ))
}

/// As Go prints a map with `%v`.
fn go_map(fields: &Map<String, Value>) -> String {
    let mut keys: Vec<_> = fields.keys().collect();
    keys.sort();
    let fields: Vec<_> = keys
        .into_iter()
        .map(|key| format!("{key}:{}", go_value(&fields[key])))
        .collect();
    format!("map[{}]", fields.join(" "))
}

fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => go_map(fields),
        Value::Array(values) => format!("[{}]", values.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(api_version: &str, kind: &str, object: Value, patch: Value, expected: Value) {
        let mut patched = object.clone();
        apply(api_version, kind, &mut patched, &patch).unwrap();
        assert_eq!(patched, expected, "{object} with {patch}");
    }

    #[test]
    fn lists_with_a_merge_key_are_merged_by_it() {
        check(
            "apps/v1",
            "Deployment",
            json!({"spec":{"template":{"spec":{"containers":[{"name":"main","image":"i:1"},{"name":"side","image":"s"}]}}}}),
            json!({"spec":{"template":{"spec":{"containers":[{"name":"side","image":"t","env":[{"name":"A","value":"1"}]}]}}}}),
            json!({"spec":{"template":{"spec":{"containers":[{"name":"main","image":"i:1"},{"name":"side","image":"t","env":[{"name":"A","value":"1"}]}]}}}}),
        );
        check(
            "v1",
            "Node",
            json!({"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}],
                "addresses":[{"type":"InternalIP","address":"10.0.0.1"}],"images":[{"names":["a"]}]}}),
            json!({"status":{"conditions":[{"type":"DiskPressure","status":"True"}],
                "addresses":[{"type":"InternalIP","address":"10.0.0.2"},{"type":"Hostname","address":"edge"}],"images":[{"names":["b"]}]}}),
            json!({"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"True"}],
                "addresses":[{"type":"InternalIP","address":"10.0.0.2"},{"type":"Hostname","address":"edge"}],"images":[{"names":["b"]}]}}),
        );
    }

    #[test]
    fn a_list_of_values_that_is_patched_holds_each_once() {
        check(
            "v1",
            "ConfigMap",
            json!({"metadata":{"finalizers":["a","a"]}}),
            json!({"metadata":{"finalizers":["b"],"$setElementOrder/finalizers":["b","a"]}}),
            json!({"metadata":{"finalizers":["b","a"]}}),
        );
    }

    #[test]
    fn a_list_without_a_merge_key_is_replaced() {
        check(
            "v1",
            "Pod",
            json!({"spec":{"tolerations":[{"key":"a"}],"containers":[{"name":"c","args":["1","2"]}]}}),
            json!({"spec":{"tolerations":[{"key":"b"}],"containers":[{"name":"c","args":["3"]}]}}),
            json!({"spec":{"tolerations":[{"key":"b"}],"containers":[{"name":"c","args":["3"]}]}}),
        );
    }

    #[test]
    fn directives_replace_delete_retain_and_order() {
        let pod = |containers: Value| json!({"spec":{"containers":containers}});
        let two = || pod(json!([{"name":"a"},{"name":"b"}]));
        check(
            "v1",
            "Pod",
            two(),
            pod(json!([{"$patch":"replace"},{"name":"c"}])),
            pod(json!([{"name":"c"}])),
        );
        check(
            "v1",
            "Pod",
            two(),
            pod(json!([{"name":"a","$patch":"delete"}])),
            pod(json!([{"name":"b"}])),
        );
        check(
            "apps/v1",
            "Deployment",
            json!({"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}),
            json!({"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}),
            json!({"spec":{"strategy":{"type":"Recreate"}}}),
        );
        check(
            "v1",
            "ConfigMap",
            json!({"metadata":{"finalizers":["x/a","x/b"]}}),
            json!({"metadata":{"$deleteFromPrimitiveList/finalizers":["x/a"],"finalizers":["x/c"]}}),
            json!({"metadata":{"finalizers":["x/c","x/b"]}}),
        );
        check(
            "v1",
            "Pod",
            json!({"status":{"conditions":[{"type":"Initialized"},{"type":"Ready"}]}}),
            json!({"status":{"$setElementOrder/conditions":[{"type":"Ready"},{"type":"Initialized"}],"conditions":[{"type":"Initialized","status":"True"}]}}),
            json!({"status":{"conditions":[{"type":"Ready"},{"type":"Initialized","status":"True"}]}}),
        );
        check(
            "v1",
            "ConfigMap",
            json!({"data":{"a":"1"}}),
            json!({"data":{"$patch":"replace","b":"2"}}),
            json!({"data":{"b":"2"}}),
        );
        check(
            "v1",
            "ConfigMap",
            json!({"data":{"a":"1","b":"1"}}),
            json!({"data":{"a":null,"c":null}}),
            json!({"data":{"b":"1"}}),
        );
    }

    #[test]
    fn a_patch_that_makes_no_sense_is_refused_in_the_words_of_kubernetes() {
        let check = |patch: Value, expected: &str| {
            let mut object = json!({"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}}});
            let error = apply("apps/v1", "Deployment", &mut object, &patch).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            json!({"spec":{"template":{"spec":{"containers":[{"image":"zz"}]}}}}),
            "map: map[image:zz] does not contain declared merge key: name",
        );
        check(
            json!({"spec":{"$patch":"explode"}}),
            "unknown patch type: explode in map: map[$patch:explode]",
        );
    }
}
