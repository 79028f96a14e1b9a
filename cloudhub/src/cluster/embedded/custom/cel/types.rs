//! The types of CEL, and which of them a schema's values have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// What a value of an expression is, as far as it is known before there is one.
#[derive(Clone, Debug)]
pub(in crate::cluster::embedded) enum Type {
    /// Anything: what it is shows itself only in a value.
    Dyn,
    /// Nothing but `null`.
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Span,
    List(Arc<Type>, Arc<ListKind>),
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<ObjectType>),
    Optional(Arc<Type>),
    /// The type of a type.
    Kind,
    /// One of Kubernetes' own, by its name.
    Opaque(&'static str),
}

/// The fields of an object that has a schema.
#[derive(Debug)]
pub(in crate::cluster::embedded) struct ObjectType {
    name: String,
    /// By the name that CEL has for each.
    fields: BTreeMap<String, (String, Type)>,
}

/// What tells the elements of a list apart (`x-kubernetes-list-type`).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum ListKind {
    Atomic,
    Set,
    Map(Vec<String>),
}

impl Type {
    pub(super) fn list(of: Type) -> Self {
        Self::List(Arc::new(of), Arc::new(ListKind::Atomic))
    }

    pub(super) fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub(super) fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// Of the values of a schema (`apiserver/pkg/cel/common/schemas.go`). None where no expression can reach them.
    pub(in crate::cluster::embedded) fn of(schema: &Value, root: bool, name: &str) -> Option<Self> {
        if schema["x-kubernetes-int-or-string"] == true {
            return Some(Self::Dyn);
        }
        match schema["type"].as_str()? {
            "array" => {
                let items = schema.get("items")?;
                let embedded = items["x-kubernetes-embedded-resource"] == true;
                let of = Self::of(items, embedded, &format!("{name}.@idx"))?;
                Some(Self::List(Arc::new(of), Arc::new(ListKind::of(schema))))
            }
            "object" => {
                let more = &schema["additionalProperties"];
                if more.is_object() && !root {
                    let embedded = more["x-kubernetes-embedded-resource"] == true;
                    return Some(Self::map(
                        Self::Text,
                        Self::of(more, embedded, &format!("{name}.@elem"))?,
                    ));
                }
                let mut fields = BTreeMap::new();
                let properties = schema["properties"].as_object().into_iter().flatten();
                for (field, schema) in properties {
                    let embedded = schema["x-kubernetes-embedded-resource"] == true;
                    let of = Self::of(schema, embedded, &format!("{name}.{field}"));
                    if let (Some(escaped), Some(of)) = (super::names::escape(field), of) {
                        fields.insert(escaped, (field.clone(), of));
                    }
                }
                if root {
                    let text = |field: &str| (field.to_owned(), (field.to_owned(), Self::Text));
                    let metadata = ObjectType {
                        name: format!("{name}.metadata"),
                        fields: BTreeMap::from([text("name"), text("generateName")]),
                    };
                    fields.extend([text("kind"), text("apiVersion")]);
                    let metadata = ("metadata".to_owned(), Self::Object(Arc::new(metadata)));
                    fields.insert("metadata".into(), metadata);
                }
                let name = name.to_owned();
                Some(Self::Object(Arc::new(ObjectType { name, fields })))
            }
            "string" => Some(match schema["format"].as_str() {
                Some("byte") => Self::Bytes,
                Some("duration") => Self::Span,
                Some("date" | "date-time") => Self::Time,
                _ => Self::Text,
            }),
            "boolean" => Some(Self::Bool),
            "number" => Some(Self::Double),
            "integer" => Some(Self::Int),
            _ => None,
        }
    }

    /// Whether a value of another type may stand where one of this type is wanted.
    pub(super) fn takes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(a, _), Self::List(b, _)) | (Self::Optional(a), Self::Optional(b)) => a.takes(b),
            (Self::Map(a, b), Self::Map(c, d)) => a.takes(c) && b.takes(d),
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            // Messages and what Kubernetes adds can be nothing.
            (Self::Null, Self::Object(_) | Self::Opaque(_) | Self::Time | Self::Span)
            | (Self::Object(_) | Self::Opaque(_) | Self::Time | Self::Span, Self::Null) => true,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// What both are: one of them, or anything.
    pub(super) fn join(self, other: &Self) -> Self {
        match (&self, other) {
            (Self::Dyn, _) => self,
            (_, Self::Dyn) => Self::Dyn,
            (a, b) if a.takes(b) => self,
            _ => Self::Dyn,
        }
    }

    /// A field of an object by the name that CEL has for it.
    pub(super) fn field(&self, escaped: &str) -> Option<(&str, &Type)> {
        let Self::Object(object) = self else { return None };
        let (name, of) = object.fields.get(escaped)?;
        Some((name, of))
    }

    /// The type of a field of the schema, by the schema's name for it.
    pub(in crate::cluster::embedded) fn property(&self, name: &str) -> Option<&Type> {
        let escaped = super::names::escape(name)?;
        self.field(&escaped).map(|(_, of)| of)
    }

    /// Of the elements of a list, or the values of a map.
    pub(in crate::cluster::embedded) fn element(&self) -> Option<&Type> {
        match self {
            Self::List(of, _) | Self::Map(_, of) => Some(of),
            _ => None,
        }
    }
}

impl ListKind {
    fn of(schema: &Value) -> Self {
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Self::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter();
                let keys = keys.flatten().filter_map(Value::as_str);
                Self::Map(keys.map(str::to_owned).collect())
            }
            _ => Self::Atomic,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Time => f.write_str("timestamp"),
            Self::Span => f.write_str("duration"),
            Self::List(of, _) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Kind => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
        }
    }
}
