//! What differs between two values of a type.

use std::collections::BTreeMap;

use serde_json::{Map as Object, Value};

use super::element::{Element, same};
use super::schema::{List, Map, Relation, Shape, Type};
use super::set::FieldSet;

/// The fields that are not the same in two values. No field is in two of the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Of the first one only.
    pub removed: FieldSet,
    /// Of both.
    pub modified: FieldSet,
    /// Of the second one only.
    pub added: FieldSet,
}

impl Comparison {
    /// What the second value has that the first had not, or had otherwise.
    pub fn changed(self) -> FieldSet {
        self.split().0
    }

    /// What changed, and what the second value has no more.
    pub(super) fn split(self) -> (FieldSet, FieldSet) {
        (self.modified.union(self.added), self.removed)
    }

    /// Puts what differs in a field, and below it, under its step.
    fn put(&mut self, element: Element, difference: Difference) {
        let Difference { here, below } = difference;
        for (set, below, mark) in [
            (&mut self.removed, below.removed, Here::Removed),
            (&mut self.modified, below.modified, Here::Modified),
            (&mut self.added, below.added, Here::Added),
        ] {
            set.add(&element, here == Some(mark), below);
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            removed: self.removed.union(other.removed),
            modified: self.modified.union(other.modified),
            added: self.added.union(other.added),
        }
    }

    /// The same about some of the fields.
    #[must_use]
    pub(super) fn filtered(self, filter: impl Fn(FieldSet) -> FieldSet) -> Self {
        Self {
            removed: filter(self.removed),
            modified: filter(self.modified),
            added: filter(self.added),
        }
    }
}

/// Compares two values of a type.
pub fn compare(of: Type<'_>, one: &Value, other: &Value) -> Comparison {
    value(of, Some(one), Some(other)).below
}

/// What differs in one field, and below it.
#[derive(Default)]
struct Difference {
    here: Option<Here>,
    below: Comparison,
}

/// What became of a field itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    Removed,
    Modified,
    Added,
}

fn value(of: Type<'_>, one: Option<&Value>, other: Option<&Value>) -> Difference {
    let atom = of.atom();
    let (leaf, mut found) = match (one, other) {
        (_, None) => shape(atom.shape(one), one, other),
        (None, _) => shape(atom.shape(other), one, other),
        (Some(_), Some(_)) => {
            let (first, second) = (atom.shape(one), atom.shape(other));
            let (leaf, mut found) = shape(second, one, other);
            if !first.is_like(&second) {
                let (_, as_first) = shape(first, one, other);
                found.here = found.here.or(as_first.here);
                found.below = found.below.union(as_first.below);
            }
            (leaf, found)
        }
    };
    if !leaf {
        found.here = found.here.or(match (one, other) {
            (None, _) => Some(Here::Added),
            (_, None) => Some(Here::Removed),
            _ => None,
        });
    }
    found
}

/// What differs, and whether it was one thing.
fn shape(shape: Shape<'_>, one: Option<&Value>, other: Option<&Value>) -> (bool, Difference) {
    match shape {
        Shape::Scalar(_) | Shape::Nothing => (true, leaf(one, other)),
        Shape::List(list) => {
            let (ones, others) = (list_of(one), list_of(other));
            if matches!(list.relation, Relation::Atomic) || (ones.is_empty() && others.is_empty()) {
                return (true, leaf(one, other));
            }
            (false, elements(&list, ones, others).into())
        }
        Shape::Map(map) => {
            let (ones, others) = (map_of(one), map_of(other));
            let empty = |fields: Option<&Object<String, Value>>| fields.is_none_or(Object::is_empty);
            if map.atomic || (empty(ones) && empty(others)) {
                return (true, leaf(one, other));
            }
            (false, fields(&map, ones, others).into())
        }
    }
}

fn leaf(one: Option<&Value>, other: Option<&Value>) -> Difference {
    let here = match (one, other) {
        (None, _) => Some(Here::Added),
        (_, None) => Some(Here::Removed),
        (Some(one), Some(other)) => (!same(one, other)).then_some(Here::Modified),
    };
    Difference {
        here,
        ..Difference::default()
    }
}

fn fields(
    map: &Map<'_>,
    ones: Option<&Object<String, Value>>,
    others: Option<&Object<String, Value>>,
) -> Comparison {
    let mut found = Comparison::default();
    let mut compared = |name: &str, one: Option<&Value>, other: Option<&Value>| {
        if one != other {
            found.put(Element::field(name), below(map.field(name), one, other));
        }
    };
    match (ones, others) {
        (Some(ones), Some(others)) if !ones.is_empty() => {
            // In their order, in which they are put fastest.
            let mut names: Vec<&String> = ones.keys().chain(others.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                compared(name, ones.get(name), others.get(name));
            }
        }
        (_, Some(others)) => others
            .iter()
            .for_each(|(name, other)| compared(name, None, Some(other))),
        (Some(ones), None) => ones
            .iter()
            .for_each(|(name, one)| compared(name, Some(one), None)),
        (None, None) => {}
    }
    found
}

fn elements(list: &List<'_>, ones: &[Value], others: &[Value]) -> Comparison {
    let mut elements: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for value in ones {
        if let Ok(element) = list.element_of(value) {
            elements.entry(element).or_default().0.push(value);
        }
    }
    for value in others {
        if let Ok(element) = list.element_of(value) {
            elements.entry(element).or_default().1.push(value);
        }
    }
    let mut found = Comparison::default();
    let below = |one, other| below(Some(list.element), one, other);
    for (element, (ones, others)) in elements {
        let difference = match (&ones[..], &others[..]) {
            ([one], [other]) if one == other => continue,
            ([], [_]) | ([_], [] | [_]) => below(ones.first().copied(), others.first().copied()),
            // Elements that cannot be told apart are one thing.
            ([_, _, ..], [_, _, ..]) => {
                let equal = ones.len() == others.len() && ones.iter().zip(&others).all(|(a, b)| same(a, b));
                Difference {
                    here: (!equal).then_some(Here::Modified),
                    ..Difference::default()
                }
            }
            ([_, _, ..], others) => {
                if let Some(other) = others.first() {
                    found.put(element.clone(), below(None, Some(other)));
                }
                Here::Removed.into()
            }
            (ones, [_, _, ..]) => {
                if let Some(one) = ones.first() {
                    found.put(element.clone(), below(Some(one), None));
                }
                Here::Added.into()
            }
            ([], []) => continue,
        };
        found.put(element, difference);
    }
    found
}

/// What a type does not declare is compared all the same.
fn below(of: Option<Type<'_>>, one: Option<&Value>, other: Option<&Value>) -> Difference {
    value(of.unwrap_or(Type::Deduced), one, other)
}

impl From<Comparison> for Difference {
    fn from(below: Comparison) -> Self {
        Self { here: None, below }
    }
}

impl From<Here> for Difference {
    fn from(here: Here) -> Self {
        Self {
            here: Some(here),
            ..Self::default()
        }
    }
}

pub(super) fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn map_of(value: Option<&Value>) -> Option<&Object<String, Value>> {
    value.and_then(Value::as_object)
}
