//! Requests that a kube-apiserver 1.36 was asked, and its answers: the embedded cluster gives the same code, reason, message and details,
//! and no field in a spec, status or data that the real answer does not have.

use bytes::Bytes;
use serde_json::Value;

use crate::{World, parse, request};
use cloudhub::cluster::Cluster;

#[tokio::test]
async fn recorded_writes_are_answered_as_a_real_api_server_answers_them() {
    let world = World::new();
    let steps: Vec<Value> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let mut wrong = Vec::new();
    for step in &steps {
        let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
        let mut body = step["body"].clone();
        fill_in(&world, &text("path"), &mut body).await;
        let answer = world
            .cluster
            .execute(request(
                &text("method"),
                &text("path"),
                &text("type"),
                bytes_of(&body),
            ))
            .await
            .unwrap();
        let value = parse(&answer);
        if step["name"] == "setup" {
            assert!(answer.is_success(), "{step}: {value}");
        } else if let Some(difference) = difference(step, answer.code, &value) {
            wrong.push(format!("{}: {difference}", text("name")));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        steps.len(),
        wrong.join("\n")
    );
}

fn difference(step: &Value, code: u16, value: &Value) -> Option<String> {
    if step["code"] != code {
        return Some(format!("{code} in place of {}: {value}", step["code"]));
    }
    for field in ["reason", "message"] {
        // A null stands for words of Go's own that we do not repeat.
        if !step[field].is_null() && step[field] != value[field] {
            return Some(format!("{field} {} in place of {}", value[field], step[field]));
        }
    }
    if let Some(details) = step["details"].as_object() {
        for (field, expected) in details {
            if value["details"][field] != *expected {
                return Some(format!(
                    "details {} in place of {}",
                    value["details"], step["details"]
                ));
            }
        }
    }
    match &step["object"] {
        Value::Null => None,
        expected => ["kind", "data", "spec", "status"]
            .iter()
            .find_map(|field| more_than(&value[*field], &expected[*field], field))
            .or_else(|| metadata(&value["metadata"], &expected["metadata"])),
    }
}

/// The metadata that a recording keeps is all there.
fn metadata(value: &Value, expected: &Value) -> Option<String> {
    let expected = expected.as_object()?;
    let mut missing = expected.iter().filter(|(field, expected)| {
        // A label that an admission plugin of the recorded server adds, and annotations of another.
        !matches!(field.as_str(), "labels" | "annotations") && value[field.as_str()] != **expected
    });
    missing.next().map(|(field, expected)| {
        format!(
            "metadata.{field} {} in place of {expected}",
            value[field.as_str()]
        )
    })
}

/// The first place where `value` says something that `expected` does not.
fn more_than(value: &Value, expected: &Value, path: &str) -> Option<String> {
    match (value, expected) {
        (Value::Null, _) => None,
        (Value::Object(fields), Value::Object(expected)) => fields.iter().find_map(|(key, value)| {
            // The recorded cluster has a LimitRange, by which its pods ask for something.
            let chance =
                matches!(key.as_str(), "clusterIP" | "clusterIPs" | "qosClass") || key.ends_with("Time");
            let expected = expected.get(key).unwrap_or(&Value::Null);
            if chance {
                None
            } else {
                more_than(value, expected, &format!("{path}.{key}"))
            }
        }),
        (Value::Array(values), Value::Array(expected)) if values.len() == expected.len() => values
            .iter()
            .zip(expected)
            .find_map(|(value, expected)| more_than(value, expected, path)),
        (Value::Object(fields), Value::Null) if fields.is_empty() => None,
        (value, expected) if value == expected => None,
        (value, expected) => Some(format!("{path} {value} in place of {expected}")),
    }
}

/// A recorded body names the versions and uids of its time; ours have others.
async fn fill_in(world: &World, path: &str, body: &mut Value) {
    for field in ["resourceVersion", "uid"] {
        if body["metadata"][field] == "@current" {
            let (_, held) = world.get(path.split('?').next().unwrap()).await;
            body["metadata"][field] = held["metadata"][field].clone();
        }
    }
}

fn bytes_of(body: &Value) -> Bytes {
    match body {
        Value::String(text) => text.clone().into(),
        Value::Object(fields) if fields.contains_key("@generator") => {
            let part = |name: &str| fields["@generator"][name].as_str().unwrap_or_default();
            let count = fields["@generator"]["count"].as_u64().unwrap() as usize;
            format!(
                "{}{}{}",
                part("prefix"),
                part("char").repeat(count),
                part("suffix")
            )
            .into()
        }
        other => other.to_string().into(),
    }
}
