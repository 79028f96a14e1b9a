//! Label and field selectors, as query strings write them.

mod field;
mod label;
mod name;

pub use field::FieldSelector;
pub use label::LabelSelector;

/// The text is no selector. The caller's move: a 400 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSelector(pub String);
