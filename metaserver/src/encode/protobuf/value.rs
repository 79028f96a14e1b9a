//! Single values, those among them whose JSON has a form of its own: times, quantities, raw JSON, either-or.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::message::Encoder;
use super::wire;
use hub_core::registry::fields::{Kind, Table};

/// Writes one value with its tag. False, and nothing is written that counts, where the JSON is `null`.
pub(super) struct ValueSeed<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) kind: Kind,
    pub(super) number: u32,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        if self.kind != Kind::Raw {
            return from.deserialize_any(self);
        }
        let raw = <&RawValue>::deserialize(from)?.get();
        if raw == "null" {
            return Ok(false);
        }
        let out = &mut self.encoder.out;
        let content = wire::open(out, self.number);
        wire::bytes(out, 1, compact(raw).as_bytes());
        wire::close(out, content);
        Ok(true)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Message(_, name) => write!(f, "a {name}"),
            kind => write!(f, "a value of type {kind:?}"),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Bool => wire::int(out, self.number, value.into()),
            Kind::SchemaOrBool => wire::bytes(out, self.number, &[0x08, value.into()]),
            _ => return Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
        Ok(true)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Int => wire::int(out, self.number, value),
            Kind::Double => return self.visit_f64(value as f64),
            Kind::Quantity => return self.visit_str(&value.to_string()),
            Kind::IntOrString => {
                let content = wire::open(out, self.number);
                wire::int(out, 1, 0);
                wire::int(out, 2, value);
                wire::bytes(out, 3, b"");
                wire::close(out, content);
            }
            _ => return Err(E::invalid_type(Unexpected::Signed(value), &self)),
        }
        Ok(true)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match self.kind {
            Kind::Double => {
                let out = &mut self.encoder.out;
                wire::tag(out, self.number, wire::FIXED64);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
                Ok(true)
            }
            Kind::Quantity => self.visit_str(&value.to_string()),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        let invalid = |this: &Self| E::invalid_value(Unexpected::Str(text), this);
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Text => wire::bytes(out, self.number, text.as_bytes()),
            Kind::Bytes => {
                let Ok(bytes) = STANDARD.decode(text) else {
                    return Err(invalid(&self));
                };
                wire::bytes(out, self.number, &bytes);
            }
            Kind::Quantity => {
                let content = wire::open(out, self.number);
                wire::bytes(out, 1, text.as_bytes());
                wire::close(out, content);
            }
            Kind::IntOrString => {
                let content = wire::open(out, self.number);
                wire::int(out, 1, 1);
                wire::int(out, 2, 0);
                wire::bytes(out, 3, text.as_bytes());
                wire::close(out, content);
            }
            Kind::Time | Kind::MicroTime => {
                let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) else {
                    return Err(invalid(&self));
                };
                let content = wire::open(out, self.number);
                if time.unix_timestamp() != NO_TIME {
                    // Seconds are all that a time has in JSON, and microseconds a time with them.
                    let micros = if self.kind == Kind::MicroTime {
                        time.microsecond()
                    } else {
                        0
                    };
                    wire::int(out, 1, time.unix_timestamp());
                    wire::int(out, 2, i64::from(micros) * 1000);
                }
                wire::close(out, content);
            }
            _ => return Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let Self { encoder, .. } = self;
        let (kind, number) = match self.kind {
            Kind::Texts => (Kind::Text, 1),
            Kind::SchemaOrStrings => (Kind::Text, 2),
            Kind::SchemaOrArray => (SCHEMA, 2),
            kind => return Err(A::Error::custom(format!("unexpected list in place of {kind:?}"))),
        };
        let content = wire::open(&mut encoder.out, self.number);
        while let Some(present) = list.next_element_seed(ValueSeed {
            encoder,
            kind,
            number,
        })? {
            if !present {
                encoder.zero(number, kind);
            }
        }
        wire::close(&mut encoder.out, content);
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Self { encoder, number, .. } = self;
        let either = wire::open(&mut encoder.out, number);
        let (group_version, name, inner) = match self.kind {
            Kind::Message(group_version, name) => (group_version, name, None),
            Kind::SchemaOrArray | Kind::SchemaOrStrings => (SCHEMAS, SCHEMA_NAME, Some(1)),
            Kind::SchemaOrBool => {
                wire::int(&mut encoder.out, 1, 1);
                (SCHEMAS, SCHEMA_NAME, Some(2))
            }
            kind => {
                return Err(A::Error::custom(format!(
                    "unexpected object in place of {kind:?}"
                )));
            }
        };
        let content = inner.map(|number| wire::open(&mut encoder.out, number));
        encoder.fields(Table::known(group_version, name), map)?;
        if let Some(content) = content {
            wire::close(&mut encoder.out, content);
        }
        wire::close(&mut encoder.out, either);
        Ok(true)
    }
}

/// The JSON without the space between its tokens, of which there is rarely any.
fn compact(json: &str) -> Cow<'_, str> {
    let (mut in_string, mut escaped) = (false, false);
    let mut kept = |c: char| {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            return true;
        }
        in_string = c == '"';
        !c.is_ascii_whitespace()
    };
    match json.find(|c| !kept(c)) {
        None => Cow::Borrowed(json),
        // Outside of strings, as the first space is.
        Some(at) => {
            let rest = json[at + 1..].chars().filter(|c| kept(*c));
            Cow::Owned(json[..at].chars().chain(rest).collect())
        }
    }
}

/// Go's zero time, the first second of the year 1.
const NO_TIME: i64 = -62_135_596_800;

const SCHEMAS: &str = "apiextensions.k8s.io/v1";
const SCHEMA_NAME: &str = "JSONSchemaProps";
const SCHEMA: Kind = Kind::Message(SCHEMAS, SCHEMA_NAME);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_space_between_tokens_goes() {
        assert!(matches!(compact(r#"{"a b":"c\" d"}"#), Cow::Borrowed(_)));
        assert_eq!(
            compact("{ \"a b\": \"c\\\" d\",\n \"e\":1}"),
            r#"{"a b":"c\" d","e":1}"#
        );
    }
}
