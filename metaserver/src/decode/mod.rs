//! Bodies of requests in protobuf, made JSON before they go anywhere: the only form that the rest of this crate and the cloud
//! read. Typed clients of Go send built-in kinds so.

mod convert;
mod protobuf;
mod special;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt::Write as _;

use bytes::Bytes;
use hub_core::api::{Reason, Status, Verb};
use hub_core::registry::ResourceKind;

use crate::api::Asked;
use crate::fault;
use protobuf::{DecodeError, Envelope};

/// A body that was protobuf.
pub(crate) struct Decoded {
    pub(crate) json: Bytes,
    /// Fields left out because nothing is known of them: the client is newer than the table.
    pub(crate) skipped: u64,
}

/// The body as JSON if it is protobuf of a built-in kind. None if it is anything else, whoever may read that.
pub(crate) fn protobuf(asked: &Asked, verb: Verb, body: &[u8]) -> Result<Option<Decoded>, Status> {
    let media = asked.content_type.split(';').next().unwrap_or_default().trim();
    let options = matches!(verb, Verb::Delete | Verb::DeleteCollection);
    if media != "application/vnd.kubernetes.protobuf"
        || verb == Verb::Patch
        || asked.kind.custom && !options
        || options && body.is_empty()
    {
        return Ok(None);
    }
    let (api_version, kind) = if options {
        (asked.kind.resource.api_version(), "DeleteOptions".to_owned())
    } else {
        body_kind(&asked.kind, asked.subresource.as_deref())
    };
    let mut envelope = Envelope::read(body).map_err(|error| {
        let start = start(body);
        fault::bad(format!(
            "the object provided is unrecognized (must be of type {kind}): {error} ({start})"
        ))
    })?;
    if envelope.kind.is_empty() {
        envelope.kind = &kind;
    }
    if envelope.api_version.is_empty() {
        envelope.api_version = &api_version;
    }
    match envelope.to_json() {
        Ok((json, skipped)) => Ok(Some(Decoded {
            json: json.into(),
            skipped,
        })),
        Err(error @ (DecodeError::Kind { .. } | DecodeError::Encoding)) => {
            Err(Status::failure(Reason::UnsupportedMediaType, error.to_string()))
        }
        Err(error) => Err(fault::bad(format!(
            "{} in version {:?} cannot be handled as a {kind}: {error}",
            envelope.kind, envelope.api_version
        ))),
    }
}

/// `apiVersion` and `kind` of what is put to a kind, or below an object of it.
pub(crate) fn body_kind(kind: &ResourceKind, subresource: Option<&str>) -> (String, String) {
    let own = kind.resource.api_version();
    let below = subresource.and_then(|name| kind.subresources.iter().find(|known| *known.name == *name));
    let Some(below) = below else {
        return (own, kind.kind.to_string());
    };
    let api_version = match &below.group_version {
        Some((group, version)) if group.is_empty() => version.to_string(),
        Some((group, version)) => format!("{group}/{version}"),
        None => own,
    };
    (api_version, below.kind.to_string())
}

/// The first bytes of a body, as a real server shows them.
fn start(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".into();
    }
    let mut shown = String::new();
    for byte in body.iter().take(SHOWN_BYTES_MAX) {
        // A String takes everything.
        let _ = write!(shown, "{byte:02x}");
    }
    if body.len() > SHOWN_BYTES_MAX {
        shown.push_str(" ...");
    }
    shown
}

const SHOWN_BYTES_MAX: usize = 30;
