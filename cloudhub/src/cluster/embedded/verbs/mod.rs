//! What a verb does to an object of any kind: made, replaced, patched, deleted.
//!
//! What is so for one kind only does not stand here: a verb asks [`kinds`](super::kinds), [`custom`](super::custom) and
//! [`admission`](super::admission) at the right moment.

pub(super) mod create;
pub(super) mod delete;
pub(super) mod delete_collection;
pub(super) mod delete_options;
pub(super) mod generated_name;
pub(super) mod managed;
pub(super) mod patch;
mod patch_operations;
pub(super) mod update;
