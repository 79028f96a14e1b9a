//! What stands in a value: the set of its fields, and whether it is of its type at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map as Object, Value};

use super::element::Element;
use super::schema::{List, Map, Relation, Scalar, Shape, Type};
use super::set::FieldSet;

/// A value is not of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct TypeErrors(Vec<(String, String)>);

/// Every leaf of a value, and every element of a list that is told from the others.
pub fn field_set(of: Type<'_>, value: &Value) -> FieldSet {
    match of.atom().shape(Some(value)) {
        Shape::List(list) if !matches!(list.relation, Relation::Atomic) => elements(&list, value),
        Shape::Map(map) if !map.atomic => {
            let mut set = FieldSet::default();
            for (name, value) in value.as_object().into_iter().flatten() {
                let below = map.field(name).map(|of| below(of, value)).unwrap_or_default();
                let empty = value.is_null() || value.as_object().is_some_and(Object::is_empty);
                let member = below.member || empty || map.declared(name).is_none();
                set.put(Element::field(name), member, below.set);
            }
            set
        }
        _ => FieldSet::default(),
    }
}

/// What is below a step, and whether the step is a leaf itself.
#[derive(Default)]
struct Below {
    member: bool,
    set: FieldSet,
}

fn below(of: Type<'_>, value: &Value) -> Below {
    let member = match of.atom().shape(Some(value)) {
        Shape::Scalar(_) => true,
        Shape::List(list) => matches!(list.relation, Relation::Atomic),
        Shape::Map(map) => map.atomic,
        Shape::Nothing => false,
    };
    Below {
        member,
        set: field_set(of, value),
    }
}

fn elements(list: &List<'_>, value: &Value) -> FieldSet {
    let mut seen: BTreeMap<Element, u32> = BTreeMap::new();
    let elements: Vec<_> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| Some((list.element_of(value).ok()?, value)))
        .collect();
    for (element, _) in &elements {
        *seen.entry(element.clone()).or_default() += 1;
    }
    let steps = elements.into_iter().map(|(element, value)| {
        // Of elements that cannot be told apart, nothing is known but that they are there.
        let set_below = match seen.get(&element) {
            Some(1) => below(list.element, value).set,
            _ => FieldSet::default(),
        };
        (element, true, set_below)
    });
    FieldSet::of_steps(steps.collect())
}

/// The same set, with the declared fields of structs that are above others in it.
pub(super) fn with_named_fields(of: Type<'_>, set: &FieldSet) -> FieldSet {
    let atom = of.atom();
    let mut named = FieldSet::default();
    for (element, member, below) in set.steps() {
        let (declared, inner) = match element {
            Element::Field(name) => {
                let field = atom.map.and_then(|map| map.field(name));
                (atom.map.is_some_and(|map| map.declared(name).is_some()), field)
            }
            _ => (false, atom.list.map(|list| list.element)),
        };
        let member = member || (declared && !below.is_empty());
        let below = inner.map_or_else(|| below.clone(), |of| with_named_fields(of, below));
        named.put(element.clone(), member, below);
    }
    named
}

impl List<'_> {
    /// What tells an element of the list from the others.
    pub(super) fn element_of(&self, value: &Value) -> Result<Element, String> {
        let Relation::Keys(keys) = self.relation else {
            return match value {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                scalar => Ok(Element::Value(scalar.clone())),
            };
        };
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let default = |name: &str| self.element.atom().map?.default(name);
        let mut key: Vec<(Box<str>, Value)> = keys
            .names()
            .filter_map(|name| Some((name.into(), fields.get(name).cloned().or_else(|| default(name))?)))
            .collect();
        key.sort_by(|(one, _), (other, _)| one.cmp(other));
        key.dedup_by(|(one, _), (other, _)| one == other);
        if key.is_empty() {
            let names: Vec<_> = keys.names().map(|name| format!("{name:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(Element::Key(key))
    }
}

/// Whether a value is of its type. Elements that are there twice are refused unless `duplicates` says that they may be.
pub fn check(of: Type<'_>, value: &Value, duplicates: bool) -> Result<(), TypeErrors> {
    let mut check = Check {
        duplicates,
        errors: Vec::new(),
    };
    check.value(of, value, &Path::Top);
    if check.errors.is_empty() {
        Ok(())
    } else {
        Err(TypeErrors(check.errors))
    }
}

struct Check {
    duplicates: bool,
    errors: Vec<(String, String)>,
}

/// Where in an object something stands: written out only for who is told of an error.
enum Path<'a> {
    Top,
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, &'a Element),
}

impl Check {
    fn value(&mut self, of: Type<'_>, value: &Value, path: &Path<'_>) {
        if value.is_null() {
            return;
        }
        match of.atom().shape(Some(value)) {
            Shape::Scalar(scalar) => {
                if let Some(error) = scalar_error(scalar, value) {
                    self.wrong(path, error);
                }
            }
            Shape::List(list) => self.list(&list, value, path),
            Shape::Map(map) => self.map(&map, value, path),
            Shape::Nothing => self.wrong(path, "schema error: invalid atom".into()),
        }
    }

    fn list(&mut self, list: &List<'_>, value: &Value, path: &Path<'_>) {
        let Value::Array(elements) = value else {
            return self.wrong(path, format!("expected list, got &{{{}}}", go(value)));
        };
        let mut seen = BTreeSet::new();
        for (index, value) in elements.iter().enumerate() {
            if matches!(list.relation, Relation::Atomic) {
                let element = Element::Index(i64::try_from(index).unwrap_or(i64::MAX));
                self.value(list.element, value, &Path::Element(path, &element));
                continue;
            }
            let element = match list.element_of(value) {
                Ok(element) => element,
                Err(why) => return self.wrong(path, format!("element {index}: {why}")),
            };
            self.value(list.element, value, &Path::Element(path, &element));
            if seen.contains(&element) && !self.duplicates {
                self.wrong(path, format!("duplicate entries for key {element}"));
            }
            seen.insert(element);
        }
    }

    fn map(&mut self, map: &Map<'_>, value: &Value, path: &Path<'_>) {
        let Value::Object(fields) = value else {
            return self.wrong(path, format!("expected map, got &{{{}}}", go(value)));
        };
        for (name, value) in fields {
            let path = Path::Field(path, name);
            match map.field(name) {
                Some(of) => self.value(of, value, &path),
                None => return self.wrong(&path, "field not declared in schema".into()),
            }
        }
    }

    fn wrong(&mut self, path: &Path<'_>, error: String) {
        self.errors.push((path.to_string(), error));
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Element(above, element) => write!(f, "{above}{element}"),
        }
    }
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (Scalar::Number, Value::Number(_))
        | (Scalar::Text, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_)) => None,
        (Scalar::Untyped, Value::Number(_) | Value::String(_) | Value::Bool(_)) => None,
        (Scalar::Number, _) => {
            let found = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            Some(format!("expected numeric (int or float), got {found}"))
        }
        (Scalar::Text, _) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(value)
        )),
        (Scalar::Boolean, _) => Some(format!("expected boolean, got &{{{}}}", go(value))),
        (Scalar::Untyped, _) => Some(format!("expected any scalar, got &{{{}}}", go(value))),
    }
}

fn shown(errors: &[(String, String)]) -> String {
    let one = |(path, error): &(String, String)| {
        if path.is_empty() {
            error.clone()
        } else {
            format!("{path}: {error}")
        }
    };
    match errors {
        [error] => one(error),
        errors => {
            let lines: Vec<_> = errors.iter().map(|error| format!("\n  {}", one(error))).collect();
            format!("errors:{}", lines.concat())
        }
    }
}

/// As Go prints a value with `%v`.
pub(crate) fn go(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", go(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(go).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

/// As Go prints a value with `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        Value::Array(values) => {
            format!(
                "[]interface {{}}{{{}}}",
                values.iter().map(go_syntax).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}
