//! The node's pods: status, mirror pods, deletion.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::Content;
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, failure, object_response, outcome, reason, reply, version};
use super::{Upstream, object_of};
use crate::downstream::{Question, minimal};

/// A strategic merge patch of the status, as a JSON string.
pub(super) async fn patch_status(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let body = request.message.content.document_bytes();
    let uid = Metadata::parse(&body)
        .map(|metadata| metadata.uid.into_owned())
        .unwrap_or_default();
    let patch = ApiRequest::resource(Verb::Patch, pods(), parts.namespace, Some(name))
        .with_subresource("status")
        .with_body("application/strategic-merge-patch+json", body);
    let response = upstream.execute(&request.node, patch).await;
    let key = ObjectKey::new(pods(), parts.namespace, name);
    if is_gone(&upstream, &request, &response, &key, &uid).await {
        // The node runs a pod that the cluster does not have: nobody would ever tell it otherwise.
        gone(&upstream, &request, key, &uid).await;
    }
    outcome(
        &upstream.metrics,
        &request,
        &response,
        object_response(&response, Absent::Pod),
        version(&response),
    )
}

/// `{UID, Name, Status}` or a list of them, of edges before v1.10.
pub(super) async fn legacy_status(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        #[serde(rename = "UID", default)]
        uid: String,
        #[serde(default)]
        name: String,
        status: Value,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Reports {
        One(Report),
        Many(Vec<Report>),
    }
    let resource = &request.message.route.resource;
    let parts = resource
        .parts()
        .ok_or_else(|| format!("{resource} names no pods"))?;
    let reports = match request.message.content.decode("pod statuses")? {
        Reports::One(report) => vec![report],
        Reports::Many(reports) => reports,
    };
    for report in reports {
        let name = if report.name.is_empty() {
            parts.name.unwrap_or("")
        } else {
            &report.name
        };
        let key = ObjectKey::new(pods(), parts.namespace, name);
        if !upstream
            .downstream
            .holds(&request.node, Question::Runs(key.clone()))
            .await?
        {
            return Err(format!("pod {name} is not of this node").into());
        }
        let mut body = json!({ "status": report.status });
        if !report.uid.is_empty() {
            body["metadata"] = json!({ "uid": report.uid });
        }
        let patch = ApiRequest::resource(Verb::Patch, pods(), parts.namespace, Some(name))
            .with_subresource("status")
            .with_body("application/strategic-merge-patch+json", body.to_string());
        let response = upstream.execute(&request.node, patch).await;
        if is_gone(&upstream, &request, &response, &key, &report.uid).await {
            gone(&upstream, &request, key, &report.uid).await;
        } else if !response.is_success() {
            let content = Content::encode(&failure(&response));
            return outcome(&upstream.metrics, &request, &response, content, None);
        } else if has_ended(&response, &report.status) {
            // These edges leave the end of a pod to the cloud.
            end(&upstream, &request, parts.namespace, name, &report.uid).await;
        }
    }
    Ok(reply(&request, Content::ok(), None))
}

/// A mirror pod: the image of a pod that the node runs by a manifest of its own.
pub(super) async fn insert(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, _) = object_of(&request)?;
    let create = ApiRequest::resource(Verb::Create, pods(), parts.namespace, None)
        .with_body("application/json", request.message.content.document_bytes());
    let response = upstream.execute(&request.node, create).await;
    outcome(
        &upstream.metrics,
        &request,
        &response,
        object_response(&response, Absent::Pod),
        version(&response),
    )
}

/// The pod has ended on the node. With DeleteOptions or, of older edges, the uid.
pub(super) async fn delete(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let document = request.message.content.document_bytes();
    let options = match serde_json::from_slice::<Value>(&document) {
        Ok(options @ Value::Object(_)) => options,
        _ => match request.message.content.as_string().filter(|uid| !uid.is_empty()) {
            Some(uid) => json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } }),
            None => json!({ "gracePeriodSeconds": 0 }),
        },
    };
    let delete = ApiRequest::resource(Verb::Delete, pods(), parts.namespace, Some(name))
        .with_body("application/json", options.to_string());
    let response = upstream.execute(&request.node, delete).await;
    // A successor of the same name is another pod: this one is gone.
    let replaced = response.code == 409 && reason(&response).contains("deleted and then recreated");
    if response.is_success() || response.code == 404 || replaced {
        return Ok(reply(&request, Content::ok(), None));
    }
    let content = Content::encode(&failure(&response));
    outcome(&upstream.metrics, &request, &response, content, None)
}

/// Whether the pod is not there, or is another one of the same name. A refusal alone does not say that.
async fn is_gone(
    upstream: &Upstream,
    request: &Request,
    response: &ApiResponse,
    key: &ObjectKey,
    uid: &str,
) -> bool {
    match response.code {
        404 => true,
        // An API server says of another uid that it is immutable.
        409 | 422 if !uid.is_empty() => {
            let get = ApiRequest::resource(Verb::Get, pods(), key.namespace.as_deref(), Some(&key.name));
            let found = upstream.execute(&request.node, get).await;
            let another = || Metadata::parse(&found.body).is_ok_and(|metadata| metadata.uid != uid);
            found.code == 404 || (found.is_success() && another())
        }
        _ => false,
    }
}

/// Whether a pod that was to be deleted runs no more.
fn has_ended(response: &ApiResponse, status: &Value) -> bool {
    let deleted = Metadata::parse(&response.body).is_ok_and(|metadata| metadata.deletion_timestamp.is_some());
    let running = |container: &Value| {
        let state = &container["state"];
        state["terminated"].is_null() && state["waiting"].is_null()
    };
    deleted
        && matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"))
        && !status["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .any(running)
}

async fn end(upstream: &Upstream, request: &Request, namespace: Option<&str>, name: &str, uid: &str) {
    let mut options = json!({ "gracePeriodSeconds": 0 });
    if !uid.is_empty() {
        options["preconditions"] = json!({ "uid": uid });
    }
    let delete = ApiRequest::resource(Verb::Delete, pods(), namespace, Some(name))
        .with_body("application/json", options.to_string());
    let response = upstream.execute(&request.node, delete).await;
    if !response.is_success() {
        tracing::debug!(node = %request.node, code = response.code, "a pod that ended could not be deleted");
    }
}

async fn gone(upstream: &Upstream, request: &Request, key: ObjectKey, uid: &str) {
    if !uid.is_empty()
        && let Some(object) = minimal(upstream.cluster.registry(), &key, uid)
    {
        upstream
            .downstream
            .drop_object(request.node.clone(), object)
            .await;
    }
}

fn pods() -> GroupVersionResource {
    GroupVersionResource::core("pods")
}
