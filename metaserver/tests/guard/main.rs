//! Who may ask a metaServer, with the cloud and without it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod callers;
mod certificates;
mod reviews;
mod roles;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod told;
mod world;
