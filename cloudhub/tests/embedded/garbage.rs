//! Owners, dependents, and what holds an object that is on its way.

use serde_json::{Value, json};

use crate::World;

const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

impl World {
    async fn deployment(&self, name: &str) -> Value {
        self.ok("POST", DEPLOYMENTS, workload("Deployment", name)).await
    }

    /// A replica set of a deployment, and a ConfigMap of the replica set.
    async fn family(&self, name: &str, blocks: bool) -> Value {
        let owner = self.deployment(name).await;
        let mut set = workload("ReplicaSet", name);
        set["metadata"]["ownerReferences"] = json!([reference(&owner, blocks)]);
        let set = self.ok("POST", SETS, set).await;
        let config = json!({"metadata": {"name": name, "ownerReferences": [reference(&set, blocks)]}});
        self.ok("POST", CONFIGS, config).await;
        owner
    }

    async fn delete(&self, path: String, policy: &str) -> Value {
        self.ok("DELETE", &path, json!({"propagationPolicy": policy}))
            .await
    }
}

fn workload(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "apiVersion": "apps/v1", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn reference(owner: &Value, blocks: bool) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": blocks})
}

#[tokio::test]
async fn dependents_go_with_their_owner_in_the_background() {
    let world = World::new();
    for policy in [Some("Background"), None] {
        world.family("a", true).await;
        let path = format!("{DEPLOYMENTS}/a");
        let answer = match policy {
            Some(policy) => world.delete(path, policy).await,
            None => world.ok("DELETE", &path, ()).await,
        };
        assert_eq!(answer["status"], "Success");
        assert_eq!(world.get(&format!("{SETS}/a")).await.0, 404);
        assert_eq!(
            world.get(&format!("{CONFIGS}/a")).await.0,
            404,
            "and theirs with them"
        );
    }
}

#[tokio::test]
async fn orphans_stay_and_name_no_owner() {
    let world = World::new();
    world.family("a", true).await;
    let answer = world.delete(format!("{DEPLOYMENTS}/a"), "Orphan").await;
    assert_eq!(answer["metadata"]["finalizers"], json!(["orphan"]));
    assert!(answer["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/a")).await.0, 404);
    let set = world.get(&format!("{SETS}/a")).await.1;
    assert!(set["metadata"]["ownerReferences"].is_null());
    assert_eq!(world.get(&format!("{CONFIGS}/a")).await.0, 200);
}

#[tokio::test]
async fn an_owner_waits_in_the_foreground_for_those_that_block_it() {
    let world = World::new();
    world.family("a", true).await;
    let hold = (
        "merge-patch",
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    );
    world.ok("PATCH", &format!("{CONFIGS}/a"), hold).await;
    let answer = world.delete(format!("{DEPLOYMENTS}/a"), "Foreground").await;
    assert_eq!(answer["kind"], "Deployment");
    assert_eq!(answer["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(answer["metadata"]["deletionGracePeriodSeconds"], 0);
    for path in [format!("{DEPLOYMENTS}/a"), format!("{SETS}/a")] {
        let (code, value) = world.get(&path).await;
        assert_eq!(
            (code, &value["metadata"]["finalizers"]),
            (200, &json!(["foregroundDeletion"])),
            "{path}"
        );
    }
    let free = ("merge-patch", json!({"metadata": {"finalizers": null}}));
    world.ok("PATCH", &format!("{CONFIGS}/a"), free).await;
    for path in [
        format!("{CONFIGS}/a"),
        format!("{SETS}/a"),
        format!("{DEPLOYMENTS}/a"),
    ] {
        assert_eq!(world.get(&path).await.0, 404, "{path}");
    }

    world.family("b", false).await;
    world.delete(format!("{DEPLOYMENTS}/b"), "Foreground").await;
    assert_eq!(
        world.get(&format!("{DEPLOYMENTS}/b")).await.0,
        404,
        "nothing blocks it"
    );
    assert_eq!(
        world.get(&format!("{SETS}/b")).await.0,
        404,
        "and its dependents follow"
    );
}

#[tokio::test]
async fn an_owner_no_longer_waits_for_one_that_has_left_it() {
    let world = World::new();
    world.family("a", true).await;
    let hold = (
        "merge-patch",
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    );
    world.ok("PATCH", &format!("{SETS}/a"), hold).await;
    world.delete(format!("{DEPLOYMENTS}/a"), "Foreground").await;
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/a")).await.0, 200);
    let leave = ("merge-patch", json!({"metadata": {"ownerReferences": null}}));
    world.ok("PATCH", &format!("{SETS}/a"), leave).await;
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/a")).await.0, 404);
    assert_eq!(world.get(&format!("{SETS}/a")).await.0, 200);
}

#[tokio::test]
async fn one_of_two_owners_is_forgotten_and_the_dependent_stays() {
    let world = World::new();
    let (a, b) = (world.deployment("a").await, world.deployment("b").await);
    let config =
        json!({"metadata": {"name": "c", "ownerReferences": [reference(&a, true), reference(&b, false)]}});
    let config = {
        let mut config = config;
        config["metadata"]["ownerReferences"][1]["controller"] = false.into();
        config
    };
    world.ok("POST", CONFIGS, config).await;
    world.delete(format!("{DEPLOYMENTS}/a"), "Foreground").await;
    let held = world.get(&format!("{CONFIGS}/c")).await.1;
    assert_eq!(held["metadata"]["ownerReferences"][0]["name"], "b");
    assert_eq!(held["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    world.ok("DELETE", &format!("{DEPLOYMENTS}/b"), ()).await;
    assert_eq!(world.get(&format!("{CONFIGS}/c")).await.0, 404);
}

#[tokio::test]
async fn a_dry_run_collects_nothing_and_a_chain_of_any_length_everything() {
    let world = World::new();
    let mut owner = world
        .ok("POST", CONFIGS, json!({"metadata": {"name": "c0"}}))
        .await;
    for link in 1..400 {
        owner["kind"] = "ConfigMap".into();
        owner["apiVersion"] = "v1".into();
        let config =
            json!({"metadata": {"name": format!("c{link}"), "ownerReferences": [reference(&owner, true)]}});
        owner = world.ok("POST", CONFIGS, config).await;
    }
    let dry = json!({"dryRun": ["All"], "propagationPolicy": "Background"});
    world.ok("DELETE", &format!("{CONFIGS}/c0"), dry).await;
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(world.get(CONFIGS).await.1), 400);
    world.delete(format!("{CONFIGS}/c0"), "Foreground").await;
    assert_eq!(count(world.get(CONFIGS).await.1), 0);
}

#[tokio::test]
async fn a_collection_is_deleted_with_what_depends_on_it_or_without() {
    let world = World::new();
    for (name, policy, left) in [("a", "Background", 0), ("b", "Orphan", 1)] {
        world.family(name, true).await;
        let options = json!({"propagationPolicy": policy});
        let list = world
            .ok(
                "DELETE",
                &format!("{DEPLOYMENTS}?fieldSelector=metadata.name%3D{name}"),
                options,
            )
            .await;
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        let sets = world.get(SETS).await.1;
        assert_eq!(sets["items"].as_array().unwrap().len(), left, "{policy}");
    }
}

#[tokio::test]
async fn jobs_leave_their_pods_unless_told_otherwise() {
    let world = World::new();
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let job = world.ok("POST", jobs, job).await;
    let pod = json!({"metadata": {"name": "p", "ownerReferences": [reference(&job, true)]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.ok("POST", "/api/v1/namespaces/default/pods", pod).await;
    let answer = world.ok("DELETE", &format!("{jobs}/j"), ()).await;
    assert_eq!(answer["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(world.get(&format!("{jobs}/j")).await.0, 404);
    assert_eq!(world.get("/api/v1/namespaces/default/pods/p").await.0, 200);
}

#[tokio::test]
async fn a_namespace_says_what_holds_it() {
    let world = World::new();
    world
        .ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": "n"}}))
        .await;
    let configs = "/api/v1/namespaces/n/configmaps";
    let held = json!({"metadata": {"name": "c", "finalizers": ["example.com/hold"]}});
    world.ok("POST", configs, held).await;
    let answer = world.ok("DELETE", "/api/v1/namespaces/n", ()).await;
    assert_eq!(answer["status"]["phase"], "Terminating");
    let now = world.get("/api/v1/namespaces/n").await.1;
    let said = |kind: &str| {
        let conditions = now["status"]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .find(|condition| condition["type"] == kind)
            .unwrap()
            .clone()
    };
    assert_eq!(
        said("NamespaceContentRemaining")["message"],
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    assert_eq!(
        said("NamespaceFinalizersRemaining")["message"],
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    assert_eq!(said("NamespaceDeletionContentFailure")["status"], "False");
    let (code, refused) = world
        .call("POST", configs, json!({"metadata": {"name": "d"}}))
        .await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["reason"]),
        (403, &"NamespaceTerminating".into())
    );
    let free = ("merge-patch", json!({"metadata": {"finalizers": null}}));
    world.ok("PATCH", &format!("{configs}/c"), free).await;
    assert_eq!(world.get("/api/v1/namespaces/n").await.0, 404);
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let world = World::new();
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["a", "b"] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        world.ok("POST", pods, pod).await;
        let ready =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        world
            .ok("PATCH", &format!("{pods}/{name}/status"), ("merge-patch", ready))
            .await;
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "web"}, "spec": {"minAvailable": "51%", "selector": {"matchLabels": {"app": "web"}}}});
    world.ok("POST", budgets, budget).await;
    let evict = |name: &str| {
        (
            format!("{pods}/{name}/eviction"),
            json!({"metadata": {"name": name}}),
        )
    };
    let (path, eviction) = evict("a");
    let (code, refused) = world.call("POST", &path, eviction.clone()).await;
    assert_eq!((code, &refused["reason"]), (429, &"TooManyRequests".into()));
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget web needs 2 healthy pods and has 2 currently"
    );
    // Somebody keeps the budget now: it is taken at its word, and pays.
    let kept = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    world
        .ok("PATCH", &format!("{budgets}/web/status"), ("merge-patch", kept))
        .await;
    assert_eq!(world.call("POST", &path, eviction).await.0, 201);
    let paid = world.get(&format!("{budgets}/web")).await.1;
    assert_eq!(paid["status"]["disruptionsAllowed"], 0);
    assert!(paid["status"]["disruptedPods"]["a"].is_string());
    let (path, eviction) = evict("b");
    assert_eq!(world.call("POST", &path, eviction).await.0, 429);
}
