//! The node itself: registration, labels, status.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::Content;
use hub_core::object::GroupVersionResource;
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, failure, object_response, reply, version};
use super::{Upstream, object_of};

/// The node registers. Labels of Kubernetes' own are not a node's to choose when it is created; the hub sets them behind it,
/// as KubeEdge does, except those that NodeRestriction keeps from nodes for good.
pub(super) async fn insert(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (_, name) = object_of(&request)?;
    let mut node: Value = request.message.content.decode("a node")?;
    let metadata = node
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or("a node without metadata")?;
    if metadata.get("name").and_then(Value::as_str) != Some(name) {
        return Err("the node's name is not that of the message".into());
    }
    let mut later = Map::new();
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        let reserved: Vec<_> = labels
            .keys()
            .filter(|label| is_reserved(label))
            .cloned()
            .collect();
        later.extend(
            reserved
                .into_iter()
                .filter_map(|label| labels.remove_entry(&label)),
        );
    }
    later.retain(|label, _| !label.starts_with("node-restriction.kubernetes.io/"));
    let create = ApiRequest::resource(Verb::Create, nodes(), None, None)
        .with_body("application/json", node.to_string());
    let mut response = upstream.execute(&request.node, create).await;
    if response.is_success() && (!later.is_empty() || upstream.config.instance_address.is_some()) {
        let mut metadata = json!({ "labels": later });
        if let Some(address) = &upstream.config.instance_address {
            metadata["annotations"] = json!({ "cloudcore": &**address });
        }
        let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(name)).with_body(
            "application/merge-patch+json",
            json!({ "metadata": metadata }).to_string(),
        );
        let patched = upstream.execute_as_hub(patch).await;
        if patched.is_success() {
            response = patched;
        } else {
            tracing::warn!(node = %request.node, code = patched.code, "the labels of a new node could not be set");
        }
    }
    Ok(reply(&request, object_response(&response, Absent::Zero), None))
}

/// Labels and annotations, to be merged in.
pub(super) async fn update(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    struct Node {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Option<Map<String, Value>>,
        #[serde(default)]
        annotations: Option<Map<String, Value>>,
    }
    let (_, name) = object_of(&request)?;
    let Node { metadata } = request.message.content.decode("a node")?;
    let (labels, annotations) = (
        metadata.labels.unwrap_or_default(),
        metadata.annotations.unwrap_or_default(),
    );
    let body = json!({ "metadata": { "labels": labels, "annotations": annotations } });
    let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(name))
        .with_body("application/merge-patch+json", body.to_string());
    let response = upstream.execute(&request.node, patch).await;
    Ok(ok_or_failure(&request, &response))
}

/// A strategic merge patch of the status, as a JSON string.
pub(super) async fn patch_status(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (_, name) = object_of(&request)?;
    let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(name))
        .with_subresource("status")
        .with_body(
            "application/strategic-merge-patch+json",
            request.message.content.document_bytes(),
        );
    let response = upstream.execute(&request.node, patch).await;
    Ok(reply(
        &request,
        object_response(&response, Absent::Zero),
        version(&response),
    ))
}

/// `{UID, Status, ExtendResources}`, of edges before v1.10.
pub(super) async fn legacy_status(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(rename = "Status")]
        status: Value,
    }
    let (parts, name) = object_of(&request)?;
    let Report { status } = request.message.content.decode("a node status")?;
    let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(name))
        .with_subresource("status")
        .with_body(
            "application/strategic-merge-patch+json",
            json!({ "status": status }).to_string(),
        );
    let response = upstream.execute(&request.node, patch).await;
    let mut answer = ok_or_failure(&request, &response);
    if let Reply::Answer(message, _) = &mut answer {
        message.route.resource = hub_core::message::Resource::object(parts.namespace, "node", name);
    }
    Ok(answer)
}

pub(super) fn ok_or_failure(request: &Request, response: &ApiResponse) -> Reply {
    if response.is_success() {
        reply(request, Content::ok(), version(response))
    } else {
        reply(request, Content::encode(&failure(response)), None)
    }
}

/// Labels whose prefix is `kubernetes.io` or ends in `.kubernetes.io` (KubeEdge `upstream.go`).
fn is_reserved(label: &str) -> bool {
    label
        .split_once('/')
        .is_some_and(|(prefix, _)| prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io"))
}

fn nodes() -> GroupVersionResource {
    crate::downstream::nodes()
}
