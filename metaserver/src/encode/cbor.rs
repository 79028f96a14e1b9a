//! JSON as CBOR, as Kubernetes writes it: self-described, texts as byte strings (Kubernetes
//! `apimachinery/pkg/runtime/serializer/cbor`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use hub_core::registry::fields::{Kind, Message, Table};

/// The same value in CBOR.
pub(crate) fn cbor(json: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut out = SELF_DESCRIBED.to_vec();
    document(&mut out, json)?;
    Ok(out)
}

/// An event of a watch: one more item of a sequence.
pub(crate) fn event(kind: &str, object: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut out = SELF_DESCRIBED.to_vec();
    head(&mut out, MAP, 2);
    text(&mut out, "type");
    text(&mut out, kind);
    text(&mut out, "object");
    document(&mut out, object)?;
    Ok(out)
}

fn document(out: &mut Vec<u8>, json: &[u8]) -> serde_json::Result<()> {
    let json: Value = serde_json::from_slice(json)?;
    let field = |name: &str| json[name].as_str().unwrap_or_default();
    let (group_version, kind) = (field("apiVersion"), field("kind"));
    let message = Table::builtin().message(group_version, kind);
    if let (None, Some(item)) = (message, kind.strip_suffix("List"))
        && let (Some(item), Value::Object(fields)) = (Table::builtin().message(group_version, item), &json)
    {
        head(out, MAP, fields.len() as u64);
        for (key, field) in fields {
            text(out, key);
            match field {
                Value::Array(items) => {
                    head(out, ARRAY, items.len() as u64);
                    items
                        .iter()
                        .for_each(|json| value(out, json, Known::Message(item)));
                }
                other => value(out, other, Known::Nothing),
            }
        }
    } else {
        value(out, &json, message.map_or(Known::Nothing, Known::Message));
    }
    Ok(())
}

/// What is known of a value beside its JSON: texts that stand for bytes are told from others.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    Message(&'static Message),
    Bytes,
}

impl Known {
    fn field(self, name: &str) -> Self {
        let Self::Message(message) = self else {
            return self;
        };
        let Some(name) = message.names().iter().find(|known| known.name == name) else {
            return Self::Nothing;
        };
        // A map is known by its values, and so is a list.
        match name.field.kind {
            Kind::Bytes => Self::Bytes,
            Kind::Message(group_version, name) => Self::Message(Table::known(group_version, name)),
            _ => Self::Nothing,
        }
    }
}

fn value(out: &mut Vec<u8>, json: &Value, known: Known) {
    match json {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => head(out, UNSIGNED, number),
            // −1 − n, whose bits are those of n turned over.
            (_, Some(number), _) => head(out, NEGATIVE, !number as u64),
            (.., float) => {
                out.push(0xfb);
                out.extend_from_slice(&float.unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(own) => match (known, STANDARD.decode(own)) {
            (Known::Bytes, Ok(bytes)) => {
                out.push(BASE64_LATER);
                head(out, BYTES, bytes.len() as u64);
                out.extend_from_slice(&bytes);
            }
            _ => text(out, own),
        },
        Value::Array(items) => {
            head(out, ARRAY, items.len() as u64);
            items.iter().for_each(|item| value(out, item, known));
        }
        Value::Object(fields) => {
            head(out, MAP, fields.len() as u64);
            for (key, field) in fields {
                text(out, key);
                value(out, field, known.field(key));
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, BYTES, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The type of an item and its number or length, in as few bytes as it takes.
fn head(out: &mut Vec<u8>, kind: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let (short, rest) = match number {
        0..24 => (number as u8, &[][..]),
        24..0x100 => (24, &bytes[7..]),
        0x100..0x1_0000 => (25, &bytes[6..]),
        0x1_0000..0x1_0000_0000 => (26, &bytes[4..]),
        _ => (27, &bytes[..]),
    };
    out.push(kind | short);
    out.extend_from_slice(rest);
}

/// Tag 55799 (RFC 8949, 3.4.6).
const SELF_DESCRIBED: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Tag 22: bytes that are base64 where they become a text (RFC 8949, 3.4.5.2).
const BASE64_LATER: u8 = 0xd6;

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_as_short_as_they_can_be() {
        for (json, expected) in [
            ("0", &[0x00][..]),
            ("24", &[0x18, 24]),
            ("500", &[0x19, 1, 0xf4]),
            ("-1", &[0x20]),
            ("-500", &[0x39, 1, 0xf3]),
            ("1.5", &[0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
            (
                r#"{"a":["b",null,true]}"#,
                &[0xa1, 0x41, b'a', 0x83, 0x41, b'b', 0xf6, 0xf5],
            ),
        ] {
            assert_eq!(cbor(json.as_bytes()).unwrap()[3..], *expected, "{json}");
        }
    }

    #[test]
    fn what_is_bytes_in_the_kind_is_bytes() {
        let json = r#"{"apiVersion":"v1","kind":"Secret","data":{"data":"AAE="},"type":"AAE="}"#;
        let cbor = cbor(json.as_bytes()).unwrap();
        let has = |bytes: &[u8]| cbor.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"Ddata\xa1Ddata\xd6B\x00\x01") && has(b"DtypeDAAE="));
    }
}
