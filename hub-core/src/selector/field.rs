//! Field selectors: `path=value` terms, joined by commas.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::InvalidSelector;

/// A parsed field selector: all terms must hold. The empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads `a.b=v,c!=v` with backslash escapes (Kubernetes `apimachinery/pkg/fields/selector.go`).
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut terms = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equal, value)) = split_term(term) else {
                return Err(InvalidSelector(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            if field.is_empty() && value.is_empty() {
                // Says nothing, and is no field that nobody knows.
                continue;
            }
            terms.push(Term {
                field: field.to_owned(),
                equal,
                value: unescape(value).map_err(InvalidSelector)?,
            });
        }
        Ok(Self { terms })
    }

    /// The field paths it names.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| term.field.as_str())
    }

    /// Whether it demands all that another one does, and perhaps more.
    pub fn demands(&self, other: &Self) -> bool {
        other.terms.iter().all(|term| self.terms.contains(term))
    }

    /// The value that a field must have, where the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }

    /// Whether an object (its JSON) satisfies it. An absent field is the empty text; `status.podIP` and the like are read from
    /// the body by path, numbers and booleans by their JSON text.
    ///
    /// Fields of built-in kinds that Kubernetes prints from a number or a boolean are `0` and `false` where they are absent.
    pub fn matches(&self, body: &[u8]) -> bool {
        self.terms
            .iter()
            .all(|term| (field(body, &term.field) == term.value) == term.equal)
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether it must be equal, and value: split at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let rest = &term[at..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                next => {
                    let sequence: String = ['\\'].into_iter().chain(next).collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    ));
                }
            },
            // The real server prints the code of the character.
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

fn field<'a>(body: &'a [u8], name: &str) -> Cow<'a, str> {
    match name {
        "spec.host" => find(body, "spec.nodeName").unwrap_or_default(),
        "source" => find(body, "source.component")
            .filter(|source| !source.is_empty())
            .or_else(|| find(body, "reportingComponent"))
            .unwrap_or_default(),
        "spec.hostNetwork" | "spec.unschedulable" => find(body, name).unwrap_or("false".into()),
        "status.replicas" | "status.successful" => {
            let path = if name == "status.successful" {
                "status.succeeded"
            } else {
                name
            };
            find(body, path).unwrap_or("0".into())
        }
        _ => find(body, name).unwrap_or_default(),
    }
}

fn find<'a>(body: &'a [u8], path: &str) -> Option<Cow<'a, str>> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    // What is no JSON has no fields.
    Find { path: Some(path) }.deserialize(&mut reader).ok().flatten()
}

/// Steps through one JSON value to the scalar at a path and over everything else. No path left: here it is.
#[derive(Clone, Copy)]
struct Find<'p> {
    path: Option<&'p str>,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Find<'_> {
    fn here<'de>(self, text: impl fmt::Display) -> Option<Cow<'de, str>> {
        self.path.is_none().then(|| Cow::Owned(text.to_string()))
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let below = self.path.and_then(|path| {
                let rest = path.strip_prefix(&*key)?;
                if rest.is_empty() {
                    Some(Find { path: None })
                } else {
                    rest.strip_prefix('.').map(|rest| Find { path: Some(rest) })
                }
            });
            match below {
                Some(below) => found = map.next_value_seed(below)?.or(found),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.path.is_none().then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.here(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.here(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.here(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.here(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.here(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POD: &[u8] = br#"{"kind":"Pod","metadata":{"name":"web","namespace":"shop","labels":{"a":"b"}},
        "spec":{"nodeName":"edge-1","priority":7,"hostNetwork":true,"x":[{"y":1}]},"status":{"phase":"Run\u006eing"}}"#;

    fn matches(selector: &str, body: &[u8]) -> bool {
        FieldSelector::parse(selector).unwrap().matches(body)
    }

    #[test]
    fn fields_are_read_from_the_body_by_path() {
        for selector in [
            "",
            "metadata.name=web",
            "metadata.name==web,metadata.namespace!=other",
            "spec.nodeName=edge-1",
            "spec.host=edge-1",
            "spec.priority=7",
            "spec.hostNetwork=true",
            "status.phase=Running",
            "status.absent=",
            "spec.x=",
        ] {
            assert!(matches(selector, POD), "{selector}");
        }
        for selector in [
            "metadata.name=we",
            "metadata=web",
            "spec.node=edge-1",
            "status.phase!=Running",
            "name=web",
        ] {
            assert!(!matches(selector, POD), "{selector}");
        }
    }

    #[test]
    fn absent_numbers_and_booleans_of_built_in_kinds_have_their_zero_value() {
        assert!(matches("spec.hostNetwork=false,spec.unschedulable!=true", b"{}"));
        assert!(matches("status.replicas=0,status.successful=0", b"{}"));
        assert!(matches("status.successful=2", br#"{"status":{"succeeded":2}}"#));
        assert!(matches(
            "source=kubelet",
            br#"{"reportingComponent":"kubelet","source":{}}"#
        ));
    }

    #[test]
    fn values_may_be_escaped() {
        assert!(matches(
            r"metadata.name=a\,b\=c\\d",
            br#"{"metadata":{"name":"a,b=c\\d"}}"#
        ));
        let fault = |text| FieldSelector::parse(text).unwrap_err().0;
        assert_eq!(
            fault("status.phase>1"),
            "invalid selector: 'status.phase>1'; can't understand 'status.phase>1'"
        );
        assert_eq!(
            fault(r"a=b\c"),
            r"invalid field selector: invalid escape sequence: \c"
        );
        assert_eq!(
            fault("a=b=c"),
            "invalid field selector: unescaped character in value: 61"
        );
    }

    #[test]
    fn the_fields_of_a_selector_can_be_checked_before_it_is_used() {
        let selector = FieldSelector::parse("a.b=1,c!=2,,").unwrap();
        assert_eq!(selector.fields().collect::<Vec<_>>(), ["a.b", "c"]);
        assert_eq!(
            (selector.required("a.b"), selector.required("c")),
            (Some("1"), None)
        );
        assert!(!selector.is_empty() && FieldSelector::parse("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_and_no_body_panics(text in "[ -~\u{e4}]{0,24}", body in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(selector) = FieldSelector::parse(&text) {
                selector.matches(&body);
            }
        }
    }
}
