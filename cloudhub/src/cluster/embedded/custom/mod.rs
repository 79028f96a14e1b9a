//! Kinds that a CustomResourceDefinition makes: what a definition must be, its schemas, and rules in CEL.
//!
//! Knows of no kind by name but of definitions, and answers no request: [`verbs`](super::verbs) and [`kinds`](super::kinds) ask it.

pub(super) mod cel;
pub(super) mod definition;
pub(super) mod structural;
