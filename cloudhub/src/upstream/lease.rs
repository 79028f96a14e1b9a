//! The node's lease: its heartbeat.

use std::sync::Arc;

use hub_core::api::{ApiRequest, Verb};
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
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let mut api = ApiRequest::resource(
        verb,
        leases,
        parts.namespace,
        (verb != Verb::Create).then_some(name),
    );
    if verb != Verb::Get {
        api = api.with_body("application/json", request.message.content.document_bytes());
    }
    let response = upstream.execute(&request.node, api).await;
    let answer = if verb == Verb::Get {
        typed_object_response(&response, Absent::Null)
    } else {
        object_response(&response, Absent::Null)
    };
    outcome(&upstream.metrics, &request, &response, answer, None)
}
