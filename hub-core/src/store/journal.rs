//! stub
#![allow(missing_docs, dead_code)]
#[derive(Debug)]
pub struct Journal;
#[derive(Debug)]
pub struct JournalEntry;
#[derive(Debug)]
pub struct JournalId;
#[derive(Debug)]
pub struct JournalLimits;
#[derive(Debug)]
pub struct MemoryJournal;
