//! stub
#![allow(missing_docs, dead_code)]
#[derive(Debug)]
pub struct Compacted;
#[derive(Debug)]
pub struct Event;
#[derive(Debug)]
pub struct EventKind;
#[derive(Debug)]
pub struct LogLimits;
#[derive(Debug)]
pub struct WatchLog;
