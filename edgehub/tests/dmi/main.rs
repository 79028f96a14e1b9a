//! Mappers over real sockets: what they are told, and what they tell.

#![cfg(feature = "dmi")]

mod mapper;
mod node;
mod reports;
mod told;
