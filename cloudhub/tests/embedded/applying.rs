//! Who owns which fields, as a kube-apiserver 1.36 said it, and what it answered to those who applied.

use cloudhub::cluster::Cluster;
use serde_json::{Value, json};

use crate::{World, parse, request};

const APPLY: &str = "application/apply-patch+yaml";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn recorded_applies_are_answered_as_a_real_api_server_answers_them() {
    let world = World::new();
    let steps: Vec<Value> = serde_json::from_str(include_str!("applied.json")).unwrap();
    for step in &steps {
        let text = |field: &str| step[field].as_str().unwrap();
        let body = step["body"].to_string().into();
        let request = request(text("method"), text("path"), text("type"), body);
        let answer = world.cluster.execute(request).await.unwrap();
        let mut said = parse(&answer);
        if text("name") == "setup" {
            assert!(answer.is_success(), "{step}: {said}");
            continue;
        }
        assert_eq!(step["code"], answer.code, "{}: {said}", step["name"]);
        for field in ["reason", "message", "details"] {
            assert_eq!(said[field], step[field], "{}: {field}", step["name"]);
        }
        for entry in said["metadata"]["managedFields"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            assert!(entry.as_object_mut().unwrap().remove("time").is_some(), "{entry}");
        }
        let recorded = &step["object"];
        for (field, expected) in recorded["metadata"].as_object().into_iter().flatten() {
            assert_eq!(
                said["metadata"][field], *expected,
                "{}: metadata.{field}",
                step["name"]
            );
        }
        for field in ["data", "spec", "status"] {
            if !recorded[field].is_null() {
                assert_eq!(said[field], recorded[field], "{}: {field}", step["name"]);
            }
        }
    }
}

/// A config map that `kubectl` made and `two` applied to.
async fn made(world: &World) -> Value {
    let body = json!({"metadata": {"name": "a"}, "data": {"a": "1"}});
    world
        .ok("POST", &format!("{CONFIG_MAPS}?fieldManager=kubectl"), body)
        .await;
    apply(world, "two", json!({"data": {"b": "1"}})).await
}

async fn apply(world: &World, manager: &str, mut wanted: Value) -> Value {
    wanted["apiVersion"] = "v1".into();
    wanted["kind"] = "ConfigMap".into();
    let path = format!("{CONFIG_MAPS}/a?fieldManager={manager}");
    let request = request("PATCH", &path, APPLY, wanted.to_string().into());
    parse(&world.cluster.execute(request).await.unwrap())
}

fn owners(object: &Value) -> Vec<(&str, &str)> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    entries
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn an_apply_that_changes_nothing_leaves_version_and_times() {
    let world = World::new();
    let first = made(&world).await;
    assert_eq!(owners(&first), [("two", "Apply"), ("kubectl", "Update")]);
    assert_eq!(apply(&world, "two", json!({"data": {"b": "1"}})).await, first);
}

#[tokio::test]
async fn what_a_client_says_of_owners_holds_if_it_makes_sense() {
    let world = World::new();
    made(&world).await;
    let put = async |managed: Value| {
        let (_, mut object) = world.get(&format!("{CONFIG_MAPS}/a")).await;
        object["metadata"]["managedFields"] = managed;
        let path = format!("{CONFIG_MAPS}/a?fieldManager=x");
        world.ok("PUT", &path, object).await
    };
    let nonsense = json!([{"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsV1": {}}]);
    assert_eq!(owners(&put(nonsense).await).len(), 2);
    assert_eq!(owners(&put(Value::Null).await).len(), 2);
    let one = json!([{"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}}]);
    assert_eq!(owners(&put(one).await), [("a", "Update")]);
    let forgotten = put(json!([])).await;
    assert_eq!(owners(&forgotten), []);
    // Then nobody looks, until somebody applies.
    let changed = world
        .ok(
            "PATCH",
            &format!("{CONFIG_MAPS}/a?fieldManager=x"),
            ("merge-patch", json!({"data": {"a": "2"}})),
        )
        .await;
    assert_eq!(owners(&changed), []);
    let applied = apply(&world, "two", json!({"data": {"b": "1"}})).await;
    assert_eq!(
        owners(&applied),
        [("two", "Apply"), ("before-first-apply", "Update")]
    );
}

#[tokio::test]
async fn who_writes_through_a_subresource_owns_apart() {
    let world = World::new();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let container = json!({"name": "main", "image": "i:1"});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let body = json!({"metadata": {"name": "d"}, "spec": spec});
    world
        .ok("POST", &format!("{deployments}?fieldManager=maker"), body)
        .await;
    let apply = async |door: &str, body: Value, query: &str| {
        let path = format!("{deployments}/d{door}?fieldManager=scaler{query}");
        let answer = world
            .cluster
            .execute(request("PATCH", &path, APPLY, body.to_string().into()))
            .await;
        let answer = answer.unwrap();
        (answer.code, parse(&answer))
    };
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 3}});
    let (code, refused) = apply("/scale", scale.clone(), "").await;
    assert_eq!(code, 409, "{refused}");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"maker\" using autoscaling/v1: .spec.replicas"
    );
    let (code, scaled) = apply("/scale", scale, "&force=true").await;
    assert_eq!((code, &scaled["spec"]), (200, &json!({"replicas": 3})));
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"paused": true}, "status": {"replicas": 3}});
    let (code, applied) = apply("/status", status, "").await;
    assert_eq!(
        (code, &applied["spec"]["replicas"], &applied["spec"]["paused"]),
        (200, &json!(3), &Value::Null)
    );
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    let of = |subresource: &str| {
        let found = entries.iter().find(|entry| entry["subresource"] == subresource);
        found.map(|entry| entry["fieldsV1"].clone())
    };
    assert_eq!(of("scale"), Some(json!({"f:spec": {"f:replicas": {}}})));
    assert_eq!(of("status"), Some(json!({"f:status": {"f:replicas": {}}})));
    let maker = entries.iter().find(|entry| entry["manager"] == "maker").unwrap();
    assert_eq!(maker["fieldsV1"]["f:spec"]["f:replicas"], Value::Null);
}

#[tokio::test]
async fn nodes_get_objects_without_their_owners() {
    let world = World::new();
    made(&world).await;
    let resource = hub_core::object::GroupVersionResource::core("configmaps");
    let key = hub_core::object::ObjectKey::new(resource, Some("default"), "a");
    let object = Cluster::get(&world.cluster, key).await.unwrap().unwrap();
    let body: Value = serde_json::from_slice(&object.body).unwrap();
    assert_eq!(
        (&body["data"], &body["metadata"]["managedFields"]),
        (&json!({"a": "1", "b": "1"}), &Value::Null)
    );
}
