//! What a CustomResourceDefinition (`apiextensions.k8s.io/v1`) says about the kinds it brings.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

use super::{ResourceKind, Subresource};
use crate::object::{GroupVersionResource, InvalidObject};

/// The name of the definition, and a kind for each version that it serves.
pub(super) fn parse(body: &[u8]) -> Result<(Arc<str>, Vec<Arc<ResourceKind>>), InvalidObject> {
    let definition: Definition = serde_json::from_slice(body)?;
    if definition.metadata.name.is_empty() {
        return Err(InvalidObject::NoName);
    }
    let (spec, names) = (&definition.spec, &definition.spec.names);
    if spec.group.is_empty() || names.plural.is_empty() || names.kind.is_empty() {
        return Err(serde_json::Error::custom("a definition needs a group, a plural and a kind").into());
    }
    // A kind whose names another has is served by nobody.
    let refused =
        definition.status.is("NamesAccepted", "False") && !definition.status.is("Established", "True");
    let served = spec.versions.iter().filter(|version| version.served && !refused);
    let kinds = served.map(|version| Arc::new(kind_of(spec, version))).collect();
    Ok((definition.metadata.name.into(), kinds))
}

/// Orders versions as Kubernetes prefers them, greater first: stable, beta, alpha, then by numbers; other names last
/// (Kubernetes `apimachinery/pkg/version/helpers.go`).
pub(super) fn version_priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<&str>) {
    let last = (0, 0, 0, std::cmp::Reverse(version));
    let Some(rest) = version.strip_prefix('v') else {
        return last;
    };
    let (major, level, minor) = match rest.find(|c: char| !c.is_ascii_digit()) {
        None => (rest, 3, "0"),
        Some(end) => match rest[end..].split_at_checked("beta".len()) {
            Some(("beta", minor)) => (&rest[..end], 2, minor),
            _ => match rest[end..].strip_prefix("alpha") {
                Some(minor) => (&rest[..end], 1, minor),
                None => return last,
            },
        },
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (level, major, minor, std::cmp::Reverse("")),
        _ => last,
    }
}

fn kind_of(spec: &Spec<'_>, version: &Version<'_>) -> ResourceKind {
    let names = &spec.names;
    let named = |name: &Option<String>, default: String| match name {
        Some(name) if !name.is_empty() => name.as_str().into(),
        _ => default.into(),
    };
    ResourceKind {
        resource: GroupVersionResource::new(&*spec.group, &*version.name, &*names.plural),
        kind: names.kind.as_str().into(),
        list_kind: named(&names.list_kind, format!("{}List", names.kind)),
        singular: named(&names.singular, names.kind.to_lowercase()),
        namespaced: spec.scope == Scope::Namespaced,
        short_names: shared(&names.short_names),
        categories: shared(&names.categories),
        verbs: VERBS.iter().map(|&verb| verb.into()).collect(),
        subresources: subresources(names, version),
        custom: true,
        selectable_fields: version
            .selectable_fields
            .iter()
            .flatten()
            .map(|field| field.json_path.trim_start_matches('.').into())
            .collect(),
        columns: version
            .additional_printer_columns
            .map(|columns| columns.get().into()),
        schema: version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema)
            .map(|schema| schema.get().into()),
        storage_version: spec
            .versions
            .iter()
            .find(|version| version.storage)
            .map(|version| version.name.as_str().into()),
        deprecation: version.deprecated.then(|| deprecation(spec, version).into()),
    }
}

/// What people who use an outdated version are told, in the words of its definition or in Kubernetes' own.
fn deprecation(spec: &Spec<'_>, version: &Version<'_>) -> String {
    if let Some(text) = &version.deprecation_warning {
        return text.clone();
    }
    let (group, kind) = (&spec.group, &spec.names.kind);
    let said = format!("{group}/{} {kind} is deprecated", version.name);
    let newer = spec
        .versions
        .iter()
        .filter(|other| other.served && !other.deprecated)
        .map(|other| &*other.name)
        .filter(|other| version_priority(other) > version_priority(&version.name))
        .max_by_key(|other| version_priority(other));
    match newer {
        Some(newer) => format!("{said}; use {group}/{newer} {kind}"),
        None => said,
    }
}

fn subresources(names: &Names, version: &Version<'_>) -> Vec<Subresource> {
    let Some(declared) = &version.subresources else {
        return Vec::new();
    };
    let subresource = |name: &str, kind: &str, group_version| Subresource {
        name: name.into(),
        kind: kind.into(),
        group_version,
        verbs: SUBRESOURCE_VERBS.iter().map(|&verb| verb.into()).collect(),
    };
    let status = declared
        .status
        .is_some()
        .then(|| subresource("status", &names.kind, None));
    let scale = || subresource("scale", "Scale", Some(("autoscaling".into(), "v1".into())));
    status
        .into_iter()
        .chain(declared.scale.is_some().then(scale))
        .collect()
}

fn shared(texts: &Option<Vec<String>>) -> Vec<Arc<str>> {
    texts.iter().flatten().map(|text| text.as_str().into()).collect()
}

/// As discovery lists them for every custom kind, in this order.
const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
const SUBRESOURCE_VERBS: &[&str] = &["get", "patch", "update"];

#[derive(Deserialize)]
struct Definition<'a> {
    metadata: Meta,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(default)]
    status: DefinitionStatus,
}

#[derive(Default, Deserialize)]
struct DefinitionStatus {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl DefinitionStatus {
    fn is(&self, kind: &str, status: &str) -> bool {
        let mut all = self.conditions.iter().flatten();
        all.any(|condition| condition.kind == kind && condition.status == status)
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Spec<'a> {
    group: String,
    scope: Scope,
    names: Names,
    #[serde(borrow)]
    versions: Vec<Version<'a>>,
}

#[derive(Deserialize, PartialEq)]
enum Scope {
    Namespaced,
    Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    plural: String,
    kind: String,
    singular: Option<String>,
    list_kind: Option<String>,
    short_names: Option<Vec<String>>,
    categories: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
    #[serde(default)]
    deprecated: bool,
    deprecation_warning: Option<String>,
    subresources: Option<Subresources>,
    #[serde(borrow)]
    additional_printer_columns: Option<&'a RawValue>,
    selectable_fields: Option<Vec<SelectableField>>,
    #[serde(borrow)]
    schema: Option<Schema<'a>>,
}

#[derive(Deserialize)]
struct Schema<'a> {
    #[serde(borrow, rename = "openAPIV3Schema")]
    open_api_v3_schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subresources {
    status: Option<serde::de::IgnoredAny>,
    scale: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelectableField {
    json_path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_who_use_an_outdated_version_are_told_of_the_newest_that_is_not() {
        let definition = br#"{"metadata":{"name":"a.x.io"},"spec":{"group":"x.io","scope":"Cluster",
            "names":{"plural":"a","kind":"A"},"versions":[
            {"name":"v1alpha1","served":true,"deprecated":true},
            {"name":"v1beta1","served":true,"deprecated":true,"deprecationWarning":"not this one"},
            {"name":"v1","served":true},{"name":"v2","served":false},{"name":"v3beta1","served":true}]}}"#;
        let (_, kinds) = parse(definition).unwrap();
        let told: Vec<_> = kinds.iter().map(|kind| kind.deprecation.as_deref()).collect();
        let default = "x.io/v1alpha1 A is deprecated; use x.io/v1 A";
        assert_eq!(told, [Some(default), Some("not this one"), None, None]);
    }

    #[test]
    fn stable_versions_come_before_beta_and_alpha() {
        let mut versions = [
            "foo10",
            "v1alpha1",
            "v2",
            "v11beta2",
            "v10beta3",
            "v1",
            "foo1",
            "v12alpha1",
            "v11",
            "v3beta1",
        ];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(
            versions,
            [
                "v11",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }
}
