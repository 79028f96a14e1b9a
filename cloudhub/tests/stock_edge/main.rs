//! A Go edge against our cloud half: a scripted peer over real sockets, with its habits and its troubles.
//!
//! [`peer`] does what `edgecore` does on its own, [`metamanager`] what its database and its acknowledgements do, [`metaserver`] what a
//! client of its API hears, [`wire`] cuts frames as gorilla/websocket does. [`cloud`] is our hub over a cluster that may hang, be unreachable, or tell odd versions.
//!
//! Tests that begin with a letter and a number show that a weak spot of KubeEdge (tunnel specification §11) is none of ours. These weak
//! spots have no test here:
//!
//! | Weak spot | Why |
//! |---|---|
//! | T4: one encoding for all nodes | inside the process: contents are shared bytes; only that they arrive unchanged is tested |
//! | T6, T7, T8: compression, differences, binary frames | only between our own ends; here it is tested that a Go edge gets none of them |
//! | L8, L11, C1 to C4, P4, S11: the edge's own | tested with the edge |
//! | L10 over a restart of the hub | a Go edge does not say what it watches, and the hub forgets it when it ends |
//! | S9, H1, H2, H3: several instances and their records | tested with the records |
//! | S6: reports of node jobs | not served; answered with an error |
//! | S7, Q1 to Q5: QUIC of 2018 | not spoken |
//! | H4: moving nodes between instances | not served; the goodbye and the readiness route are tested |
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

mod applications;
mod cloud;
mod connection;
mod delivery;
mod devices;
mod identity;
mod joining;
mod lists;
mod metamanager;
mod metaserver;
mod peer;
mod timing;
mod wire;
