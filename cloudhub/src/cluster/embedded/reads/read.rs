//! Reads: answered from memory, beside the writer.

use bytes::Bytes;
use hub_core::api::{ApiRequest, ApiResponse, Status, Verb};
use hub_core::object::Metadata;
use hub_core::registry::ResourceKind;
use hub_core::store::{MemoryStore, ObjectStore};

use super::component;
use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::subresources::{connect, scale};

/// Get or list. Watches are for [`Cluster::watch`](crate::cluster::Cluster::watch) and the metaServer.
pub(in crate::cluster::embedded) fn read(store: &MemoryStore, request: &ApiRequest) -> ApiResponse {
    let answer = Call::new(request, store.registry()).and_then(|call| match (call.verb, call.subresource) {
        (Verb::Get, None | Some("status" | "resize" | "ephemeralcontainers")) => get(store, &call),
        (Verb::Get, Some("scale")) => scale::get(store, &call),
        (Verb::Get, Some(subresource)) => connect::connect(store, &call, subresource),
        (Verb::List, None) => list(store, &call),
        _ => Err(fault::method_not_allowed()),
    });
    answer.unwrap_or_else(ApiResponse::from)
}

fn get(store: &MemoryStore, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let key = call.named()?;
    match component::get(&key).or_else(|| store.get(&key)) {
        Some(stored) => Ok(ApiResponse::json(200, stored.served.clone())),
        None => Err(fault::not_found(&call.kind, &key.name)),
    }
}

fn list(store: &MemoryStore, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let (labels, fields) = call.selectors()?;
    let resource = &call.kind.resource;
    let listing = component::list(resource).unwrap_or_else(|| store.list(resource, call.namespace));
    let bodies = listing
        .objects
        .iter()
        .map(|stored| &stored.served)
        .filter(|body| {
            let labelled = || Metadata::parse(body).is_ok_and(|metadata| labels.matches(&metadata.labels));
            (labels.is_empty() || labelled()) && (fields.is_empty() || fields.matches(body))
        });
    Ok(ApiResponse::json(
        200,
        list_body(&call.kind, listing.revision.0, bodies),
    ))
}

/// A list of objects, without parsing any.
pub(in crate::cluster::embedded) fn list_body<'b>(
    kind: &ResourceKind,
    revision: u64,
    bodies: impl Iterator<Item = &'b Bytes>,
) -> Vec<u8> {
    let mut head = serde_json::json!({
        "kind": &*kind.list_kind,
        "apiVersion": kind.resource.api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
    });
    if kind.custom {
        // Lists of maps say that there is no more, lists of types say nothing.
        head["metadata"]["continue"] = "".into();
    }
    let mut list = head.to_string().into_bytes();
    list.pop();
    list.extend_from_slice(b",\"items\":[");
    for (index, body) in bodies.enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(body);
    }
    list.extend_from_slice(b"]}");
    list
}

/// An object as an item of a list: those of built-in kinds come without their kind and version.
pub(in crate::cluster::embedded) fn item(kind: &ResourceKind, body: &Bytes) -> Bytes {
    if kind.custom {
        return body.clone();
    }
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return body.clone();
    };
    fields.remove("kind");
    fields.remove("apiVersion");
    serde_json::Value::Object(fields).to_string().into()
}
