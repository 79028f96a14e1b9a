//! A content as the difference to one that the receiver holds.

use bytes::Bytes;

/// A content, told as a difference to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    pub(super) base: u64,
    pub(super) result: u64,
    pub(super) size: usize,
    pub(super) frame: Bytes,
}

/// The difference does not apply. The receiver refuses the message and gets the whole content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The receiver does not hold the content that the difference is to.
    #[error("the content this difference is to is not here")]
    Base,
    /// The result is not what the sender had.
    #[error("the result of the difference is not what the sender had")]
    Result,
}

/// A hash of a content that both ends compute alike (XXH3, 64 bits).
pub fn content_hash(content: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(content)
}
