//! The rights in `examples/kubernetes`: enough for all that the hub does in its own name, and no more.

use hub_core::api::{ApiRequest, Verb};
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::real::Admin;
use crate::world::until;

#[test]
fn no_rule_of_the_role_is_about_everything() {
    let role = include_str!("../../kubernetes/role.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(role).unwrap();
    let rules: Vec<_> = objects
        .iter()
        .flat_map(|object| object["rules"].as_array().into_iter().flatten())
        .collect();
    assert!(rules.len() > 10);
    for rule in rules {
        assert!(!rule.to_string().contains('*'), "{rule}");
    }
}

/// What the hub does in its own name, beside reading: group, resource, verbs.
const OWN_WRITES: [(&str, &str, &[&str]); 13] = [
    ("", "nodes", &["create", "patch"]),
    ("", "users", &["impersonate"]),
    ("", "serviceaccounts", &["impersonate"]),
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("storage.k8s.io", "volumeattachments", &["create", "delete"]),
    ("devices.kubeedge.io", "devices/status", &["patch"]),
    ("devices.kubeedge.io", "devicestatuses", &["create", "patch"]),
    ("devices.kubeedge.io", "devicestatuses/status", &["patch"]),
    ("reliablesyncs.kubeedge.io", "objectsyncs", &["create", "delete"]),
    (
        "reliablesyncs.kubeedge.io",
        "clusterobjectsyncs/status",
        &["patch"],
    ),
    (
        "policy.kubeedge.io",
        "serviceaccountaccesses",
        &["create", "delete", "update"],
    ),
    ("policy.kubeedge.io", "serviceaccountaccesses/status", &["patch"]),
];

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn the_role_lets_the_hub_do_its_work_and_nothing_else() {
    let admin = Admin::new("role").await;
    let (_file, account) = admin.account().await;
    admin.bind(&account, "").await;
    let may = async |group: &str, resource: &str, verb: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes =
            json!({ "group": group, "resource": resource, "subresource": subresource, "verb": verb });
        let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": account, "resourceAttributes": attributes } });
        let reviews = GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
        let create = ApiRequest::resource(Verb::Create, reviews, None, None);
        let answer = admin
            .done(create.with_body("application/json", review.to_string()))
            .await;
        answer["status"]["allowed"] == true
    };
    until("the role", async || may("", "pods", "watch").await.then_some(())).await;
    for (group, resource, verbs) in OWN_WRITES {
        for verb in verbs {
            assert!(may(group, resource, verb).await, "{verb} {resource}.{group}");
        }
    }
    for (group, resource, verb) in [
        ("", "pods", "create"),
        ("", "pods", "delete"),
        ("", "nodes", "delete"),
        ("", "secrets", "update"),
        ("", "groups", "impersonate"),
        ("devices.kubeedge.io", "devices", "delete"),
        ("policy.kubeedge.io", "serviceaccountaccesses", "deletecollection"),
        ("rbac.authorization.k8s.io", "clusterroles", "create"),
        ("apps.kubeedge.io", "edgeapplications", "get"),
    ] {
        assert!(!may(group, resource, verb).await, "{verb} {resource}.{group}");
    }
    admin.end().await;
}
