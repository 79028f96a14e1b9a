//! A pod is given to a node.

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::json;

use crate::cluster::embedded::admission::limits;
use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::kinds::fields;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::values::set::default;
use crate::cluster::embedded::verbs::create;

/// `pods/binding`, what a scheduler posts.
pub(in crate::cluster::embedded) fn bind(state: &mut State, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let binding = create::read_typed(&call.request.body, ("", "v1", "Binding"))?;
    // By the pod's own door, or by that of bindings, which name their pod.
    let pods = GroupVersionResource::core("pods");
    let kind = state
        .registry
        .by_resource(&pods)
        .ok_or_else(fault::no_such_resource)?;
    let key = ObjectKey::new(
        pods,
        call.namespace,
        call.name.unwrap_or_else(|| meta(&binding, "name")),
    );
    if meta(&binding, "name") != &*key.name {
        return Err(fault::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let of = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(of, "" | "Node") {
        let why = format!("target.kind: Unsupported value: {of:?}: supported values: \"Node\", \"<empty>\"");
        return Err(fault::internal(why));
    }
    if node.is_empty() {
        return Err(fault::internal("target.name: Required value"));
    }
    let Some(mut pod) = state.value(&key)? else {
        return Err(fault::not_found(&kind, &key.name));
    };
    let given = |field: &str| meta(&binding, field).to_owned();
    let (uid, version) = (given("uid"), given("resourceVersion"));
    if !uid.is_empty() && uid != meta(&pod, "uid") {
        return Err(fault::other_uid(&kind, &pod, &uid));
    }
    if !version.is_empty() && version != meta(&pod, "resourceVersion") {
        return Err(fault::other_version(&kind, &pod, &version));
    }
    let conflict = |why: String| {
        let message = format!(
            "Operation cannot be fulfilled on pods/binding {:?}: {why}",
            &*key.name
        );
        Err(Status::failure(Reason::Conflict, message).about("", "pods/binding", &key.name))
    };
    if !meta(&pod, "deletionTimestamp").is_empty() {
        return conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            key.name
        ));
    }
    if let Some(held) = pod["spec"]["nodeName"].as_str().filter(|held| !held.is_empty()) {
        return conflict(format!("pod {} is already assigned to node {held:?}", key.name));
    }
    pod["spec"]["nodeName"] = node.into();
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    default(&mut pod["status"], "conditions", json!([]));
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions
            .push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": clock::now()}));
    }
    limits::place(state, &mut pod);
    fields::complete(&kind, &mut pod);
    state.put(&kind.resource, &mut pod)?;
    let status = Status {
        code: 201,
        ..Status::success()
    };
    Ok(status.into())
}
