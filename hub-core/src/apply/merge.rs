//! Two values of a type as one, and values without some of their fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map as Object, Value};

use super::compare::{list_of, map_of};
use super::element::Element;
use super::schema::{List, Map, Relation, Shape, Type};
use super::set::FieldSet;

/// Merges what was applied into what is there. Nothing is taken away; where both say something, what was applied holds.
pub fn merge(of: Type<'_>, live: &Value, applied: &Value) -> Value {
    merged(of, Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn merged(of: Type<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let leaf = || applied.or(live).cloned();
    match of.atom().shape(applied.or(live)) {
        Shape::Scalar(_) | Shape::Nothing => leaf(),
        Shape::List(list) => {
            let (ones, others) = (list_of(live), list_of(applied));
            if matches!(list.relation, Relation::Atomic) || (ones.is_empty() && others.is_empty()) {
                return leaf();
            }
            let elements = merged_list(&list, ones, others);
            (!elements.is_empty()).then_some(Value::Array(elements))
        }
        Shape::Map(map) => {
            let (ones, others) = (map_of(live), map_of(applied));
            let empty = |fields: Option<&Object<String, Value>>| fields.is_none_or(Object::is_empty);
            if map.atomic || (empty(ones) && empty(others)) {
                return leaf();
            }
            let fields = merged_map(&map, ones, others);
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
    }
}

fn merged_map(
    map: &Map<'_>,
    live: Option<&Object<String, Value>>,
    applied: Option<&Object<String, Value>>,
) -> Object<String, Value> {
    let names: BTreeSet<&String> = [live, applied]
        .into_iter()
        .flatten()
        .flat_map(|fields| fields.keys())
        .collect();
    let merged = names.into_iter().filter_map(|name| {
        let value =
            |fields: Option<&'_ Object<String, Value>>| fields.and_then(|fields| fields.get(name)).cloned();
        let (live, applied) = (value(live), value(applied));
        let of = map.field(name).unwrap_or(Type::Deduced);
        Some((name.clone(), self::merged(of, live.as_ref(), applied.as_ref())?))
    });
    merged.collect()
}

/// The elements of both. Those that were applied come in their order; the others keep their places before those that stood behind them.
fn merged_list(list: &List<'_>, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let index = |values: &[Value]| -> Vec<(Element, Value)> {
        let known = values
            .iter()
            .filter_map(|value| Some((list.element_of(value).ok()?, value.clone())));
        known.collect()
    };
    let (left, right) = (index(live), index(applied));
    // One that is there twice is not merged with anything.
    let mut found: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, value) in &left {
        found
            .entry(element)
            .and_modify(|value| *value = None)
            .or_insert(Some(value));
    }
    let applied: BTreeMap<&Element, &Value> = right.iter().map(|(element, value)| (element, value)).collect();
    let mut shared = right
        .iter()
        .map(|(element, _)| element)
        .filter(|element| found.contains_key(element));
    let mut next_shared = shared.next();
    let (mut out, mut done) = (Vec::new(), BTreeSet::new());
    let both = |element: &Element, out: &mut Vec<Value>| {
        let live = found.get(element).copied().flatten();
        out.extend(merged(list.element, live, applied.get(element).copied()));
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((one, _)), Some((other, _))) = (left.get(l), right.get(r)) {
            if one == other {
                done.insert(one);
                both(one, &mut out);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if applied.contains_key(one) && next_shared.is_some_and(|next| next != one) {
                // It comes later, where it was applied.
                l += 1;
                continue;
            }
        }
        if let Some((one, value)) = left.get(l) {
            if !applied.contains_key(one) {
                out.push(value.clone());
                l += 1;
                continue;
            }
            if done.contains(one) {
                l += 1;
            }
        }
        if let Some((other, _)) = right.get(r) {
            done.insert(other);
            both(other, &mut out);
            r += 1;
            if next_shared == Some(other) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// A value without some of its fields and elements. What is left of a map or list from which all was taken as a whole is null; one
/// that lost only what was within its parts stays, empty.
pub(super) fn without(of: Type<'_>, value: &Value, fields: &FieldSet) -> Value {
    match of.atom().shape(Some(value)) {
        Shape::Scalar(_) | Shape::Nothing => value.clone(),
        Shape::List(list) => {
            let Value::Array(elements) = value else {
                return Value::Null;
            };
            if matches!(list.relation, Relation::Atomic) {
                return Value::Null;
            }
            let mut within = false;
            let kept: Vec<Value> = elements
                .iter()
                .filter_map(|value| {
                    let Ok(element) = list.element_of(value) else {
                        return Some(value.clone());
                    };
                    match fields.below(&element) {
                        _ if fields.has(&element) => None,
                        Some(below) => {
                            within = true;
                            Some(part_without(list.element, value, below))
                        }
                        None => Some(value.clone()),
                    }
                })
                .collect();
            if kept.is_empty() && !within {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        Shape::Map(map) => {
            let Value::Object(held) = value else {
                return Value::Null;
            };
            if map.atomic {
                return Value::Null;
            }
            let mut within = false;
            let kept: Object<String, Value> = held
                .iter()
                .filter_map(|(name, value)| {
                    let element = Element::field(name);
                    let kept = match fields.below(&element) {
                        _ if fields.has(&element) => return None,
                        Some(below) => {
                            within = true;
                            part_without(map.field(name).unwrap_or(Type::Deduced), value, below)
                        }
                        None => value.clone(),
                    };
                    Some((name.clone(), kept))
                })
                .collect();
            if kept.is_empty() && !within {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
    }
}

/// A part that loses what is within it, but is not taken itself.
fn part_without(of: Type<'_>, value: &Value, fields: &FieldSet) -> Value {
    match (without(of, value, fields), value) {
        (Value::Null, Value::Object(_)) => Value::Object(Object::new()),
        (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
        (left, _) => left,
    }
}
