//! What follows a write by itself, as controllers of Kubernetes do it: dependents of a deleted owner, namespaces on their way,
//! roles made of others.
//!
//! It runs in the writer beside the write, not some time later, and makes no pods of workloads.

pub(super) mod authority;
pub(super) mod flow;
pub(super) mod garbage;
pub(super) mod in_use;
pub(super) mod namespace;
pub(super) mod propagation;
pub(super) mod roles;
