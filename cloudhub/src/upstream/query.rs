//! Questions by name: objects, tokens, certificates.

use std::sync::Arc;

use hub_core::api::{ApiRequest, Verb};
use hub_core::message::{Content, Operation, Route};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::service::{BoxError, Reply, Request};
use hub_core::session::Lane;

use super::answer::{Absent, object_response, refusal, reply, version};
use super::{Upstream, object_of};

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
        return Ok(refusal(&request, &response));
    }
    Ok(reply(
        &request,
        Content::from_json(response.body.clone()),
        version(&response),
    ))
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
        return Ok(refusal(&request, &response));
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
    Ok(reply(&request, object_response(&response, Absent::Zero), None))
}

/// The certificate of the cluster's authority, PEM.
pub(super) async fn cluster_ca(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(serde::Deserialize)]
    struct ConfigMap {
        data: std::collections::BTreeMap<String, String>,
    }
    let pem = match &upstream.config.cluster_ca {
        Some(pem) => pem.to_string(),
        None => {
            let configmaps = GroupVersionResource::core("configmaps");
            let key = ObjectKey::new(configmaps, Some("kube-system"), "kube-root-ca.crt");
            let object = upstream
                .cluster
                .get(key)
                .await?
                .ok_or("this cluster names no authority")?;
            let ConfigMap { mut data } = serde_json::from_slice(&object.body)?;
            data.remove("ca.crt").ok_or("this cluster names no authority")?
        }
    };
    let mut message = request.message.response(Content::string(&pem));
    let resource = message.route.resource.clone();
    message.route = Route::new("cloudhub", "resource", Operation::Response, resource);
    Ok(Reply::Answer(message, Lane::Urgent))
}

/// Which devices are the node's. None are served yet; without an answer a stock edge asks again for ever (weak spot L9).
pub(super) async fn membership(_: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let mut message = request.message.response(Content::ok());
    message.route = Route::new("devicecontroller", "twin", Operation::Response, "twin");
    Ok(Reply::Answer(message, Lane::Own))
}
