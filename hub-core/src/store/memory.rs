//! stub
#![allow(missing_docs, dead_code)]
#[derive(Debug)]
pub struct MemoryStore;
#[derive(Debug)]
pub struct StoreLimits;
