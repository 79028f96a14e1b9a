//! The tree of an expression is held against the types of its variables and functions, as `cel-go`'s checker does.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo};

use super::functions::{self, Overload};
use super::node::Node;
use super::parse::Issue;
use super::types::Type;
use super::value::Val;

pub(super) type Checked = (Node, Type);

/// Makes nodes of a tree, and collects what is wrong with it.
pub(super) struct Checker<'p> {
    pub(super) variables: Vec<(String, Type)>,
    places: &'p SourceInfo,
    pub(super) issues: Vec<Issue>,
    /// What is only looked at where nothing else is wrong.
    pub(super) late_issues: Vec<Issue>,
    pub(super) uses_old: bool,
    /// A function that is called, and that only a kube-apiserver has.
    pub(super) unknown: Option<&'static str>,
    depth: usize,
    /// The next list may hold values of several types.
    mixed: bool,
}

impl<'p> Checker<'p> {
    pub(super) fn new(variables: Vec<(String, Type)>, places: &'p SourceInfo) -> Self {
        Self {
            variables,
            places,
            issues: Vec::new(),
            late_issues: Vec::new(),
            uses_old: false,
            unknown: None,
            depth: 0,
            mixed: false,
        }
    }

    pub(super) fn check(&mut self, tree: &IdedExpr) -> Checked {
        self.depth += 1;
        let checked = if self.depth > DEPTH_MAX {
            self.wrong(tree, "expression recursion limit exceeded: 200")
        } else {
            self.expression(tree)
        };
        self.depth -= 1;
        checked
    }

    fn expression(&mut self, tree: &IdedExpr) -> Checked {
        match &tree.expr {
            Expr::Literal(literal) => constant(literal),
            Expr::Ident(name) => self.variable(tree, name),
            Expr::Select(select) if self.is_type(select) => {
                let name = format!("google.protobuf.{}", select.field);
                (Node::Constant(Val::Kind(name.into())), Type::Kind)
            }
            Expr::Select(select) => {
                let (of, found) = self.check(&select.operand);
                let wanted = self.field(tree, &found, &select.field);
                let (of, name) = (Box::new(of), select.field.clone());
                match found {
                    Type::Optional(_) => (Node::Field(of, name), Type::optional(wanted)),
                    _ => (Node::Field(of, name), wanted),
                }
            }
            Expr::Call(call) => self.call(tree, call),
            Expr::List(list) => {
                let mixed = std::mem::take(&mut self.mixed);
                let mut elements = Vec::with_capacity(list.elements.len());
                let mut of: Option<Type> = None;
                for (index, element) in list.elements.iter().enumerate() {
                    let if_there = list.optional_indices.contains(&index);
                    let (node, found) = self.check(element);
                    let found = self.unwrapped(element, found, if_there);
                    of = Some(match of {
                        Some(_) if mixed => Type::Dyn,
                        Some(of) if if_there && matches!(found, Type::Dyn) => of,
                        of => self.alike(element, of, &found),
                    });
                    elements.push((node, if_there));
                }
                (Node::List(elements), Type::list(of.unwrap_or(Type::Dyn)))
            }
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        continue;
                    };
                    let (key, of_key) = self.check(&entry.key);
                    let (value, of_value) = self.check(&entry.value);
                    let of_value = self.unwrapped(&entry.value, of_value, entry.optional);
                    keys = Some(self.alike(&entry.key, keys, &of_key));
                    values = Some(self.alike(&entry.value, values, &of_value));
                    entries.push((key, value, entry.optional));
                }
                let of = Type::map(keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn));
                (Node::Map(entries), of)
            }
            Expr::Struct(made) => {
                let text = format!("undeclared reference to '{}' (in container '')", made.type_name);
                self.wrong(tree, &text)
            }
            Expr::Unspecified | Expr::Comprehension(_) => self.wrong(tree, "unsupported expression"),
        }
    }

    /// `google.protobuf.Timestamp`, which looks like a field.
    fn is_type(&self, select: &SelectExpr) -> bool {
        let Expr::Select(within) = &select.operand.expr else {
            return false;
        };
        let google = matches!(&within.operand.expr, Expr::Ident(name) if name == "google");
        google && within.field == "protobuf" && matches!(select.field.as_str(), "Timestamp" | "Duration")
    }

    fn variable(&mut self, tree: &IdedExpr, name: &str) -> Checked {
        if let Some(place) = self.variables.iter().rposition(|(known, _)| known == name) {
            self.uses_old |= name == "oldSelf" && place == 1;
            return (Node::Variable(place), self.variables[place].1.clone());
        }
        if let Some(kind) = TYPES.iter().find(|kind| **kind == name) {
            return (Node::Constant(Val::Kind((*kind).into())), Type::Kind);
        }
        self.wrong(
            tree,
            &format!("undeclared reference to '{name}' (in container '')"),
        )
    }

    /// The type of a field.
    pub(super) fn field(&mut self, at: &IdedExpr, of: &Type, name: &str) -> Type {
        match of {
            Type::Dyn => Type::Dyn,
            Type::Optional(of) => self.field(at, of, name),
            Type::Map(_, value) => value.as_ref().clone(),
            Type::Object(_) => match of.field(name) {
                Some((_, of)) => of.clone(),
                None => self.wrong(at, &format!("undefined field '{name}'")).1,
            },
            other => {
                let text = format!("type '{other}' does not support field selection");
                self.wrong(at, &text).1
            }
        }
    }

    fn call(&mut self, tree: &IdedExpr, call: &CallExpr) -> Checked {
        let name = call.func_name.as_str();
        if let Some(checked) = self.called_macro(tree, call) {
            return checked;
        }
        // `sets.contains(…)`: a function whose name has two parts, not a member.
        let qualified = match call.target.as_deref() {
            Some(IdedExpr {
                expr: Expr::Ident(target),
                ..
            }) if !self.variables.iter().any(|(known, _)| known == target) => {
                Some(format!("{target}.{name}"))
            }
            _ => None,
        };
        let known = |name: &str, member: bool| {
            let all = functions::ALL.iter().copied().flatten();
            all.filter(|overload| overload.name == name && overload.member == member)
                .collect::<Vec<_>>()
        };
        if let Some(qualified) = &qualified
            && let Some(unknown) = functions::LACKING.iter().find(|lacking| *lacking == qualified)
        {
            self.unknown = Some(unknown);
        }
        if let Some(qualified) = qualified {
            let overloads = known(&qualified, false);
            if !overloads.is_empty() {
                let arguments = call.args.iter().map(|argument| self.check(argument)).collect();
                return self.resolve((tree, call), &qualified, &overloads, arguments);
            }
        }
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        arguments.extend(call.target.as_deref().map(|target| self.check(target)));
        self.mixed = name == "format" && matches!(&call.args[..], [one] if matches!(one.expr, Expr::List(_)));
        arguments.extend(call.args.iter().map(|argument| self.check(argument)));
        if matches!(name, "_&&_" | "_||_") {
            for (argument, (_, of)) in call.args.iter().zip(&mut arguments) {
                self.must_be_bool(argument, of);
                *of = Type::Bool;
            }
        }
        if let Some(checked) = self.operator(tree, name, &mut arguments) {
            return checked;
        }
        let overloads = known(name, call.target.is_some());
        if overloads.is_empty() {
            if let Some(unknown) = functions::LACKING.iter().find(|lacking| **lacking == name) {
                self.unknown = Some(unknown);
            }
            if known(name, call.target.is_none()).is_empty() {
                return self.wrong(
                    tree,
                    &format!("undeclared reference to '{name}' (in container '')"),
                );
            }
        }
        self.resolve((tree, call), name, &overloads, arguments)
    }

    fn resolve(
        &mut self,
        (tree, call): (&IdedExpr, &CallExpr),
        name: &str,
        overloads: &[&'static Overload],
        arguments: Vec<Checked>,
    ) -> Checked {
        let member = overloads.iter().any(|overload| overload.member)
            || (overloads.is_empty() && call.target.is_some());
        let (nodes, types): (Vec<Node>, Vec<Type>) = arguments.into_iter().unzip();
        let mut fitting = Vec::new();
        let mut made: Option<Type> = None;
        for overload in overloads {
            if let Some(result) = overload.result_of(&types) {
                fitting.push(*overload);
                made = Some(match made {
                    Some(made) => made.join(&result),
                    None => result,
                });
            }
        }
        let Some(made) = made else {
            let shown: Vec<_> = types.iter().map(Type::to_string).collect();
            let shown = if member && !shown.is_empty() {
                format!("{}.({})", shown[0], shown[1..].join(", "))
            } else {
                format!("({})", shown.join(", "))
            };
            let text = format!("found no matching overload for '{name}' applied to '{shown}'");
            return self.wrong(tree, &text);
        };
        if let Some(issue) = functions::literal_issue(name, &nodes) {
            self.wrong_later(call.args.last().unwrap_or(tree), issue);
        }
        if let Some(node) = functions::pattern(name, &nodes) {
            return (node(nodes), made);
        }
        (Node::Call(fitting, nodes), made)
    }

    pub(super) fn must_be_bool(&mut self, at: &IdedExpr, found: &Type) {
        if !Type::Bool.takes(found) {
            self.wrong(at, &format!("expected type 'bool' but found '{found}'"));
        }
    }

    fn unwrapped(&mut self, at: &IdedExpr, of: Type, if_there: bool) -> Type {
        match of {
            Type::Optional(of) if if_there => of.as_ref().clone(),
            other if if_there && !matches!(other, Type::Dyn) => {
                let text = format!("expected type 'optional_type({other})' but found '{other}'");
                self.wrong(at, &text).1
            }
            of => of,
        }
    }

    /// Elements of one literal are of one type.
    fn alike(&mut self, at: &IdedExpr, wanted: Option<Type>, found: &Type) -> Type {
        match wanted {
            None => found.clone(),
            Some(wanted) => {
                if wanted.to_string() != found.to_string() {
                    self.wrong_later(at, &format!("expected type '{wanted}' but found '{found}'"));
                }
                wanted.join(found)
            }
        }
    }

    /// Notes what is wrong; what it would have been is not known any more.
    pub(super) fn wrong(&mut self, at: &IdedExpr, text: &str) -> Checked {
        let issue = self.issue(at, text);
        self.issues.push(issue);
        (Node::Constant(Val::Null), Type::Dyn)
    }

    fn wrong_later(&mut self, at: &IdedExpr, text: &str) {
        let issue = self.issue(at, text);
        self.late_issues.push(issue);
    }

    fn issue(&self, at: &IdedExpr, text: &str) -> Issue {
        let offset = self.places.offset_for(at.id).map_or(0, |(start, _)| start);
        Issue {
            offset: usize::try_from(offset).unwrap_or_default(),
            text: text.to_owned(),
        }
    }
}

fn constant(literal: &LiteralValue) -> Checked {
    let (value, of) = match literal {
        LiteralValue::Boolean(value) => (Val::Bool(*value.inner()), Type::Bool),
        LiteralValue::Int(value) => (Val::Int(*value.inner()), Type::Int),
        LiteralValue::UInt(value) => (Val::Uint(*value.inner()), Type::Uint),
        LiteralValue::Double(value) => (Val::Double(*value.inner()), Type::Double),
        LiteralValue::String(value) => (Val::text(value.inner().to_owned()), Type::Text),
        LiteralValue::Bytes(value) => (Val::Bytes(value.inner().to_vec().into()), Type::Bytes),
        LiteralValue::Null => (Val::Null, Type::Null),
    };
    (Node::Constant(value), of)
}

/// Names that are types themselves.
const TYPES: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
];
/// How deep an expression may be: it is evaluated on the writer's stack.
const DEPTH_MAX: usize = 200;
