//! Questions by name: objects, tokens, certificates; and volumes at the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Verb};
use hub_core::message::{Content, Group, Operation, Route, Source};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Metadata, Object, ObjectKey};
use hub_core::service::{BoxError, Reply, Request};
use hub_core::session::Lane;

use super::answer::{Absent, object_response, outcome, refusal, reply, version};
use super::{Upstream, object_of};
use crate::downstream::Question;

/// One object, with kind and apiVersion.
pub(super) async fn object(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let kinds = upstream.cluster.registry().by_lower_kind(parts.kind);
    let kind = kinds
        .iter()
        .find(|kind| !kind.custom)
        .ok_or("the cluster has no such kind")?;
    // Stock edges name a namespace for kinds that have none.
    let namespace = parts.namespace.filter(|_| kind.namespaced);
    let get = ApiRequest::resource(Verb::Get, kind.resource.clone(), namespace, Some(name));
    let response = upstream.execute(&request.node, get).await;
    if !response.is_success() {
        return refusal(&upstream.metrics, &request, &response);
    }
    if !is_own(&upstream, &request.node, &kind.kind, &response).await? {
        let text = format!(
            "node {} may not read {}",
            request.node, request.message.route.resource
        );
        return refusal(
            &upstream.metrics,
            &request,
            &Status::failure(Reason::Forbidden, text).into(),
        );
    }
    // What its pods reference it is told of, and that is on record.
    let is_told = matches!(
        &*kind.kind,
        "ConfigMap" | "Secret" | "Node" | "CertificateSigningRequest"
    );
    if !is_told && let Ok(object) = Object::from_body(kind.resource.clone(), response.body.clone()) {
        let downstream = &upstream.downstream;
        downstream
            .given(request.node.clone(), object.key, object.uid)
            .await;
    }
    Ok(reply(
        &request,
        Content::from_json(response.body.clone()),
        version(&response),
    ))
}

/// Whether a volume or an attachment is the node's. Only the object itself says whose it is; of all other kinds the message said it.
async fn is_own(
    upstream: &Upstream,
    node: &NodeId,
    kind: &str,
    response: &ApiResponse,
) -> Result<bool, BoxError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Volume {
        spec: Spec,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        node_name: String,
        claim_ref: Option<Claim>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Claim {
        namespace: String,
        name: String,
    }
    match kind {
        "VolumeAttachment" => {
            let Volume { spec } = serde_json::from_slice(&response.body)?;
            Ok(spec.node_name == node.as_str())
        }
        "PersistentVolume" => {
            let Volume { spec } = serde_json::from_slice(&response.body)?;
            let Some(claim) = spec.claim_ref else {
                return Ok(false);
            };
            let claims = GroupVersionResource::core("persistentvolumeclaims");
            let key = ObjectKey::new(claims, Some(&claim.namespace), &claim.name);
            Ok(upstream.downstream.holds(node, Question::Claims(key)).await?)
        }
        _ => Ok(true),
    }
}

/// A volume is attached to the node, as kubelets do where no controller does it, or is no longer. KubeEdge's cloud never answers
/// this (weak spot L12). Nodes have no right to write attachments, so the hub does it, for the node's own only.
pub(super) async fn attach(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (_, name) = object_of(&request)?;
    let attachments = GroupVersionResource::new("storage.k8s.io", "v1", "volumeattachments");
    let own = |body: &[u8]| {
        let attachment = serde_json::from_slice::<serde_json::Value>(body);
        attachment.is_ok_and(|attachment| attachment["spec"]["nodeName"] == request.node.as_str())
    };
    let forbidden = || {
        let text = format!("node {} may attach volumes to itself only", request.node);
        ApiResponse::from(Status::failure(Reason::Forbidden, text))
    };
    let document = request.message.content.document_bytes();
    let response = if request.message.route.operation == Operation::Insert {
        let named = Metadata::parse(&document).is_ok_and(|metadata| metadata.name == name);
        if named && own(&document) {
            let create = ApiRequest::resource(Verb::Create, attachments.clone(), None, None)
                .with_body("application/json", document);
            upstream.execute_as_hub(create).await
        } else {
            forbidden()
        }
    } else {
        let get = ApiRequest::resource(Verb::Get, attachments.clone(), None, Some(name));
        let held = upstream.execute_as_hub(get).await;
        if held.code == 404 {
            // Gone is gone.
            ApiResponse::json(200, "")
        } else if held.is_success() && own(&held.body) {
            let delete = ApiRequest::resource(Verb::Delete, attachments, None, Some(name));
            upstream.execute_as_hub(delete).await
        } else if held.is_success() {
            forbidden()
        } else {
            held
        }
    };
    if response.is_success() {
        Ok(reply(&request, Content::ok(), None))
    } else {
        refusal(&upstream.metrics, &request, &response)
    }
}

/// A token of a service account.
pub(super) async fn token(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (parts, name) = object_of(&request)?;
    let accounts = GroupVersionResource::core("serviceaccounts");
    let create = ApiRequest::resource(Verb::Create, accounts, parts.namespace, Some(name))
        .with_subresource("token")
        .with_body("application/json", request.message.content.document_bytes());
    let response = upstream.execute(&request.node, create).await;
    if !response.is_success() {
        return refusal(&upstream.metrics, &request, &response);
    }
    Ok(reply(&request, Content::from_json(response.body), None))
}

/// A certificate from the cluster's own authority.
pub(super) async fn request_certificate(
    upstream: Arc<Upstream>,
    request: Request,
) -> Result<Reply, BoxError> {
    let requests = GroupVersionResource::new("certificates.k8s.io", "v1", "certificatesigningrequests");
    let create = ApiRequest::resource(Verb::Create, requests, None, None)
        .with_body("application/json", request.message.content.document_bytes());
    let response = upstream.execute(&request.node, create).await;
    outcome(
        &upstream.metrics,
        &request,
        &response,
        object_response(&response, Absent::CertificateSigningRequest),
        None,
    )
}

/// The certificate of the cluster's authority, PEM.
///
/// A stock edge writes whatever answers this into the file of the authority (`edge/pkg/metamanager/metaserver/certificate`). So where
/// none is known, the answer that says so has a group for which an edge has no handler: it is logged there, and asked again.
pub(super) async fn cluster_ca(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let (mut message, group) = match authority(&upstream).await {
        Ok(pem) => (request.message.response(Content::string(&pem)), Group::Resource),
        Err(error) => (request.message.error(&error.to_string()), Group::CloudHub),
    };
    let Route {
        operation, resource, ..
    } = message.route;
    message.route = Route::new(Source::CloudHub.as_str(), group.as_str(), operation, resource);
    Ok(Reply::Answer(message, Lane::Urgent))
}

async fn authority(upstream: &Upstream) -> Result<String, BoxError> {
    #[derive(Deserialize)]
    struct ConfigMap {
        data: BTreeMap<String, String>,
    }
    if let Some(pem) = &upstream.config.cluster_ca {
        return Ok(pem.to_string());
    }
    let configmaps = GroupVersionResource::core("configmaps");
    let key = ObjectKey::new(configmaps, Some("kube-system"), "kube-root-ca.crt");
    let object = upstream.cluster.get(key).await?;
    let object = object.ok_or("this cluster names no authority")?;
    let ConfigMap { mut data } = serde_json::from_slice(&object.body)?;
    Ok(data.remove("ca.crt").ok_or("this cluster names no authority")?)
}
