//! Nobody gives others more than he has.

use bytes::Bytes;
use cloudhub::cluster::Cluster as _;
use hub_core::api::User;
use serde_json::{Value, json};

use crate::{World, parse, request};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl World {
    /// What somebody who is no administrator gets for what he sends.
    async fn ask(&self, user: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let media_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = request(method, path, media_type, Bytes::from(body.to_string()));
        request.user = Some(User {
            name: user.into(),
            groups: vec!["system:authenticated".into()],
            ..User::default()
        });
        let answer = self.cluster.execute(request).await.unwrap();
        let message = parse(&answer)["message"].as_str().unwrap_or_default().to_owned();
        (answer.code, message)
    }

    /// Gives a user rights in the namespace `default`.
    async fn give(&self, user: &str, rules: Value) {
        let inside = format!("{RBAC}/namespaces/default");
        let role = json!({ "metadata": { "name": user }, "rules": rules });
        self.ok("POST", &format!("{inside}/roles"), role).await;
        let binding = binding(user, "Role", user, user);
        self.ok("POST", &format!("{inside}/rolebindings"), binding).await;
    }
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

fn role(name: &str, rules: Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn rule(verbs: &[&str], resources: &[&str]) -> Value {
    json!({ "verbs": verbs, "apiGroups": [""], "resources": resources })
}

#[tokio::test]
async fn who_is_no_administrator_makes_roles_and_bindings_of_what_he_has_and_of_no_more() {
    let world = World::new();
    world
        .give("ann", json!([rule(&["get", "list"], &["pods"])]))
        .await;
    let (roles, bindings) = (
        format!("{RBAC}/namespaces/default/roles"),
        format!("{RBAC}/namespaces/default/rolebindings"),
    );
    let ann = async |method, path: &str, body| world.ask("ann", method, path, body).await;

    let own = role("own", json!([rule(&["get"], &["pods"])]));
    assert_eq!(ann("POST", &roles, own).await.0, 201);
    let more = role("more", json!([rule(&["get", "delete"], &["pods", "secrets"])]));
    let missing = "user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
        {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
        {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}";
    let refused = |what: &str, name: &str| {
        (
            403,
            format!("{what}.rbac.authorization.k8s.io {name:?} is forbidden: {missing}"),
        )
    };
    assert_eq!(ann("POST", &roles, more.clone()).await, refused("roles", "more"));
    let grown = json!({ "rules": more["rules"] });
    let path = format!("{roles}/own");
    assert_eq!(ann("PATCH", &path, grown).await, refused("roles", "own"));
    // A role that has more already can be described and let go, but not written again.
    world.ok("POST", &roles, more).await;
    let path = format!("{roles}/more");
    let finalizers = json!({ "metadata": { "finalizers": ["example.com/x"] } });
    assert_eq!(ann("PATCH", &path, finalizers).await.0, 200);
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(ann("PATCH", &path, labels).await.0, 403);

    assert_eq!(
        ann("POST", &bindings, binding("own", "Role", "own", "bob"))
            .await
            .0,
        201
    );
    let more = binding("more", "Role", "more", "bob");
    assert_eq!(
        ann("POST", &bindings, more).await,
        refused("rolebindings", "more")
    );
    let all = binding("all", "ClusterRole", "cluster-admin", "ann");
    assert_eq!(ann("POST", &bindings, all).await.0, 403);
    let none = ann("POST", &bindings, binding("none", "Role", "nosuch", "bob")).await;
    assert_eq!(
        none,
        (
            404,
            "rolebindings.rbac.authorization.k8s.io \"nosuch\" not found".into()
        )
    );
    // What somebody has in one namespace he cannot give for all.
    let everywhere = role("everywhere", json!([rule(&["get"], &["pods"])]));
    assert_eq!(
        ann("POST", &format!("{RBAC}/clusterroles"), everywhere).await.0,
        403
    );
}

#[tokio::test]
async fn who_may_escalate_a_role_or_bind_it_need_not_have_what_is_in_it() {
    let world = World::new();
    let special = |verb: &str, resource: &str, name: &str| json!({ "verbs": [verb], "apiGroups": ["rbac.authorization.k8s.io"], "resources": [resource], "resourceNames": [name] });
    let rules = json!([
        special("escalate", "roles", "big"),
        special("bind", "clusterroles", "view")
    ]);
    world.give("ann", rules).await;
    let inside = format!("{RBAC}/namespaces/default");
    let big = role("big", json!([rule(&["*"], &["*"])]));
    let ann = async |method, path: &str, body| world.ask("ann", method, path, body).await.0;

    // A name that only the body says is not one that may be escalated.
    assert_eq!(ann("POST", &format!("{inside}/roles"), big.clone()).await, 403);
    assert_eq!(ann("PUT", &format!("{inside}/roles/big"), big.clone()).await, 201);
    let other = role("other", big["rules"].clone());
    assert_eq!(ann("PUT", &format!("{inside}/roles/other"), other).await, 403);
    let bindings = format!("{inside}/rolebindings");
    assert_eq!(
        ann("POST", &bindings, binding("view", "ClusterRole", "view", "bob")).await,
        201
    );
    assert_eq!(
        ann("POST", &bindings, binding("edit", "ClusterRole", "edit", "bob")).await,
        403
    );
    assert_eq!(
        ann("POST", &bindings, binding("big", "Role", "big", "bob")).await,
        403
    );
}

#[tokio::test]
async fn only_who_may_do_everything_makes_a_role_of_others() {
    let world = World::new();
    let binding = binding("root", "ClusterRole", "cluster-admin", "root");
    world
        .ok("POST", &format!("{RBAC}/clusterrolebindings"), binding)
        .await;
    let selectors = json!([{ "matchLabels": { "a": "b" } }]);
    let made = json!({
        "metadata": { "name": "made" }, "aggregationRule": { "clusterRoleSelectors": selectors }, "rules": [],
    });
    let roles = format!("{RBAC}/clusterroles");
    let refused = world.ask("ann", "POST", &roles, made.clone()).await;
    let why = "must have cluster-admin privileges to use the aggregationRule";
    assert_eq!(
        refused,
        (
            403,
            format!("clusterroles.rbac.authorization.k8s.io \"made\" is forbidden: {why}")
        )
    );
    assert_eq!(world.ask("root", "POST", &roles, made).await.0, 201);
}
