//! What type a part of an object has, as far as merging asks for it.
//!
//! Types come from the tables of the built-in kinds, from the structural schema of a custom kind, or are deduced from the value where
//! nothing is said (`sigs.k8s.io/structured-merge-diff/typed`, and `schemaconv` of `k8s.io/kube-openapi`, which says what becomes of an
//! OpenAPI schema).

use serde_json::Value;

use super::builtin::{self, Message};

/// The type of a part of an object.
#[derive(Debug, Clone, Copy)]
pub enum Type<'s> {
    /// A message of a built-in kind.
    Message(Message),
    /// A field of a message of a built-in kind.
    Field(builtin::Field),
    /// A schema of a custom kind.
    Schema(Schema<'s>),
    /// A text, whatever it says.
    Text,
    /// Nothing is said: maps are merged, lists are not.
    Deduced,
    /// Nothing is said, and it is one thing.
    Whole,
}

/// A part of a structural schema (`apiextensions.k8s.io/v1`, `JSONSchemaProps`).
#[derive(Debug, Clone, Copy)]
pub struct Schema<'s> {
    schema: &'s Value,
    /// Whether it is a whole object with metadata.
    object: bool,
    /// Whether fields that are not declared are kept, here or above.
    preserve: bool,
}

impl<'s> Type<'s> {
    /// Of the objects of a built-in kind. None if there is no such kind.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Type<'static>> {
        Message::object(api_version, kind).map(Type::Message)
    }

    /// Of the objects of a custom kind, by its schema (`openAPIV3Schema`).
    pub fn of_schema(schema: &'s Value) -> Self {
        Self::schema(schema, true, false)
    }

    fn schema(schema: &'s Value, object: bool, preserve: bool) -> Self {
        Self::Schema(Schema {
            object: object || schema["x-kubernetes-embedded-resource"] == true,
            preserve: preserve || schema["x-kubernetes-preserve-unknown-fields"] == true,
            schema,
        })
    }

    /// What values of the type may be.
    pub(super) fn atom(self) -> Atom<'s> {
        match self {
            Self::Message(message) => Atom::map(message.is_atomic(), Fields::Message(message), None),
            Self::Field(field) => field.atom(),
            Self::Schema(schema) => schema.atom(),
            Self::Text => Atom::scalar(Scalar::Text),
            Self::Deduced => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(List {
                    relation: Relation::Atomic,
                    element: Self::Whole,
                }),
                map: Some(Map {
                    atomic: false,
                    fields: Fields::None,
                    element: Some(Self::Deduced),
                }),
            },
            Self::Whole => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(List {
                    relation: Relation::Atomic,
                    element: Self::Whole,
                }),
                map: Some(Map {
                    atomic: true,
                    fields: Fields::None,
                    element: Some(Self::Whole),
                }),
            },
        }
    }
}

impl<'s> Schema<'s> {
    fn atom(self) -> Atom<'s> {
        match self.schema["type"].as_str() {
            Some("object") => Atom {
                map: Some(self.map()),
                ..Atom::default()
            },
            Some("array") => Atom {
                list: Some(self.list()),
                ..Atom::default()
            },
            Some("integer" | "number") => Atom::scalar(Scalar::Number),
            Some("boolean") => Atom::scalar(Scalar::Boolean),
            // A text of a format may be a number in somebody's eyes.
            Some("string") if matches!(self.schema["format"].as_str(), None | Some("" | "byte")) => {
                Atom::scalar(Scalar::Text)
            }
            Some("string") => Atom::scalar(Scalar::Untyped),
            _ => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(self.list()),
                map: Some(self.map()),
            },
        }
    }

    fn list(self) -> List<'s> {
        let relation = match self.schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Relation::Set,
            Some("map") => Relation::Keys(Keys::Schema(&self.schema["x-kubernetes-list-map-keys"])),
            _ => Relation::Atomic,
        };
        let element = match &self.schema["items"] {
            items @ Value::Object(_) => Type::schema(items, false, self.preserve),
            _ => Type::Deduced,
        };
        List { relation, element }
    }

    fn map(self) -> Map<'s> {
        let properties = self.schema["properties"].as_object();
        let element = match &self.schema["additionalProperties"] {
            more @ Value::Object(_) => Some(Type::schema(more, false, self.preserve)),
            Value::Bool(true) => Some(Type::Deduced),
            Value::Bool(false) => None,
            _ => {
                let free = properties.is_none_or(serde_json::Map::is_empty) && !self.object;
                (self.preserve || free).then_some(Type::Deduced)
            }
        };
        Map {
            atomic: self.schema["x-kubernetes-map-type"] == "atomic",
            fields: Fields::Schema(self),
            element,
        }
    }
}

/// What values of a type may be. Most types have only one of the three.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Atom<'s> {
    pub(super) scalar: Option<Scalar>,
    pub(super) list: Option<List<'s>>,
    pub(super) map: Option<Map<'s>>,
}

impl<'s> Atom<'s> {
    pub(super) fn scalar(scalar: Scalar) -> Self {
        Self {
            scalar: Some(scalar),
            ..Self::default()
        }
    }

    pub(super) fn map(atomic: bool, fields: Fields<'s>, element: Option<Type<'s>>) -> Self {
        Self {
            map: Some(Map {
                atomic,
                fields,
                element,
            }),
            ..Self::default()
        }
    }

    pub(super) fn list(relation: Relation<'s>, element: Type<'s>) -> Self {
        Self {
            list: Some(List { relation, element }),
            ..Self::default()
        }
    }

    /// The one of the three that a value is; of several, where there is no value to tell, the first.
    pub(super) fn shape(self, value: Option<&Value>) -> Shape<'s> {
        match value {
            Some(Value::Object(_)) if self.map.is_some() => self.map.map_or(Shape::Nothing, Shape::Map),
            Some(Value::Array(_)) if self.list.is_some() => self.list.map_or(Shape::Nothing, Shape::List),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                self.scalar.map_or(Shape::Nothing, Shape::Scalar)
            }
            _ => match (self.map, self.scalar, self.list) {
                (Some(map), _, _) => Shape::Map(map),
                (_, Some(scalar), _) => Shape::Scalar(scalar),
                (_, _, Some(list)) => Shape::List(list),
                _ => Shape::Nothing,
            },
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'s> {
    Scalar(Scalar),
    List(List<'s>),
    Map(Map<'s>),
    Nothing,
}

impl Shape<'_> {
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Number,
    Text,
    Boolean,
    Untyped,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct List<'s> {
    pub(super) relation: Relation<'s>,
    pub(super) element: Type<'s>,
}

/// How the elements of a list are told from each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relation<'s> {
    /// They are not: the list is one thing.
    Atomic,
    /// By what they are.
    Set,
    /// By some of their fields.
    Keys(Keys<'s>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Keys<'s> {
    /// With commas between.
    Builtin(&'static str),
    /// As a schema has them.
    Schema(&'s Value),
}

impl<'s> Keys<'s> {
    pub(super) fn names(self) -> impl Iterator<Item = &'s str> {
        let (builtin, schema) = match self {
            Keys::Builtin(names) => (Some(names.split(',')), None),
            Keys::Schema(names) => (None, names.as_array()),
        };
        let schema = schema.into_iter().flatten().filter_map(Value::as_str);
        builtin.into_iter().flatten().chain(schema)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Map<'s> {
    /// Owned as a whole.
    pub(super) atomic: bool,
    pub(super) fields: Fields<'s>,
    /// What fields are that are not declared. None if there can be none.
    pub(super) element: Option<Type<'s>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fields<'s> {
    None,
    Message(Message),
    Schema(Schema<'s>),
}

impl<'s> Map<'s> {
    /// The type of a declared field.
    pub(super) fn declared(&self, name: &str) -> Option<Type<'s>> {
        match self.fields {
            Fields::None => None,
            Fields::Message(message) => message.field(name),
            Fields::Schema(schema) => match name {
                "apiVersion" | "kind" if schema.object => Some(Type::Text),
                "metadata" if schema.object => {
                    Message::named("meta.k8s.io/v1", "ObjectMeta").map(Type::Message)
                }
                _ => {
                    let property = schema.schema["properties"].get(name)?;
                    Some(Type::schema(property, false, schema.preserve))
                }
            },
        }
    }

    /// The type of a field, declared or not.
    pub(super) fn field(&self, name: &str) -> Option<Type<'s>> {
        self.declared(name).or(self.element)
    }

    /// What stands in a field that is not there.
    pub(super) fn default(&self, name: &str) -> Option<Value> {
        match self.fields {
            Fields::None => None,
            Fields::Message(message) => message.default(name),
            Fields::Schema(schema) => schema.schema["properties"][name]
                .get("default")
                .filter(|value| !value.is_null())
                .cloned(),
        }
    }
}
