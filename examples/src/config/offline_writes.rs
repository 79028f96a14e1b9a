//! `edgeTunnel.metaServer.offlineWrites`: what a node takes for the cloud while it is away, beside what is the node's own.

use std::collections::BTreeMap;

use hub_core::api::Verb;
use hub_core::object::GroupVersionResource;
use metaserver::{LocalClass, LocalRule, Whose, Winner};

/// `resource` of the core group, or `resource.version.group`.
pub fn collection(text: &str) -> Result<GroupVersionResource, String> {
    let mut parts = text.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(resource), None, None) if !resource.is_empty() => Ok(GroupVersionResource::core(resource)),
        (Some(resource), Some(version), Some(group))
            if !resource.is_empty() && is_version(version) && !group.is_empty() =>
        {
            Ok(GroupVersionResource::new(group, version, resource))
        }
        _ => Err(format!(
            "{text:?} is neither a resource nor resource.version.group"
        )),
    }
}

/// The rows of the policy that a file adds: each a collection, in one namespace or everywhere, and whose changes stand where both
/// ends changed the same.
pub fn rules(given: &BTreeMap<String, String>) -> Result<Vec<LocalRule>, String> {
    given.iter().map(|(what, wins)| rule(what, wins)).collect()
}

fn rule(what: &str, wins: &str) -> Result<LocalRule, String> {
    let (namespace, text) = match what.split_once('/') {
        Some((namespace, text)) => (Some(namespace), text),
        None => (None, what),
    };
    let resource = collection(text)?;
    if namespace.is_some_and(|namespace| namespace.is_empty() || text.contains('/')) {
        return Err(format!("{what:?} is not namespace/resource"));
    }
    if let Some(why) = never(&resource) {
        return Err(format!("{what:?} is never taken without the cloud: {why}"));
    }
    let wins = match wins {
        "cloudWins" => Winner::Cloud,
        "nodeWins" => Winner::Local,
        other => {
            return Err(format!(
                "of {what:?}, expected cloudWins or nodeWins, not {other:?}"
            ));
        }
    };
    Ok(LocalRule {
        group: resource.group.to_string().into(),
        resource: resource.resource.to_string().into(),
        verbs: vec![Verb::Create, Verb::Update, Verb::Patch, Verb::Delete].into(),
        whose: match namespace {
            Some(namespace) => Whose::In(namespace.to_owned().into()),
            None => Whose::Any,
        },
        fields: [].as_slice().into(),
        wins,
        class: LocalClass::Queued,
    })
}

/// Why no operator may give this away (metaServer specification G.7, class D).
fn never(resource: &GroupVersionResource) -> Option<&'static str> {
    let GroupVersionResource { group, resource, .. } = resource;
    match (&**group, &**resource) {
        ("rbac.authorization.k8s.io" | "authorization.k8s.io" | "authentication.k8s.io", _) => {
            Some("who may do what is decided in one place")
        }
        ("certificates.k8s.io", _) | ("", "secrets" | "serviceaccounts") => {
            Some("credentials are made and taken back in one place")
        }
        ("apiextensions.k8s.io" | "admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => {
            Some("it changes what the cluster's API is")
        }
        ("coordination.k8s.io", "leases") => Some("two would believe that they hold it"),
        ("", "namespaces" | "nodes") => Some("all nodes depend on it"),
        _ => None,
    }
}

/// `v1`, `v2beta1`.
fn is_version(text: &str) -> bool {
    let rest = text.strip_prefix('v').unwrap_or_default();
    rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(what: &str, wins: &str) -> Result<LocalRule, String> {
        let given = [(what.to_owned(), wins.to_owned())].into();
        rules(&given).map(|mut rules| rules.remove(0))
    }

    #[test]
    fn a_row_names_a_collection_a_namespace_if_it_wants_and_who_wins() {
        let row = one("shop/recipes.v1.apps.example.com", "nodeWins").unwrap();
        assert_eq!((&*row.group, &*row.resource), ("apps.example.com", "recipes"));
        assert_eq!((row.whose, row.wins), (Whose::In("shop".into()), Winner::Local));
        let row = one("configmaps", "cloudWins").unwrap();
        assert_eq!(
            (&*row.group, row.whose, row.wins),
            ("", Whose::Any, Winner::Cloud)
        );
        assert!(row.class == LocalClass::Queued && row.fields.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said() {
        for (what, wins, said) in [
            (
                "recipes.apps",
                "cloudWins",
                "neither a resource nor resource.version.group",
            ),
            (
                "recipes.apps.example.com",
                "cloudWins",
                "neither a resource nor resource.version.group",
            ),
            ("", "cloudWins", "neither"),
            ("/configmaps", "cloudWins", "not namespace/resource"),
            ("a/b/configmaps", "cloudWins", "not namespace/resource"),
            (
                "configmaps",
                "manual",
                "expected cloudWins or nodeWins, not \"manual\"",
            ),
            ("configmaps", "", "expected cloudWins or nodeWins"),
            (
                "secrets",
                "cloudWins",
                "never taken without the cloud: credentials",
            ),
            (
                "shop/roles.v1.rbac.authorization.k8s.io",
                "cloudWins",
                "never taken without the cloud",
            ),
            ("leases.v1.coordination.k8s.io", "nodeWins", "two would believe"),
            ("nodes", "nodeWins", "all nodes depend on it"),
        ] {
            let error = one(what, wins).unwrap_err();
            assert!(error.contains(said), "{what}: {error}");
        }
    }
}
