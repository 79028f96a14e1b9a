//! What a cluster says of objects beyond their own fields: what a namespace may have, what is in use, and what pods find in their files.

use serde_json::{Value, json};

use crate::World;

const CORE: &str = "/api/v1/namespaces/default";

fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "containers": [container]}})
}

#[tokio::test]
async fn a_namespace_takes_no_more_than_its_quota_and_gets_back_what_went() {
    let world = World::new();
    let (quotas, pods) = (format!("{CORE}/resourcequotas"), format!("{CORE}/pods"));
    world.ok("POST", &pods, pod("before", "500m")).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "requests.cpu": "1", "count/deployments.apps": "0"}}});
    world.ok("POST", &quotas, quota).await;
    let used = async || world.get(&format!("{quotas}/q")).await.1["status"]["used"].clone();
    let counted =
        |pods: &str, cpu: &str| json!({"pods": pods, "requests.cpu": cpu, "count/deployments.apps": "0"});
    assert_eq!(used().await, counted("1", "500m"));
    for (refused, why) in [
        (
            pod("greedy", "600m"),
            "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1",
        ),
        (
            json!({"metadata": {"name": "silent"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}),
            "failed quota: q: must specify requests.cpu for: c",
        ),
    ] {
        let name = refused["metadata"]["name"].as_str().unwrap().to_owned();
        let (code, answer) = world.call("POST", &pods, refused).await;
        assert_eq!(
            (code, &answer["message"]),
            (403, &format!("pods {name:?} is forbidden: {why}").into())
        );
    }
    world
        .ok("POST", &format!("{pods}?dryRun=All"), pod("dry", "400m"))
        .await;
    world.ok("POST", &pods, pod("fits", "400m")).await;
    assert_eq!(used().await, counted("2", "900m"));
    assert_eq!(world.call("POST", &pods, pod("third", "1m")).await.0, 403);
    let over = json!({"status": {"phase": "Failed"}});
    world
        .ok("PATCH", &format!("{pods}/before/status"), ("merge-patch", over))
        .await;
    assert_eq!(used().await, counted("1", "400m"), "what has ended takes nothing");
    world
        .ok("DELETE", &format!("{pods}/fits?gracePeriodSeconds=0"), ())
        .await;
    assert_eq!(used().await, counted("0", "0"));
    let more = json!({"spec": {"hard": {"pods": "5", "secrets": "3"}}});
    world
        .ok("PATCH", &format!("{quotas}/q"), ("merge-patch", more))
        .await;
    assert_eq!(used().await["secrets"], "0", "a new limit is counted anew");
}

#[tokio::test]
async fn a_claim_goes_with_the_last_pod_that_uses_it() {
    let world = World::new();
    let (claims, pods) = (format!("{CORE}/persistentvolumeclaims"), format!("{CORE}/pods"));
    let claim = json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    world.ok("POST", &claims, claim).await;
    let mut user = pod("p", "1");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}]);
    world.ok("POST", &pods, user).await;
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (code, refused) = world
        .call("PATCH", &format!("{claims}/disk"), ("merge-patch", grown))
        .await;
    assert_eq!(
        (code, &refused["message"]),
        (403, &"persistentvolumeclaims \"disk\" is forbidden: Only bound persistent volume claims can be expanded".into())
    );
    let going = world.ok("DELETE", &format!("{claims}/disk"), ()).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    assert_eq!(world.get(&format!("{claims}/disk")).await.0, 200);
    world
        .ok("DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), ())
        .await;
    assert_eq!(world.get(&format!("{claims}/disk")).await.0, 404);
}

#[tokio::test]
async fn pods_of_a_set_mount_what_the_set_claims_for_them() {
    let world = World::new();
    let set = |mount: &str| {
        let container =
            json!({"name": "db", "image": "x", "volumeMounts": [{"name": mount, "mountPath": "/d"}]});
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        json!({"metadata": {"name": mount}, "spec": {"serviceName": "db", "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}, "volumeClaimTemplates": [claim]}})
    };
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let made = world.ok("POST", sets, set("data")).await;
    assert!(made["spec"]["template"]["spec"]["volumes"].is_null(), "{made}");
    let (code, refused) = world.call("POST", sets, set("other")).await;
    assert_eq!(code, 422);
    let why = "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
}

#[tokio::test]
async fn the_certificate_of_the_api_is_in_every_namespace_and_comes_back() {
    let world = World::new();
    world.cluster.publish_authority("PEM").await.unwrap();
    world
        .ok(
            "POST",
            "/api/v1/namespaces",
            json!({"metadata": {"name": "shop"}}),
        )
        .await;
    for namespace in ["default", "shop"] {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt");
        assert_eq!(world.get(&path).await.1["data"]["ca.crt"], "PEM", "{namespace}");
        world.ok("DELETE", &path, ()).await;
        assert_eq!(world.get(&path).await.0, 200, "{namespace}");
    }
    let made = world.ok("POST", &format!("{CORE}/pods"), pod("p", "1")).await;
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(mount["name"], made["spec"]["volumes"][0]["name"]);
    world.ok("DELETE", "/api/v1/namespaces/shop", ()).await;
    assert_eq!(
        world.get("/api/v1/namespaces/shop").await.0,
        404,
        "nothing puts it back into what is going"
    );
}

#[tokio::test]
async fn a_page_of_a_collection_goes_where_a_page_is_asked_for() {
    let world = World::new();
    let maps = format!("{CORE}/configmaps");
    for name in ["a", "b", "c"] {
        world.ok("POST", &maps, json!({"metadata": {"name": name}})).await;
    }
    let gone = world.ok("DELETE", &format!("{maps}?limit=2"), ()).await;
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(gone["metadata"]["remainingItemCount"], 1);
    assert!(gone["metadata"]["continue"].is_string(), "{gone}");
    assert_eq!(world.get(&format!("{maps}/c")).await.0, 200);
    assert_eq!(world.call("DELETE", &format!("{maps}?limit=x"), ()).await.0, 400);
}

#[tokio::test]
async fn a_kind_whose_names_another_has_is_not_served_until_that_one_goes() {
    let world = World::new();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let define = |plural: &str| {
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
        json!({"metadata": {"name": format!("{plural}.x.io")}, "spec": {"group": "x.io", "scope": "Namespaced",
            "names": {"plural": plural, "kind": "Same"}, "versions": [version]}})
    };
    let served = async |plural: &str| {
        world
            .get(&format!("/apis/x.io/v1/namespaces/default/{plural}"))
            .await
            .0
    };
    world.ok("POST", path, define("firsts")).await;
    world.ok("POST", path, define("seconds")).await;
    assert_eq!((served("firsts").await, served("seconds").await), (200, 404));
    let refused = world.get(&format!("{path}/seconds.x.io")).await.1;
    let condition = &refused["status"]["conditions"][0];
    assert_eq!(condition["status"], "False", "{refused}");
    assert_eq!(condition["message"], "\"SameList\" is already in use");
    let going = world.ok("DELETE", &format!("{path}/firsts.x.io"), ()).await;
    assert_eq!(going["status"]["conditions"][2]["type"], "Terminating", "{going}");
    assert_eq!((served("firsts").await, served("seconds").await), (404, 200));
}

#[tokio::test]
async fn the_scale_of_a_custom_kind_counts_from_nothing_up() {
    let world = World::new();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let scale = json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"scale": scale}});
    let definition = json!({"metadata": {"name": "sets.x.io"}, "spec": {"group": "x.io", "scope": "Namespaced",
        "names": {"plural": "sets", "kind": "Set"}, "versions": [version]}});
    world.ok("POST", definitions, definition).await;
    let sets = "/apis/x.io/v1/namespaces/default/sets";
    let set = |n: Value| json!({"apiVersion": "x.io/v1", "kind": "Set", "metadata": {"name": "s"}, "spec": {"n": n}});
    for (n, why) in [
        (json!(-1), "-1: should be a non-negative integer"),
        (
            json!("x"),
            "0: .spec.n accessor error: x is of the type string, expected int64",
        ),
    ] {
        let (code, answer) = world.call("POST", sets, set(n)).await;
        let message = format!("Set.x.io \"s\" is invalid: .spec.n: Invalid value: {why}");
        assert_eq!((code, &answer["message"]), (422, &message.into()));
    }
    world.ok("POST", sets, set(json!(2))).await;
}

#[tokio::test]
async fn a_new_cluster_has_the_flow_schemas_of_every_cluster() {
    let world = World::new();
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let schemas = world.get(&format!("{path}/flowschemas")).await.1;
    let schemas = schemas["items"].as_array().unwrap().clone();
    let names: Vec<_> = schemas
        .iter()
        .filter_map(|schema| schema["metadata"]["name"].as_str())
        .collect();
    assert!(
        names.contains(&"exempt") && names.contains(&"catch-all"),
        "{names:?}"
    );
    for schema in &schemas {
        assert_eq!(
            schema["status"]["conditions"][0]["status"], "False",
            "it names a level that is there: {schema}"
        );
        let metadata = schema["metadata"].as_object().unwrap();
        assert!(
            !metadata.contains_key("managedFields"),
            "nobody made it: {schema}"
        );
    }
}
