//! What was done in the cloud while a recording was made, done to the embedded cluster.

use hub_core::api::{ApiRequest, Verb};
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::world::World;

/// Carries out the command of a note. What only looks, or is about the recording itself, changes nothing.
///
/// `completed` is the object as the recorded cluster had it: its admission gave pods a volume with a token, which this cluster
/// leaves to whoever writes the pod.
pub(crate) async fn run(world: &World, note: &str, completed: impl Fn(&Value) -> Option<Value>) {
    let Some(command) = note.strip_prefix("cloud: ") else {
        return;
    };
    if command == "a 900000 byte value is added to the configmap" {
        let patch = json!({ "data": { "big": "x".repeat(900_000) } });
        return patch_object(world, "configmap", "web-conf", &patch).await;
    }
    let Some(command) = command.strip_prefix("kubectl ") else {
        return;
    };
    let (command, input) = command.split_once(" <<< ").unwrap_or((command, ""));
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["apply", ..] => {
            let object: Value = serde_json::from_str(input).unwrap();
            apply(world, completed(&object).unwrap_or(object)).await;
        }
        ["label", kind, name, change, ..] => {
            patch_object(
                world,
                kind,
                name,
                &json!({ "metadata": { "labels": assigned(change) } }),
            )
            .await;
        }
        ["annotate", kind, name, change, ..] => {
            patch_object(
                world,
                kind,
                name,
                &json!({ "metadata": { "annotations": assigned(change) } }),
            )
            .await;
        }
        ["taint", "node", name, taint] => {
            let parts = taint
                .split_once('=')
                .and_then(|(key, rest)| Some((key, rest.split_once(':')?)));
            let taints = match parts {
                Some((key, (value, effect))) => json!([{ "key": key, "value": value, "effect": effect }]),
                None => Value::Null,
            };
            patch_object(world, "node", name, &json!({ "spec": { "taints": taints } })).await;
        }
        ["cordon", name] => {
            let taint = json!([{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }]);
            let node = read(world, "node", name).await;
            let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            patch_object(world, "node", name, &json!({ "spec": { "unschedulable": true } })).await;
            // The node controller's part.
            taints.extend(taint.as_array().unwrap().clone());
            patch_object(world, "node", name, &json!({ "spec": { "taints": taints } })).await;
        }
        ["uncordon", name] => {
            let node = read(world, "node", name).await;
            let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            taints.retain(|taint| taint["key"] != "node.kubernetes.io/unschedulable");
            patch_object(world, "node", name, &json!({ "spec": { "unschedulable": null } })).await;
            patch_object(world, "node", name, &json!({ "spec": { "taints": taints } })).await;
        }
        ["set", "image", target, change] => {
            let (kind, name) = target.split_once('/').unwrap();
            let (container, image) = change.split_once('=').unwrap();
            let patch = json!({ "spec": { "containers": [{ "name": container, "image": image }] } });
            send(
                world,
                kind,
                name,
                "application/strategic-merge-patch+json",
                &patch,
            )
            .await;
        }
        ["patch", kind, name, "--type", "merge", "-p", patch] => {
            patch_object(world, kind, name, &serde_json::from_str(patch).unwrap()).await;
        }
        ["delete", kind, ref rest @ ..] => {
            let grace = rest.iter().find_map(|word| word.strip_prefix("--grace-period="));
            let options = grace.map_or(
                json!({}),
                |grace| json!({ "gracePeriodSeconds": grace.parse::<i64>().unwrap() }),
            );
            for name in rest.iter().filter(|word| !word.starts_with('-')) {
                let (resource, namespace) = collection(kind);
                let delete = ApiRequest::resource(Verb::Delete, resource, namespace, Some(name))
                    .with_body("application/json", options.to_string());
                world.execute(delete).await;
            }
        }
        ["get", ..] => {}
        ref other => panic!("nobody taught the test {other:?}"),
    }
}

/// Creates an object, or brings it to this state.
pub(crate) async fn apply(world: &World, object: Value) {
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap();
    let (resource, namespace) = collection(&kind);
    let namespace = namespace.map(|default| object["metadata"]["namespace"].as_str().unwrap_or(default));
    let create = ApiRequest::resource(Verb::Create, resource, namespace, None)
        .with_body("application/json", object.to_string());
    let created = world.execute(create).await;
    if created.code == 409 {
        patch_object(world, &kind, name, &object).await;
    } else {
        crate::world::body(&created);
    }
}

async fn patch_object(world: &World, kind: &str, name: &str, patch: &Value) {
    send(world, kind, name, "application/merge-patch+json", patch).await;
}

async fn send(world: &World, kind: &str, name: &str, media_type: &str, patch: &Value) {
    let (resource, namespace) = collection(kind);
    let patch = ApiRequest::resource(Verb::Patch, resource, namespace, Some(name))
        .with_body(media_type, patch.to_string());
    crate::world::body(&world.execute(patch).await);
}

pub(crate) async fn read(world: &World, kind: &str, name: &str) -> Value {
    let (resource, namespace) = collection(kind);
    crate::world::body(
        &world
            .execute(ApiRequest::resource(Verb::Get, resource, namespace, Some(name)))
            .await,
    )
}

fn collection(kind: &str) -> (GroupVersionResource, Option<&'static str>) {
    match kind {
        "pod" | "secret" | "service" | "configmap" => (
            GroupVersionResource::new("", "v1", format!("{kind}s")),
            Some("default"),
        ),
        "cm" => (GroupVersionResource::core("configmaps"), Some("default")),
        "node" => (GroupVersionResource::core("nodes"), None),
        "lease" => (
            GroupVersionResource::new("coordination.k8s.io", "v1", "leases"),
            Some("kube-node-lease"),
        ),
        "customresourcedefinition" => (
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
            None,
        ),
        "clusterrole" | "clusterrolebinding" => (
            GroupVersionResource::new("rbac.authorization.k8s.io", "v1", format!("{kind}s")),
            None,
        ),
        "device" | "devicemodel" => (
            GroupVersionResource::new("devices.kubeedge.io", "v1beta1", format!("{kind}s")),
            Some("default"),
        ),
        other => panic!("nobody taught the test {other:?}"),
    }
}

fn assigned(change: &str) -> Value {
    match change.split_once('=') {
        Some((key, value)) => json!({ key: value }),
        None => json!({ change.trim_end_matches('-'): null }),
    }
}

/// Words as a shell sees them, quotes of one kind only.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
