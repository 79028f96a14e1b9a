//! One field of a JSON object, set or taken away.

use serde_json::{Map, Value};

/// Sets a field that is not there.
pub(in crate::cluster::embedded) fn default(value: &mut Value, field: &str, to: Value) {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
        && !to.is_null()
    {
        fields.insert(field.to_owned(), to);
    }
}

/// Sets a field, or takes it away.
pub(in crate::cluster::embedded) fn set(value: &mut Value, field: &str, to: Option<&Value>) {
    if let Some(fields) = value.as_object_mut() {
        match to {
            Some(to) => fields.insert(field.to_owned(), to.clone()),
            None => fields.remove(field),
        };
    }
}
