//! An expression whose names and functions are known.

use regex::Regex;

use super::functions::Overload;
use super::value::Val;

#[derive(Debug)]
pub(super) enum Node {
    Constant(Val<'static>),
    /// By its place: `self`, `oldSelf`, then those of the macros around.
    Variable(usize),
    /// A field, by CEL's name for it.
    Field(Box<Node>, String),
    /// `has(…)`.
    Has(Box<Node>, String),
    /// `.?field`.
    FieldIfThere(Box<Node>, String),
    Element(Box<Node>, Box<Node>),
    /// `[?index]`.
    ElementIfThere(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>),
    Unequal(Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    /// A pattern that stands in the text.
    Matches(Box<Node>, Regex),
    /// One of several functions of a name, by what the arguments are.
    Call(Vec<&'static Overload>, Vec<Node>),
    /// With those that are there only if their optional has something.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Each(Box<Each>),
    /// `optMap` and `optFlatMap`.
    IfThere(Box<IfThere>),
}

/// A macro over the elements of a list or the entries of a map.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) kind: EachKind,
    pub(super) range: Node,
    /// Two variables: index and element, or key and value.
    pub(super) pairs: bool,
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EachKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// `map`, `transformList`.
    List,
    /// `transformMap`.
    Map,
}

#[derive(Debug)]
pub(super) struct IfThere {
    pub(super) of: Node,
    pub(super) body: Node,
    /// The body makes an optional itself.
    pub(super) flat: bool,
}
