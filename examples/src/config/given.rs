//! A YAML file as it was given: every value with its place, so that a mistake can be shown where it stands.
//!
//! Read as KubeEdge reads it (`sigs.k8s.io/yaml`): YAML 1.1's `yes` and `on`, merge keys, the first document only; of a key that is
//! given twice the last counts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// Where something was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file: line and column, from 1.
    File(u64, u64),
    /// By an environment variable.
    Variable(String),
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub(super) place: Place,
    pub(super) value: GivenValue,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GivenValue {
    Null,
    Switch(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    List(Vec<Given>),
    /// In the order of the file. A key's place is that of the key, not of its value.
    Map(Vec<(Place, String, Given)>),
}

/// The text is not YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotYaml {
    /// Line and column, where they are known.
    pub(super) place: Option<(u64, u64)>,
    pub(super) reason: String,
}

impl Given {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Result<Self, NotYaml> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = text.as_bytes();
        let mut options = serde_saphyr::options! { with_snippet: false };
        options.duplicate_keys = DuplicateKeyPolicy::LastWins;
        let first = serde_saphyr::read_with_options::<_, Spanned<GivenValue>>(&mut reader, options).next();
        match first {
            None => Ok(Self {
                place: Place::File(1, 1),
                value: GivenValue::Null,
            }),
            Some(Ok(document)) => Ok(document.into()),
            Some(Err(error)) => Err(NotYaml {
                place: error.location().map(|place| (place.line(), place.column())),
                reason: error
                    .without_snippet()
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            }),
        }
    }

    /// Reads the value of an environment variable: as YAML, or as text where that fails.
    pub(super) fn of_variable(name: &str, text: &str) -> Self {
        let place = || Place::Variable(name.to_owned());
        let mut given = Self::parse(text).unwrap_or_else(|_| Self {
            place: place(),
            value: GivenValue::Text(text.to_owned()),
        });
        given.place = place();
        given
    }

    /// The value, as one would write it, for a message.
    pub(super) fn show(&self) -> String {
        match &self.value {
            GivenValue::Null => "nothing".into(),
            GivenValue::Switch(value) => value.to_string(),
            GivenValue::Whole(value) => value.to_string(),
            GivenValue::Real(value) => value.to_string(),
            GivenValue::Text(text) if text.chars().count() > SHOWN_MAX => {
                format!("{:?}…", text.chars().take(SHOWN_MAX).collect::<String>())
            }
            GivenValue::Text(text) => format!("{text:?}"),
            GivenValue::List(_) => "a list".into(),
            GivenValue::Map(_) => "keys and values".into(),
        }
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.value {
            GivenValue::Null => Value::Null,
            GivenValue::Switch(value) => (*value).into(),
            GivenValue::Whole(value) => (*value).into(),
            GivenValue::Real(value) => (*value).into(),
            GivenValue::Text(text) => text.as_str().into(),
            GivenValue::List(items) => items.iter().map(Self::to_json).collect(),
            GivenValue::Map(entries) => entries
                .iter()
                .map(|(_, key, value)| (key.clone(), value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

impl From<Spanned<GivenValue>> for Given {
    fn from(spanned: Spanned<GivenValue>) -> Self {
        Self {
            place: place(spanned.referenced),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for GivenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = GivenValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<GivenValue, E> {
        Ok(GivenValue::Null)
    }

    fn visit_none<E>(self) -> Result<GivenValue, E> {
        Ok(GivenValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<GivenValue, E> {
        Ok(GivenValue::Switch(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<GivenValue, E> {
        Ok(GivenValue::Whole(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<GivenValue, E> {
        i64::try_from(value)
            .map(GivenValue::Whole)
            .map_err(|_| E::custom(format_args!("the number {value} is too large")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<GivenValue, E> {
        Ok(GivenValue::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<GivenValue, E> {
        Ok(GivenValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<GivenValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<GivenValue>>()? {
            items.push(item.into());
        }
        Ok(GivenValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<GivenValue>>()?;
            entries.push((place(key.referenced), key.value, value.into()));
        }
        Ok(GivenValue::Map(entries))
    }
}

fn place(location: Location) -> Place {
    Place::File(location.line(), location.column())
}

/// Characters of a text that a message shows.
const SHOWN_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> serde_json::Value {
        Given::parse(yaml).unwrap().to_json()
    }

    #[test]
    fn every_value_and_every_key_has_its_place() {
        let given = Given::parse("a:\n  b: 1\n  c: [x,\n    yes]\n").unwrap();
        let GivenValue::Map(top) = given.value else {
            panic!()
        };
        let (place, key, inner) = &top[0];
        assert_eq!((place, key.as_str()), (&Place::File(1, 1), "a"));
        let GivenValue::Map(inner) = &inner.value else {
            panic!()
        };
        assert_eq!(
            (&inner[0].0, &inner[0].2.place),
            (&Place::File(2, 3), &Place::File(2, 6))
        );
        let GivenValue::List(items) = &inner[1].2.value else {
            panic!()
        };
        assert_eq!(items[1].place, Place::File(4, 5));
        assert_eq!(items[1].value, GivenValue::Switch(true));
    }

    #[test]
    fn it_is_read_as_kubeedge_reads_it() {
        assert_eq!(json(""), serde_json::Value::Null);
        assert_eq!(
            json("a: 1\na: 2\n"),
            serde_json::json!({ "a": 2 }),
            "the last of two counts"
        );
        assert_eq!(
            json("a: 1\n---\nb: 2\n"),
            serde_json::json!({ "a": 1 }),
            "the first document"
        );
        assert_eq!(
            json("x: &x {a: 1}\ny: {<<: *x, b: off, 7: y}\n"),
            serde_json::json!({ "x": { "a": 1 }, "y": { "a": 1, "b": false, "7": true } })
        );
        assert_eq!(json("\u{feff}a: \"1\"\n"), serde_json::json!({ "a": "1" }));
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let error = Given::parse("a: 1\nb: [\n").unwrap_err();
        assert!(error.place.is_some_and(|(line, _)| line >= 2), "{error:?}");
        let error = Given::parse("a: 1\n  b: 2\n").unwrap_err();
        assert_eq!(error.place.map(|(line, _)| line), Some(2), "{error:?}");
    }
}
