//! The edge against a scripted stock cloud: KubeEdge's CloudHub with its controllers, over real sockets and TLS.
//!
//! The [`peer`] behaves as the recordings and KubeEdge's sources say, the unpleasant parts included: fragments of 4082 bytes, an
//! empty last fragment, one message in flight, resends with the same id, repairs without kind and version, pods before their config
//! maps, answers that come late or never, connections that are rejected and left open, ends without a word.
//!
//! Each weak spot of KubeEdge that an edge has on the wire is a test of its name here. The others:
//!
//! | Weak spot | Where it is looked at |
//! |---|---|
//! | T2, T3, T4, T9, T10, T11, L4, L6, L11, C5, C7, C8, C9, C12, M1, M2, M4, P2, P3, P5, S1–S6, S8, S9, H1–H4 | the cloud's, not the edge's: in `cloudhub`. Here the peer *has* T1, T9, T10, T11, L4 and C6, and the edge lives with them |
//! | T6, T7, T8 | only between our own ends (`bincode`, `zstd`): `hub-core/tests/driver.rs` |
//! | T1, L3 under disorder | the session's worlds: `hub-core/src/testing/world` |
//! | L8, L9 | device twins |
//! | L13 | towards a stock cloud a failed disk is answered with `error` as KubeEdge's edges do, and its resend is stored: `it/apply.rs` |
//! | C3, the spread of a fleet | pure, in virtual time: `edgehub/src/dial.rs` |
//! | M3 | named limits: `SessionConfig`, `EdgeHubConfig` |
//! | S7, Q1–Q5 | QUIC is ours only, with mutual TLS 1.3 and versions on every message: `hub-core/tests/transport_contract.rs` |
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod applications;
mod connection;
mod delivery;
mod joining;
mod kubelet;
mod node;
mod peer;
mod recorded;
mod shapes;
mod world;
