//! What a service account may do, out of roles and bindings. Pure.
//!
//! The document is the `spec` of KubeEdge's ServiceAccountAccess (`cloud/pkg/policycontroller/manager/reconcile.go`), by which a stock
//! edge's metaServer decides what a pod may ask when the cloud is away.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Namespace and name. Of cluster-scoped objects the namespace is empty.
pub(super) type Name = (String, String);

/// The roles and bindings of a cluster.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The rules of each Role and ClusterRole.
    pub(super) roles: BTreeMap<Name, Value>,
    /// Each RoleBinding and ClusterRoleBinding.
    pub(super) bindings: BTreeMap<Name, Value>,
}

impl Rules {
    /// What the account, given as its object, may do.
    pub(super) fn access(&self, account: &Value) -> Value {
        let (namespace, name) = (text(account, "namespace"), text(account, "name"));
        let mut spec = Map::new();
        let mut own = account.clone();
        reduce(&mut own);
        spec.insert("serviceAccount".into(), own);
        spec.insert("serviceAccountUid".into(), text(account, "uid").into());
        for (scope, list, field) in [
            (namespace, "accessRoleBinding", "roleBinding"),
            ("", "accessClusterRoleBinding", "clusterRoleBinding"),
        ] {
            let bindings = self.bindings.iter().filter(|((place, _), _)| place == scope);
            let granted: Vec<_> = bindings
                .filter(|(_, binding)| is_bound(binding, scope, namespace, name))
                .filter_map(|(_, binding)| Some((binding, self.rules_of(&binding["roleRef"], scope)?)))
                .map(|(binding, rules)| {
                    let mut binding = binding.clone();
                    reduce(&mut binding);
                    json!({ field: binding, "rules": rules })
                })
                .collect();
            if !granted.is_empty() {
                spec.insert(list.into(), granted.into());
            }
        }
        spec.into()
    }

    fn rules_of(&self, role: &Value, scope: &str) -> Option<&Value> {
        let place = match role["kind"].as_str()? {
            "Role" if !scope.is_empty() => scope,
            "ClusterRole" => "",
            _ => return None,
        };
        self.roles
            .get(&(place.to_owned(), role["name"].as_str()?.to_owned()))
    }
}

/// Whether a binding in `scope` names the account. An account is in two groups (Kubernetes
/// `apiserver/pkg/authentication/serviceaccount/util.go`).
fn is_bound(binding: &Value, scope: &str, namespace: &str, name: &str) -> bool {
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.into_iter().any(|subject| {
        let named = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => named == format!("system:serviceaccount:{namespace}:{name}"),
            Some("Group") => {
                named == "system:serviceaccounts" || named == format!("system:serviceaccounts:{namespace}")
            }
            Some("ServiceAccount") => {
                let place = subject["namespace"].as_str().filter(|place| !place.is_empty());
                named == name && place.unwrap_or(scope) == namespace
            }
            _ => false,
        }
    })
}

/// Leaves what KubeEdge's definition of the kind keeps: no type, and of the metadata what does not change by itself.
fn reduce(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.remove("kind");
    fields.remove("apiVersion");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| matches!(&**field, "name" | "namespace" | "labels" | "annotations"));
    }
}

/// A field of the metadata.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The document without what says nothing: nulls, as Go writes them.
pub(super) fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            let all = std::mem::take(fields)
                .into_iter()
                .filter(|(_, value)| !value.is_null());
            *fields = all.map(|(field, value)| (field, without_nulls(value))).collect();
        }
        Value::Array(items) => *items = std::mem::take(items).into_iter().map(without_nulls).collect(),
        _ => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(namespace: &str, name: &str, role: (&str, &str), subject: Value) -> (Name, Value) {
        let value = json!({ "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": { "name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1" },
            "roleRef": { "kind": role.0, "name": role.1 }, "subjects": [subject] });
        ((namespace.into(), name.into()), value)
    }

    fn granted(subject: Value, namespace: &str, role: (&str, &str)) -> Vec<String> {
        let role_of =
            |place: &str, name: &str| ((place.to_owned(), name.to_owned()), json!([{ "verbs": [name] }]));
        let rules = Rules {
            roles: [role_of("shop", "reader"), role_of("", "viewer")].into(),
            bindings: [binding(namespace, "b", role, subject)].into(),
        };
        let account = json!({ "kind": "ServiceAccount", "metadata": { "name": "robot", "namespace": "shop", "uid": "r" } });
        let spec = rules.access(&account);
        assert_eq!(
            spec["serviceAccount"],
            json!({ "metadata": { "name": "robot", "namespace": "shop" } })
        );
        let lists = ["accessRoleBinding", "accessClusterRoleBinding"];
        let all = lists
            .iter()
            .flat_map(|list| spec[list].as_array().cloned().unwrap_or_default());
        all.map(|access| access["rules"][0]["verbs"][0].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn bindings_grant_what_kubernetes_says_that_they_grant() {
        let account = |namespace: &str, name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace });
        let named = |kind: &str, name: &str| json!({ "kind": kind, "name": name });
        let reader = ("Role", "reader");
        let viewer = ("ClusterRole", "viewer");
        for (subject, namespace, role, expected) in [
            (account("shop", "robot"), "shop", reader, &["reader"][..]),
            (account("", "robot"), "shop", reader, &["reader"]),
            (account("shop", "robot"), "shop", viewer, &["viewer"]),
            (account("shop", "robot"), "", viewer, &["viewer"]),
            (account("", "robot"), "", viewer, &[]),
            (account("shop", "other"), "shop", reader, &[]),
            (account("other", "robot"), "shop", reader, &[]),
            (account("shop", "robot"), "other", viewer, &[]),
            (account("shop", "robot"), "", reader, &[]),
            (account("shop", "robot"), "shop", ("Role", "gone"), &[]),
            (
                named("User", "system:serviceaccount:shop:robot"),
                "",
                viewer,
                &["viewer"],
            ),
            (named("Group", "system:serviceaccounts"), "", viewer, &["viewer"]),
            (
                named("Group", "system:serviceaccounts:shop"),
                "shop",
                reader,
                &["reader"],
            ),
            (named("Group", "system:serviceaccounts:other"), "", viewer, &[]),
            (named("Group", "system:authenticated"), "", viewer, &[]),
            (json!({}), "", viewer, &[]),
        ] {
            assert_eq!(
                granted(subject.clone(), namespace, role),
                expected,
                "{subject} in {namespace:?} to {role:?}"
            );
        }
    }
}
