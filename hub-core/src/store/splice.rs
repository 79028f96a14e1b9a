//! Writing another `metadata.resourceVersion` into an object's JSON, leaving every other byte as it is.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The body with `metadata.resourceVersion` replaced by `version`, or added where it is missing. All other bytes stay.
///
/// `version` is written between quotes as it is: it must be a plain number. A body that is no JSON object, or has no object
/// as its metadata, comes back unchanged.
pub fn with_resource_version(body: &Bytes, version: u64) -> Bytes {
    let Some((range, before, after)) = place(body) else {
        return body.clone();
    };
    let digits = version.to_string();
    let mut spliced =
        Vec::with_capacity(body.len() - range.len() + before.len() + digits.len() + after.len());
    spliced.extend_from_slice(&body[..range.start]);
    spliced.extend_from_slice(before.as_bytes());
    spliced.extend_from_slice(digits.as_bytes());
    spliced.extend_from_slice(after.as_bytes());
    spliced.extend_from_slice(&body[range.end..]);
    spliced.into()
}

/// Which bytes to replace, and what stands before and after the digits.
fn place(body: &[u8]) -> Option<(Range<usize>, &'static str, &'static str)> {
    // A derived `Deserialize` would also take an array for a struct.
    let open = body.iter().position(|b| !b.is_ascii_whitespace())?;
    if body[open] != b'{' {
        return None;
    }
    let document: Document<'_> = serde_json::from_slice(body).ok()?;
    let Some(metadata) = document.metadata else {
        let after = if is_empty(&body[open..]) { "\"}" } else { "\"}," };
        return Some((open + 1..open + 1, "\"metadata\":{\"resourceVersion\":\"", after));
    };
    let metadata = metadata.get();
    let at = offset(body, metadata);
    if metadata == "null" {
        return Some((at..at + metadata.len(), "{\"resourceVersion\":\"", "\"}"));
    }
    if !metadata.starts_with('{') {
        return None;
    }
    let fields: Metadata<'_> = serde_json::from_str(metadata).ok()?;
    Some(match fields.resource_version {
        Some(value) => {
            let at = offset(body, value.get());
            (at..at + value.get().len(), "\"", "\"")
        }
        None => {
            let after = if is_empty(metadata.as_bytes()) {
                "\""
            } else {
                "\","
            };
            (at + 1..at + 1, "\"resourceVersion\":\"", after)
        }
    })
}

/// Where a part borrowed from `whole` begins in it.
fn offset(whole: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Whether a JSON object has no fields.
fn is_empty(object: &[u8]) -> bool {
    object[1..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}')
}

/// A copy of a body without `metadata.managedFields`, which is often half of an object, and which no node asks for. The same bytes where
/// there are none.
pub(super) fn without_managed_fields(body: &Bytes) -> Bytes {
    let cut = managed_fields(body);
    let Some(cut) = cut else { return body.clone() };
    let mut kept = Vec::with_capacity(body.len() - cut.len());
    kept.extend_from_slice(&body[..cut.start]);
    kept.extend_from_slice(&body[cut.end..]);
    kept.into()
}

/// The bytes of the field, with the comma that goes with it.
fn managed_fields(body: &[u8]) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Managed<'a> {
        #[serde(borrow, default, rename = "managedFields", deserialize_with = "present")]
        fields: Option<&'a RawValue>,
    }
    if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    let document: Document<'_> = serde_json::from_slice(body).ok()?;
    let metadata = document
        .metadata
        .filter(|metadata| metadata.get().starts_with('{'))?;
    let value = serde_json::from_str::<Managed<'_>>(metadata.get()).ok()?.fields?;
    let mut end = offset(body, value.get()) + value.get().len();
    let before = body[..offset(body, value.get())]
        .trim_ascii_end()
        .strip_suffix(b":")?;
    let before = before.trim_ascii_end().strip_suffix(KEY)?;
    let mut start = before.len();
    let after = body[end..].trim_ascii_start();
    if after.starts_with(b",") {
        end = body.len() - after.len() + 1;
    } else if let Some(before) = before.trim_ascii_end().strip_suffix(b",") {
        start = before.len();
    }
    Some(start..end)
}

const KEY: &[u8] = b"\"managedFields\"";

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    resource_version: Option<&'a RawValue>,
}

/// Keeps `null` apart from absence: a field that is there must be replaced, not doubled.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn check(body: &str, expected: &str) {
        let spliced = with_resource_version(&Bytes::copy_from_slice(body.as_bytes()), 42);
        assert_eq!(std::str::from_utf8(&spliced).unwrap(), expected);
    }

    #[test]
    fn managed_fields_are_cut_out_wherever_they_stand() {
        let cut = |body: &str| without_managed_fields(&Bytes::copy_from_slice(body.as_bytes()));
        for (body, expected) in [
            (
                r#"{"metadata":{"managedFields":[{"a":"}"}],"name":"x"}}"#,
                r#"{"metadata":{"name":"x"}}"#,
            ),
            (
                r#"{"metadata":{"a":1 , "managedFields" : [ ] , "name":"x"}}"#,
                r#"{"metadata":{"a":1 ,  "name":"x"}}"#,
            ),
            (
                r#"{"metadata":{"name":"x","managedFields":[]},"managedFields":1}"#,
                r#"{"metadata":{"name":"x"},"managedFields":1}"#,
            ),
            (r#"{"metadata":{"managedFields":null}}"#, r#"{"metadata":{}}"#),
        ] {
            assert_eq!(std::str::from_utf8(&cut(body)).unwrap(), expected);
        }
        for same in [
            r#"{"metadata":{"name":"managedFields"}}"#,
            "[]",
            "",
            r#"{"metadata":null}"#,
        ] {
            assert_eq!(cut(same), same);
        }
    }

    #[test]
    fn only_the_version_s_bytes_change() {
        check(
            r#"{ "a":"resourceVersion", "metadata": {"name":"x" , "resourceVersion" : "7", "z":1.0e3} }"#,
            r#"{ "a":"resourceVersion", "metadata": {"name":"x" , "resourceVersion" : "42", "z":1.0e3} }"#,
        );
        check(
            r#"{"spec":{"metadata":{"resourceVersion":"1"}},"metadata":{"resourceVersion":null}}"#,
            r#"{"spec":{"metadata":{"resourceVersion":"1"}},"metadata":{"resourceVersion":"42"}}"#,
        );
        check(
            r#"{"metadata":{"ownerReferences":[{"resourceVersion":"1"}]}}"#,
            r#"{"metadata":{"resourceVersion":"42","ownerReferences":[{"resourceVersion":"1"}]}}"#,
        );
    }

    #[test]
    fn what_is_missing_is_added() {
        check("{}", r#"{"metadata":{"resourceVersion":"42"}}"#);
        check(" { } ", r#" {"metadata":{"resourceVersion":"42"} } "#);
        check(r#"{"a":1}"#, r#"{"metadata":{"resourceVersion":"42"},"a":1}"#);
        check(r#"{"metadata":{ }}"#, r#"{"metadata":{"resourceVersion":"42" }}"#);
        check(r#"{"metadata":null}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for odd in [
            "",
            "  ",
            "[{}]",
            "7",
            "{",
            r#"{"metadata":5}"#,
            r#"{"metadata":[1]}"#,
            r#"{"metadata":{},"metadata":{}}"#,
            "\u{0}",
        ] {
            check(odd, odd);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(metadata|resourceVersion|[a-z\"\\\\]{0,4})", inner, 0..4)
                    .prop_map(|m| Value::from(m.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parsed_it_is_the_same_object_with_the_new_version(
            fields in prop::collection::btree_map("(spec|[a-z]{0,4})", value(), 0..4),
            metadata in prop::option::of(prop::collection::btree_map("(resourceVersion|[a-z]{0,4})", value(), 0..4)),
            pretty: bool,
            version: u64,
        ) {
            let mut object: Map<String, Value> = fields.into_iter().collect();
            if let Some(metadata) = metadata {
                object.insert("metadata".into(), Value::from(metadata.into_iter().collect::<Map<_, _>>()));
            }
            let mut expected = Value::from(object.clone());
            let text = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
            if expected["metadata"].is_null() {
                expected["metadata"] = json!({});
            }
            expected["metadata"]["resourceVersion"] = json!(version.to_string());
            let spliced = with_resource_version(&text.into(), version);
            prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).unwrap(), expected);
        }

        #[test]
        fn no_bytes_can_make_it_panic(body: Vec<u8>, version: u64) {
            with_resource_version(&body.into(), version);
        }
    }
}
