//! A query string, and the options object that Go's typed clients write for it.

use serde_json::{Map, Value};

use crate::api::Verb;

pub(super) fn options_kind(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        _ => "",
    }
}

/// The options object that a query string stands for, as Go's typed options write it.
pub(super) fn options(kind: &str, query: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    if !kind.is_empty() {
        fields.insert("kind".into(), kind.into());
        fields.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "watch" | "allowWatchBookmarks" | "sendInitialEvents" | "force" | "orphanDependents" => {
                Value::Bool(!matches!(&*value, "false" | "0"))
            }
            "limit" | "timeoutSeconds" | "gracePeriodSeconds" => match value.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => continue,
            },
            "dryRun" => Value::Array(vec![value.into_owned().into()]),
            "labelSelector"
            | "fieldSelector"
            | "resourceVersion"
            | "resourceVersionMatch"
            | "continue"
            | "fieldManager"
            | "fieldValidation"
            | "propagationPolicy" => value.into_owned().into(),
            _ => continue,
        };
        fields.insert(name.into_owned(), value);
    }
    fields
}

/// The query string that an options object stands for.
pub(super) fn query(fields: &Map<String, Value>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        match value {
            _ if matches!(name.as_str(), "kind" | "apiVersion") => {}
            Value::String(text) => drop(query.append_pair(name, text)),
            Value::Bool(_) | Value::Number(_) => drop(query.append_pair(name, &value.to_string())),
            Value::Array(items) => {
                for item in items.iter().filter_map(Value::as_str) {
                    query.append_pair(name, item);
                }
            }
            _ => {}
        }
    }
    query.finish()
}
