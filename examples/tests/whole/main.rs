//! The whole: both halves, their programs, and what people use against them. Real sockets, TLS, disks and processes.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod acceptance;
mod bad_peers;
mod catch_up;
mod client;
mod clients;
mod configuration;
mod dashboard;
mod devices;
mod explain;
mod guard;
mod kubectl;
mod kubectl_writes;
mod mappers;
mod offline_crash;
mod outage;
mod process;
mod programs;
mod short_examples;
mod thin_links;
mod tunnel;
mod turmoil;
mod world;
