//! CEL, as the rules of custom kinds are written in it (`x-kubernetes-validations`).
//!
//! The text is read by the parser of the crate `cel`. Types, functions and evaluation are here: a rule runs in the writer, so it must
//! have types (a rule that can never hold is refused with its definition, as a kube-apiserver does) and a budget, and the crate's
//! interpreter has neither (decision 0028).

mod check;
mod evaluate;
mod functions;
mod macros;
mod names;
mod node;
mod operators;
mod parse;
mod types;
mod value;

use serde_json::Value;

use evaluate::Run;
pub(in crate::cluster::embedded) use evaluate::{Budget, Fault};
use node::Node;
pub(super) use types::Type;
use value::Val;

/// An expression that was read and fits the types of its variables.
#[derive(Debug)]
pub(super) struct Program {
    node: Node,
    /// Whether it asks how things were before.
    pub(super) uses_old: bool,
}

/// Why there is no program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The text is wrong, as `cel-go` says it. The author's move.
    Wrong(String),
    /// It is of another type than wanted.
    OtherType,
    /// It calls what a kube-apiserver has and this cluster has not.
    Unknown(&'static str),
}

impl Program {
    /// Reads an expression over `self` and `oldSelf`, which must be of the type wanted.
    pub(super) fn new(text: &str, of: &Type, old_is_optional: bool, wanted: &Type) -> Result<Self, Refused> {
        let old = if old_is_optional {
            Type::optional(of.clone())
        } else {
            of.clone()
        };
        let mut unknown = None;
        let read = parse::parse(text, |tree, places| {
            let variables = vec![("self".to_owned(), of.clone()), ("oldSelf".to_owned(), old)];
            let mut checker = check::Checker::new(variables, places);
            let (node, found) = checker.check(tree);
            unknown = checker.unknown;
            if unknown.is_some() {
                return Ok(None);
            }
            for issues in [checker.issues, checker.late_issues] {
                if !issues.is_empty() {
                    return Err(issues);
                }
            }
            let uses_old = checker.uses_old;
            Ok(Some((Program { node, uses_old }, found)))
        });
        match (read, unknown) {
            (_, Some(name)) => Err(Refused::Unknown(name)),
            (Err(text), None) => Err(Refused::Wrong(text)),
            (Ok(Some((program, found))), None) if same(wanted, &found) => Ok(program),
            (Ok(_), None) => Err(Refused::OtherType),
        }
    }

    /// Whether it holds.
    pub(super) fn holds(
        &self,
        of: &Type,
        value: &Value,
        old: Old<'_>,
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        match self.run(of, value, old, budget)? {
            Val::Bool(holds) => Ok(holds),
            _ => Err(Fault::failed("no such overload")),
        }
    }

    /// The text that it makes.
    pub(super) fn text(
        &self,
        of: &Type,
        value: &Value,
        old: Old<'_>,
        budget: &mut Budget,
    ) -> Result<String, Fault> {
        match self.run(of, value, old, budget)? {
            Val::Text(text) => Ok(text.into_owned()),
            _ => Err(Fault::failed("no such overload")),
        }
    }

    fn run<'a>(
        &'a self,
        of: &'a Type,
        value: &'a Value,
        old: Old<'a>,
        budget: &mut Budget,
    ) -> Result<Val<'a>, Fault> {
        let mut run = Run::new(budget);
        run.push(Val::read(value, of)?);
        run.push(match old {
            Old::Is(old) => Val::read(old, of)?,
            Old::Perhaps(None) => Val::Optional(None),
            Old::Perhaps(Some(old)) => Val::some(Val::read(old, of)?),
        });
        let made = run.evaluate(&self.node);
        budget.steps = run.left_of_all();
        made
    }
}

/// How things were before.
#[derive(Clone, Copy)]
pub(super) enum Old<'a> {
    /// As they are now, for a rule that does not ask.
    Is(&'a Value),
    /// An optional, for a rule that is also held against what is new.
    Perhaps(Option<&'a Value>),
}

fn same(wanted: &Type, found: &Type) -> bool {
    std::mem::discriminant(wanted) == std::mem::discriminant(found)
}

#[cfg(test)]
mod tests;
