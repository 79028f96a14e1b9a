//! Doors to a part of an object, each with rules of its own: a pod's node, its eviction, the size of a workload.
//!
//! The status is not among them: it is written as the object is, by [`verbs`](super::verbs).

pub(super) mod binding;
pub(super) mod connect;
pub(super) mod evict;
pub(super) mod parts;
pub(super) mod scale;
