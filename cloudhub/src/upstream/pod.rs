//! The node's pods: status, mirror pods, deletion.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::Content;
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::service::{BoxError, Reply, Request};

use super::answer::{Absent, failure, object_response, reply, version};
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
    if is_gone(&response) {
        // The node runs a pod that the cluster does not have: nobody would ever tell it otherwise.
        gone(
            &upstream,
            &request,
            ObjectKey::new(pods(), parts.namespace, name),
            &uid,
        )
        .await;
    }
    Ok(reply(
        &request,
        object_response(&response, Absent::Zero),
        version(&response),
    ))
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
        if is_gone(&response) {
            gone(&upstream, &request, key, &report.uid).await;
        } else if !response.is_success() {
            return Ok(reply(&request, Content::encode(&failure(&response)), None));
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
    Ok(reply(
        &request,
        object_response(&response, Absent::Zero),
        version(&response),
    ))
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
    let content = if response.is_success() || response.code == 404 {
        Content::ok()
    } else {
        Content::encode(&failure(&response))
    };
    Ok(reply(&request, content, None))
}

/// The pod is not there, or is another one of the same name.
fn is_gone(response: &ApiResponse) -> bool {
    matches!(response.code, 404 | 409)
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
