//! stub
#![allow(missing_docs)]
pub struct MemoryListener;
pub struct MemoryDialer;
