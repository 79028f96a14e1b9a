//! Stored objects as clients want to see them: as they are, their metadata only, or as rows of a table; in JSON, YAML,
//! protobuf or CBOR.

mod cbor;
mod list;
mod metadata;
mod pretty;
mod protobuf;
mod table;
mod view;
mod yaml;

use bytes::{Buf as _, Bytes};

pub(crate) use list::{Page, with_type};
pub(crate) use protobuf::Cache;
pub(crate) use table::IncludeObject;
pub(crate) use view::View;

use crate::accept::{Form, Media};
use crate::body::Slices;

/// Why an answer has no form that the client reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// What is stored is not what its kind says. The move of whoever wrote it.
    #[error(transparent)]
    Protobuf(#[from] protobuf::EncodeError),
    /// It is not even JSON.
    #[error("the object is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// JSON that names its kind, in the form that is wanted.
pub(crate) fn transcode(mut json: Slices, form: Form) -> Result<Slices, EncodeError> {
    if form.media == Media::Json && !form.pretty {
        return Ok(json);
    }
    let json = json.copy_to_bytes(json.remaining());
    Ok(match form.media {
        Media::Json => Bytes::from(pretty::pretty(&json)).into(),
        Media::Yaml => Bytes::from(yaml::yaml(&json)?).into(),
        Media::Protobuf => protobuf::transcode(&json)?,
        Media::Cbor => Bytes::from(cbor::cbor(&json)?).into(),
    })
}

/// An object on one line, as clients of a watch that read line by line need it. Almost always it is on one already.
fn line(served: &Bytes) -> Bytes {
    let trimmed = served.slice_ref(served.trim_ascii());
    if !trimmed.contains(&b'\n') {
        return trimmed;
    }
    // Between tokens a line break is only space; inside strings JSON cannot have one.
    trimmed
        .iter()
        .map(|byte| if *byte == b'\n' { b' ' } else { *byte })
        .collect()
}
