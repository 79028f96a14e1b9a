//! A list as a chain of slices: the stored bytes of each object between a few bytes of our own. Of objects as an API server
//! writes them nothing is parsed or copied.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hub_core::object::Revision;
use hub_core::registry::ResourceKind;
use hub_core::store::Stored;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::body::Slices;

/// What a list says about itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Page {
    /// The instant that it shows.
    pub(crate) revision: Revision,
    /// The token of the next page; empty on the last.
    pub(crate) next: String,
    /// How many objects follow, where that is known.
    pub(crate) remaining: Option<usize>,
}

impl Page {
    /// As the `metadata` of a list.
    pub(crate) fn metadata(&self, custom: bool) -> String {
        if self.revision == Revision(0) {
            // What is looked up anew for each answer has no history, and no list may say that it has begun at 0.
            return "{}".into();
        }
        let mut text = format!(r#"{{"resourceVersion":"{}""#, self.revision);
        if custom && self.next.is_empty() {
            // Lists of custom kinds say so even on the last page.
            text.push_str(r#","continue":"""#);
        }
        if !self.next.is_empty() {
            text.push_str(&format!(r#","continue":"{}""#, self.next));
            if let Some(remaining) = self.remaining {
                text.push_str(&format!(r#","remainingItemCount":{remaining}"#));
            }
        }
        text.push('}');
        text
    }
}

/// A list of whole objects. Those of built-in kinds come without their own kind and version, as a real server has it.
pub(super) fn list(kind: &ResourceKind, page: &Page, objects: &[Arc<Stored>]) -> Slices {
    let mut slices = Slices::default();
    slices.push(format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{},"items":["#,
        kind.list_kind,
        kind.resource.api_version(),
        page.metadata(kind.custom),
    ));
    for (index, stored) in objects.iter().enumerate() {
        if index > 0 {
            slices.push(Bytes::from_static(b","));
        }
        if kind.custom {
            slices.push(stored.served.clone());
        } else if let Some(rest) = without_type(&stored.served) {
            slices.push(Bytes::from_static(b"{"));
            slices.push(rest);
        } else {
            slices.push(picked(&stored.served).unwrap_or_else(|| stored.served.clone()));
        }
    }
    slices.push(Bytes::from_static(b"]}\n"));
    slices
}

/// An object's text after its opening brace, kind and version, where these stand first as servers write them.
fn without_type(body: &Bytes) -> Option<Bytes> {
    let mut rest = body.strip_prefix(b"{")?;
    for _ in 0..2 {
        rest = [&br#""kind":""#[..], br#""apiVersion":""#]
            .iter()
            .find_map(|field| rest.strip_prefix(*field))?;
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        rest = rest[end..].strip_prefix(br#"","#)?;
    }
    Some(body.slice_ref(rest))
}

/// An object's text without kind and version, wherever these stand. None if it is no object.
fn picked(body: &Bytes) -> Option<Bytes> {
    let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
    let mut picked = Vec::with_capacity(body.len());
    picked.push(b'{');
    for (key, value) in fields.0 {
        if matches!(&*key, "kind" | "apiVersion") {
            continue;
        }
        if picked.len() > 1 {
            picked.push(b',');
        }
        serde_json::to_writer(&mut picked, &key).ok()?;
        picked.push(b':');
        picked.extend_from_slice(value.get().as_bytes());
    }
    picked.push(b'}');
    Some(picked.into())
}

/// The fields of an object in their order, their values as they are.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        from.deserialize_map(Collect)
    }
}

/// An object with kind and version in front: items of lists lack them.
pub(crate) fn with_type(kind: &ResourceKind, item: &[u8]) -> Bytes {
    let rest = item.strip_prefix(b"{").unwrap_or(item);
    let comma = if rest.trim_ascii_start().starts_with(b"}") {
        ""
    } else {
        ","
    };
    let mut body = format!(
        r#"{{"kind":"{}","apiVersion":"{}"{comma}"#,
        kind.kind,
        kind.resource.api_version()
    )
    .into_bytes();
    body.extend_from_slice(rest);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_version_are_left_out_where_they_stand_first() {
        let rest = |text: &'static str| without_type(&Bytes::from_static(text.as_bytes()));
        assert_eq!(
            rest(r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#).unwrap(),
            r#""metadata":{}}"#
        );
        assert_eq!(
            rest(r#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#).unwrap(),
            r#""metadata":{}}"#
        );
        for other in [
            r#"{"kind":"Pod","metadata":{}}"#,
            "{}",
            "",
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
        ] {
            assert!(rest(other).is_none(), "{other}");
        }
    }

    #[test]
    fn kind_and_version_are_left_out_wherever_they_stand() {
        let picked = |text: &'static str| picked(&Bytes::from_static(text.as_bytes()));
        assert_eq!(
            picked(r#"{ "apiVersion":"v1", "data":{"kind":"x"},"kind":"Pod","metadata": {"a" :1}}"#).unwrap(),
            r#"{"data":{"kind":"x"},"metadata":{"a" :1}}"#
        );
        assert!(picked("[]").is_none());
    }

    #[test]
    fn the_metadata_of_a_page_names_the_next_one() {
        let mut page = Page {
            revision: Revision(7),
            next: String::new(),
            remaining: Some(3),
        };
        assert_eq!(page.metadata(false), r#"{"resourceVersion":"7"}"#);
        assert_eq!(page.metadata(true), r#"{"resourceVersion":"7","continue":""}"#);
        page.next = "abc".into();
        assert_eq!(
            page.metadata(false),
            r#"{"resourceVersion":"7","continue":"abc","remainingItemCount":3}"#
        );
    }
}
