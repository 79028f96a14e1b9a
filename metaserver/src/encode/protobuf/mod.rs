//! Kubernetes' protobuf out of JSON: the messages of the built-in kinds, in an envelope that names the kind (Kubernetes
//! `apimachinery/pkg/runtime/serializer/protobuf`). The bytes are those that a real server writes.

mod cache;
mod frame;
mod message;
mod value;
mod wire;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use cache::Cache;
pub(crate) use frame::{envelope, event, list};

use crate::body::Slices;
use hub_core::registry::fields::{Message, Table};
use message::Encoder;

/// Why an object has no form in protobuf.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// No message is known for the kind. Ours: it should not have been promised.
    #[error("no kind {kind:?} of {api_version:?} is known in protobuf")]
    Kind { api_version: String, kind: String },
    /// The object is not what its kind says. The move of whoever wrote it.
    #[error("the object is not what its kind says: {0}")]
    Object(#[from] serde_json::Error),
}

/// Whether objects of a kind have a form in protobuf.
pub(crate) fn knows(api_version: &str, kind: &str) -> bool {
    message(api_version, kind).is_some()
}

/// An object as a message, without envelope.
pub(crate) fn raw(api_version: &str, kind: &str, json: &[u8]) -> Result<Bytes, EncodeError> {
    let message = message(api_version, kind).ok_or_else(|| EncodeError::Kind {
        api_version: api_version.into(),
        kind: kind.into(),
    })?;
    let mut encoder = Encoder::default();
    encoder.out.reserve(json.len());
    let mut from = serde_json::Deserializer::from_slice(json);
    (&mut from).deserialize_map(Fields {
        encoder: &mut encoder,
        message,
    })?;
    from.end()?;
    Ok(encoder.out.into())
}

/// Any JSON that names its kind, as a whole answer.
pub(crate) fn transcode(json: &[u8]) -> Result<Slices, EncodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
    }
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
    }
    let Typed { api_version, kind } = serde_json::from_slice(json)?;
    if let Some(item) = kind.strip_suffix("List").filter(|_| !knows(&api_version, &kind)) {
        let of: List<'_> = serde_json::from_slice(json)?;
        let items = of.items.unwrap_or_default();
        let items: Result<Vec<Bytes>, EncodeError> = items
            .into_iter()
            .map(|json| raw(&api_version, item, json.get().as_bytes()))
            .collect();
        return list(&api_version, &kind, of.metadata.get(), &items?);
    }
    Ok(envelope(
        &api_version,
        &kind,
        raw(&api_version, &kind, json)?.into(),
    ))
}

fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    // These are the same in all groups, or of none.
    let home = match kind {
        "Status" | "APIGroup" | "APIGroupList" | "APIResourceList" | "APIVersions" => "meta.k8s.io/v1",
        "PartialObjectMetadata" | "DeleteOptions" => "meta.k8s.io/v1",
        _ => api_version,
    };
    Table::builtin().message(home, kind)
}

struct Fields<'a> {
    encoder: &'a mut Encoder,
    message: &'static Message,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.encoder.fields(self.message, map)
    }
}
