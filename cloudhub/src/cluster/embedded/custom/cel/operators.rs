//! Operators that take values of any type: what they take, and what they give.

use cel::common::ast::IdedExpr;

use super::check::{Checked, Checker};
use super::node::Node;
use super::types::Type;
use super::value::Val;

impl Checker<'_> {
    /// None where the name is no such operator.
    pub(super) fn operator(
        &mut self,
        tree: &IdedExpr,
        name: &str,
        arguments: &mut Vec<Checked>,
    ) -> Option<Checked> {
        let mut next = || {
            let (node, of) = arguments.remove(0);
            (Box::new(node), of)
        };
        let (made, text) = match name {
            "_==_" | "_!=_" => {
                let ((a, of_a), (b, of_b)) = (next(), next());
                let node = if name == "_==_" {
                    Node::Equal(a, b)
                } else {
                    Node::Unequal(a, b)
                };
                let fits = of_a.takes(&of_b);
                (fits.then_some((node, Type::Bool)), format!("({of_a}, {of_b})"))
            }
            "_&&_" | "_||_" => {
                let ((a, of_a), (b, of_b)) = (next(), next());
                let node = if name == "_&&_" {
                    Node::And(a, b)
                } else {
                    Node::Or(a, b)
                };
                (Some((node, Type::Bool)), format!("({of_a}, {of_b})"))
            }
            "_?_:_" => {
                let ((condition, of), (yes, of_yes), (no, of_no)) = (next(), next(), next());
                let fits = Type::Bool.takes(&of) && of_yes.takes(&of_no);
                let text = format!("({of}, {of_yes}, {of_no})");
                let made = (Node::If(condition, yes, no), of_yes.join(&of_no));
                (fits.then_some(made), text)
            }
            "@in" => {
                let ((one, of_one), (all, of_all)) = (next(), next());
                let fits = match &of_all {
                    Type::List(of, _) | Type::Map(of, _) => of.takes(&of_one),
                    Type::Dyn => true,
                    _ => false,
                };
                let text = format!("({of_one}, {of_all})");
                (fits.then_some((Node::In(one, all), Type::Bool)), text)
            }
            "_[_]" | "_[?_]" => {
                let ((of, found), (index, of_index)) = (next(), next());
                let if_there = name == "_[?_]";
                let inner = match &found {
                    Type::Optional(inner) => inner,
                    other => other,
                };
                let element = match inner {
                    Type::List(of, _) if Type::Int.takes(&of_index) => Some(of.as_ref().clone()),
                    Type::Map(key, value) if key.takes(&of_index) => Some(value.as_ref().clone()),
                    Type::Dyn => Some(Type::Dyn),
                    _ => None,
                };
                let optional = if_there || matches!(found, Type::Optional(_));
                let element = element.map(|of| if optional { Type::optional(of) } else { of });
                let node = if if_there {
                    Node::ElementIfThere(of, index)
                } else {
                    Node::Element(of, index)
                };
                (
                    element.map(|element| (node, element)),
                    format!("({found}, {of_index})"),
                )
            }
            "_?._" => {
                let ((of, found), (field, _)) = (next(), next());
                let Node::Constant(Val::Text(field)) = *field else {
                    return Some(self.wrong(tree, "unsupported optional field selection"));
                };
                let wanted = self.field(tree, &found, &field);
                let node = Node::FieldIfThere(of, field.into_owned());
                return Some((node, Type::optional(wanted)));
            }
            _ => return None,
        };
        let shown = if name == "@in" { "@in" } else { name };
        Some(made.unwrap_or_else(|| {
            let text = format!("found no matching overload for '{shown}' applied to '{text}'");
            self.wrong(tree, &text)
        }))
    }
}
