//! A collection as it was at a revision, and pages of it.
//!
//! The past is found by undoing, on the present, what the history says has happened since. So every page of a list shows the
//! same instant for as long as the history reaches back to it, and nothing is copied or kept for a client in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey, Revision};
use hub_core::store::{Compacted, Listing, ObjectStore, Stored};
use serde::{Deserialize, Serialize};

use crate::fault;

/// Where the next page begins. Clients see it as an opaque text; it is the one that kube-apiserver makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageToken {
    #[serde(rename = "v", default)]
    format: String,
    /// The instant that all pages show; −1 for the present.
    #[serde(rename = "rv", default)]
    revision: i64,
    /// The first place that belongs to the page.
    #[serde(default)]
    start: String,
}

impl PageToken {
    /// The page after an object.
    pub(crate) fn after(revision: Revision, namespace: Option<&str>, key: &ObjectKey) -> Self {
        Self {
            format: FORMAT.into(),
            revision: i64::try_from(revision.0).unwrap_or(i64::MAX),
            start: format!("/{}\0", place(namespace, key)),
        }
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: &str| {
            fault::bad(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = TOKEN.decode(text).map_err(|_| {
            let at = wrong_byte(text);
            invalid(&format!("illegal base64 data at input byte {at}"))
        })?;
        // An array of as many fields would do for serde.
        let token: Option<Self> = serde_json::from_slice(&bytes).ok();
        let token = token
            .filter(|_| bytes.first() == Some(&b'{'))
            .ok_or_else(|| invalid(&wrong_json(&bytes)))?;
        if token.format != FORMAT {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {}",
                token.format
            )));
        }
        if token.revision == 0 {
            return Err(invalid(&format!(
                "incorrect encoded start resourceVersion (version {FORMAT})"
            )));
        }
        if token.start.is_empty() {
            return Err(invalid(&format!("encoded start key empty (version {FORMAT})")));
        }
        // Nothing may climb out of the collection.
        if token.start.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid(&token.start));
        }
        Ok(token)
    }

    pub(crate) fn encode(&self) -> String {
        TOKEN.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The instant, unless it is the present.
    pub(crate) fn revision(&self) -> Option<Revision> {
        u64::try_from(self.revision).ok().map(Revision)
    }

    /// The same place in the present.
    pub(crate) fn in_the_present(&self) -> Self {
        Self {
            revision: -1,
            start: self.start.trim_start_matches('/').into(),
            ..self.clone()
        }
    }

    /// Whether an object belongs to this page or a later one.
    pub(crate) fn reaches(&self, namespace: Option<&str>, key: &ObjectKey) -> bool {
        *place(namespace, key) >= *self.start.trim_start_matches('/')
    }
}

/// Where Go finds fault with a text in base64.
fn wrong_byte(text: &str) -> usize {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let wrong = text.bytes().position(|byte| !known(byte));
    wrong.unwrap_or_else(|| text.len().saturating_sub(text.len() % 4))
}

/// What Go says of JSON that is no token.
fn wrong_json(bytes: &[u8]) -> String {
    let into = |what: &str, field: &str, kind: &str| {
        format!("json: cannot unmarshal {what} into Go {field} of type {kind}")
    };
    let name = |value: &serde_json::Value| match value {
        serde_json::Value::Array(_) => "array",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Object(_) => "object",
        _ => "number",
    };
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    match (value, bytes.first()) {
        (Some(serde_json::Value::Object(fields)), _) => {
            let wanted = [
                ("v", "string", "string"),
                ("rv", "number", "int64"),
                ("start", "string", "string"),
            ];
            let wrong = wanted.into_iter().find_map(|(field, kind, shown)| {
                let found = fields.get(field).filter(|value| name(value) != kind)?;
                Some(into(
                    name(found),
                    &format!("struct field continueToken.{field}"),
                    shown,
                ))
            });
            wrong.unwrap_or_else(|| "unexpected end of JSON input".into())
        }
        (Some(value), _) => into(name(&value), "value", "storage.continueToken"),
        (None, Some(first)) if !matches!(first, b'{' | b'[' | b'"') => {
            let shown = match char::from(*first) {
                letter if letter.is_control() && *first < 0x80 => format!("\\x{first:02x}"),
                letter if letter.is_control() => format!("\\u{first:04x}"),
                '\'' => "\\'".into(),
                letter => letter.to_string(),
            };
            format!("invalid character '{shown}' looking for beginning of value")
        }
        (None, _) => "unexpected end of JSON input".into(),
    }
}

/// A key below the path of its collection.
fn place(namespace: Option<&str>, key: &ObjectKey) -> String {
    match &key.namespace {
        Some(own) if namespace.is_none() => format!("{own}/{}", key.name),
        _ => key.name.to_string(),
    }
}

/// The collection as it was. The present when `at` is the present or has not come yet.
pub(crate) fn listing_at(
    store: &dyn ObjectStore,
    resource: &GroupVersionResource,
    namespace: Option<&str>,
    at: Revision,
) -> Result<Listing, Compacted> {
    let present = store.list(resource, namespace);
    if at >= present.revision {
        return Ok(present);
    }
    let since = store.watch(resource, at)?.available(usize::MAX)?;
    let mut before: BTreeMap<&ObjectKey, Option<&Arc<Stored>>> = BTreeMap::new();
    for event in since.iter().filter(|event| event.revision <= present.revision) {
        before
            .entry(&event.stored.object.key)
            .or_insert(event.previous.as_ref());
    }
    let mut objects: Vec<Arc<Stored>> = present
        .objects
        .into_iter()
        .filter(|stored| !before.contains_key(&stored.object.key))
        .collect();
    let gone = before.into_values().flatten();
    objects.extend(
        gone.filter(|stored| namespace.is_none() || stored.object.key.namespace.as_deref() == namespace)
            .cloned(),
    );
    objects.sort_by(|a, b| a.object.key.cmp(&b.object.key));
    Ok(Listing {
        revision: at,
        objects,
    })
}

/// As lenient as Go: bits left over at the end are no error.
const TOKEN: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

const FORMAT: &str = "meta.k8s.io/v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_was_written() {
        let key = ObjectKey::new(GroupVersionResource::core("pods"), Some("shop"), "b");
        let token = PageToken::after(Revision(7), None, &key);
        assert_eq!(PageToken::decode(&token.encode()).unwrap(), token);
        assert_eq!(token.revision(), Some(Revision(7)));
        assert!(!token.reaches(None, &key));
        for later in ["b0", "c"] {
            let key = ObjectKey::new(GroupVersionResource::core("pods"), Some("shop"), later);
            assert!(token.reaches(None, &key));
        }
        assert_eq!(token.in_the_present().revision(), None);
    }

    #[test]
    fn tokens_of_a_real_server_are_understood_and_bad_ones_refused() {
        let real = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjAzMiwic3RhcnQiOiIvaXRlbS0wMDlcdTAwMDAifQ";
        assert_eq!(PageToken::decode(real).unwrap().revision(), Some(Revision(2032)));
        let climbing = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjAwMCwic3RhcnQiOiIuLi9zaG9wL3hcdTAwMDAifQ";
        for bad in ["garbage", "eyJ4IjoxfQ", climbing, "", "%"] {
            assert_eq!(PageToken::decode(bad).unwrap_err().code, 400, "{bad}");
        }
        for (bad, why) in [
            ("garbage!", "illegal base64 data at input byte 7"),
            ("e30=", "illegal base64 data at input byte 3"),
            ("AAAA", r"invalid character '\x00' looking for beginning of value"),
            (
                "WzFd",
                "json: cannot unmarshal array into Go value of type storage.continueToken",
            ),
            (
                "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6IjUiLCJzdGFydCI6ImEifQ",
                "json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (
                "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NX0",
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
        ] {
            let said = PageToken::decode(bad).unwrap_err().message;
            assert_eq!(
                said,
                format!("invalid continue token: continue key is not valid: {why}")
            );
        }
    }
}
