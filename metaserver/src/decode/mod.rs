//! Bodies of requests in protobuf, YAML or CBOR, made JSON before they go anywhere: the only form that the rest of this crate and
//! the cloud read. Typed clients of Go send built-in kinds in protobuf, and people send YAML.

mod cbor;
mod convert;
mod protobuf;
mod special;
#[cfg(test)]
mod tests;
mod wire;
mod yaml;

use std::fmt::Write as _;

use bytes::Bytes;
use hub_core::api::{Reason, Status, Verb};

use crate::api::Asked;
use crate::fault;
use protobuf::{DecodeError, Envelope};

/// A body that was not JSON.
pub(crate) struct Decoded {
    pub(crate) json: Bytes,
    /// What the JSON is.
    pub(crate) content_type: &'static str,
    /// Fields left out because nothing is known of them: the client is newer than the table.
    pub(crate) skipped: u64,
}

impl Decoded {
    fn new(json: Vec<u8>, content_type: &'static str) -> Self {
        Self {
            json: json.into(),
            content_type,
            skipped: 0,
        }
    }
}

/// The body as JSON if it is anything else that is spoken here. None if it is not, whoever may read that.
pub(crate) fn body(asked: &Asked, verb: Verb, body: &[u8]) -> Result<Option<Decoded>, Status> {
    let media = asked.content_type.split(';').next().unwrap_or_default().trim();
    if body.is_empty() && matches!(verb, Verb::Delete | Verb::DeleteCollection) {
        return Ok(None);
    }
    match (media, verb) {
        ("application/apply-patch+yaml", Verb::Patch) => {
            let json = yaml::json(body).map_err(|error| {
                fault::bad(format!(
                    "error decoding YAML: error converting YAML to JSON: {error}"
                ))
            })?;
            Ok(Some(Decoded::new(json, APPLY)))
        }
        ("application/apply-patch+cbor", Verb::Patch) if asked.client.cbor => {
            let json =
                cbor::json(body).map_err(|error| fault::bad(format!("error decoding CBOR: {error}")))?;
            Ok(Some(Decoded::new(json, APPLY)))
        }
        (_, Verb::Patch) => Ok(None),
        ("application/yaml", _) => {
            let json = yaml::json(body).map_err(|error| unrecognized(asked, verb, body, &error))?;
            Ok(Some(Decoded::new(json, JSON)))
        }
        ("application/cbor", _) if asked.client.cbor => {
            let json = cbor::json(body).map_err(|error| unrecognized(asked, verb, body, &error))?;
            Ok(Some(Decoded::new(json, JSON)))
        }
        ("application/vnd.kubernetes.protobuf", _) => protobuf(asked, verb, body),
        _ => Ok(None),
    }
}

fn protobuf(asked: &Asked, verb: Verb, body: &[u8]) -> Result<Option<Decoded>, Status> {
    let options = matches!(verb, Verb::Delete | Verb::DeleteCollection);
    if asked.kind.custom && !options {
        return Ok(None);
    }
    let (api_version, kind) = wanted(asked, verb);
    let mut envelope = Envelope::read(body).map_err(|error| unrecognized(asked, verb, body, &error))?;
    if envelope.kind.is_empty() {
        envelope.kind = &kind;
    }
    if envelope.api_version.is_empty() {
        envelope.api_version = &api_version;
    }
    match envelope.to_json() {
        Ok((json, skipped)) => Ok(Some(Decoded {
            skipped,
            ..Decoded::new(json, JSON)
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

fn unrecognized(asked: &Asked, verb: Verb, body: &[u8], error: &dyn std::error::Error) -> Status {
    let (start, (_, kind)) = (start(body), wanted(asked, verb));
    fault::bad(format!(
        "the object provided is unrecognized (must be of type {kind}): {error} ({start})"
    ))
}

/// `apiVersion` and `kind` of what the body should be.
fn wanted(asked: &Asked, verb: Verb) -> (String, String) {
    if matches!(verb, Verb::Delete | Verb::DeleteCollection) {
        return (asked.kind.resource.api_version(), "DeleteOptions".to_owned());
    }
    asked.kind.body(asked.subresource.as_deref())
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

const JSON: &str = "application/json";
/// JSON is YAML too.
const APPLY: &str = "application/apply-patch+yaml";
