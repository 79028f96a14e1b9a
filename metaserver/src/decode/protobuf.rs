//! Kubernetes' protobuf as JSON: an object in an envelope that names its kind (Kubernetes
//! `apimachinery/pkg/runtime/serializer/protobuf`).

use super::convert::Converter;
use super::wire::{Reader, Wire};

/// Why bytes are no object that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    #[error("proto: wrong wireType for field {0}")]
    WireType(&'static str),
    #[error("the message in field {0} is in parts")]
    Parts(u32),
    #[error("a text is not UTF-8")]
    Text,
    #[error("a raw value is not JSON")]
    Raw,
    #[error("a number has no form in JSON")]
    Number,
    #[error("a time is not of the years 0 to 9999")]
    Time,
    #[error("nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("more than {VALUES_MAX} values")]
    Values,
    #[error("unsupported content encoding or type in the envelope")]
    Encoding,
    #[error("no kind {kind:?} of {api_version:?} is known in protobuf")]
    Kind { api_version: String, kind: String },
}

/// `runtime.Unknown`: an object and what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(body.strip_prefix(PREFIX).ok_or(DecodeError::Prefix)?);
        while let Some((number, wire)) = reader.next()? {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => {
                    let mut meta = Reader::new(bytes);
                    while let Some((number, wire)) = meta.next()? {
                        match (number, wire) {
                            (1, wire) => envelope.api_version = text(wire)?,
                            (2, wire) => envelope.kind = text(wire)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
                (3, Wire::Bytes(b"")) | (4, Wire::Bytes(b"" | MEDIA)) => {}
                (1 | 2, _) => return Err(DecodeError::WireType("Unknown")),
                (3 | 4, _) => return Err(DecodeError::Encoding),
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The object as JSON, and how many of its fields were skipped because nothing is known of them.
    pub(super) fn to_json(&self) -> Result<(Vec<u8>, u64), DecodeError> {
        let mut converter = Converter::default();
        converter.object(self, DEPTH_MAX)?;
        Ok((converter.out, converter.skipped))
    }
}

pub(super) fn text(wire: Wire<'_>) -> Result<&str, DecodeError> {
    match wire {
        Wire::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| DecodeError::Text),
        _ => Err(DecodeError::WireType("string")),
    }
}

/// What every body begins with.
pub(super) const PREFIX: &[u8] = b"k8s\0";

const MEDIA: &[u8] = b"application/vnd.kubernetes.protobuf";

/// Messages in messages. A message is at most two levels of JSON, and readers of JSON take 128.
const DEPTH_MAX: usize = 60;

/// Values of a body. An empty one is two bytes on the wire and twenty times as much here. The largest objects that a cluster
/// stores (1.5 MiB) have fewer.
pub(super) const VALUES_MAX: usize = 1 << 18;
