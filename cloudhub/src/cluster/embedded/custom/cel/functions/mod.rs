//! The functions of CEL and those that Kubernetes adds (`apiserver/pkg/cel/library`), each with the types it takes.

mod arithmetic;
mod conversion;
pub(super) mod format;
mod list;
mod net;
mod optional;
mod quantity;
mod text;
mod time;
pub(super) mod url;

use regex::{Regex, RegexBuilder};

use super::evaluate::{Fault, Outcome, Run};
use super::node::Node;
use super::types::Type;
use super::value::Val;

/// One function for one row of types.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) name: &'static str,
    /// Called on its first argument.
    pub(super) member: bool,
    takes: &'static [T],
    gives: T,
    pub(super) apply: Apply,
}

pub(super) type Apply = for<'r, 'a> fn(&'r mut Run<'a>, &'r [Val<'a>]) -> Outcome<'a>;

/// A type in a row.
#[derive(Debug, Clone, Copy)]
enum T {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Span,
    Kind,
    Map,
    /// Of any type.
    Number,
    Opaque(&'static str),
    /// The same type in all places of the row.
    A,
    ListOfA,
    OptionalOfA,
    ListOf(&'static T),
    OptionalOf(&'static T),
}

const QUANTITY: T = T::Opaque("kubernetes.Quantity");
const URL: T = T::Opaque("kubernetes.URL");
const IP: T = T::Opaque("net.IP");
const CIDR: T = T::Opaque("net.CIDR");
const FORMAT: T = T::Opaque("kubernetes.NamedFormat");

/// All of them, room by room.
pub(super) const ALL: &[&[Overload]] = &[
    arithmetic::FUNCTIONS,
    conversion::FUNCTIONS,
    format::FUNCTIONS,
    list::FUNCTIONS,
    net::FUNCTIONS,
    optional::FUNCTIONS,
    quantity::FUNCTIONS,
    text::FUNCTIONS,
    time::FUNCTIONS,
    url::FUNCTIONS,
];

/// What a kube-apiserver has and this cluster has not: a rule that calls one of them is kept, and not evaluated.
pub(super) const LACKING: &[&str] = &[
    "isSemver",
    "semver",
    "sortBy",
    "strings.quote",
    "transformMapEntry",
];

const fn global(name: &'static str, takes: &'static [T], gives: T, apply: Apply) -> Overload {
    Overload {
        name,
        member: false,
        takes,
        gives,
        apply,
    }
}

const fn member(name: &'static str, takes: &'static [T], gives: T, apply: Apply) -> Overload {
    Overload {
        name,
        member: true,
        takes,
        gives,
        apply,
    }
}

impl Overload {
    /// What it gives for arguments of these types. None where it does not take them.
    pub(super) fn result_of(&self, arguments: &[Type]) -> Option<Type> {
        if arguments.len() != self.takes.len() {
            return None;
        }
        let mut a: Option<Type> = None;
        for (takes, found) in self.takes.iter().zip(arguments) {
            let same = match (takes, found) {
                (_, Type::Dyn) | (T::Dyn, _) => continue,
                (T::A, found) => found,
                (T::ListOfA, Type::List(of, _)) | (T::OptionalOfA, Type::Optional(of)) => of.as_ref(),
                (T::ListOf(inner), Type::List(of, _)) | (T::OptionalOf(inner), Type::Optional(of)) => {
                    if inner.known().is_some_and(|inner| !inner.takes(of)) {
                        return None;
                    }
                    continue;
                }
                (T::Map, Type::Map(..)) | (T::Number, Type::Int | Type::Uint | Type::Double) => continue,
                (takes, found) if takes.known().is_some_and(|takes| takes.takes(found)) => continue,
                _ => return None,
            };
            a = match a {
                Some(a) if !a.takes(same) => return None,
                Some(a) => Some(a.join(same)),
                None => Some(same.clone()),
            };
        }
        let a = a.unwrap_or(Type::Dyn);
        Some(match self.gives {
            T::A => a,
            T::ListOfA => Type::list(a),
            T::OptionalOfA => Type::optional(a),
            T::ListOf(of) => Type::list(of.known().unwrap_or(Type::Dyn)),
            T::OptionalOf(T::ListOf(of)) => Type::optional(Type::list(of.known().unwrap_or(Type::Dyn))),
            T::OptionalOf(of) => Type::optional(of.known().unwrap_or(Type::Dyn)),
            T::Map => Type::map(Type::Dyn, Type::Dyn),
            other => other.known().unwrap_or(Type::Dyn),
        })
    }

    /// Whether it takes these values.
    pub(super) fn fits(&self, arguments: &[Val<'_>]) -> bool {
        let mut pairs = self.takes.iter().zip(arguments);
        self.takes.len() == arguments.len() && pairs.all(|(takes, value)| takes.is(value))
    }
}

impl T {
    fn known(&self) -> Option<Type> {
        Some(match self {
            T::Dyn => Type::Dyn,
            T::Bool => Type::Bool,
            T::Int => Type::Int,
            T::Uint => Type::Uint,
            T::Double => Type::Double,
            T::Text => Type::Text,
            T::Bytes => Type::Bytes,
            T::Time => Type::Time,
            T::Span => Type::Span,
            T::Kind => Type::Kind,
            T::Opaque(name) => Type::Opaque(name),
            _ => return None,
        })
    }

    fn is(&self, value: &Val<'_>) -> bool {
        match self {
            T::Dyn | T::A => true,
            T::Bool => matches!(value, Val::Bool(_)),
            T::Int => matches!(value, Val::Int(_)),
            T::Uint => matches!(value, Val::Uint(_)),
            T::Double => matches!(value, Val::Double(_)),
            T::Text => matches!(value, Val::Text(_)),
            T::Bytes => matches!(value, Val::Bytes(_)),
            T::Time => matches!(value, Val::Time(_)),
            T::Span => matches!(value, Val::Span(_)),
            T::Kind => matches!(value, Val::Kind(_)),
            T::Map => matches!(value, Val::Map(_) | Val::Object(..)),
            T::Number => matches!(value, Val::Int(_) | Val::Uint(_) | Val::Double(_)),
            T::ListOfA | T::ListOf(_) => matches!(value, Val::List(_) | Val::Array(..)),
            T::OptionalOfA | T::OptionalOf(_) => matches!(value, Val::Optional(_)),
            T::Opaque(name) => value.kind() == *name,
        }
    }
}

/// What is wrong with an argument that stands in the text, which `cel-go` looks at before any value is there.
pub(super) fn literal_issue(name: &str, arguments: &[Node]) -> Option<&'static str> {
    match (name, arguments) {
        ("matches", [_, Node::Constant(Val::Text(pattern))]) if compiled(pattern).is_err() => {
            Some("invalid matches argument")
        }
        ("duration", [Node::Constant(Val::Text(text))]) if super::value::span(text).is_none() => {
            Some("invalid duration argument")
        }
        ("timestamp", [Node::Constant(Val::Text(text))]) if super::value::time(text).is_none() => {
            Some("invalid timestamp argument")
        }
        _ => None,
    }
}

/// A node of its own for a pattern that stands in the text, so that it is read once.
pub(super) fn pattern(name: &str, arguments: &[Node]) -> Option<impl FnOnce(Vec<Node>) -> Node + use<>> {
    let ("matches", [_, Node::Constant(Val::Text(pattern))]) = (name, arguments) else {
        return None;
    };
    let pattern = compiled(pattern).ok()?;
    Some(move |mut nodes: Vec<Node>| Node::Matches(Box::new(nodes.swap_remove(0)), pattern))
}

/// A pattern out of a value.
fn compiled(pattern: &str) -> Result<Regex, Fault> {
    let read = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
    read.map_err(|_| Fault::failed(format!("error parsing regexp: {pattern:?}")))
}

/// A value as messages show it.
pub(super) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Text(text) => text.to_string(),
        other => conversion::text(other).unwrap_or_else(|| other.kind().to_owned()),
    }
}

const PATTERN_BYTES_MAX: usize = 1 << 20;
