//! How values lie in rows: compressed where it pays, each row under a checksum.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Why rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    /// SQLite says so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The row is not what was written.
    #[error("a row of {0} is damaged")]
    Damaged(&'static str),
}

/// A checksum over the columns of a row. SQLite finds damaged pages, not damaged bytes in them.
#[derive(Default)]
pub(super) struct Sum(Xxh3);

impl Sum {
    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn finish(self) -> i64 {
        self.0.digest().cast_signed()
    }
}

/// Packs and unpacks bodies; keeps its working memory from one to the next.
pub(super) struct Packer {
    compress_min: usize,
    compressor: zstd::bulk::Compressor<'static>,
}

impl Packer {
    pub(super) fn new(compress_min: usize) -> std::io::Result<Self> {
        const LEVEL: i32 = 1;
        Ok(Self {
            compress_min,
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
        })
    }

    /// The bytes for the disk, and their length before packing, or 0 when they are as they were.
    pub(super) fn pack(&mut self, body: &Bytes) -> (Bytes, i64) {
        if body.len() >= self.compress_min
            && let Ok(packed) = self.compressor.compress(body)
            && packed.len() < body.len()
        {
            return (packed.into(), body.len() as i64);
        }
        (body.clone(), 0)
    }
}

/// Unpacks what [`Packer::pack`] made. The row's checksum has been verified, so the length can be believed.
pub(super) struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Unpacker {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    pub(super) fn unpack(&mut self, stored: &[u8], length: i64) -> Option<Bytes> {
        if length == 0 {
            return Some(Bytes::copy_from_slice(stored));
        }
        let body = self.0.decompress(stored, usize::try_from(length).ok()?).ok()?;
        Some(body.into())
    }
}
