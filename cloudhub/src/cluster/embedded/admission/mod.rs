//! What the rest of the cluster adds to an object, or forbids it: quotas, limits, classes, addresses, accounts, rights.
//!
//! Most of it looks at other objects, so it runs in its turn, in the writer. What can be said of an object alone stands in
//! [`kinds`](super::kinds).

pub(super) mod account;
pub(super) mod certificate;
pub(super) mod claim;
pub(super) mod escalation;
pub(super) mod limits;
pub(super) mod node;
pub(super) mod node_ports;
pub(super) mod priority;
pub(super) mod quota;
pub(super) mod service;
pub(super) mod storage;
