//! One step of a path into an object, as `FieldsV1` writes it.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// A step of a path.
#[derive(Debug, Clone)]
pub enum Element {
    /// `f:name`: a field of a struct, or a key of a map.
    Field(Box<str>),
    /// `k:{…}`: the element of a list that has these values in its key fields, which are in the order of their names.
    Key(Vec<(Box<str>, Value)>),
    /// `v:…`: the element of a set that is this value.
    Value(Value),
    /// `i:n`: the element of a list at this place.
    Index(i64),
}

impl Element {
    /// A field of a struct, or a key of a map.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// As a key of `FieldsV1`.
    pub fn encode(&self) -> String {
        match self {
            // Most are fields, and every object has many.
            Self::Field(name) => ["f:", name].concat(),
            // A pod has dozens of them too.
            Self::Key(fields) => {
                let mut text = String::from("k:");
                for (index, (name, value)) in fields.iter().enumerate() {
                    text.push(if index == 0 { '{' } else { ',' });
                    push_text(&mut text, name);
                    text.push(':');
                    match value {
                        Value::String(value) => push_text(&mut text, value),
                        value => text.push_str(&value.to_string()),
                    }
                }
                text.push_str(if fields.is_empty() { "{}" } else { "}" });
                text
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a key of `FieldsV1`. None for a kind of step that is not known: a newer server may know what it is.
    pub fn decode(text: &str) -> Result<Option<Self>, InvalidElement> {
        let invalid = || InvalidElement(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(invalid)?;
        let json = || serde_json::from_str::<Value>(rest).map_err(|_| invalid());
        Ok(Some(match kind {
            "f" => Self::field(rest),
            "k" => match json()? {
                Value::Object(fields) => Self::Key(key(fields)),
                _ => return Err(invalid()),
            },
            "v" => Self::Value(json()?),
            "i" => Self::Index(rest.parse().map_err(|_| invalid())?),
            _ => return Ok(None),
        }))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// As conflicts name it: `.spec`, `[name="main"]`, `[="a"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(one), Self::Field(other)) => one.cmp(other),
            (Self::Key(one), Self::Key(other)) => {
                let fields = one
                    .iter()
                    .zip(other)
                    .map(|((name, value), (other, other_value))| {
                        name.cmp(other).then_with(|| compare(value, other_value))
                    });
                let different = fields.into_iter().find(|order| order.is_ne());
                different.unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (Self::Value(one), Self::Value(other)) => compare(one, other),
            (Self::Index(one), Self::Index(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// The text is no step of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parsing key as path element: {0:?}")]
pub struct InvalidElement(String);

/// A key of an element, in the order of its names.
fn key(fields: Map<String, Value>) -> Vec<(Box<str>, Value)> {
    // A map of serde_json is in that order; this does not rely on it.
    let mut fields: Vec<(Box<str>, Value)> = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// Adds a text as JSON.
fn push_text(to: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        to.push_str(&Value::from(text).to_string());
    }
}

/// A total order of values: numbers, texts, booleans, lists, maps, null. Numbers are equal however they are written.
pub(super) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a
                .as_f64()
                .unwrap_or_default()
                .total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let different = a
                .iter()
                .zip(b)
                .map(|(a, b)| compare(a, b))
                .find(|order| order.is_ne());
            different.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let fields = a
                .iter()
                .zip(b)
                .map(|((a, x), (b, y))| a.cmp(b).then_with(|| compare(x, y)));
            let different = fields.into_iter().find(|order| order.is_ne());
            different.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

/// Whether two values are the same to whoever merges them.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    one == other || compare(one, other).is_eq()
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_written_as_they_are_read() {
        for text in [
            "f:spec",
            "f:a.b/c:d",
            r#"k:{"containerPort":80,"protocol":"TCP"}"#,
            r#"k:{"name":"a\"b\\c\nd"}"#,
            r#"v:"a""#,
            "v:1",
            "i:3",
        ] {
            assert_eq!(Element::decode(text).unwrap().unwrap().encode(), text);
        }
        assert_eq!(Element::decode("z:1"), Ok(None), "what a newer server may know");
        for text in ["f", "k:1", "k:{", "v:", "i:x", ""] {
            assert!(Element::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        assert!(same(&json!({"a": [1]}), &json!({"a": [1.0]})));
        assert!(!same(&json!(1), &json!("1")));
        assert_eq!(Element::Value(json!(1)), Element::Value(json!(1.0)));
    }
}
