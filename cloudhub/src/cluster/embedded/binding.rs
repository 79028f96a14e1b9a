//! A pod is given to a node.

use hub_core::api::{ApiResponse, Reason, Status};
use serde_json::{Value, json};

use super::call::{Call, meta};
use super::state::State;
use super::{clock, create, defaults, fault, fields, limits};

/// `pods/binding`, what a scheduler posts.
pub(super) fn bind(state: &mut State, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let key = call.named()?;
    let binding: Value = serde_json::from_slice(&call.request.body)
        .map_err(|error| fault::bad_request(create::json_error(&call.request.body, &error)))?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let why =
            format!("target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"");
        return Err(fault::internal(why));
    }
    if node.is_empty() {
        return Err(fault::internal("target.name: Required value"));
    }
    if !matches!(meta(&binding, "name"), name if name.is_empty() || name == &*key.name) {
        return Err(fault::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let Some(mut pod) = state.value(&key)? else {
        return Err(fault::not_found(&call.kind, &key.name));
    };
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
    defaults::default(&mut pod["status"], "conditions", json!([]));
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions
            .push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": clock::now()}));
    }
    limits::place(state, &mut pod);
    fields::complete(&call.kind, &mut pod);
    state.put(&call.kind.resource, &mut pod)?;
    let status = Status {
        code: 201,
        ..Status::success()
    };
    Ok(status.into())
}
