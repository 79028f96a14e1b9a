//! A Kubernetes API server as the cluster: one that a test scripts and spoils, and a real one.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod applying;
mod behind;
mod busy;
mod credentials;
mod manifests;
mod memory;
mod pods;
mod real;
mod recent;
mod requests;
mod role;
mod server;
mod several;
mod storms;
mod tunnel;
mod view;
mod watching;

#[path = "../whole/client.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod client;
#[path = "../whole/world.rs"]
#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "not all of it is needed here"
)]
mod world;
