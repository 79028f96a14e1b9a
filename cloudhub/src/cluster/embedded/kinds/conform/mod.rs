//! Objects of the built-in kinds as Kubernetes' own types hold them: what its decoder refuses is refused, what it does not know
//! falls away, and what its encoder writes for nothing is there.
//!
//! The facts about the fields are those of [`hub_core::registry::fields`].

mod names;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::registry::fields::{Field, Kind, Message, Repeated, Table};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::embedded::values::quantity;
use names::{EITHER, LONG, NULLS};

/// Makes a body what the kind's type is. The fields that it does not have, as paths; or why it cannot be read at all.
pub(in crate::cluster::embedded) fn conform(
    api_version: &str,
    kind: &str,
    value: &mut Value,
    fill: Fill,
) -> Result<Vec<String>, String> {
    let Some(message) = Table::builtin().message(api_version, kind) else {
        return Ok(Vec::new());
    };
    let mut walk = Walk {
        fill,
        path: Vec::new(),
        unknown: Vec::new(),
    };
    match value {
        Value::Object(fields) => walk.message(message, kind, fields)?,
        other => {
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type {}",
                found(other),
                go_name(api_version, kind)
            ));
        }
    }
    Ok(walk.unknown)
}

/// The same with the metadata of an object of a custom kind, which is that of every object.
pub(super) fn metadata(value: &mut Value) -> Result<Vec<String>, String> {
    let Some(Value::Object(fields)) = value.get_mut("metadata") else {
        return Ok(Vec::new());
    };
    let mut walk = Walk {
        fill: Fill::Nothing,
        // As if it stood by itself.
        path: Vec::new(),
        unknown: Vec::new(),
    };
    walk.message(Table::known("meta.k8s.io/v1", "ObjectMeta"), "ObjectMeta", fields)?;
    let unknown = walk.unknown.into_iter();
    Ok(unknown.map(|path| format!("metadata.{path}")).collect())
}

/// What to put where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum Fill {
    /// Nothing: defaults are still to come.
    Nothing,
    /// What Kubernetes' encoder writes: empty messages, and zeros in fields that are always shown.
    Zeros,
}

struct Walk {
    fill: Fill,
    path: Vec<String>,
    unknown: Vec<String>,
}

impl Walk {
    /// `within` is the name of the type, as Go's decoder names it in its errors.
    fn message(
        &mut self,
        message: &'static Message,
        within: &str,
        fields: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let names = message.names();
        let top = self.path.is_empty();
        let known = |key: &str| {
            // Objects say what they are, also the one kind of them that stands within others.
            let typed = (top && within != "ObjectMeta") || within == "PersistentVolumeClaim";
            message.named(key).is_some() || (typed && matches!(key, "kind" | "apiVersion"))
        };
        let mut unknown = Vec::new();
        fields.retain(|key, _| {
            let keep = known(key);
            if !keep {
                unknown.push(key.clone());
            }
            keep
        });
        for key in unknown {
            let path = self.path.iter().chain([&key]).map(String::as_str);
            self.unknown.push(
                path.collect::<Vec<_>>()
                    .join(".")
                    .replace(".[", "[")
                    .replace(KEY, ""),
            );
        }
        for name in names {
            let field = name.field;
            match fields.get_mut(name.name) {
                None | Some(Value::Null)
                    if self.fill == Fill::Zeros && NULLS.contains(&(within, name.name)) =>
                {
                    fields.insert(name.name.to_owned(), Value::Null);
                }
                None | Some(Value::Null) => match self.nothing(field, within)? {
                    Some(nothing) if !is_left_out(within, name.name) => {
                        fields.insert(name.name.to_owned(), nothing);
                    }
                    _ => {
                        fields.remove(name.name);
                    }
                },
                Some(value) => {
                    self.path.push(name.name.to_owned());
                    self.field(field, within, value)?;
                    self.path.pop();
                    let shown = field.keeps_zero
                        || NULLS.contains(&(within, name.name))
                        // No owners at all is something to say: that they be forgotten.
                        || (within, name.name) == ("ObjectMeta", "managedFields");
                    if !shown && is_zero(field, value) {
                        fields.remove(name.name);
                    } else if self.fill == Fill::Zeros
                        && field.repeated != Repeated::Once
                        && is_zero(field, value)
                        && NULLS.contains(&(within, name.name))
                    {
                        // In protobuf, in which Kubernetes keeps its own kinds, an empty list is none.
                        *value = Value::Null;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the encoder writes where there is nothing; None if that is nothing.
    fn nothing(&mut self, field: &Field, within: &str) -> Result<Option<Value>, String> {
        if field.pointer || self.fill == Fill::Nothing {
            return Ok(None);
        }
        Ok(match (field.repeated, field.kind) {
            (Repeated::Once, Kind::Message(group_version, name)) => {
                let mut fields = Map::new();
                // No required message holds itself, or Go could not lay it out.
                self.path.push(within.to_owned());
                self.message(Table::known(group_version, name), name, &mut fields)?;
                self.path.pop();
                Some(Value::Object(fields))
            }
            (Repeated::Once, Kind::Time | Kind::MicroTime | Kind::Raw) => Some(Value::Null),
            (Repeated::Once, Kind::IntOrString) => Some(0.into()),
            (Repeated::Once, Kind::Quantity) => Some("0".into()),
            _ if !field.keeps_zero => None,
            (Repeated::Once, Kind::Text | Kind::Bytes) => Some("".into()),
            (Repeated::Once, Kind::Int | Kind::Double) => Some(0.into()),
            (Repeated::Once, Kind::Bool) => Some(false.into()),
            _ => Some(Value::Null),
        })
    }

    fn field(&mut self, field: &Field, within: &str, value: &mut Value) -> Result<(), String> {
        match (field.repeated, &mut *value) {
            (Repeated::Once, value) => self.one(field.kind, within, value),
            (Repeated::List, Value::Array(elements)) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.one(field.kind, within, element)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Repeated::Map, Value::Object(entries)) => {
                for (key, entry) in entries {
                    self.path.push(format!("{KEY}{key}"));
                    self.one(field.kind, within, entry)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Repeated::List, other) => Err(self.wrong(within, other, &format!("[]{}", go_type(field.kind)))),
            (Repeated::Map, other) => {
                Err(self.wrong(within, other, &format!("map[string]{}", go_type(field.kind))))
            }
        }
    }

    fn one(&mut self, kind: Kind, within: &str, value: &mut Value) -> Result<(), String> {
        if value.is_null() {
            *value = match kind {
                Kind::Text | Kind::Bytes => "".into(),
                Kind::Int | Kind::Double => 0.into(),
                Kind::Bool => false.into(),
                Kind::Message(..) => Value::Object(Map::new()),
                Kind::Quantity => "0".into(),
                _ => return Ok(()),
            };
        }
        match (kind, &mut *value) {
            (Kind::Bool, Value::Bool(_))
            | (Kind::Double, Value::Number(_))
            | (Kind::Text, Value::String(_)) => Ok(()),
            (Kind::Int, Value::Number(number))
                if number.as_i64().is_some_and(|number| {
                    i32::try_from(number).is_ok() || self.int() == "int64" || self.may_be_long()
                }) =>
            {
                Ok(())
            }
            (Kind::Int, Value::Number(number)) => {
                let shown = format!("number {number}");
                Err(self.wrong_as(within, &shown, self.int()))
            }
            (Kind::Bytes, Value::String(text)) => match BASE64.decode(text.as_bytes()) {
                Ok(_) => Ok(()),
                Err(
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _),
                ) => Err(format!("illegal base64 data at input byte {at}")),
                Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() & !3)),
            },
            (Kind::Time, Value::String(text)) => {
                *text = seconds(text)?;
                Ok(())
            }
            (Kind::MicroTime, Value::String(text)) => micro_time(text),
            (Kind::Quantity, Value::String(text)) => {
                *text = quantity::canonical(text)?;
                Ok(())
            }
            (Kind::Quantity, Value::Number(number)) => {
                let canonical = quantity::canonical(&number.to_string())?;
                *value = canonical.into();
                Ok(())
            }
            (Kind::IntOrString, Value::String(_) | Value::Number(_)) | (Kind::Raw, _) => Ok(()),
            (Kind::Texts, Value::Array(_)) => Ok(()),
            (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings, Value::Object(fields)) => {
                let schema = Table::known("apiextensions.k8s.io/v1", "JSONSchemaProps");
                self.message(schema, "JSONSchemaProps", fields)
            }
            (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings, _) => Ok(()),
            (Kind::Message(group_version, name), Value::Object(fields)) => {
                self.message(Table::known(group_version, name), name, fields)
            }
            (Kind::Int, other) => Err(self.wrong_as(within, found(other), self.int())),
            (Kind::IntOrString, other) => Err(self.wrong_as(within, found(other), "int32")),
            (_, other) => {
                let wrong = found(other);
                Err(self.wrong_as(within, wrong, &go_type(kind)))
            }
        }
    }

    /// How many bits a whole number of this field has in Go.
    fn int(&self) -> &'static str {
        let mut steps = self.path.iter().rev();
        let field = steps.find(|step| !step.starts_with('['));
        if field.is_some_and(|field| LONG.contains(&field.as_str())) {
            "int64"
        } else {
            "int32"
        }
    }

    /// Some names are those of fields of both lengths.
    fn may_be_long(&self) -> bool {
        let last = self.path.last();
        last.is_some_and(|field| EITHER.contains(&field.as_str()))
    }

    fn wrong(&self, within: &str, value: &Value, wanted: &str) -> String {
        self.wrong_as(within, found(value), wanted)
    }

    fn wrong_as(&self, within: &str, found: &str, wanted: &str) -> String {
        let path: Vec<&str> = self
            .path
            .iter()
            .map(String::as_str)
            .filter(|step| !step.starts_with(['[', KEY]))
            .collect();
        format!(
            "json: cannot unmarshal {found} into Go struct field {within}.{} of type {wanted}",
            path.join(".")
        )
    }
}

/// Before a key of a map in a path: Go's decoder does not tell keys.
const KEY: char = '\u{0}';

/// The one struct that Kubernetes leaves out where it is zero (`omitzero`): all others are written, empty.
fn is_left_out(within: &str, name: &str) -> bool {
    within == "ObjectMeta" && name == "creationTimestamp"
}

fn is_zero(field: &Field, value: &Value) -> bool {
    match (field.repeated, field.kind) {
        (Repeated::List, _) => value.as_array().is_some_and(Vec::is_empty),
        (Repeated::Map, _) => value.as_object().is_some_and(Map::is_empty),
        (Repeated::Once, Kind::Text | Kind::Bytes) => value == "",
        (Repeated::Once, Kind::Bool) => *value == false,
        (Repeated::Once, Kind::Int | Kind::Double) => value.as_f64() == Some(0.0),
        _ => false,
    }
}

pub(in crate::cluster::embedded) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(kind: Kind) -> String {
    match kind {
        Kind::Bool => "bool".into(),
        Kind::Int => "int32".into(),
        Kind::Double => "float64".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Message(group_version, name) => go_name(group_version, name),
        _ => "string".into(),
    }
}

/// `v1.Pod`.
fn go_name(group_version: &str, name: &str) -> String {
    let version = group_version.rsplit('/').next().unwrap_or_default();
    format!("{version}.{name}")
}

/// A time in whole seconds, which is all that Kubernetes keeps of most.
fn seconds(text: &str) -> Result<String, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })?;
    let time = time.to_offset(time::UtcOffset::UTC);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    Ok(time.format(&Rfc3339).unwrap_or_else(|_| text.to_owned()))
}

/// A time with exactly six digits of a second.
fn micro_time(text: &str) -> Result<(), String> {
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    let wrong = |rest: &str, wanted: &str| {
        Err(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {wanted:?}"
        ))
    };
    if OffsetDateTime::parse(text, &Rfc3339).is_err() {
        return wrong(text, "2006");
    }
    let rest = text.get(19..).unwrap_or_default();
    let digits = rest.strip_prefix('.').unwrap_or_default();
    let end = digits.find(|letter: char| !letter.is_ascii_digit());
    if end == Some(6) {
        Ok(())
    } else {
        wrong(rest, ".000000")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conformed(kind: &str, mut value: Value) -> (Value, Vec<String>) {
        let unknown = conform("v1", kind, &mut value, Fill::Zeros).unwrap();
        (value, unknown)
    }

    #[test]
    fn what_a_type_does_not_have_falls_away_and_is_named() {
        let (value, unknown) = conformed(
            "Pod",
            json!({"kind": "Pod", "metadata": {"name": "a", "labels": {}}, "spec": {"containers": [{"name": "c", "odd": 1}]}, "bogus": 1}),
        );
        assert_eq!(unknown, ["bogus", "spec.containers[0].odd"]);
        assert_eq!(
            value,
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}})
        );
    }

    #[test]
    fn what_an_encoder_writes_for_nothing_is_there() {
        let (value, _) = conformed("Event", json!({"metadata": {"name": "e"}, "count": 0}));
        assert_eq!(
            value,
            json!({"metadata": {"name": "e"}, "involvedObject": {}, "source": {}, "eventTime": null, "firstTimestamp": null,
                "lastTimestamp": null, "reportingComponent": "", "reportingInstance": ""})
        );
    }

    #[test]
    fn a_wrong_type_is_refused_in_the_words_of_a_real_server() {
        let refused =
            |kind: &str, mut value: Value| conform("v1", kind, &mut value, Fill::Nothing).unwrap_err();
        assert_eq!(
            refused("ConfigMap", json!({"data": {"a": 1}})),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        assert_eq!(
            refused("Pod", json!({"spec": {"containers": [{"image": 1}]}})),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
        );
        let lease = conform(
            "coordination.k8s.io/v1",
            "Lease",
            &mut json!({"spec": {"renewTime": "2026-08-01T10:00:00Z"}}),
            Fill::Nothing,
        );
        assert_eq!(
            lease.unwrap_err(),
            r#"parsing time "2026-08-01T10:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
    }
}
