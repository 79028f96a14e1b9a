//! Reads and watches: answered from memory, on the thread of whoever asks.
//!
//! They change nothing and wait for no write.

pub(super) mod component;
pub(super) mod follow;
pub(super) mod path;
pub(super) mod read;
