//! Mappers over real sockets: what they are told, and what they tell.

#![cfg(feature = "dmi")]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod mapper;
mod node;
mod reports;
mod told;
