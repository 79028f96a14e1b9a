//! How each list of the built-in kinds is merged.
//!
//! `merge_keys.json` holds the `x-kubernetes-patch-merge-key` and `x-kubernetes-patch-strategy` of the OpenAPI document that a
//! kube-apiserver 1.36 serves, for every type from which a field with one of them can be reached.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// What the patch rules say about the fields of one type. Types without rules have none.
pub(super) type Fields = HashMap<String, Field>;

/// The rules of one field.
#[derive(Deserialize)]
pub(super) struct Field {
    /// The type of its value, or of the elements.
    #[serde(rename = "type")]
    type_name: Option<String>,
    /// The value is a map of such.
    #[serde(default)]
    map: bool,
    /// A list whose elements are merged: the key, empty for lists of plain values.
    pub(super) merge: Option<String>,
    /// An object that is replaced as a whole.
    #[serde(default)]
    pub(super) replace: bool,
}

/// Where in the tables a value stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Of a type without rules.
    Plain,
    /// Of a type with rules.
    Type(&'static Fields),
    /// A map with values of this type.
    MapOf(&'static Fields),
}

impl Place {
    /// The place of a whole object.
    pub(super) fn of_kind(api_version: &str, kind: &str) -> Self {
        let name = TABLE.kinds.get(&format!("{api_version} {kind}"));
        name.and_then(|name| TABLE.types.get(name))
            .map_or(Self::Plain, Self::Type)
    }

    /// The rules of a field here.
    pub(super) fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Type(fields) => fields.get(name),
            Self::Plain | Self::MapOf(_) => None,
        }
    }

    /// The place of a field's value, or of its elements.
    pub(super) fn below(self, name: &str) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::MapOf(fields) => Self::Type(fields),
            Self::Type(fields) => {
                let field = fields.get(name);
                let fields = field
                    .and_then(|field| field.type_name.as_ref())
                    .and_then(|name| TABLE.types.get(name));
                match fields {
                    Some(fields) if field.is_some_and(|field| field.map) => Self::MapOf(fields),
                    Some(fields) => Self::Type(fields),
                    None => Self::Plain,
                }
            }
        }
    }
}

/// The key and the strategy with which a client makes patches of a field, as an OpenAPI document says them.
pub(super) fn said(type_name: &str, field: &str) -> Option<(Option<&'static str>, &'static str)> {
    let retains = RETAIN_KEYS.contains(&(type_name, field));
    let rule = TABLE.types.get(type_name).and_then(|fields| fields.get(field));
    let merge = rule.and_then(|rule| rule.merge.as_deref());
    let strategy = match (merge, retains) {
        (Some(_), true) => "merge,retainKeys",
        (Some(_), false) => "merge",
        (None, true) => "retainKeys",
        (None, false) if rule.is_some_and(|rule| rule.replace) => "replace",
        (None, false) => return None,
    };
    Some((merge.filter(|key| !key.is_empty()), strategy))
}

/// Where a patch names every field that is to stay: of what is one of several, the others go.
const RETAIN_KEYS: &[(&str, &str)] = &[
    ("DeploymentSpec", "strategy"),
    ("PodSpec", "resourceClaims"),
    ("PodSpec", "volumes"),
    ("PodStatus", "resourceClaimStatuses"),
];

#[derive(Deserialize)]
struct Table {
    kinds: HashMap<String, String>,
    types: HashMap<String, Fields>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("merge_keys.json"))
        .expect("a file of this crate, which its tests read too")
});
