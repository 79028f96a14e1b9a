//! Events: what happened on the node, for people.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use hub_core::api::{ApiRequest, Verb};
use hub_core::message::Operation;
use hub_core::object::{GroupVersionResource, Metadata};
use hub_core::service::{BoxError, Reply, Request};

use super::answer::is_undecided;
use super::{Upstream, object_of};

/// A new event, a changed one, or a patch of one. A stock edge expects no answer; ours hears that it was taken.
pub(super) async fn handle(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Patch {
        event: Box<RawValue>,
        patch_data: String,
    }
    let (parts, name) = object_of(&request)?;
    let document = request.message.content.document_bytes();
    let (verb, event) = match request.message.route.operation {
        Operation::Insert => (Verb::Create, document.clone()),
        Operation::Update => (Verb::Update, document.clone()),
        Operation::Patch => {
            let patch: Patch = serde_json::from_slice(&document)?;
            (Verb::Patch, patch.event.get().to_owned().into())
        }
        _ => return Err("an event is inserted, updated or patched".into()),
    };
    let modern = Metadata::parse(&event).is_ok_and(|metadata| metadata.api_version == "events.k8s.io/v1");
    let events = GroupVersionResource::new(if modern { "events.k8s.io" } else { "" }, "v1", "events");
    let name = (verb != Verb::Create).then_some(name);
    let api = ApiRequest::resource(verb, events, parts.namespace, name);
    let api = if verb == Verb::Patch {
        let patch: Patch = serde_json::from_slice(&document)?;
        api.with_body("application/strategic-merge-patch+json", patch.patch_data)
    } else {
        api.with_body("application/json", event)
    };
    let response = upstream.execute(&request.node, api).await;
    if response.is_success() || !is_undecided(&response) {
        if !response.is_success() {
            upstream
                .metrics
                .denied(&request.message.route.resource.subject(), response.code);
            tracing::debug!(node = %request.node, code = response.code, "the cluster does not take an event");
        }
        // A denial is final: the edge must not send it again.
        return Ok(Reply::Done);
    }
    if request.capabilities.ack {
        // Ours keeps it and tries again.
        return Err(format!("the cluster answered {}", response.code).into());
    }
    Ok(Reply::Done)
}
