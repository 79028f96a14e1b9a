//! Columns of custom kinds: `additionalPrinterColumns`, each a JSONPath into the object.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::age;
use super::json_path::find;

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
    use super::*;

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
}
