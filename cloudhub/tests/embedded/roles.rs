//! The roles that people are given, as a kube-apiserver and its controllers have them.

use cloudhub::cluster::{Cluster as _, EmbeddedCluster, EmbeddedConfig};
use hub_core::api::{User, Verb};
use serde_json::{Value, json};

use crate::World;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

fn rules(role: &Value) -> &Vec<Value> {
    role["rules"].as_array().unwrap()
}

/// Looks until the roles have been put right: that is done after the write is answered.
async fn until(world: &World, name: &str, good: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let role = world.ok("GET", &format!("{ROLES}/{name}"), ()).await;
        if good(&role) {
            return role;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{name} never came to be right");
}

#[tokio::test]
async fn view_edit_and_admin_are_made_of_what_is_labelled_so_and_follow_it() {
    let world = World::new();
    let view = world.ok("GET", &format!("{ROLES}/view"), ()).await;
    assert_eq!(
        view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"],
        "true"
    );
    let part = world
        .ok("GET", &format!("{ROLES}/system:aggregate-to-view"), ())
        .await;
    assert_eq!(rules(&view), rules(&part));
    let edit = world.ok("GET", &format!("{ROLES}/edit"), ()).await;
    let admin = world.ok("GET", &format!("{ROLES}/admin"), ()).await;
    // As the recorded cluster has them: 27 rules, and two more for who gives rights away.
    assert_eq!((rules(&edit).len(), rules(&admin).len()), (27, 29));
    assert_eq!(
        rules(&edit)[0],
        json!({ "verbs": ["get", "list", "watch"], "apiGroups": [""],
            "resources": ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"] })
    );

    let user = User {
        name: "ann".into(),
        ..User::default()
    };
    let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann" });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" });
    let binding = json!({ "metadata": { "name": "ann" }, "roleRef": role, "subjects": [subject] });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    world.ok("POST", bindings, binding).await;
    let may = async || {
        let resource = hub_core::object::GroupVersionResource::new("kitchen.example.com", "v1", "recipes");
        let mut request = hub_core::api::ApiRequest::resource(Verb::List, resource, Some("default"), None);
        request.user = Some(user.clone());
        world.cluster.allows(&request).await
    };
    assert!(!may().await);
    let more = json!({ "verbs": ["list"], "apiGroups": ["kitchen.example.com"], "resources": ["recipes"] });
    let labels = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    let recipes = json!({ "metadata": { "name": "recipes", "labels": labels }, "rules": [more] });
    world.ok("POST", ROLES, recipes).await;
    let has = |role: &Value| rules(role).contains(&more);
    for name in ["view", "edit", "admin"] {
        until(&world, name, has).await;
    }
    assert!(may().await);
    // What somebody writes into such a role is not what it is made of.
    let patch = ("merge-patch", json!({ "rules": [] }));
    world.ok("PATCH", &format!("{ROLES}/edit"), patch).await;
    until(&world, "edit", has).await;
    world.ok("DELETE", &format!("{ROLES}/recipes"), ()).await;
    until(&world, "admin", |role| rules(role).len() == 29).await;
    assert!(!may().await);

    let path = world.folder.path().join("cluster.db");
    drop(world.cluster);
    let again = EmbeddedCluster::open(&path, EmbeddedConfig::default()).unwrap();
    drop(again);
}
