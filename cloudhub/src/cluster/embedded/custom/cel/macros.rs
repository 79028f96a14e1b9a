//! Macros: what looks like a function and binds a variable, or looks at a field that may not be there.

use cel::common::ast::{CallExpr, Expr, IdedExpr};

use super::check::{Checked, Checker};
use super::node::{Each, EachKind, IfThere, Node};
use super::types::Type;

impl Checker<'_> {
    /// None where the call is no macro.
    pub(super) fn called_macro(&mut self, tree: &IdedExpr, call: &CallExpr) -> Option<Checked> {
        let arguments = &call.args[..];
        let Some(target) = call.target.as_deref() else {
            return match (call.func_name.as_str(), arguments) {
                ("has", [of]) => Some(self.has(tree, of)),
                _ => None,
            };
        };
        let (kind, variables, rest) = match (call.func_name.as_str(), arguments) {
            ("all", [a, body]) => (EachKind::All, &[a][..], (None, body)),
            ("exists", [a, body]) => (EachKind::Exists, &[a][..], (None, body)),
            ("exists_one" | "existsOne", [a, body]) => (EachKind::ExistsOne, &[a][..], (None, body)),
            ("filter", [a, body]) => (EachKind::Filter, &[a][..], (None, body)),
            ("map", [a, body]) => (EachKind::List, &[a][..], (None, body)),
            ("map", [a, filter, body]) => (EachKind::List, &[a][..], (Some(filter), body)),
            ("all", [a, b, body]) => (EachKind::All, &[a, b][..], (None, body)),
            ("exists", [a, b, body]) => (EachKind::Exists, &[a, b][..], (None, body)),
            ("exists_one" | "existsOne", [a, b, body]) => (EachKind::ExistsOne, &[a, b][..], (None, body)),
            ("transformList", [a, b, body]) => (EachKind::List, &[a, b][..], (None, body)),
            ("transformList", [a, b, filter, body]) => (EachKind::List, &[a, b][..], (Some(filter), body)),
            ("transformMap", [a, b, body]) => (EachKind::Map, &[a, b][..], (None, body)),
            ("transformMap", [a, b, filter, body]) => (EachKind::Map, &[a, b][..], (Some(filter), body)),
            ("optMap", [variable, body]) => return Some(self.if_there(tree, target, variable, body, false)),
            ("optFlatMap", [variable, body]) => {
                return Some(self.if_there(tree, target, variable, body, true));
            }
            _ => return None,
        };
        let names = variables.iter().map(|variable| match &variable.expr {
            Expr::Ident(name) => Ok(name.clone()),
            _ => Err(*variable),
        });
        match names.collect::<Result<Vec<_>, _>>() {
            Ok(names) => Some(self.each(tree, kind, target, &names, rest)),
            Err(variable) => Some(self.wrong(variable, "argument must be a simple name")),
        }
    }

    fn has(&mut self, tree: &IdedExpr, of: &IdedExpr) -> Checked {
        let Expr::Select(_) = &of.expr else {
            return self.wrong(of, "invalid argument to has() macro");
        };
        match self.check(of).0 {
            Node::Field(of, name) => (Node::Has(of, name), Type::Bool),
            Node::Constant(_) => (Node::Constant(super::value::Val::Null), Type::Bool),
            _ => self.wrong(tree, "invalid argument to has() macro"),
        }
    }

    fn each(
        &mut self,
        tree: &IdedExpr,
        kind: EachKind,
        range: &IdedExpr,
        names: &[String],
        (filter, body): (Option<&IdedExpr>, &IdedExpr),
    ) -> Checked {
        let pairs = names.len() == 2;
        let (of_range, found) = self.check(range);
        let types = match &found {
            Type::List(of, _) if pairs => vec![Type::Int, of.as_ref().clone()],
            Type::List(of, _) => vec![of.as_ref().clone()],
            Type::Map(key, value) if pairs => vec![key.as_ref().clone(), value.as_ref().clone()],
            Type::Map(key, _) => vec![key.as_ref().clone()],
            Type::Dyn => vec![Type::Dyn; names.len()],
            // The fields of an object with a schema cannot be walked.
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.wrong(range, &text);
                vec![Type::Dyn; names.len()]
            }
        };
        let key = types[0].clone();
        let base = self.variables.len();
        self.variables.extend(names.iter().cloned().zip(types));
        let filter = filter.map(|filter| {
            let (node, found) = self.check(filter);
            self.must_be_bool(filter, &found);
            node
        });
        let (body_node, of_body) = self.check(body);
        self.variables.truncate(base);
        match kind {
            EachKind::All | EachKind::Exists => self.must_be_bool(body, &of_body),
            EachKind::ExistsOne => self.must_decide(tree, &of_body, &Type::Int),
            EachKind::Filter => self.must_decide(tree, &of_body, &Type::list(key.clone())),
            EachKind::List | EachKind::Map => {}
        }
        let made = match kind {
            EachKind::All | EachKind::Exists | EachKind::ExistsOne => Type::Bool,
            EachKind::Filter => Type::list(key),
            EachKind::List => Type::list(of_body),
            EachKind::Map => Type::map(key, of_body),
        };
        let each = Each {
            kind,
            range: of_range,
            pairs,
            filter,
            body: body_node,
        };
        (Node::Each(Box::new(each)), made)
    }

    fn must_decide(&mut self, at: &IdedExpr, found: &Type, made: &Type) {
        if !Type::Bool.takes(found) {
            let text =
                format!("found no matching overload for '_?_:_' applied to '({found}, {made}, {made})'");
            self.wrong(at, &text);
        }
    }

    fn if_there(
        &mut self,
        tree: &IdedExpr,
        of: &IdedExpr,
        variable: &IdedExpr,
        body: &IdedExpr,
        flat: bool,
    ) -> Checked {
        let Expr::Ident(name) = &variable.expr else {
            return self.wrong(variable, "optMap() variable name must be a simple identifier");
        };
        let (of, found) = self.check(of);
        let inner = match found {
            Type::Optional(inner) => inner.as_ref().clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let text = format!("found no matching overload for 'hasValue' applied to '{other}.()'");
                return self.wrong(tree, &text);
            }
        };
        self.variables.push((name.clone(), inner));
        let (body, made) = self.check(body);
        self.variables.pop();
        let made = if flat { made } else { Type::optional(made) };
        (Node::IfThere(Box::new(IfThere { of, body, flat })), made)
    }
}
