//! Roles, as they are held on the node.

use hub_core::scope::Scope;
use metaserver::MetaConfig;
use serde_json::json;

use crate::support::{Mood, Node, soon};
use crate::world::{Issuer, MINE, OTHERS, RBAC, ask, auth, binding, claims, code, node, rbac, role};

#[tokio::test]
async fn a_role_given_or_taken_is_felt_at_once_and_a_denial_outlives_the_link() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    assert_eq!(code(&node, &token, OTHERS).await, 403);
    node.cloud.put("roles", role("other", &["*"]));
    node.cloud
        .put("rolebindings", binding("other", "ServiceAccount", "agent"));
    soon(async { while code(&node, &token, OTHERS).await != 200 {} }).await;

    node.cloud
        .remove(rbac("rolebindings"), Some("other"), "agent-reads");
    soon(async { while code(&node, &token, OTHERS).await != 403 {} }).await;
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(code(&node, &token, OTHERS).await, 403);
    assert_eq!(code(&node, &token, MINE).await, 200);
}

#[tokio::test]
async fn k03_what_the_cloud_denies_is_denied_though_the_roles_here_allow_it_and_the_object_is_here() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    node.cloud.mood(Mood::Denies);
    let absent = "/api/v1/namespaces/shop/configmaps/not-here";
    assert_eq!(code(&node, &token, absent).await, 403);
    let create = ask(&node, &token, "POST", "/api/v1/namespaces/shop/configmaps", "{}").await;
    assert_eq!(create.code, 403, "the roles here deny it already");
}

#[tokio::test]
async fn before_the_roles_are_known_it_is_not_known_who_may_what_but_health_is_told() {
    let issuer = Issuer::new("k1");
    let node = Node::with(MetaConfig {
        auth: auth(),
        ..MetaConfig::default()
    })
    .await;
    node.cloud.mood(Mood::Unreachable);
    drop(issuer);
    let answer = node.get(MINE).await;
    assert_eq!((answer.code.as_u16(), answer.header("retry-after")), (503, "1"));
    for path in ["/healthz", "/livez", "/readyz", "/version", "/healthz/ping"] {
        let expected = if path == "/healthz/ping" { 403 } else { 200 };
        assert_eq!(node.get(path).await.code, expected, "{path}");
    }
    assert_eq!(node.get("/api").await.code, 403);
}

#[tokio::test]
async fn rules_of_other_roles_are_gathered_and_names_of_objects_and_searches_for_them_count() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    let labels = json!({ "team": "a" });
    node.cloud.put(
        "clusterroles",
        json!({ "kind": "ClusterRole", "apiVersion": RBAC, "metadata": { "name": "all" },
            "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": labels }] }, "rules": [] }),
    );
    node.cloud.put(
        "clusterroles",
        json!({ "kind": "ClusterRole", "apiVersion": RBAC, "metadata": { "name": "part", "labels": labels },
            "rules": [{ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"] }] }),
    );
    node.cloud.put(
        "clusterrolebindings",
        json!({ "kind": "ClusterRoleBinding", "apiVersion": RBAC, "metadata": { "name": "all" },
            "roleRef": { "kind": "ClusterRole", "name": "all" }, "subjects": [{ "kind": "Group", "name": "system:serviceaccounts:shop" }] }),
    );
    soon(async { while code(&node, &token, OTHERS).await != 200 {} }).await;
    let list = "/api/v1/namespaces/other/configmaps";
    assert_eq!(code(&node, &token, list).await, 403);
    let searched = format!("{list}?fieldSelector=metadata.name%3Dsettings");
    assert_eq!(code(&node, &token, &searched).await, 200);
    let watched = format!("{searched}&watch=true");
    assert_eq!(code(&node, &token, &watched).await, 403);
}

#[tokio::test]
async fn what_is_asked_of_the_cloud_says_for_whom_and_what_decides_is_asked_by_the_node() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    let absent = "/api/v1/namespaces/shop/configmaps/not-here";
    assert_eq!(code(&node, &token, absent).await, 404);
    let asked = node.cloud.asked();
    let user = asked.last().unwrap().user.clone().unwrap();
    assert_eq!(
        (&*user.name, &*user.uid),
        ("system:serviceaccount:shop:agent", "uid-agent")
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["agent-1"]);
    assert!(!format!("{asked:?}").contains(&token), "tokens stay on the node");
    let roles = Scope::all(rbac("roles"));
    assert!(
        asked
            .iter()
            .all(|request| request.user.is_none() || format!("{:?}", request.target) != format!("{roles:?}"))
    );
}

#[tokio::test]
async fn another_s_name_may_be_used_by_who_may_and_by_no_other() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = format!("Bearer {}", issuer.sign(&claims()));
    let as_other = [
        ("authorization", &*token),
        ("impersonate-user", "system:serviceaccount:other:reader"),
        ("impersonate-extra-why%2fnot", "x"),
    ];
    let refused = node.ask("GET", OTHERS, &as_other, "").await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        "serviceaccounts \"reader\" is forbidden: User \"system:serviceaccount:shop:agent\" cannot impersonate resource \
         \"serviceaccounts\" in API group \"\" in the namespace \"other\""
    );
    let nameless = [("authorization", &*token), ("impersonate-group", "x")];
    let refused = node.ask("GET", OTHERS, &nameless, "").await;
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.json()["message"],
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"x\"}, Extra:map[string][]string(nil)} without \
         impersonating a user name"
    );
    node.cloud.put(
        "clusterroles",
        json!({ "kind": "ClusterRole", "apiVersion": RBAC, "metadata": { "name": "actor" }, "rules": [
            { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["reader"] },
            { "verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/why/not"] },
        ] }),
    );
    node.cloud.put(
        "clusterrolebindings",
        json!({ "kind": "ClusterRoleBinding", "apiVersion": RBAC, "metadata": { "name": "actor" },
            "roleRef": { "kind": "ClusterRole", "name": "actor" },
            "subjects": [{ "kind": "ServiceAccount", "name": "agent", "namespace": "shop" }] }),
    );
    node.cloud.put("roles", role("other", &["get"]));
    node.cloud.put(
        "rolebindings",
        binding("other", "Group", "system:serviceaccounts:other"),
    );
    soon(async { while node.ask("GET", OTHERS, &as_other, "").await.code != 200 {} }).await;
    assert_eq!(
        node.ask("GET", MINE, &as_other, "").await.code,
        403,
        "who acts for another is the other"
    );
}

#[tokio::test]
async fn since_1_36_a_right_may_say_for_what_another_s_name_is_used() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = format!("Bearer {}", issuer.sign(&claims()));
    let as_other = [
        ("authorization", &*token),
        ("impersonate-user", "system:serviceaccount:other:reader"),
    ];
    let refused = node.ask("GET", OTHERS, &as_other, "").await;
    assert_eq!(
        refused.json()["message"],
        "configmaps \"settings\" is forbidden: User \"system:serviceaccount:shop:agent\" cannot \
         impersonate-on:serviceaccount:get resource \"configmaps\" in API group \"\" in the namespace \"other\""
    );
    node.cloud.put(
        "clusterroles",
        json!({ "kind": "ClusterRole", "apiVersion": RBAC, "metadata": { "name": "actor" }, "rules": [
            { "verbs": ["impersonate:serviceaccount"], "apiGroups": ["authentication.k8s.io"], "resources": ["serviceaccounts"] },
            { "verbs": ["impersonate-on:serviceaccount:get"], "apiGroups": [""], "resources": ["configmaps"] },
        ] }),
    );
    node.cloud.put(
        "clusterrolebindings",
        json!({ "kind": "ClusterRoleBinding", "apiVersion": RBAC, "metadata": { "name": "actor" },
            "roleRef": { "kind": "ClusterRole", "name": "actor" },
            "subjects": [{ "kind": "ServiceAccount", "name": "agent", "namespace": "shop" }] }),
    );
    node.cloud.put("roles", role("other", &["get", "delete"]));
    node.cloud.put(
        "rolebindings",
        binding("other", "Group", "system:serviceaccounts:other"),
    );
    soon(async { while node.ask("GET", OTHERS, &as_other, "").await.code != 200 {} }).await;
    let refused = node.ask("DELETE", OTHERS, &as_other, "").await;
    assert_eq!(
        (
            refused.code.as_u16(),
            refused.json()["message"]
                .as_str()
                .unwrap()
                .contains("impersonate-on:serviceaccount:delete")
        ),
        (403, true),
        "the other may, and not in this way"
    );
}
