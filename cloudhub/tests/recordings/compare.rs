//! Two documents, apart from what no two clusters have in common.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// Where they differ, as `path: recorded → ours`.
pub(crate) fn differences(recorded: &Value, ours: &Value) -> Vec<String> {
    let (mut recorded, mut ours) = (recorded.clone(), ours.clone());
    for document in [&mut recorded, &mut ours] {
        let is_application = document.get("Verb").is_some() && document.get("RespBody").is_some();
        if is_application {
            open(document);
        }
        settle(document);
    }
    let mut found = Vec::new();
    walk("", &recorded, &ours, &mut found);
    found
}

fn walk(path: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                walk(
                    &format!("{path}.{key}"),
                    value,
                    b.get(key).unwrap_or(&MISSING),
                    found,
                );
            }
            for key in b.keys().filter(|key| !a.contains_key(*key)) {
                found.push(format!("{path}.{key}: {MISSING} → {}", short(&b[key])));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: {} → {}", short(a), short(b))),
        _ => {}
    }
}

/// The bodies of an application are JSON in base64.
fn open(application: &mut Value) {
    application["Timestamp"] = Value::Null;
    for field in ["Option", "ReqBody", "RespBody"] {
        let bytes = application[field]
            .as_str()
            .and_then(|text| BASE64.decode(text).ok());
        let body = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        application[field] = body.unwrap_or_default();
        by_name(&mut application[field]);
    }
}

/// The items of a list by what they are, as two clusters have them in other places.
fn by_name(list: &mut Value) {
    let Some(items) = list.get_mut("items").filter(|items| items.is_array()) else {
        return;
    };
    let Value::Array(all) = items.take() else { return };
    let name = |item: &Value| {
        let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    };
    *items = all
        .into_iter()
        .map(|item| (name(&item), item))
        .collect::<serde_json::Map<_, _>>()
        .into();
}

/// Takes out what is another one in every cluster and at every time.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in [
                "uid",
                "serviceAccountUid",
                "resourceVersion",
                "generation",
                "managedFields",
                "creationTimestamp",
                "deletionTimestamp",
                "token",
                "event_id",
                "timestamp",
                "kubectl.kubernetes.io/last-applied-configuration",
                "timeAdded",
                "clusterIP",
                "clusterIPs",
            ] {
                if fields.get(field).is_some_and(|value| !value.is_null()) {
                    fields.remove(field);
                }
            }
            fields.values_mut().for_each(settle);
            // A map of annotations that holds nothing any more.
            if fields
                .get("annotations")
                .and_then(Value::as_object)
                .is_some_and(serde_json::Map::is_empty)
            {
                fields.remove("annotations");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::String(text) if is_time(text) => *text = "<time>".into(),
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T'
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(100).collect()
}

static MISSING: Value = Value::Null;
