//! The shapes of answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::message::{Content, Operation, Route};
use hub_core::object::{Metadata, ResourceVersion};
use hub_core::service::{Reply, Request};
use hub_core::session::Lane;

use crate::downstream::{EDGE_CONTROLLER, RESOURCE};

/// What stands for an object where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// `null`, as in answers about leases.
    Null,
    /// An object without any field set, as in answers about nodes and pods.
    Zero,
}

/// The answer to a request, from the controller that a stock edge expects it of.
pub(super) fn reply(request: &Request, content: Content, version: Option<ResourceVersion>) -> Reply {
    let mut message = request.message.response(content);
    let resource = message.route.resource.clone();
    message.route = Route::new(EDGE_CONTROLLER, RESOURCE, Operation::Response, resource);
    message.header.resource_version = version;
    Reply::Answer(message, Lane::Urgent)
}

/// The answer that there is no object: an edge must not take it for one, so it is no `response` (§6.3, the trap).
pub(super) fn refusal(request: &Request, response: &ApiResponse) -> Reply {
    let mut message = request.message.error(&reason(response));
    let resource = message.route.resource.clone();
    message.route = Route::new(EDGE_CONTROLLER, RESOURCE, Operation::Error, resource);
    Reply::Answer(message, Lane::Urgent)
}

/// `{"Object":…,"Err":…}`: one of them filled, the other `null` or empty.
pub(super) fn object_response(response: &ApiResponse, absent: Absent) -> Content {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(rename = "Object")]
        object: Option<BTreeMap<String, &'a RawValue>>,
        #[serde(rename = "Err")]
        error: Option<Failure>,
    }
    #[derive(Deserialize)]
    struct Body<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

    if response.is_success()
        && let Ok(Body(mut object)) = serde_json::from_slice(&response.body)
    {
        // A typed Go client knows what it asked for; a stock cloud sends neither.
        object.remove("kind");
        object.remove("apiVersion");
        return Content::encode(&Answer {
            object: Some(object),
            error: None,
        });
    }
    let zero = serde_json::from_str::<Body<'_>>(r#"{"metadata":{"creationTimestamp":null}}"#);
    let object = zero
        .ok()
        .filter(|_| absent == Absent::Zero)
        .map(|Body(zero)| zero);
    Content::encode(&Answer {
        object,
        error: Some(failure(response)),
    })
}

/// `{"ErrStatus":…}`.
#[derive(Serialize)]
pub(super) struct Failure {
    #[serde(rename = "ErrStatus")]
    status: Box<RawValue>,
}

/// The failure of a response. Always filled: an empty one reads as a success.
pub(super) fn failure(response: &ApiResponse) -> Failure {
    let raw = |bytes: &[u8]| {
        let status: Code = serde_json::from_slice(bytes).ok()?;
        (status.status == "Failure").then_some(())?;
        serde_json::from_slice::<Box<RawValue>>(bytes).ok()
    };
    let status = raw(&response.body).or_else(|| {
        let text = format!("the cluster answered {}: {}", response.code, reason(response));
        raw(&Status::failure(Reason::InternalError, text).to_json())
    });
    Failure {
        status: status.unwrap_or_default(),
    }
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    status: String,
}

/// Why it failed, for a person.
fn reason(response: &ApiResponse) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice::<Message>(&response.body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(&response.body)
            .chars()
            .take(500)
            .collect(),
    }
}

/// The version of the object in a successful response.
pub(super) fn version(response: &ApiResponse) -> Option<ResourceVersion> {
    let metadata = Metadata::parse(&response.body)
        .ok()
        .filter(|_| response.is_success())?;
    (!metadata.resource_version.is_empty()).then(|| (&*metadata.resource_version).into())
}
