//! The types of the built-in kinds: the fields of [`registry::fields`](crate::registry::fields), and how lists and maps are merged.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::{Atom, Fields, Keys, Relation, Scalar, Type};
use crate::registry::fields::{self, Kind, Repeated, Table};

/// A message of a built-in kind.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    message: &'static fields::Message,
    rules: Option<&'static Rules>,
    /// Objects say what they are, also the one kind of them that stands within others.
    typed: bool,
    /// What the field that it stands in says of it.
    atomic: Option<bool>,
}

/// A field of a message of a built-in kind.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    field: &'static fields::Field,
    merge: Option<Merge>,
    /// One of several: what the elements of the list, or the values of the map, are.
    element: bool,
}

/// What the table says of a message.
#[derive(Debug, Default)]
struct Rules {
    atomic: bool,
    fields: HashMap<&'static str, Merge>,
    defaults: HashMap<&'static str, &'static str>,
}

/// How the values of a field are merged.
#[derive(Debug, Clone, Copy)]
enum Merge {
    /// A list whose elements are told apart by what they are.
    Set,
    /// A list whose elements are told apart by these fields of theirs.
    Keys(&'static str),
    /// A map that is owned as a whole.
    Atomic,
    /// A map of a type that is owned as a whole elsewhere.
    Granular,
}

impl Message {
    /// By group and version, and name.
    pub(super) fn named(api_version: &str, name: &str) -> Option<Self> {
        Some(Self::new(Table::builtin().message(api_version, name)?, name))
    }

    fn new(message: &'static fields::Message, name: &str) -> Self {
        Self {
            message,
            rules: RULES.get(&std::ptr::from_ref(message).addr()),
            typed: name == "PersistentVolumeClaim",
            atomic: None,
        }
    }

    /// Of a whole object.
    pub(super) fn object(api_version: &str, kind: &str) -> Option<Self> {
        Some(Self {
            typed: true,
            ..Self::named(api_version, kind)?
        })
    }

    pub(super) fn is_atomic(&self) -> bool {
        self.atomic
            .unwrap_or_else(|| self.rules.is_some_and(|rules| rules.atomic))
    }

    pub(super) fn field(&self, name: &str) -> Option<Type<'static>> {
        let Some(found) = self.message.named(name) else {
            return (self.typed && matches!(name, "apiVersion" | "kind")).then_some(Type::Text);
        };
        Some(Type::Field(Field {
            field: found.field,
            merge: self.rules.and_then(|rules| rules.fields.get(name)).copied(),
            element: false,
        }))
    }

    pub(super) fn default(&self, name: &str) -> Option<Value> {
        Some((*self.rules?.defaults.get(name)?).into())
    }
}

impl Field {
    pub(super) fn atom(self) -> Atom<'static> {
        let element = || {
            Type::Field(Self {
                element: true,
                merge: None,
                ..self
            })
        };
        match self.field.repeated {
            Repeated::List if !self.element => {
                let relation = match self.merge {
                    Some(Merge::Set) => Relation::Set,
                    Some(Merge::Keys(keys)) => Relation::Keys(Keys::Builtin(keys)),
                    _ => Relation::Atomic,
                };
                Atom::list(relation, element())
            }
            Repeated::Map if !self.element => Atom::map(
                matches!(self.merge, Some(Merge::Atomic)),
                Fields::None,
                Some(element()),
            ),
            _ => self.one(),
        }
    }

    fn one(self) -> Atom<'static> {
        match self.field.kind {
            Kind::Bool => Atom::scalar(Scalar::Boolean),
            Kind::Int | Kind::Double => Atom::scalar(Scalar::Number),
            Kind::Text | Kind::Bytes => Atom::scalar(Scalar::Text),
            Kind::Time | Kind::MicroTime | Kind::Quantity | Kind::IntOrString => {
                Atom::scalar(Scalar::Untyped)
            }
            Kind::Raw => Type::Whole.atom(),
            Kind::Texts => Atom::list(Relation::Atomic, Type::Text),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => Type::Deduced.atom(),
            Kind::Message(_, name) => {
                let message = self.field.message().map(|message| Message {
                    atomic: match self.merge {
                        Some(Merge::Atomic) => Some(true),
                        Some(Merge::Granular) => Some(false),
                        _ => None,
                    },
                    ..Message::new(message, name)
                });
                message.map_or(Type::Deduced, Type::Message).atom()
            }
        }
    }
}

/// The rules of a message by where it stands in the table of fields: they are looked up at every step into an object.
static RULES: LazyLock<HashMap<usize, Rules>> = LazyLock::new(|| {
    let (mut rules, mut group_version) = (HashMap::new(), "");
    for line in include_str!("list_types.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            group_version = section;
            continue;
        }
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(message) = Table::builtin().message(group_version, name) {
            rules.insert(std::ptr::from_ref(message).addr(), Rules::parse(fields));
        }
    }
    rules
});

impl Rules {
    fn parse(text: &'static str) -> Self {
        let mut rules = Self::default();
        for rule in text.split_ascii_whitespace() {
            if rule == "@atomic" {
                rules.atomic = true;
            } else if let Some((field, merge)) = rule.split_once('@') {
                let merge = match merge {
                    "set" => Merge::Set,
                    "atomic" => Merge::Atomic,
                    "granular" => Merge::Granular,
                    keys => Merge::Keys(keys),
                };
                rules.fields.insert(field, merge);
            } else if let Some((field, default)) = rule.split_once('=') {
                rules.defaults.insert(field, default.trim_matches('"'));
            }
        }
        rules
    }
}
