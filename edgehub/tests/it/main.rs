//! The hub against scripted clouds, over the memory transport.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod apply;
mod catch_up;
mod cloud;
mod journal;
mod link;
mod node;
mod requests;
mod stock;
mod tls;
mod tokens;
mod twins;
mod world;
