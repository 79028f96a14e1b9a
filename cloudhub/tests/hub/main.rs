//! The hub as a whole: edges over the memory transport in front, an embedded cluster behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

mod admission;
mod catalogue;
mod devices;
mod down;
mod moment;
mod object_sync;
mod policy;
mod records;
mod returning;
mod schedule;
mod subscriptions;
mod up;
mod world;
