//! `rbac.authorization.k8s.io`.

use serde_json::Value;

use super::super::text::{items, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "rolebindings" | "clusterrolebindings" => {
            let role = format!("{}/{}", text(o, "roleRef.kind"), text(o, "roleRef.name"));
            let subjects = |kind: &str| -> Value {
                let names = items(o, "subjects")
                    .iter()
                    .filter(|subject| text(subject, "kind") == kind);
                let shown = names.map(|subject| match kind {
                    "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
                    _ => text(subject, "name").into(),
                });
                shown.collect::<Vec<_>>().join(", ").into()
            };
            vec![
                name,
                role.into(),
                age,
                subjects("User"),
                subjects("Group"),
                subjects("ServiceAccount"),
            ]
        }
        _ => return None,
    })
}
