//! A Go edge against our cloud half: a scripted peer over real sockets, with its habits and its troubles.
#![allow(clippy::unwrap_used, missing_docs)]

mod applications;
mod cloud;
mod connection;
mod delivery;
mod devices;
mod identity;
mod joining;
mod metamanager;
mod peer;
mod timing;
mod wire;
