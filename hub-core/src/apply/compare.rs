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
    let mut walk = Walk {
        path: Vec::new(),
        found: Comparison::default(),
    };
    walk.value(of, Some(one), Some(other));
    walk.found
}

struct Walk {
    path: Vec<Element>,
    found: Comparison,
}

impl Walk {
    fn value(&mut self, of: Type<'_>, one: Option<&Value>, other: Option<&Value>) {
        let atom = of.atom();
        let leaf = match (one, other) {
            (_, None) => self.shape(atom.shape(one), one, other),
            (None, _) => self.shape(atom.shape(other), one, other),
            (Some(_), Some(_)) => {
                let (first, second) = (atom.shape(one), atom.shape(other));
                if !first.is_like(&second) {
                    self.shape(first, one, other);
                }
                self.shape(second, one, other)
            }
        };
        if !leaf {
            match (one, other) {
                (None, _) => self.found.added.insert(&self.path),
                (_, None) => self.found.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Whether it was one thing.
    fn shape(&mut self, shape: Shape<'_>, one: Option<&Value>, other: Option<&Value>) -> bool {
        match shape {
            Shape::Scalar(_) | Shape::Nothing => self.leaf(one, other),
            Shape::List(list) => {
                let (ones, others) = (list_of(one), list_of(other));
                if matches!(list.relation, Relation::Atomic) || (ones.is_empty() && others.is_empty()) {
                    return self.leaf(one, other);
                }
                self.list(&list, ones, others);
                false
            }
            Shape::Map(map) => {
                let (ones, others) = (map_of(one), map_of(other));
                let empty = |fields: Option<&Object<String, Value>>| fields.is_none_or(Object::is_empty);
                if map.atomic || (empty(ones) && empty(others)) {
                    return self.leaf(one, other);
                }
                self.map(&map, ones, others);
                false
            }
        }
    }

    fn leaf(&mut self, one: Option<&Value>, other: Option<&Value>) -> bool {
        match (one, other) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(one), Some(other)) if !same(one, other) => self.found.modified.insert(&self.path),
            _ => {}
        }
        true
    }

    fn map(
        &mut self,
        map: &Map<'_>,
        ones: Option<&Object<String, Value>>,
        others: Option<&Object<String, Value>>,
    ) {
        let in_other = |name: &str| others.and_then(|others| others.get(name));
        for (name, value) in ones.into_iter().flatten() {
            let other = in_other(name);
            if other != Some(value) {
                self.below(Element::field(name), map.field(name), Some(value), other);
            }
        }
        for (name, value) in others.into_iter().flatten() {
            if ones.is_none_or(|ones| !ones.contains_key(name)) {
                self.below(Element::field(name), map.field(name), None, Some(value));
            }
        }
    }

    fn list(&mut self, list: &List<'_>, ones: &[Value], others: &[Value]) {
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
        let of = Some(list.element);
        for (element, (ones, others)) in elements {
            match (&ones[..], &others[..]) {
                ([one], [other]) if one == other => {}
                ([], [_]) | ([_], [] | [_]) => {
                    self.below(element, of, ones.first().copied(), others.first().copied());
                }
                // Elements that cannot be told apart are one thing.
                ([_, _, ..], [_, _, ..]) => {
                    let equal =
                        ones.len() == others.len() && ones.iter().zip(&others).all(|(a, b)| same(a, b));
                    if !equal {
                        self.at(element, |walk| walk.found.modified.insert(&walk.path));
                    }
                }
                ([_, _, ..], others) => {
                    if let Some(other) = others.first() {
                        self.below(element.clone(), of, None, Some(other));
                    }
                    self.at(element, |walk| walk.found.removed.insert(&walk.path));
                }
                (ones, [_, _, ..]) => {
                    if let Some(one) = ones.first() {
                        self.below(element.clone(), of, Some(one), None);
                    }
                    self.at(element, |walk| walk.found.added.insert(&walk.path));
                }
                ([], []) => {}
            }
        }
    }

    fn below(&mut self, element: Element, of: Option<Type<'_>>, one: Option<&Value>, other: Option<&Value>) {
        // What a type does not declare is compared all the same.
        self.at(element, |walk| {
            walk.value(of.unwrap_or(Type::Deduced), one, other)
        });
    }

    fn at(&mut self, element: Element, then: impl FnOnce(&mut Self)) {
        self.path.push(element);
        then(self);
        self.path.pop();
    }
}

pub(super) fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn map_of(value: Option<&Value>) -> Option<&Object<String, Value>> {
    value.and_then(Value::as_object)
}
