//! A Kubernetes API server as the cluster: one that a test scripts and spoils, and a real one.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod real;
mod requests;
mod server;
mod storms;
mod view;
mod watching;
