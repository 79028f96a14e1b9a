//! The version that a write expects, translated: clients know this node's versions, the cloud its own (goal G.4).
//!
//! Only the bytes of the version change; everything else goes to the cloud as the client wrote it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use hub_core::store::Stored;
use serde_json::Value;
use serde_json::value::RawValue;

/// Where in a body the expected version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `metadata.resourceVersion` of an object or a merge patch.
    Metadata,
    /// `preconditions.resourceVersion` of DeleteOptions.
    Preconditions,
    /// The value of the operations of a JSON patch on `/metadata/resourceVersion`.
    JsonPatch,
}

/// The client expects another version than the one that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stale;

/// The body with the cloud's version in place of ours. A body that names none, or that cannot be read, stays as it is: the
/// cloud judges it.
pub(super) fn to_cloud(body: &Bytes, place: Place, current: &Stored) -> Result<Bytes, Stale> {
    let parent = match place {
        Place::Metadata => "metadata",
        Place::Preconditions => "preconditions",
        Place::JsonPatch => return patch_to_cloud(body, current),
    };
    let Some(raw) = find(body, parent) else {
        return Ok(body.clone());
    };
    let Ok(asked) = serde_json::from_str::<Cow<'_, str>>(raw) else {
        return Ok(body.clone());
    };
    let Some(version) = translate(&asked, current)? else {
        return Ok(body.clone());
    };
    let start = raw.as_ptr() as usize - body.as_ptr() as usize;
    let mut translated = Vec::with_capacity(body.len());
    translated.extend_from_slice(&body[..start]);
    translated.extend_from_slice(Value::from(version).to_string().as_bytes());
    translated.extend_from_slice(&body[start + raw.len()..]);
    Ok(translated.into())
}

/// Some: the cloud's version that stands for what the client knows. None: nothing to translate.
fn translate<'a>(asked: &str, current: &'a Stored) -> Result<Option<&'a str>, Stale> {
    let version = current.object.version.as_str();
    if asked.is_empty() || asked == version {
        // No expectation, or one from somewhere else that names the cloud's version.
        Ok(None)
    } else if asked.parse() == Ok(current.revision.0) {
        Ok(Some(version))
    } else {
        Err(Stale)
    }
}

fn find<'a>(body: &'a [u8], parent: &str) -> Option<&'a str> {
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(fields.get(parent)?.get()).ok()?;
    fields.get("resourceVersion").map(|raw| raw.get())
}

fn patch_to_cloud(body: &Bytes, current: &Stored) -> Result<Bytes, Stale> {
    let Ok(mut operations) = serde_json::from_slice::<Vec<Value>>(body) else {
        return Ok(body.clone());
    };
    let mut changed = false;
    for operation in &mut operations {
        if operation["path"] != "/metadata/resourceVersion" {
            continue;
        }
        let Some(asked) = operation["value"].as_str() else {
            continue;
        };
        if let Some(version) = translate(asked, current)? {
            operation["value"] = version.into();
            changed = true;
        }
    }
    Ok(if changed {
        Value::from(operations).to_string().into()
    } else {
        body.clone()
    })
}

#[cfg(test)]
mod tests {
    use hub_core::object::{GroupVersionResource, Object, Revision};

    use super::*;

    fn translated(place: Place, body: &'static str) -> Result<String, Stale> {
        let object = Object::from_body(
            GroupVersionResource::core("configmaps"),
            Bytes::from_static(br#"{"metadata":{"name":"a","resourceVersion":"77"}}"#),
        )
        .unwrap();
        let current = Stored {
            served: object.body.clone(),
            object,
            revision: Revision(5000),
        };
        to_cloud(&Bytes::from_static(body.as_bytes()), place, &current)
            .map(|body| String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn only_the_version_changes() {
        assert_eq!(
            translated(
                Place::Metadata,
                r#"{ "metadata": {"x":1.0, "resourceVersion" : "5000" } }"#
            )
            .unwrap(),
            r#"{ "metadata": {"x":1.0, "resourceVersion" : "77" } }"#
        );
        assert_eq!(
            translated(
                Place::Preconditions,
                r#"{"preconditions":{"uid":"u","resourceVersion":"5000"}}"#
            )
            .unwrap(),
            r#"{"preconditions":{"uid":"u","resourceVersion":"77"}}"#
        );
        assert_eq!(
            translated(
                Place::JsonPatch,
                r#"[{"op":"test","path":"/metadata/resourceVersion","value":"5000"}]"#
            )
            .unwrap(),
            r#"[{"op":"test","path":"/metadata/resourceVersion","value":"77"}]"#
        );
    }

    #[test]
    fn another_version_is_a_conflict_and_none_is_no_expectation() {
        assert_eq!(
            translated(Place::Metadata, r#"{"metadata":{"resourceVersion":"4999"}}"#),
            Err(Stale)
        );
        for same in [
            r#"{"metadata":{"resourceVersion":"77"}}"#,
            r#"{"metadata":{"resourceVersion":""}}"#,
            r#"{"metadata":{}}"#,
            "{}",
            "no json",
        ] {
            assert_eq!(translated(Place::Metadata, same).unwrap(), same);
        }
    }
}
