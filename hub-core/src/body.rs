//! The bytes of an object as an API server sends them, and as we keep them.
//!
//! Spec and status are copied as they came. `metadata.managedFields` is left out: it is often half of an object, and no node asks for
//! it. List items of built-in kinds come without `kind` and `apiVersion`; they are put in.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The body that is kept. `api_version` and `kind` are used where the object does not name its own. Fails on what is no object.
pub fn kept(raw: &str, api_version: &str, kind: &str) -> Result<Bytes, serde_json::Error> {
    let Entries(entries) = serde_json::from_str(raw)?;
    let mut object = Writer::new(raw.len() + 64);
    for (wanted, default) in [("kind", kind), ("apiVersion", api_version)] {
        match entries.iter().find(|(key, _)| key == wanted) {
            Some((_, value)) => object.entry(wanted, value.get()),
            None => object.entry(wanted, &serde_json::to_string(default)?),
        }
    }
    for (key, value) in &entries {
        match &**key {
            "kind" | "apiVersion" => {}
            "metadata" => {
                let Entries(metadata) = serde_json::from_str(value.get())?;
                let mut kept = Writer::new(value.get().len());
                for (key, value) in metadata.iter().filter(|(key, _)| key != "managedFields") {
                    kept.entry(key, value.get());
                }
                let kept = kept.finish();
                object.key("metadata");
                object.out.extend_from_slice(&kept);
            }
            _ => object.entry(key, value.get()),
        }
    }
    let mut out = object.finish();
    out.shrink_to_fit();
    Ok(out.into())
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        Self { out }
    }

    fn key(&mut self, key: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        // A vector takes all that is written to it.
        let _ = serde_json::to_writer(&mut self.out, key);
        self.out.push(b':');
    }

    fn entry(&mut self, key: &str, value: &str) {
        self.key(key);
        let _ = self.out.write_all(value.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// The entries of a JSON object in their order, values untouched.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: &str) {
        let kept = kept(raw, "v1", "Pod").unwrap();
        assert_eq!(std::str::from_utf8(&kept).unwrap(), expected);
    }

    #[test]
    fn managed_fields_are_left_out_and_all_else_is_as_it_came() {
        check(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","managedFields":[{"f":"}"}],"uid":"u"},"spec":{"x" : 1.0e0,"x":2},"s\u0070":"\u0041"}"#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u"},"spec":{"x" : 1.0e0,"x":2},"sp":"\u0041"}"#,
        );
    }

    #[test]
    fn what_a_list_leaves_out_is_put_in() {
        check(
            r#" {"metadata":{"name":"a"}} "#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#,
        );
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for odd in [
            "",
            "[]",
            "7",
            r#"{"metadata":[]}"#,
            r#"{"metadata":null}"#,
            r#"{"a":1"#,
        ] {
            assert!(kept(odd, "v1", "Pod").is_err(), "{odd}");
        }
    }
}
