//! `meta.k8s.io` Tables: the columns that kubectl prints.

mod age;
mod custom;
mod json_path;
mod kinds;
mod pod;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hub_core::registry::ResourceKind;
use hub_core::store::Stored;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Page;
use super::metadata::{internal, metadata};
use crate::request::query;
use custom::CustomColumns;

/// How much of an object each row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IncludeObject {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl IncludeObject {
    /// Of a query string. The error is the text that is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match query(text).find(|(key, _)| key == "includeObject") {
            None => Ok(Self::Metadata),
            Some((_, value)) => match &*value {
                "" | "Metadata" => Ok(Self::Metadata),
                "Object" => Ok(Self::Object),
                "None" => Ok(Self::None),
                other => Err(other.into()),
            },
        }
    }
}

/// The printer of one kind.
pub(crate) struct Table<'a> {
    kind: &'a ResourceKind,
    include: IncludeObject,
    version: &'static str,
    custom: Option<CustomColumns>,
    now: OffsetDateTime,
}

impl<'a> Table<'a> {
    pub(crate) fn new(kind: &'a ResourceKind, include: IncludeObject, beta: bool) -> Self {
        Self {
            kind,
            include,
            version: if beta { "v1beta1" } else { "v1" },
            custom: kind.custom.then(|| CustomColumns::new(kind.columns.as_deref())),
            now: OffsetDateTime::now_utc(),
        }
    }

    /// A list.
    pub(crate) fn list(&self, page: &Page, objects: &[Arc<Stored>]) -> Bytes {
        let rows: Vec<String> = objects.iter().map(|stored| self.row(&stored.served)).collect();
        self.table(&page.metadata(false), &self.columns(), &rows.join(","))
    }

    /// One object; `columns` tells whether the columns are described (of a watch, only in its first event).
    pub(crate) fn one(&self, served: &Bytes, columns: bool) -> Bytes {
        let version = serde_json::from_slice::<Value>(served)
            .ok()
            .and_then(|object| object["metadata"]["resourceVersion"].as_str().map(str::to_owned));
        let described = if columns { self.columns() } else { "null".into() };
        let metadata = version.map_or_else(|| json!({}), |version| json!({ "resourceVersion": version }));
        self.table(&metadata.to_string(), &described, &self.row(served))
    }

    fn table(&self, metadata: &str, columns: &str, rows: &str) -> Bytes {
        format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{}","metadata":{metadata},"columnDefinitions":{columns},"rows":[{rows}]}}"#,
            self.version
        )
        .into()
    }

    fn columns(&self) -> String {
        match &self.custom {
            Some(custom) => custom.describe(),
            None => built_in(self.kind)
                .iter()
                .map(Column::describe)
                .collect::<Value>()
                .to_string(),
        }
    }

    fn row(&self, served: &Bytes) -> String {
        let object: Value = serde_json::from_slice(served).unwrap_or_default();
        let cells = match &self.custom {
            Some(custom) => custom.cells(&object, self.now),
            None => kinds::cells(&self.kind.resource, &object, self.now),
        };
        let shown = match self.include {
            IncludeObject::None => "null".into(),
            IncludeObject::Object => String::from_utf8_lossy(served),
            IncludeObject::Metadata => {
                let shown = metadata(&internal(self.kind, served), self.version == "v1beta1");
                String::from_utf8_lossy(&shown).into_owned().into()
            }
        };
        let conditions = match pod::condition(&self.kind.resource, &object) {
            Some(condition) => format!(r#","conditions":[{condition}]"#),
            None => String::new(),
        };
        format!(
            r#"{{"cells":{}{conditions},"object":{shown}}}"#,
            Value::from(cells)
        )
    }
}

/// A column of a built-in kind: name, type, format, priority and description, as a real server describes it.
#[derive(Debug, Deserialize)]
struct Column(String, String, String, u32, String);

impl Column {
    fn describe(&self) -> Value {
        let Self(name, kind, format, priority, description) = self;
        json!({ "name": name, "type": kind, "format": format, "description": description, "priority": priority })
    }
}

fn built_in(kind: &ResourceKind) -> &'static [Column] {
    let columns = COLUMNS.get(&kind.resource.to_string());
    columns
        .or_else(|| COLUMNS.get(kinds::DEFAULT))
        .map_or(&[], Vec::as_slice)
}

static COLUMNS: LazyLock<HashMap<String, Vec<Column>>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("columns.json")).expect("the table of columns is part of the program")
});
