//! The roles that every cluster begins with, as far as somebody without a role of their own depends on them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{GROUP, people};
use crate::object::{GroupVersionResource, Object};

/// ClusterRoles and ClusterRoleBindings for discovery, health, questions about oneself, administrators and people (Kubernetes
/// `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`).
pub fn bootstrap() -> &'static [Object] {
    static OBJECTS: LazyLock<Vec<Object>> = LazyLock::new(objects);
    &OBJECTS
}

fn objects() -> Vec<Object> {
    let get = |paths: &[&str]| json!([{ "verbs": ["get"], "nonResourceURLs": paths }]);
    let create = |group: &str, kinds: &[&str]| json!({ "verbs": ["create"], "apiGroups": [group], "resources": kinds });
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
        ][..],
        &health[2..],
    ];
    let keys = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    let reviews = json!([
        create(
            "authorization.k8s.io",
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
        ),
        create("authentication.k8s.io", &["selfsubjectreviews"]),
    ]);
    let everything = json!([
        { "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] },
        { "verbs": ["*"], "nonResourceURLs": ["*"] },
    ]);
    [
        ("cluster-admin", everything, &["system:masters"][..]),
        ("system:basic-user", reviews, &["system:authenticated"]),
        (
            "system:discovery",
            get(&discovery.concat()),
            &["system:authenticated"],
        ),
        (
            "system:public-info-viewer",
            get(&health),
            &["system:authenticated", "system:unauthenticated"],
        ),
        (
            "system:service-account-issuer-discovery",
            get(&keys),
            &["system:serviceaccounts"],
        ),
    ]
    .into_iter()
    .flat_map(|(name, rules, groups)| pair(name, &rules, groups))
    .chain(
        people::roles()
            .into_iter()
            .map(|(name, labels, body)| object("clusterroles", "ClusterRole", name, &labels, body)),
    )
    .collect()
}

fn pair(name: &str, rules: &Value, groups: &[&str]) -> [Object; 2] {
    let subjects = groups
        .iter()
        .map(|group| json!({ "apiGroup": GROUP, "kind": "Group", "name": group }));
    let subjects: Vec<Value> = subjects.collect();
    let role_ref = json!({ "apiGroup": GROUP, "kind": "ClusterRole", "name": name });
    let binding = json!({ "subjects": subjects, "roleRef": role_ref });
    [
        object(
            "clusterroles",
            "ClusterRole",
            name,
            &json!({}),
            json!({ "rules": rules }),
        ),
        object(
            "clusterrolebindings",
            "ClusterRoleBinding",
            name,
            &json!({}),
            binding,
        ),
    ]
}

fn object(resource: &str, kind: &str, name: &str, labels: &Value, mut body: Value) -> Object {
    body["apiVersion"] = format!("{GROUP}/v1").into();
    body["kind"] = kind.into();
    let mut all = json!({ "kubernetes.io/bootstrapping": "rbac-defaults" });
    for (label, value) in labels.as_object().into_iter().flatten() {
        all[label] = value.clone();
    }
    body["metadata"] = json!({
        "name": name,
        "labels": all,
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    });
    let resource = GroupVersionResource::new(GROUP, "v1", resource);
    Object::from_body(resource, body.to_string().into())
        .expect("a constant of this file, which its test reads")
}
