//! The node itself: registration, labels, status.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::{Content, Operation};
use hub_core::object::GroupVersionResource;
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, failure, object_response, outcome, version};
use super::{Upstream, object_of};

/// The node registers, in one write with all its labels: nobody sees it without them. Those of Kubernetes' own are not a node's to
/// choose, so the hub creates it, and never with labels that NodeRestriction keeps from nodes for good.
pub(super) async fn insert(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let response = create(&upstream, &request).await?;
    if !request.capabilities.resume {
        // A stock edge registers when its process begins. Perhaps it begins with an empty database; it would never say so.
        upstream.downstream.afresh(request.node.clone()).await;
    }
    outcome(
        &upstream.metrics,
        &request,
        &response,
        object_response(&response, Absent::Node),
        None,
    )
}

async fn create(upstream: &Upstream, request: &Request) -> Result<ApiResponse, BoxError> {
    let (_, name) = object_of(request)?;
    let mut node: Value = request.message.content.decode("a node")?;
    let metadata = node
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or("a node without metadata")?;
    if metadata.get("name").and_then(Value::as_str) != Some(name) {
        return Err("the node's name is not that of the message".into());
    }
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|label, _| !label.starts_with("node-restriction.kubernetes.io/"));
    }
    let marks = super::marks::marks(upstream, &request.node);
    if !marks.is_empty() {
        if !metadata.get("annotations").is_some_and(Value::is_object) {
            metadata.insert("annotations".into(), json!({}));
        }
        for (annotation, value) in marks {
            metadata["annotations"][annotation] = json!(&*value);
        }
    }
    let create = ApiRequest::resource(Verb::Create, nodes(), None, None)
        .with_body("application/json", node.to_string());
    Ok(upstream.execute_as_hub(create).await)
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
    ok_or_failure(&upstream, &request, &response)
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
    outcome(
        &upstream.metrics,
        &request,
        &response,
        object_response(&response, Absent::Node),
        version(&response),
    )
}

/// How edges before 1.10 register (an insert with the node) and report (an update with `{UID, Status, ExtendResources}`). The status
/// is a whole one: what is not in it is no longer so.
pub(super) async fn legacy_status(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let response = if request.message.route.operation == Operation::Insert {
        let created = create(&upstream, &request).await?;
        if created.code == 409 {
            // It is there: nothing to do.
            ApiResponse::json(200, "")
        } else {
            created
        }
    } else {
        report(&upstream, &request, name).await?
    };
    let mut answer = ok_or_failure(&upstream, &request, &response)?;
    if let Reply::Answer(message, _) = &mut answer {
        message.route.resource = hub_core::message::Resource::object(parts.namespace, "node", name);
    }
    Ok(answer)
}

/// Puts a whole status in place of the one the node has, except for what others decide.
async fn report(upstream: &Upstream, request: &Request, name: &str) -> Result<ApiResponse, BoxError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        status: Map<String, Value>,
        #[serde(default)]
        extend_resources: Option<Map<String, Value>>,
    }
    let Report {
        status,
        extend_resources,
    } = request.message.content.decode("a node status")?;
    let mut response = ApiResponse::json(200, "");
    for _ in 0..ATTEMPTS {
        let get = ApiRequest::resource(Verb::Get, nodes(), None, Some(name));
        response = upstream.execute(&request.node, get).await;
        if !response.is_success() {
            break;
        }
        let mut node: Value = serde_json::from_slice(&response.body)?;
        let mut status = status.clone();
        // The attach controller's, and a port that somebody set.
        match node.pointer("/status/volumesAttached") {
            Some(volumes) => drop(status.insert("volumesAttached".into(), volumes.clone())),
            None => drop(status.remove("volumesAttached")),
        }
        let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port");
        if let Some(port) = port.filter(|port| port.as_u64().is_some_and(|port| port != 0)) {
            status.insert(
                "daemonEndpoints".into(),
                json!({ "kubeletEndpoint": { "Port": port } }),
            );
        }
        if let Some(metadata) = node.get_mut("metadata").and_then(Value::as_object_mut)
            && let Some(annotations) = metadata
                .entry("annotations")
                .or_insert_with(|| json!({}))
                .as_object_mut()
        {
            for (resource, devices) in extend_resources.iter().flatten() {
                annotations.insert(resource.clone(), devices.to_string().into());
            }
        }
        if let Some(node) = node.as_object_mut() {
            node.insert("status".into(), status.into());
        }
        let update = ApiRequest::resource(Verb::Update, nodes(), None, Some(name))
            .with_subresource("status")
            .with_body("application/json", node.to_string());
        response = upstream.execute(&request.node, update).await;
        if response.code != 409 {
            break;
        }
    }
    Ok(response)
}

fn ok_or_failure(upstream: &Upstream, request: &Request, response: &ApiResponse) -> Result<Reply, BoxError> {
    let content = if response.is_success() {
        Content::ok()
    } else {
        Content::encode(&failure(response))
    };
    outcome(&upstream.metrics, request, response, content, version(response))
}

fn nodes() -> GroupVersionResource {
    crate::downstream::nodes()
}

/// Writes of one node that may meet before a report is given up; the next one comes in seconds.
const ATTEMPTS: usize = 4;
