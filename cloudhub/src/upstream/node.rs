//! The node itself: registration, labels, status.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::{Content, Operation};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, failure, object_response, outcome, version};
use super::{Upstream, object_of};
use crate::sessions::{CONNECTION, HubEvent};

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
    let marks = marks(upstream, &request.node);
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

/// Writes into each node that connects which instance serves it: the rule engine of KubeEdge's cloud finds a node by that, and
/// several hubs which of them has the newest connection.
///
/// What cannot be written is written when the node connects anew; a node that is not registered yet brings it with it.
pub(crate) async fn mark_nodes(upstream: Arc<Upstream>, mut events: broadcast::Receiver<HubEvent>) {
    let mut writes = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = events.recv(), if writes.len() < MARKS_MAX => match event {
                Ok(HubEvent::Connected(node)) => writes.push(mark(&upstream, node)),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            Some(()) = writes.next(), if !writes.is_empty() => {}
        }
    }
}

async fn mark(upstream: &Upstream, node: NodeId) {
    // What was said about a connection that is gone meanwhile could be taken for news.
    let marks = marks(upstream, &node);
    let key = ObjectKey::new(nodes(), None, node.as_str());
    let Ok(Some(object)) = upstream.cluster.get(key).await else {
        return;
    };
    let held: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    let held = &held["metadata"]["annotations"];
    if marks
        .iter()
        .all(|(annotation, value)| held[*annotation] == **value)
        || marks != self::marks(upstream, &node)
    {
        return;
    }
    let annotations: Map<String, Value> = marks
        .into_iter()
        .map(|(annotation, value)| (annotation.to_owned(), json!(&*value)))
        .collect();
    let body = json!({ "metadata": { "annotations": annotations } });
    let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(node.as_str()))
        .with_body("application/merge-patch+json", body.to_string());
    let response = upstream.execute_as_hub(patch).await;
    if !response.is_success() {
        tracing::warn!(%node, code = response.code, "the node could not be marked with this instance");
    }
}

/// What a node's annotations are to say of this instance, as long as the node is connected.
fn marks(upstream: &Upstream, node: &NodeId) -> Vec<(&'static str, Arc<str>)> {
    let address = upstream.config.instance_address.clone();
    let address = address.map(|address| ("cloudcore", address));
    let connection = upstream.sessions.mark(node).map(|mark| (CONNECTION, mark));
    address.into_iter().chain(connection).collect()
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

/// Nodes that are marked at once.
const MARKS_MAX: usize = 16;
/// Writes of one node that may meet before a report is given up; the next one comes in seconds.
const ATTEMPTS: usize = 4;
