//! The built-in kinds: which fields they have, what they say where a client did not, their versions, and what they ask of their
//! objects.
//!
//! What is asked here is asked of one object, and at most of what it was before. Other objects are the matter of
//! [`admission`](super::admission), which [`defaults`] calls for an object that is new.

pub(super) mod conform;
pub(super) mod content;
pub(super) mod defaults;
pub(super) mod fields;
pub(super) mod validate;
pub(super) mod versions;
pub(super) mod workload;
