//! Objects as the types of a kube-apiserver show them in what it says: every field, by the names and in the order of `pkg/apis/core`.
//!
//! A refusal shows what was changed (`spec.template: Invalid value: {"Spec":{"Volumes":null,…`), or how (a unified diff of two such
//! texts). Only refusals need it, so nothing is read before the first of them.

mod diff;
mod write;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// A value in the order in which it is shown.
pub(super) enum Shape {
    /// Nothing, a text, a number or a boolean.
    Plain(Value),
    List(Vec<Shape>),
    Fields(Vec<(String, Shape)>),
}

/// The shape of a value of the API as a value of a type.
pub(super) fn shape(of: &str, value: &Value) -> Shape {
    Shape::Fields(fields(of, value))
}

/// What has become of a value of a type, as a unified diff with three lines around.
pub(in crate::cluster::embedded) fn difference(of: &str, old: &Value, new: &Value) -> String {
    diff::unified(&shape(of, old).pretty(), &shape(of, new).pretty())
}

/// A template of pods, whose metadata stands beside its spec.
pub(in crate::cluster::embedded) fn template(value: &Value) -> String {
    let mut all = metadata(&value["metadata"]);
    all.push(("Spec".into(), shape("PodSpec", &value["spec"])));
    Shape::Fields(all).compact()
}

fn fields(of: &str, value: &Value) -> Vec<(String, Shape)> {
    let mut all = Vec::new();
    for field in TYPES.get(of).into_iter().flatten() {
        match field {
            // Stands within another without a name of its own.
            Field::Embedded("M") => all.extend(metadata(&value["metadata"])),
            Field::Embedded(of) => all.extend(fields(of, value)),
            Field::Named { shown, name, kind } => {
                let given = if *kind == "*PodSecurityContext" {
                    // The API has the first of its fields one step further up.
                    let mut context = value[name.as_str()].clone();
                    for field in [
                        "hostNetwork",
                        "hostPID",
                        "hostIPC",
                        "shareProcessNamespace",
                        "hostUsers",
                    ] {
                        context[field] = value[field].clone();
                    }
                    one("PodSecurityContext", &context)
                } else {
                    one(kind, &value[name.as_str()])
                };
                all.push(((*shown).to_owned(), given));
            }
        }
    }
    all
}

/// A value of a field. The kinds of fields are those of `types.txt`.
fn one(kind: &str, value: &Value) -> Shape {
    match kind {
        "\"" if value.is_null() => Shape::Plain("".into()),
        "?" if value.is_null() => Shape::Plain(false.into()),
        "0" if value.is_null() => Shape::Plain(0.into()),
        "q" if value.is_null() => Shape::Plain("0".into()),
        "\"" | "?" | "0" | "q" | "~" => Shape::Plain(value.clone()),
        "~L" => in_order(value, SELECTOR),
        "{" => match value {
            Value::Object(entries) => Shape::Fields(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Shape::Plain(value.clone())))
                    .collect(),
            ),
            other => Shape::Plain(other.clone()),
        },
        of => match (of.split_at(1), value) {
            (("[" | "*", _), Value::Null) => Shape::Plain(Value::Null),
            (("[", of), Value::Array(elements)) => {
                Shape::List(elements.iter().map(|element| one(of, element)).collect())
            }
            (("*", of), value) => shape(of, value),
            _ => shape(of, value),
        },
    }
}

/// Metadata is shown as the API has it.
fn metadata(value: &Value) -> Vec<(String, Shape)> {
    match in_order(value, METADATA) {
        Shape::Fields(fields) => fields,
        _ => Vec::new(),
    }
}

/// What is shown as the API has it, with the fields that are there, these first.
fn in_order(value: &Value, first: &[&str]) -> Shape {
    match value {
        Value::Object(entries) => {
            let rank = |key: &str| first.iter().position(|name| *name == key).unwrap_or(first.len());
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| rank(key));
            let entries = entries.into_iter();
            Shape::Fields(
                entries
                    .map(|(key, value)| (key.clone(), in_order(value, first)))
                    .collect(),
            )
        }
        Value::Array(elements) => {
            Shape::List(elements.iter().map(|element| in_order(element, first)).collect())
        }
        plain => Shape::Plain(plain.clone()),
    }
}

enum Field {
    Embedded(&'static str),
    Named {
        /// As it is shown.
        shown: &'static str,
        /// As the API has it.
        name: String,
        kind: &'static str,
    },
}

/// A line a type: `Name: Field kind, Field=apiName kind, +Embedded`. The kinds: `"` a text, `?` a boolean, `0` a number (or a port by
/// name), `q` an amount, `~` a pointer to one of them, `~L` to a selector of labels, `{` a map, `[` a list of what follows, `*` a
/// pointer to the type that follows, and otherwise a type.
static TYPES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let types = include_str!("types.txt").lines();
    let types = types.filter_map(|line| line.split_once(": "));
    types
        .map(|(name, fields)| (name, fields.split(", ").map(field).collect()))
        .collect()
});

fn field(text: &'static str) -> Field {
    if let Some(embedded) = text.strip_prefix('+') {
        return Field::Embedded(embedded);
    }
    let (names, kind) = text.split_once(' ').unwrap_or((text, "~"));
    let (shown, name) = match names.split_once('=') {
        Some((shown, name)) => (shown, name.trim_start_matches('^').to_owned()),
        None => (names, names[..1].to_lowercase() + &names[1..]),
    };
    Field::Named { shown, name, kind }
}

const SELECTOR: &[&str] = &["matchLabels", "matchExpressions", "key", "operator", "values"];
const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "creationTimestamp",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_claim_is_shown_as_a_real_server_shows_it() {
        let claim = |storage: &str| json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}, "volumeMode": "Filesystem"});
        assert_eq!(
            difference("PersistentVolumeClaimSpec", &claim("1Gi"), &claim("2Gi")),
            concat!(
                "@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \"1Gi\"\n",
                "+   \"storage\": \"2Gi\"\n   }\n  },\n  \"VolumeName\": \"\",\n"
            )
        );
    }

    #[test]
    fn a_pod_that_is_given_to_a_node_is_shown_as_a_real_server_shows_it() {
        let pod = |node: Value| {
            json!({"containers": [{"name": "c", "image": "x:2", "resources": {}}], "nodeName": node, "restartPolicy": "Always",
                "serviceAccountName": "default", "securityContext": {}})
        };
        assert_eq!(
            difference("PodSpec", &pod(Value::Null), &pod("n".into())),
            concat!(
                "@@ -42,7 +42,7 @@\n  \"NodeSelector\": null,\n  \"ServiceAccountName\": \"default\",\n",
                "  \"AutomountServiceAccountToken\": null,\n- \"NodeName\": \"\",\n+ \"NodeName\": \"n\",\n  \"SecurityContext\": {\n",
                "   \"HostNetwork\": false,\n   \"HostPID\": false,\n"
            )
        );
    }

    #[test]
    fn a_template_begins_with_its_metadata() {
        let shown = template(&json!({"metadata": {"labels": {"a": "<b>"}}, "spec": {"containers": []}}));
        assert!(
            shown.starts_with(r#"{"labels":{"a":"\u003cb\u003e"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":[],"#),
            "{shown}"
        );
    }

    #[test]
    fn every_type_that_is_named_is_there() {
        for (name, fields) in TYPES.iter() {
            for field in fields {
                let of = match field {
                    Field::Embedded(of) => *of,
                    Field::Named { kind, .. } => kind.trim_start_matches(['[', '*']),
                };
                let plain = ["\"", "?", "0", "q", "~", "~L", "{", "M"].contains(&of);
                assert!(plain || TYPES.contains_key(of), "{name}: {of}");
            }
        }
    }
}
