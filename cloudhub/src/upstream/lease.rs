//! The node's lease: its heartbeat.

use std::sync::Arc;

use serde_json::{Value, json};

use hub_core::api::{ApiRequest, Verb};
use hub_core::message::ResourceParts;
use hub_core::object::GroupVersionResource;
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, object_response, outcome, typed_object_response};
use super::{Upstream, object_of};

pub(super) async fn insert(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    execute(upstream, request, Verb::Create).await
}

pub(super) async fn update(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    execute(upstream, request, Verb::Update).await
}

pub(super) async fn query(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    execute(upstream, request, Verb::Get).await
}

async fn execute(upstream: Arc<Upstream>, request: Request, verb: Verb) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let mut api = ApiRequest::resource(
        verb,
        leases(),
        parts.namespace,
        (verb != Verb::Create).then_some(name),
    );
    if verb != Verb::Get {
        api = api.with_body("application/json", request.message.content.document_bytes());
    }
    let mut response = upstream.execute(&request.node, api).await;
    if verb == Verb::Update
        && response.code == 409
        && request.capabilities.ack
        && let Some(patch) = take_over(&request, &parts, name)
    {
        response = upstream.execute(&request.node, patch).await;
    }
    let answer = if verb == Verb::Get {
        typed_object_response(&response, Absent::Null)
    } else {
        object_response(&response, Absent::Null)
    };
    outcome(&upstream.metrics, &request, &response, answer, None)
}

/// The same renewal, whatever the lease's version is. Nobody but the node writes its lease: where they conflict, an earlier renewal was
/// executed and its answer came too late, from an API server that is slow. To have the node read the lease and write it again would make
/// three requests of each renewal, just when there is no room for one.
fn take_over(request: &Request, parts: &ResourceParts<'_>, name: &str) -> Option<ApiRequest> {
    let told: Value = serde_json::from_slice(&request.message.content.document()).ok()?;
    let mut patch = json!({ "spec": told["spec"] });
    if told["metadata"]["ownerReferences"].is_array() {
        patch["metadata"] = json!({ "ownerReferences": told["metadata"]["ownerReferences"] });
    }
    let api = ApiRequest::resource(Verb::Patch, leases(), parts.namespace, Some(name));
    told["spec"]
        .is_object()
        .then(|| api.with_body("application/merge-patch+json", patch.to_string()))
}

fn leases() -> GroupVersionResource {
    GroupVersionResource::new("coordination.k8s.io", "v1", "leases")
}
