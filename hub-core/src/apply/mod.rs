//! Server-side apply: who owns which fields of an object, and what becomes of them when somebody writes.
//!
//! ```text
//!   live object ─┐                              ┌─ merged object
//!                ├─ Owners::apply ── Conflicts? ┤
//!   applied  ────┘                              └─ Managed: who owns what now
//! ```
//!
//! Whoever *applies* says which fields it wants, and owns these. What it said before and says no more is taken away, unless others own
//! it. To change what others own is a conflict, which it may force. Whoever writes in another way owns what it changed. All of it
//! depends on types: which lists are merged, and by which keys. The rules are those of `sigs.k8s.io/structured-merge-diff` and of
//! `k8s.io/apimachinery/pkg/util/managedfields`, written anew.
//!
//! Nothing here reads a clock or knows of a store.

mod builtin;
mod compare;
mod conflict;
mod element;
mod fields;
mod managed;
mod merge;
mod owners;
mod scale;
mod schema;
mod set;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, compare};
pub use conflict::Conflicts;
pub use element::{Element, InvalidElement};
pub(crate) use fields::go;
pub use fields::{TypeErrors, check, field_set};
pub use managed::{InvalidManagedFields, Managed, Manager, Operation};
pub use merge::merge;
pub use owners::{Applied, ApplyError, Owners, Reset, UPDATE_MANAGERS_MAX};
pub use scale::SCALE_VERSION;
pub use schema::Type;
pub use set::FieldSet;
