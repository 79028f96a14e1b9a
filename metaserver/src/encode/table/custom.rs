//! Columns of custom kinds: `additionalPrinterColumns`, each a JSONPath into the object.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::age;

/// The columns of one kind; Name and Age where its definition names none.
pub(super) struct CustomColumns(Vec<Column>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    json_path: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    priority: i32,
}

impl CustomColumns {
    pub(super) fn new(columns: Option<&str>) -> Self {
        let columns: Vec<Column> = columns
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        if !columns.is_empty() {
            return Self(columns);
        }
        Self(vec![Column {
            name: "Age".into(),
            kind: "date".into(),
            json_path: ".metadata.creationTimestamp".into(),
            format: String::new(),
            description: AGE.into(),
            priority: 0,
        }])
    }

    pub(super) fn describe(&self) -> String {
        let name =
            json!({ "name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0 });
        let columns = self.0.iter().map(|column| {
            let description = match &*column.description {
                "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
                own => own.to_owned(),
            };
            json!({ "name": column.name, "type": column.kind, "format": column.format, "description": description,
                "priority": column.priority })
        });
        std::iter::once(name)
            .chain(columns)
            .collect::<Value>()
            .to_string()
    }

    pub(super) fn cells(&self, object: &Value, now: OffsetDateTime) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        std::iter::once(name)
            .chain(self.0.iter().map(|column| column.cell(object, now)))
            .collect()
    }
}

impl Column {
    fn cell(&self, object: &Value, now: OffsetDateTime) -> Value {
        // Of several only the first is shown.
        let Some(first) = find(object, &self.json_path).first().copied() else {
            return Value::Null;
        };
        match &*self.kind {
            "string" => first
                .as_str()
                .map_or_else(|| first.to_string(), str::to_owned)
                .into(),
            "integer" => match (first.as_i64(), first.as_f64()) {
                (Some(number), _) => number.into(),
                // The part before the point.
                (None, Some(number)) => (number as i64).into(),
                (None, None) => Value::Null,
            },
            "number" => first.as_f64().map_or(Value::Null, |_| first.clone()),
            "boolean" => first.as_bool().map_or(Value::Null, Value::from),
            "date" => match first.as_str() {
                Some("" | "null") => age::since(&Value::Null, now).into(),
                Some(_) if age::parse(first).is_none() => "<invalid>".into(),
                Some(_) => age::since(first, now).into(),
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

/// The values at a path: fields, `['field']`, `[0]`, `[*]` and `[?(@.field=="value")]`, which are what definitions use.
/// A path that is not understood leads nowhere.
fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some(end) = closing(inner) else {
                return Vec::new();
            };
            found = step(&found, &inner[..end]);
            rest = &inner[end + 1..];
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let mut name = String::new();
            let mut chars = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => name.extend(chars.next().map(|(_, c)| c)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    c => name.push(c),
                }
            }
            if end == 0 && !rest.starts_with('[') {
                return Vec::new();
            }
            rest = &rest[end..];
            if name.is_empty() {
                continue;
            }
            found = if name == "*" {
                children(&found)
            } else {
                field(&found, &name)
            };
        }
    }
    found
}

fn closing(inner: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in inner.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn step<'a>(found: &[&'a Value], inside: &str) -> Vec<&'a Value> {
    let inside = inside.trim();
    if inside == "*" {
        return children(found);
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let Some((path, value)) = condition.split_once("==") else {
            return Vec::new();
        };
        let path = path.trim().trim_start_matches('@');
        let value = unquoted(value.trim());
        return children(found)
            .into_iter()
            .filter(|item| {
                find(item, path).first().is_some_and(|found| {
                    found.as_str().map_or_else(|| found.to_string(), str::to_owned) == value
                })
            })
            .collect();
    }
    match inside.parse::<i64>() {
        Ok(index) => found
            .iter()
            .filter_map(|value| {
                let array = value.as_array()?;
                let index = if index < 0 {
                    index + i64::try_from(array.len()).ok()?
                } else {
                    index
                };
                array.get(usize::try_from(index).ok()?)
            })
            .collect(),
        Err(_) => field(found, unquoted(inside)),
    }
}

fn field<'a>(found: &[&'a Value], name: &str) -> Vec<&'a Value> {
    found
        .iter()
        .filter_map(|value| value.get(name))
        .filter(|value| !value.is_null())
        .collect()
}

fn children<'a>(found: &[&'a Value]) -> Vec<&'a Value> {
    let mut children = Vec::new();
    for value in found {
        match value {
            Value::Array(items) => children.extend(items),
            Value::Object(fields) => children.extend(fields.values()),
            _ => {}
        }
    }
    children
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, '\'' | '"'))
}

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources \
    may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for \
    creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
    guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is \
    represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_paths_that_definitions_use_are_understood() {
        let object = json!({"spec": {"a.b": "dot", "n": 3, "list": [{"type": "X", "v": "x"}, {"type": "Ready", "v": "y"}]}});
        let text = |path: &str| {
            find(&object, path)
                .iter()
                .map(|v| v.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(text(".spec.n"), "3");
        assert_eq!(text("{.spec.n}"), "3");
        assert_eq!(text(".spec.list[0].v"), "\"x\"");
        assert_eq!(text(".spec.list[-1].v"), "\"y\"");
        assert_eq!(text(".spec.list[*].v"), "\"x\" \"y\"");
        assert_eq!(text(".spec.list[?(@.type==\"Ready\")].v"), "\"y\"");
        assert_eq!(text(".spec['a.b']"), "\"dot\"");
        assert_eq!(text(r".spec.a\.b"), "\"dot\"");
        assert_eq!(text(".spec.absent.x"), "");
    }

    #[test]
    fn cells_are_of_the_type_of_their_column() {
        let object =
            json!({"metadata": {"name": "a"}, "n": 3, "f": 2.7, "l": [1, "x"], "t": "never", "b": true});
        let columns: Vec<Value> = [
            ("integer", ".f"),
            ("integer", ".t"),
            ("number", ".n"),
            ("string", ".l"),
            ("string", ".l[*]"),
            ("string", ".n"),
            ("date", ".t"),
            ("boolean", ".b"),
            ("boolean", ".n"),
            ("string", ".absent"),
        ]
        .iter()
        .map(|(kind, path)| json!({ "name": path, "type": kind, "jsonPath": path }))
        .collect();
        let columns = CustomColumns::new(Some(&Value::from(columns).to_string()));
        let cells = Value::from(columns.cells(&object, OffsetDateTime::UNIX_EPOCH));
        assert_eq!(
            cells,
            json!([
                "a",
                2,
                null,
                3,
                "[1,\"x\"]",
                "1",
                "3",
                "<invalid>",
                true,
                null,
                null
            ])
        );
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[\\[\\]a.*?@('\"=){0\\\\-]{0,20}") {
            find(&json!({"a": [{"a": 0}]}), &path);
        }
    }
}
