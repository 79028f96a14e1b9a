//! The documents of groups, versions and kinds, made of the kinds that there are: plain, and aggregated.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::registry::ResourceKind;

type Versions<'a> = Vec<(&'a str, Vec<&'a ResourceKind>)>;

/// Groups and their versions in the order of the registry; custom groups by the name of their first APIService, as a real
/// server lists them.
pub(super) fn groups(kinds: &[Arc<ResourceKind>]) -> Vec<(&str, Versions<'_>)> {
    let mut groups: Vec<(&str, Versions<'_>)> = Vec::new();
    for kind in kinds {
        let (group, version) = (&*kind.resource.group, &*kind.resource.version);
        let at = groups
            .iter()
            .position(|(name, _)| *name == group)
            .unwrap_or_else(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
        let versions = &mut groups[at].1;
        match versions.iter_mut().find(|(name, _)| *name == version) {
            Some((_, kinds)) => kinds.push(kind),
            None => versions.push((version, vec![kind])),
        }
    }
    groups.sort_by_cached_key(|(group, versions)| {
        let services = versions.iter().map(|(version, _)| format!("{version}.{group}"));
        is_custom(versions).then(|| services.min())
    });
    groups
}

/// Whether all kinds of a group come of definitions.
fn is_custom(versions: &Versions<'_>) -> bool {
    versions
        .iter()
        .all(|(_, kinds)| kinds.iter().all(|kind| kind.custom))
}

/// The document at a path: plain, or aggregated in a version.
pub(super) fn make(
    kinds: &[Arc<ResourceKind>],
    path: &str,
    aggregated: Option<&'static str>,
) -> Option<Value> {
    let groups = groups(kinds);
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if let Some(version) = aggregated {
        let core = match parts[..] {
            ["api"] => true,
            ["apis"] => false,
            _ => return None,
        };
        // Here groups of the same priority stand by their names.
        let mut groups = groups;
        groups.sort_by_key(|(group, versions)| is_custom(versions).then_some(*group));
        let items: Vec<Value> = groups
            .iter()
            .filter(|(group, _)| group.is_empty() == core)
            .map(|(group, versions)| aggregated_group(group, versions))
            .collect();
        return Some(json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {},
            "items": items,
        }));
    }
    match parts[..] {
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }],
        })),
        ["apis"] => {
            let all = groups.iter().filter(|(group, _)| !group.is_empty());
            let all: Vec<Value> = all
                .map(|(group, versions)| legacy_group(group, versions))
                .collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": all }))
        }
        ["apis", group] if !group.is_empty() => {
            let (_, versions) = groups.iter().find(|(name, _)| *name == group)?;
            let mut document = legacy_group(group, versions);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            Some(document)
        }
        ["api", version] => legacy_version(&groups, "", version),
        ["apis", group, version] if !group.is_empty() => legacy_version(&groups, group, version),
        _ => None,
    }
}

fn legacy_group(group: &str, versions: &Versions<'_>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": versions[0], "versions": versions })
}

fn legacy_version(groups: &[(&str, Versions<'_>)], group: &str, version: &str) -> Option<Value> {
    let (_, versions) = groups.iter().find(|(name, _)| *name == group)?;
    let (_, kinds) = versions.iter().find(|(name, _)| *name == version)?;
    let mut resources = Vec::new();
    for kind in kinds {
        let mut main = json!({
            "name": kind.resource.resource,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.verbs,
        });
        names(&mut main, kind);
        if kind.verbs.iter().any(|verb| &**verb == "watch") {
            main["storageVersionHash"] = storage_hash(kind).into();
        }
        resources.push(main);
        for sub in &kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.resource.resource, sub.name),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if let Some((group, version)) = &sub.group_version {
                entry["group"] = (&**group).into();
                entry["version"] = (&**version).into();
            }
            resources.push(entry);
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut list =
        json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// Tells a storage migrator when stored objects should be written anew. Made as kube-apiserver makes it.
fn storage_hash(kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    // Both groups of events are one store, in the form of the older one.
    let group = Some(&*resource.group).filter(|group| *group != "events.k8s.io");
    let version = kind.storage_version.as_ref().unwrap_or(&resource.version);
    let digest = Sha256::digest(format!("{}/{}/{}", group.unwrap_or_default(), version, kind.kind));
    STANDARD.encode(&digest[..8])
}

fn aggregated_group(group: &str, versions: &Versions<'_>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, kinds)| {
            let resources: Vec<Value> = kinds.iter().map(|kind| aggregated_kind(kind)).collect();
            json!({ "version": version, "resources": resources, "freshness": "Current" })
        })
        .collect();
    let metadata = if group.is_empty() {
        json!({})
    } else {
        json!({ "name": group })
    };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_kind(kind: &ResourceKind) -> Value {
    // Built-in kinds leave group and version to the place where they stand.
    let own = |name: &str, of: Option<(&str, &str)>| {
        let (group, version) = match of {
            Some(other) => other,
            None if kind.custom => (&*kind.resource.group, &*kind.resource.version),
            None => ("", ""),
        };
        json!({ "group": group, "version": version, "kind": name })
    };
    let mut entry = json!({
        "resource": kind.resource.resource,
        "responseKind": own(&kind.kind, None),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    names(&mut entry, kind);
    if !kind.subresources.is_empty() {
        entry["subresources"] = kind
            .subresources
            .iter()
            .map(|sub| {
                let of = sub
                    .group_version
                    .as_ref()
                    .map(|(group, version)| (&**group, &**version));
                json!({ "subresource": sub.name, "responseKind": own(&sub.kind, of), "verbs": sub.verbs })
            })
            .collect();
    }
    entry
}

fn names(entry: &mut Value, kind: &ResourceKind) {
    let mut put = |field: &str, names: &[Arc<str>]| {
        if let (false, Some(entry)) = (names.is_empty(), entry.as_object_mut()) {
            let _: &mut Map<String, Value> = entry;
            entry.insert(field.into(), names.iter().map(|name| &**name).collect());
        }
    };
    put("shortNames", &kind.short_names);
    put("categories", &kind.categories);
}
