//! `metadata.managedFields`: who owns which fields of an object.

use std::collections::BTreeMap;

use serde_json::{Map as Object, Value, json};

use super::set::FieldSet;

/// Who owns which fields of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed {
    pub(super) entries: BTreeMap<Manager, Entry>,
}

/// Who writes: a program, by what kind of request and through which door. One that applies is the same in all versions of a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// Its name (`fieldManager`).
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// In which version it writes; empty for one that applies.
    api_version: String,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
}

/// How somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By saying what it wants of the object.
    Apply,
    /// In any other way.
    Update,
}

/// What one owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) fields: FieldSet,
    pub(super) api_version: String,
    /// When it last changed something, as RFC 3339 in whole seconds.
    pub(super) time: Option<String>,
}

impl Manager {
    /// One that writes in a version of a kind.
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: Option<&str>) -> Self {
        Self {
            // As a kube-apiserver calls who does not say.
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.to_owned(),
            },
            subresource: subresource.unwrap_or_default().to_owned(),
        }
    }

    /// As conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut shown = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            shown = format!("{shown} with subresource {:?}", self.subresource);
        }
        match self.operation {
            Operation::Apply => shown,
            Operation::Update => format!("{shown} using {}", self.api_version),
        }
    }
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

impl Managed {
    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What somebody owns.
    pub fn fields(&self, manager: &Manager) -> Option<&FieldSet> {
        self.entries.get(manager).map(|entry| &entry.fields)
    }

    /// Who owns anything.
    pub fn managers(&self) -> impl Iterator<Item = &Manager> {
        self.entries.keys()
    }

    /// Whether the fields are meant to be forgotten: an empty list, or one empty entry.
    pub fn is_reset(entries: &Value) -> bool {
        match entries.as_array().map(Vec::as_slice) {
            Some([]) => true,
            Some([entry]) => entry.as_object().is_some_and(Object::is_empty),
            _ => false,
        }
    }

    /// Out of `metadata.managedFields`.
    pub fn from_json(entries: &Value) -> Result<Self, InvalidManagedFields> {
        let invalid = |why: String| InvalidManagedFields(why);
        let mut managed = Self::default();
        for (index, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(invalid("operation must be `Apply` or `Update`".into())),
            };
            if text("apiVersion").is_empty() {
                return Err(invalid("apiVersion must not be empty".into()));
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => {
                    return Err(invalid(format!(
                        "missing fieldsType in managed fields entry {index}"
                    )));
                }
                other => {
                    let why = format!("invalid fieldsType {other:?} in managed fields entry {index}");
                    return Err(invalid(why));
                }
            }
            let manager = Manager {
                name: text("manager").to_owned(),
                operation,
                api_version: match operation {
                    Operation::Apply => String::new(),
                    Operation::Update => text("apiVersion").to_owned(),
                },
                subresource: text("subresource").to_owned(),
            };
            let fields = FieldSet::from_json(&entry["fieldsV1"])
                .map_err(|error| invalid(format!("error decoding set: {error}")))?;
            let entry = Entry {
                fields,
                api_version: text("apiVersion").to_owned(),
                time: entry["time"].as_str().map(str::to_owned),
            };
            managed.entries.insert(manager, entry);
        }
        Ok(managed)
    }

    /// As `metadata.managedFields`, in the order of a kube-apiserver.
    pub fn to_json(&self) -> Value {
        let mut entries: Vec<(&Manager, &Entry)> = self.entries.iter().collect();
        entries.sort_by(|(a, one), (b, other)| {
            let by = |manager: &Manager| {
                (
                    manager.operation,
                    manager.name.clone(),
                    manager.subresource.clone(),
                )
            };
            let ((operation, name, subresource), (of_b, name_b, subresource_b)) = (by(a), by(b));
            operation
                .cmp(&of_b)
                .then_with(|| one.time.cmp(&other.time))
                .then_with(|| name.cmp(&name_b))
                .then_with(|| one.api_version.cmp(&other.api_version))
                .then_with(|| subresource.cmp(&subresource_b))
        });
        let entries = entries.into_iter().map(|(manager, entry)| {
            let mut shown = json!({
                "operation": manager.operation.as_str(),
                "apiVersion": entry.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_json(),
            });
            let texts = [("manager", &manager.name), ("subresource", &manager.subresource)];
            for (field, text) in texts
                .into_iter()
                .chain(entry.time.as_ref().map(|time| ("time", time)))
            {
                if !text.is_empty() {
                    shown[field] = text.as_str().into();
                }
            }
            shown
        });
        entries.collect()
    }

    pub(super) fn keep_owners(&mut self) {
        self.entries.retain(|_, entry| !entry.fields.is_empty());
    }
}

/// What stands in `metadata.managedFields` makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidManagedFields(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_applies_comes_first_and_then_who_wrote_first() {
        let entry = |manager: &str, operation: &str, time: &str, field: &str| {
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": {field: {}}})
        };
        let sorted = json!([
            entry("z", "Apply", "2026-08-01T10:00:00Z", "f:a"),
            entry("y", "Update", "2026-08-01T10:00:00Z", "f:b"),
            entry("x", "Update", "2026-08-01T10:00:01Z", "f:c"),
        ]);
        let mut shuffled = sorted.as_array().unwrap().clone();
        shuffled.reverse();
        let managed = Managed::from_json(&Value::Array(shuffled)).unwrap();
        assert_eq!(managed.to_json(), sorted);
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused() {
        let good = json!({"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}});
        assert!(Managed::from_json(&json!([good])).is_ok());
        for (field, value) in [
            ("operation", "Delete"),
            ("apiVersion", ""),
            ("fieldsType", ""),
            ("fieldsType", "FieldsV9"),
        ] {
            let mut bad = good.clone();
            bad[field] = value.into();
            assert!(Managed::from_json(&json!([bad])).is_err(), "{field}");
        }
        assert!(Managed::is_reset(&json!([])) && Managed::is_reset(&json!([{}])));
        assert!(!Managed::is_reset(&Value::Null) && !Managed::is_reset(&json!([good])));
    }
}
