use serde_json::json;

use super::*;
use crate::object::GroupVersionResource;

fn object(resource: &str, body: Value) -> Object {
    Object::from_body(
        GroupVersionResource::new(GROUP, "v1", resource),
        body.to_string().into(),
    )
    .unwrap()
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    }
}

fn in_namespace<'a>(
    verb: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: Option<&'a str>,
) -> Attributes<'a> {
    Attributes {
        verb,
        object: About::Resource {
            group: "",
            resource,
            subresource: None,
            namespace: Some(namespace),
            name,
        },
    }
}

#[test]
fn a_role_binding_holds_in_its_namespace_only() {
    let rbac = Rbac::new(&[
        object(
            "roles",
            json!({"metadata": {"name": "r", "namespace": "a"},
                   "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]}),
        ),
        object(
            "rolebindings",
            json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "r"},
                   "subjects": [{"kind": "ServiceAccount", "name": "agent"}]}),
        ),
    ]);
    let agent = user("system:serviceaccount:a:agent", &[]);
    assert!(rbac.allows(&agent, &in_namespace("get", "configmaps", "a", Some("x"))));
    assert!(!rbac.allows(&agent, &in_namespace("get", "configmaps", "b", Some("x"))));
    assert!(!rbac.allows(&agent, &Attributes::resource("get", "", "configmaps", None)));
    assert!(!rbac.allows(&user("other", &[]), &in_namespace("get", "configmaps", "a", None)));
}

#[test]
fn a_rule_with_names_covers_those_objects_and_a_list_that_asks_for_one_of_them() {
    let rbac = Rbac::new(&[
        object(
            "clusterroles",
            json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get", "list", "create"], "apiGroups": [""],
                   "resources": ["configmaps"], "resourceNames": ["one"]}]}),
        ),
        object(
            "clusterrolebindings",
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                   "subjects": [{"kind": "User", "name": "u"}]}),
        ),
    ]);
    let u = user("u", &[]);
    assert!(rbac.allows(&u, &in_namespace("get", "configmaps", "d", Some("one"))));
    assert!(!rbac.allows(&u, &in_namespace("get", "configmaps", "d", Some("two"))));
    assert!(!rbac.allows(&u, &in_namespace("create", "configmaps", "d", None)));
    let mut list = ApiRequest::resource(
        Verb::List,
        GroupVersionResource::core("configmaps"),
        Some("d"),
        None,
    );
    assert!(!rbac.allows(&u, &Attributes::of(&list, selected_name(&list).as_deref())));
    list.query = "fieldSelector=metadata.name%3Done".into();
    assert!(rbac.allows(&u, &Attributes::of(&list, selected_name(&list).as_deref())));
}

#[test]
fn subresources_are_named_apart_and_paths_end_in_a_star() {
    let rule = |rule: Value| serde_json::from_value::<Rule>(rule).unwrap();
    let status = Attributes::resource("patch", "", "nodes", Some("status"));
    for (resource, covers) in [
        ("nodes", false),
        ("nodes/status", true),
        ("*/status", true),
        ("*", true),
    ] {
        let rule = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": [resource]}));
        assert_eq!(rule.covers(&status), covers, "{resource}");
    }
    let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openapi/*"]}));
    for (path, covers) in [
        ("/healthz", true),
        ("/healthz/etcd", false),
        ("/openapi/v3", true),
        ("/", false),
    ] {
        let wanted = Attributes {
            verb: "get",
            object: About::Path(path),
        };
        assert_eq!(paths.covers(&wanted), covers, "{path}");
    }
}

#[test]
fn an_aggregated_role_has_the_rules_of_the_roles_it_selects() {
    let rbac = Rbac::new(&[
        object(
            "clusterroles",
            json!({"metadata": {"name": "all"}, "rules": null,
                   "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]}}),
        ),
        object(
            "clusterroles",
            json!({"metadata": {"name": "part", "labels": {"to": "all"}},
                   "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        ),
        object(
            "clusterrolebindings",
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "all"},
                   "subjects": [{"kind": "Group", "name": "g"}]}),
        ),
    ]);
    assert!(rbac.allows(&user("u", &["g"]), &Attributes::resource("get", "", "pods", None)));
    assert!(!rbac.allows(
        &user("u", &["g"]),
        &Attributes::resource("get", "", "secrets", None)
    ));
}

#[test]
fn damaged_objects_add_nothing() {
    let rbac = Rbac::new(&[object(
        "clusterrolebindings",
        json!({"metadata": {"name": "b"}, "roleRef": 7}),
    )]);
    assert!(!rbac.allows(&user("u", &["g"]), &Attributes::resource("get", "", "pods", None)));
}

#[test]
fn a_grant_and_a_refusal_read_as_a_kube_apiserver_writes_them() {
    let rbac = Rbac::new(&[
        object(
            "roles",
            json!({"metadata": {"name": "pod-reader", "namespace": "default"},
                   "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        ),
        object(
            "rolebindings",
            json!({"metadata": {"name": "limited-reads", "namespace": "default"}, "roleRef": {"kind": "Role", "name": "pod-reader"},
                   "subjects": [{"kind": "User", "name": "limited"}, {"kind": "ServiceAccount", "name": "builder", "namespace": "shop"}]}),
        ),
    ]);
    let get = in_namespace("get", "pods", "default", None);
    let reason = |name: &str| rbac.reason(&user(name, &[]), &get);
    let allowed = "RBAC: allowed by RoleBinding \"limited-reads/default\" of Role \"pod-reader\" to";
    assert_eq!(reason("limited").unwrap(), format!("{allowed} User \"limited\""));
    assert_eq!(
        reason("system:serviceaccount:shop:builder").unwrap(),
        format!("{allowed} ServiceAccount \"builder/shop\"")
    );
    assert_eq!(reason("other"), None);

    let limited = user("limited", &[]);
    let list = Attributes {
        verb: "list",
        object: About::Resource {
            group: "apps",
            resource: "deployments",
            subresource: None,
            namespace: Some("default"),
            name: None,
        },
    };
    assert_eq!(
        denial(&limited, &list, "").message,
        "deployments.apps is forbidden: User \"limited\" cannot list resource \"deployments\" in API group \"apps\" in \
         the namespace \"default\""
    );
    let root = Attributes {
        verb: "get",
        object: About::Path("/"),
    };
    let refused = denial(&limited, &root, "");
    assert_eq!(
        refused.message,
        "forbidden: User \"limited\" cannot get path \"/\""
    );
    assert!(
        String::from_utf8(refused.to_json())
            .unwrap()
            .contains("\"details\":{}")
    );
}

#[test]
fn everybody_may_ask_for_health_and_only_who_is_known_for_discovery() {
    let rbac = Rbac::new(bootstrap());
    let get = |path| Attributes {
        verb: "get",
        object: About::Path(path),
    };
    let nobody = user("system:anonymous", &["system:unauthenticated"]);
    let somebody = user("a", &["system:authenticated"]);
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert!(rbac.allows(&nobody, &get(path)), "{path}");
    }
    for path in ["/api", "/apis/apps/v1", "/openapi/v3"] {
        assert!(!rbac.allows(&nobody, &get(path)), "{path}");
        assert!(rbac.allows(&somebody, &get(path)), "{path}");
    }
    assert!(!rbac.allows(&somebody, &get("/")));
}
