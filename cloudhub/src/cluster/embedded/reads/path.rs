//! Paths that are no objects: versions, health, and which kinds there are. A node's metaServer passes them through.

use hub_core::api::{ApiRequest, ApiResponse};
use hub_core::discovery::{Discovery, openapi, version};
use hub_core::registry::Registry;

use crate::cluster::embedded::fault;

/// Answers a GET of a path.
pub(in crate::cluster::embedded) fn read(
    discovery: &Discovery,
    registry: &Registry,
    path: &str,
    request: &ApiRequest,
) -> ApiResponse {
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    let document = match path {
        "/version" => Some(version::document(version::KUBERNETES)),
        "/healthz" | "/livez" | "/readyz" => {
            return ApiResponse {
                content_type: "text/plain; charset=utf-8".into(),
                ..ApiResponse::json(200, "ok")
            };
        }
        _ if let Some(content_type) = openapi::wanted_protobuf(path, &request.accept) => {
            return match discovery.openapi_protobuf(registry, path) {
                Some(document) => ApiResponse {
                    content_type: content_type.into(),
                    ..ApiResponse::json(200, document.body.clone())
                },
                None => fault::no_such_resource().into(),
            };
        }
        _ if path.starts_with("/openapi/") => discovery
            .openapi(registry, path)
            .map(|document| document.body.clone()),
        _ => discovery
            .document(registry, path, None)
            .map(|document| document.body.clone()),
    };
    match document {
        Some(document) => ApiResponse::json(200, document),
        None => fault::no_such_resource().into(),
    }
}
