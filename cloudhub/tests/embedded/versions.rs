//! One object in several versions of its kind.

use serde_json::{Value, json};

use crate::World;

const OLD: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const NEW: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn identity(value: &Value) -> [&Value; 3] {
    ["name", "uid", "resourceVersion"].map(|field| &value["metadata"][field])
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_both_versions() {
    let world = World::new();
    let written = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 80,
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}});
    let old = world.ok("POST", OLD, written).await;
    let new = world.get(&format!("{NEW}/web")).await.1;
    assert_eq!(identity(&old), identity(&new));
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(
        new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        80
    );
    assert_eq!(
        world.call("POST", NEW, new.clone()).await.0,
        500,
        "a new object has no version"
    );

    let mut changed = new;
    changed["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] = 60.into();
    changed["spec"]["metrics"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "Resource",
        "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}}));
    let changed = world.ok("PUT", &format!("{NEW}/web"), changed).await;
    let shown = world.get(&format!("{OLD}/web")).await.1;
    assert_eq!(identity(&shown), identity(&changed));
    assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 60);
    let others = shown["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
        .as_str()
        .unwrap();
    assert!(others.contains(r#""targetAverageUtilization":70"#), "{others}");
    let again = world.ok("PUT", &format!("{OLD}/web"), shown).await;
    let round = world.get(&format!("{NEW}/web")).await.1;
    assert_eq!(
        round["spec"]["metrics"].as_array().unwrap().len(),
        2,
        "nothing is lost on the way: {round}"
    );
    assert_eq!(identity(&again), identity(&round));

    world.ok("DELETE", &format!("{OLD}/web"), ()).await;
    assert_eq!(world.get(&format!("{NEW}/web")).await.0, 404);
}

#[tokio::test]
async fn an_event_is_one_object_in_both_groups() {
    let world = World::new();
    let core = "/api/v1/namespaces/default/events";
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "message": "up", "type": "Normal", "source": {"component": "kubelet"}, "count": 2});
    let written = world.ok("POST", core, event).await;
    let shown = world.get(&format!("{new}/e")).await.1;
    assert_eq!(identity(&written), identity(&shown));
    assert_eq!(
        (
            &shown["note"],
            &shown["regarding"]["name"],
            &shown["deprecatedCount"]
        ),
        (&"up".into(), &"p".into(), &2.into())
    );
    let selected = world
        .get(&format!("{new}?fieldSelector=regarding.name%3Dp"))
        .await
        .1;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    world
        .ok(
            "PATCH",
            &format!("{new}/e"),
            ("merge-patch", json!({"metadata": {"labels": {"seen": "yes"}}})),
        )
        .await;
    let labels = &world.get(&format!("{core}/e")).await.1["metadata"]["labels"];
    assert_eq!(labels["seen"], "yes");
    world
        .ok("DELETE", &format!("{new}?fieldSelector=regarding.name%3Dp"), ())
        .await;
    assert_eq!(world.get(&format!("{core}/e")).await.0, 404);
    let (code, refused) = world
        .call(
            "POST",
            new,
            json!({"metadata": {"name": "f"}, "regarding": {"kind": "Pod", "namespace": "default"}}),
        )
        .await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &"eventTime".into())
    );
}

fn definition(versions: &[(&str, bool)]) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(place, (name, served))| json!({"name": name, "served": served, "storage": place == 0, "schema": schema}))
        .collect();
    json!({"metadata": {"name": "gears.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gears", "kind": "Gear"}, "versions": versions}})
}

#[tokio::test]
async fn a_custom_object_is_served_in_every_version_of_its_definition_and_in_those_that_come_later() {
    let world = World::new();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world
        .ok(
            "POST",
            definitions,
            definition(&[("v1", true), ("v1beta1", true)]),
        )
        .await;
    let at =
        |version: &str, rest: &str| format!("/apis/example.com/{version}/namespaces/default/gears{rest}");
    let gear = |version: &str| json!({"apiVersion": format!("example.com/{version}"), "kind": "Gear", "metadata": {"name": "g"}, "teeth": 7});
    let written = world.ok("POST", &at("v1beta1", ""), gear("v1beta1")).await;
    let shown = world.get(&at("v1", "/g")).await.1;
    assert_eq!(
        (identity(&shown), &shown["teeth"]),
        (identity(&written), &7.into())
    );
    assert_eq!(shown["apiVersion"], "example.com/v1");
    assert_eq!(world.call("POST", &at("v1", ""), gear("v1")).await.0, 409);

    let replace = async |versions: &[(&str, bool)]| {
        let path = format!("{definitions}/gears.example.com");
        let held = world.get(&path).await.1;
        let mut new = definition(versions);
        new["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
        world.ok("PUT", &path, new).await;
    };
    replace(&[("v1", true), ("v1beta1", false), ("v2", true)]).await;
    assert_eq!(
        world.get(&at("v2", "/g")).await.1["teeth"],
        7,
        "a version that came later"
    );
    assert_eq!(world.get(&at("v1beta1", "/g")).await.0, 404);
    world
        .ok("PATCH", &at("v2", "/g"), ("merge-patch", json!({"teeth": 8})))
        .await;
    replace(&[("v1", true), ("v1beta1", true), ("v2", true)]).await;
    assert_eq!(
        world.get(&at("v1beta1", "/g")).await.1["teeth"],
        8,
        "not as it was when it was last served"
    );
    world.ok("DELETE", &at("v1", "/g"), ()).await;
    for version in ["v1", "v1beta1", "v2"] {
        assert_eq!(world.get(&at(version, "/g")).await.0, 404, "{version}");
    }
    world
        .ok("DELETE", &format!("{definitions}/gears.example.com"), ())
        .await;
    assert_eq!(world.get(&at("v1", "/g")).await.0, 404);
}

#[tokio::test]
async fn the_store_behind_the_server_is_its_one_component() {
    let world = World::new();
    let list = world.get("/api/v1/componentstatuses").await.1;
    assert_eq!(list["items"][0]["conditions"][0]["type"], "Healthy");
    let one = world.get("/api/v1/componentstatuses/etcd-0").await.1;
    assert_eq!(one["metadata"], json!({"name": "etcd-0"}));
    assert_eq!(world.get("/api/v1/componentstatuses/scheduler").await.0, 404);
}
