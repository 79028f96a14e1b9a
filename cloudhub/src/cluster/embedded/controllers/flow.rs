//! Flow schemas tell whether the priority level that they name is there (Kubernetes `apiserver/pkg/util/flowcontrol`). They tell it
//! whenever one of either comes or goes; nothing here queues requests by them.

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::verbs::managed;

/// The schemas and levels that are in every cluster, as a kube-apiserver 1.36 makes them at its start.
pub(in crate::cluster::embedded) fn bootstrap() -> Vec<(ObjectKey, Value)> {
    let all: Vec<Value> = serde_json::from_str(include_str!("flow.json")).unwrap_or_default();
    let keyed = |object: Value| {
        let plural = match object["kind"].as_str() {
            Some("FlowSchema") => "flowschemas",
            _ => "prioritylevelconfigurations",
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        (ObjectKey::new(collection(plural), None, name), object)
    };
    all.into_iter().map(keyed).collect()
}

/// Brings the status of all flow schemas up to date after a write to a kind.
pub(in crate::cluster::embedded) fn follow(state: &mut State, written: &ResourceKind) -> Result<(), Status> {
    if &*written.resource.group != GROUP {
        return Ok(());
    }
    let schemas = collection("flowschemas");
    let keys: Vec<ObjectKey> = state
        .list(&schemas, None)
        .map(|object| object.key.clone())
        .collect();
    for key in keys {
        if let Some(mut schema) = state.value(&key)?
            && tell(state, &mut schema)
        {
            state.put(&schemas, &mut schema)?;
        }
    }
    Ok(())
}

/// False when the schema says it already.
fn tell(state: &State, schema: &mut Value) -> bool {
    let name = schema["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default();
    let level = ObjectKey::new(collection("prioritylevelconfigurations"), None, name);
    let text = format!("This FlowSchema references the PriorityLevelConfiguration object named {name:?}");
    let (status, reason, message) = if state.get(&level).is_some() {
        ("False", "Found", format!("{text} and it exists"))
    } else {
        ("True", "NotFound", format!("{text} but there is no such object"))
    };
    let held = schema["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions: Vec<Value> = held.cloned().collect();
    let dangling = conditions
        .iter_mut()
        .find(|condition| condition["type"] == "Dangling");
    if dangling
        .as_ref()
        .is_some_and(|held| held["status"] == status && held["message"] == *message)
    {
        return false;
    }
    let new = json!({"type": "Dangling", "status": status, "lastTransitionTime": clock::now(), "reason": reason, "message": message});
    match dangling {
        Some(held) => *held = new,
        None => conditions.push(new),
    }
    schema["status"]["conditions"] = conditions.into();
    managed::note_condition(
        schema,
        ("api-priority-and-fairness-config-consumer-v1", "Apply"),
        &["Dangling"],
    );
    true
}

fn collection(plural: &str) -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1", plural)
}

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
