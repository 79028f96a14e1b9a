//! How a message looks on the wire: KubeEdge's JSON towards stock peers, bincode between our own.
//!
//! Nothing outside this module knows the wire. Every length is checked before anything is allocated for it.

mod bincode;
mod json;
mod patch;

use bytes::Bytes;

pub use patch::{Patch, PatchError, content_hash};

use crate::message::Message;
use crate::transport::{Capabilities, Received};

/// The limits of a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecLimits {
    /// The largest frame accepted or sent, and the largest content a frame may unpack to. KubeEdge's packer has 32 MiB
    /// (CVE-2026-62370).
    pub message_max: usize,
    /// Contents of at least this many bytes are compressed, where both ends can.
    pub compress_min: usize,
}

impl Default for CodecLimits {
    fn default() -> Self {
        Self {
            message_max: 32 << 20,
            compress_min: 200,
        }
    }
}

/// A wire format, agreed on in the handshake.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    capabilities: Capabilities,
    limits: CodecLimits,
}

/// The message cannot be sent. Our own fault, or the cluster's: an object larger than the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame would be larger than the limit.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The content is not JSON, so it cannot stand in a JSON document.
    #[error("the content is not JSON")]
    NotJson,
}

/// The frame is no message. The peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Over the limit, packed or unpacked.
    #[error("a message of at least {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size, as far as known.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Not JSON, or not a message.
    #[error("not a message: {0}")]
    Json(String),
    /// Not our binary format, or truncated.
    #[error("not a message: {0}")]
    Binary(&'static str),
}

impl Codec {
    /// The format that two ends with these common capabilities speak.
    pub fn new(capabilities: Capabilities, limits: CodecLimits) -> Self {
        Self { capabilities, limits }
    }

    /// Whether frames are text.
    pub fn is_text(&self) -> bool {
        !self.capabilities.bincode
    }

    /// The bytes of a message. With `base`, a content that the peer holds, only the difference may be sent.
    pub fn encode(&self, message: &Message, base: Option<&Bytes>) -> Result<Bytes, EncodeError> {
        if self.capabilities.bincode {
            bincode::encode(
                message,
                base.filter(|_| self.capabilities.zstd),
                self.capabilities.zstd,
                &self.limits,
            )
        } else {
            json::encode(message, &self.limits)
        }
    }

    /// The message in a frame.
    pub fn decode(&self, frame: Bytes) -> Result<Received, DecodeError> {
        if frame.len() > self.limits.message_max {
            return Err(DecodeError::TooLarge {
                size: frame.len(),
                limit: self.limits.message_max,
            });
        }
        if self.capabilities.bincode {
            bincode::decode(frame, &self.limits)
        } else {
            json::decode(frame).map(Received::Whole)
        }
    }
}
