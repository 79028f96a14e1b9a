//! Evaluation, within a budget.

use std::sync::Arc;

use super::functions::{self, Overload};
use super::node::{Each, EachKind, IfThere, Node};
use super::value::{self, Val};

/// What the rules of one object may still cost. A step is about what a node of an expression costs.
#[derive(Debug, Clone, Copy)]
pub(in crate::cluster::embedded) struct Budget {
    pub(in crate::cluster::embedded) steps: u64,
    /// Of one expression.
    pub(in crate::cluster::embedded) steps_each: u64,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum Fault {
    /// It costs more than one expression may.
    TooDear,
    /// The expressions of the object together do.
    Spent,
    /// In the words of `cel-go`.
    Failed(String),
}

impl Fault {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }
}

pub(super) type Outcome<'a> = Result<Val<'a>, Fault>;

/// One evaluation.
pub(super) struct Run<'a> {
    variables: Vec<Val<'a>>,
    /// Of this expression.
    left: u64,
    /// Of the whole object.
    left_of_all: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            variables: Vec::new(),
            left: budget.steps_each,
            left_of_all: budget.steps,
        }
    }

    /// What is left of the budget.
    pub(super) fn left_of_all(&self) -> u64 {
        self.left_of_all
    }

    pub(super) fn push(&mut self, value: Val<'a>) {
        self.variables.push(value);
    }

    /// Takes steps out of the budget.
    pub(super) fn pay(&mut self, steps: usize) -> Result<(), Fault> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.left_of_all = self.left_of_all.checked_sub(steps).ok_or(Fault::Spent)?;
        self.left = self.left.checked_sub(steps).ok_or(Fault::TooDear)?;
        Ok(())
    }

    pub(super) fn evaluate(&mut self, node: &'a Node) -> Outcome<'a> {
        self.pay(1)?;
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Variable(place) => {
                let found = self.variables.get(*place).cloned();
                found.ok_or_else(|| Fault::failed("no such attribute(s)"))
            }
            Node::Field(of, name) => {
                let of = self.evaluate(of)?;
                self.field(&of, name)
            }
            Node::Has(of, name) => match self.evaluate(of)? {
                Val::Optional(None) => Ok(Val::Bool(false)),
                Val::Optional(Some(of)) => Ok(Val::Bool(there(of.field(name)))),
                of => Ok(Val::Bool(there(of.field(name)))),
            },
            Node::FieldIfThere(of, name) => {
                let of = match self.evaluate(of)? {
                    Val::Optional(None) => return Ok(Val::Optional(None)),
                    Val::Optional(Some(of)) => of.as_ref().clone(),
                    of => of,
                };
                of.field(name).transpose().map(optional)
            }
            Node::Element(of, index) => {
                let (of, index) = (self.evaluate(of)?, self.evaluate(index)?);
                self.element(&of, &index)
            }
            Node::ElementIfThere(of, index) => {
                let (of, index) = (self.evaluate(of)?, self.evaluate(index)?);
                match self.element(&of, &index) {
                    Ok(Val::Optional(inner)) => Ok(Val::Optional(inner)),
                    Ok(found) => Ok(Val::some(found)),
                    Err(Fault::Failed(_)) => Ok(Val::Optional(None)),
                    Err(fault) => Err(fault),
                }
            }
            Node::And(a, b) => self.both(a, b, false),
            Node::Or(a, b) => self.both(a, b, true),
            Node::If(condition, yes, no) => match self.evaluate(condition)? {
                Val::Bool(true) => self.evaluate(yes),
                Val::Bool(false) => self.evaluate(no),
                _ => Err(no_overload()),
            },
            Node::Equal(a, b) => {
                let (a, b) = (self.evaluate(a)?, self.evaluate(b)?);
                a.equals(&b, self).map(Val::Bool)
            }
            Node::Unequal(a, b) => {
                let (a, b) = (self.evaluate(a)?, self.evaluate(b)?);
                a.equals(&b, self).map(|equal| Val::Bool(!equal))
            }
            Node::In(one, all) => {
                let (one, all) = (self.evaluate(one)?, self.evaluate(all)?);
                let found = match (&all, &one) {
                    (Val::Object(..), Val::Text(name)) => all.field(name).is_some(),
                    (Val::Object(..) | Val::Map(_), _) => {
                        let keys: Vec<_> = all.entries(self)?.into_iter().map(|(key, _)| key).collect();
                        value::contains(&keys, &one, self)?
                    }
                    (Val::Array(..) | Val::List(_), _) => {
                        let all = all.elements(self)?;
                        value::contains(&all, &one, self)?
                    }
                    _ => return Err(no_overload()),
                };
                Ok(Val::Bool(found))
            }
            Node::Matches(text, pattern) => match self.evaluate(text)? {
                Val::Text(text) => {
                    self.pay(text.len() / 4)?;
                    Ok(Val::Bool(pattern.is_match(&text)))
                }
                _ => Err(no_overload()),
            },
            Node::Call(overloads, arguments) => {
                let arguments = arguments.iter().map(|argument| self.evaluate(argument));
                let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                self.call(overloads, &arguments)
            }
            Node::List(elements) => {
                let mut all = Vec::with_capacity(elements.len());
                for (element, if_there) in elements {
                    match (self.evaluate(element)?, if_there) {
                        (Val::Optional(value), true) => all.extend(value.map(|value| value.as_ref().clone())),
                        (value, _) => all.push(value),
                    }
                }
                Ok(Val::list(all))
            }
            Node::Map(entries) => {
                let mut all: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
                for (key, value, if_there) in entries {
                    let key = self.evaluate(key)?;
                    let value = match (self.evaluate(value)?, if_there) {
                        (Val::Optional(None), true) => continue,
                        (Val::Optional(Some(value)), true) => value.as_ref().clone(),
                        (value, _) => value,
                    };
                    for (other, _) in &all {
                        if other.equals(&key, self)? {
                            return Err(Fault::failed("Failed with repeated key"));
                        }
                    }
                    all.push((key, value));
                }
                Ok(Val::Map(Arc::new(all)))
            }
            Node::Each(each) => self.each(each),
            Node::IfThere(if_there) => self.if_there(if_there),
        }
    }

    fn field(&mut self, of: &Val<'a>, name: &str) -> Outcome<'a> {
        if let Val::Optional(inner) = of {
            let found = inner.as_ref().and_then(|of| of.field(name)).transpose()?;
            return Ok(optional(found));
        }
        match of.field(name) {
            Some(found) => found,
            None if matches!(of, Val::Object(..) | Val::Map(_)) => {
                Err(Fault::failed(format!("no such key: {name}")))
            }
            None => Err(no_overload()),
        }
    }

    fn element(&mut self, of: &Val<'a>, index: &Val<'a>) -> Outcome<'a> {
        match (of, index) {
            (Val::Optional(None), _) => Ok(Val::Optional(None)),
            (Val::Optional(Some(of)), index) => match self.element(of, index) {
                Ok(found) => Ok(Val::some(found)),
                Err(Fault::Failed(_)) => Ok(Val::Optional(None)),
                Err(fault) => Err(fault),
            },
            (Val::Array(..) | Val::List(_), index) => {
                let place = match index {
                    Val::Int(index) => usize::try_from(*index).ok(),
                    Val::Uint(index) => usize::try_from(*index).ok(),
                    _ => return Err(no_overload()),
                };
                let found = place.and_then(|place| of.element(place));
                found.unwrap_or_else(|| {
                    Err(Fault::failed(format!(
                        "index out of bounds: {}",
                        functions::shown(index)
                    )))
                })
            }
            (Val::Object(..) | Val::Map(_), Val::Text(key)) => of
                .field(key)
                .unwrap_or_else(|| Err(Fault::failed(format!("no such key: {key}")))),
            (Val::Map(_), key) => {
                for (other, value) in of.entries(self)? {
                    if other.equals(key, self)? {
                        return Ok(value);
                    }
                }
                Err(Fault::failed(format!("no such key: {}", functions::shown(key))))
            }
            _ => Err(no_overload()),
        }
    }

    /// `&&` and `||`: what one side decides, the other cannot spoil.
    fn both(&mut self, a: &'a Node, b: &'a Node, decides: bool) -> Outcome<'a> {
        let first = self.evaluate(a);
        match first {
            Ok(Val::Bool(value)) if value == decides => return Ok(Val::Bool(decides)),
            Err(Fault::TooDear | Fault::Spent) => return first,
            _ => {}
        }
        match (first, self.evaluate(b)) {
            (_, Ok(Val::Bool(value))) if value == decides => Ok(Val::Bool(decides)),
            (_, Err(fault @ (Fault::TooDear | Fault::Spent))) | (Err(fault), _) => Err(fault),
            (_, Err(fault)) => Err(fault),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!decides)),
            _ => Err(no_overload()),
        }
    }

    pub(super) fn call(&mut self, overloads: &[&'static Overload], arguments: &[Val<'a>]) -> Outcome<'a> {
        let overload = overloads.iter().find(|overload| overload.fits(arguments));
        let overload = overload.ok_or_else(no_overload)?;
        (overload.apply)(self, arguments)
    }

    fn each(&mut self, each: &'a Each) -> Outcome<'a> {
        let range = self.evaluate(&each.range)?;
        let entries: Vec<(Val<'a>, Val<'a>)> = match &range {
            Val::Object(..) | Val::Map(_) => range.entries(self)?,
            Val::Array(..) | Val::List(_) => {
                let elements = range.elements(self)?.into_iter().enumerate();
                let index = |index: usize| Val::Int(i64::try_from(index).unwrap_or(i64::MAX));
                elements.map(|(place, element)| (index(place), element)).collect()
            }
            _ => return Err(no_overload()),
        };
        let of_map = matches!(range, Val::Object(..) | Val::Map(_));
        let base = self.variables.len();
        let (mut list, mut map, mut count) = (Vec::new(), Vec::new(), 0_u32);
        let mut failed = None;
        for (key, value) in entries {
            self.pay(1)?;
            let shown = if of_map { key.clone() } else { value.clone() };
            self.variables.truncate(base);
            if each.pairs {
                self.variables.push(key.clone());
                self.variables.push(value);
            } else {
                self.variables.push(shown.clone());
            }
            if let Some(filter) = &each.filter {
                match self.evaluate(filter)? {
                    Val::Bool(true) => {}
                    Val::Bool(false) => continue,
                    _ => return Err(no_overload()),
                }
            }
            match (each.kind, self.evaluate(&each.body)) {
                (_, Err(fault @ (Fault::TooDear | Fault::Spent))) => return Err(fault),
                (EachKind::All, Ok(Val::Bool(false))) => {
                    self.variables.truncate(base);
                    return Ok(Val::Bool(false));
                }
                (EachKind::Exists, Ok(Val::Bool(true))) => {
                    self.variables.truncate(base);
                    return Ok(Val::Bool(true));
                }
                (EachKind::All | EachKind::Exists, Ok(Val::Bool(_))) => {}
                // Another element may still decide.
                (EachKind::All | EachKind::Exists, Err(fault)) => failed = failed.or(Some(fault)),
                (_, Err(fault)) => return Err(fault),
                (EachKind::List, Ok(value)) => list.push(value),
                (EachKind::Map, Ok(value)) => map.push((key, value)),
                (EachKind::Filter, Ok(Val::Bool(true))) => list.push(shown),
                (EachKind::ExistsOne, Ok(Val::Bool(true))) => count += 1,
                (EachKind::Filter | EachKind::ExistsOne, Ok(Val::Bool(false))) => {}
                _ => return Err(no_overload()),
            }
        }
        self.variables.truncate(base);
        match (each.kind, failed) {
            (_, Some(fault)) => Err(fault),
            (EachKind::All, _) => Ok(Val::Bool(true)),
            (EachKind::Exists, _) => Ok(Val::Bool(false)),
            (EachKind::ExistsOne, _) => Ok(Val::Bool(count == 1)),
            (EachKind::Filter | EachKind::List, _) => Ok(Val::list(list)),
            (EachKind::Map, _) => Ok(Val::Map(Arc::new(map))),
        }
    }

    fn if_there(&mut self, if_there: &'a IfThere) -> Outcome<'a> {
        let value = match self.evaluate(&if_there.of)? {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(value)) => value.as_ref().clone(),
            _ => return Err(no_overload()),
        };
        self.variables.push(value);
        let made = self.evaluate(&if_there.body);
        self.variables.pop();
        let made = made?;
        Ok(if if_there.flat { made } else { Val::some(made) })
    }
}

/// None of the functions of the name takes these.
pub(super) fn no_overload() -> Fault {
    Fault::failed("no such overload")
}

/// What is `null` was not left out, but is nothing either.
fn there(found: Option<Outcome<'_>>) -> bool {
    found.is_some()
}

fn optional(found: Option<Val<'_>>) -> Val<'_> {
    Val::Optional(found.map(Arc::new))
}
