//! The shapes of answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::body;
use hub_core::message::{Content, Kind, Operation, Route, Subject};
use hub_core::object::{Metadata, ResourceVersion};
use hub_core::service::{BoxError, Reply, Request};
use hub_core::session::Lane;

use crate::downstream::{EDGE_CONTROLLER, RESOURCE};
use crate::metrics::HubMetrics;

/// What stands for an object where there is none: what Go writes of one without any field set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// `null`, as in answers about leases.
    Null,
    Node,
    Pod,
    CertificateSigningRequest,
}

impl Absent {
    /// What stands for the object of this question; None where the answer is no `{"Object":…,"Err":…}`.
    fn of(request: &Request) -> Option<Self> {
        let route = &request.message.route;
        let Subject::Object { kind, .. } = route.resource.subject() else {
            return None;
        };
        match (kind, &route.operation) {
            (Kind::Lease, _) => Some(Self::Null),
            (Kind::Node, Operation::Insert) | (Kind::NodePatch, _) => Some(Self::Node),
            (Kind::Pod, Operation::Insert) | (Kind::PodPatch, _) => Some(Self::Pod),
            (Kind::CertificateSigningRequest, Operation::Insert) => Some(Self::CertificateSigningRequest),
            _ => None,
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Node => {
                r#"{"metadata":{"creationTimestamp":null},"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}}"#
            }
            Self::Pod => r#"{"metadata":{"creationTimestamp":null},"spec":{"containers":null},"status":{}}"#,
            Self::CertificateSigningRequest => {
                r#"{"metadata":{"creationTimestamp":null},"spec":{"request":null,"signerName":""},"status":{}}"#
            }
        }
    }
}

/// The answer that says why not, in the form that whoever asked can read.
pub(crate) fn failed(
    metrics: &HubMetrics,
    request: &Request,
    response: &ApiResponse,
) -> Result<Reply, BoxError> {
    match Absent::of(request) {
        Some(absent) => outcome(
            metrics,
            request,
            response,
            object_response(response, absent),
            None,
        ),
        None => refusal(metrics, request, response),
    }
}

/// What became of a report: its answer, or the word that it is to be told again.
///
/// Our own edges keep a report until it is settled. While the cluster decides nothing, as it is away, too busy or failing, the answer is
/// an error, after which the edge waits and tells it again. What the cluster denied is denied for good. Stock edges get the same answer
/// for both; they read no other.
pub(super) fn outcome(
    metrics: &HubMetrics,
    request: &Request,
    response: &ApiResponse,
    content: Content,
    version: Option<ResourceVersion>,
) -> Result<Reply, BoxError> {
    let route = &request.message.route;
    if response.is_success() {
        return Ok(reply(request, content, version));
    }
    if request.capabilities.ack && is_undecided(response) {
        // A failure of the handler, and no answer: an answer would be given again to whoever tells it again.
        let failure = serde_json::to_string(&failure(response))?;
        return Err(failure.into());
    }
    if is_undecided(response) {
        // Leases and statuses a stock edge tells anew by itself.
        tracing::info!(node = %request.node, operation = %route.operation, resource = %route.resource, code = response.code,
            reason = reason(response), "the cluster decides nothing about what a stock edge says, and the edge is told so");
        return Ok(reply(request, content, version));
    }
    if route.operation != Operation::Query {
        metrics.denied(&route.resource.subject(), response.code);
    }
    // A pod that is gone, a node that is there already: that is everyday life.
    if !matches!(response.code, 404 | 409) {
        tracing::info!(node = %request.node, operation = %route.operation, resource = %route.resource, code = response.code,
            reason = reason(response), "the cluster denies what a node reports; it is not told again");
    }
    Ok(reply(request, content, version))
}

/// Whether the cluster has not said yes or no: it is away, too busy, or fails at what may succeed later.
pub(super) fn is_undecided(response: &ApiResponse) -> bool {
    matches!(response.code, 408 | 429 | 500..=599) && response.code != 501
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
///
/// Our own edges hear it in the form of a failed report: with the code, and as an error only where asking again may help.
pub(super) fn refusal(
    metrics: &HubMetrics,
    request: &Request,
    response: &ApiResponse,
) -> Result<Reply, BoxError> {
    if request.capabilities.ack {
        return outcome(
            metrics,
            request,
            response,
            Content::encode(&failure(response)),
            None,
        );
    }
    let mut message = request.message.error(&reason(response));
    let resource = message.route.resource.clone();
    message.route = Route::new(EDGE_CONTROLLER, RESOURCE, Operation::Error, resource);
    Ok(Reply::Answer(message, Lane::Urgent))
}

/// `{"Object":…,"Err":…}`: one of them filled, the other `null` or empty. A typed Go client knows what it asked for; a stock cloud
/// sends neither kind nor version of it.
pub(super) fn object_response(response: &ApiResponse, absent: Absent) -> Content {
    let body = kept(response);
    let mut object = Fields::of(body.as_deref());
    if let Some(Fields(fields)) = &mut object {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object_answer(object, response, absent)
}

/// The same, with kind and version: what a stock cloud's caches hold.
pub(super) fn typed_object_response(response: &ApiResponse, absent: Absent) -> Content {
    object_answer(Fields::of(kept(response).as_deref()), response, absent)
}

/// The object of a successful response without what no node asks for: who manages which of its fields is often half of it.
fn kept(response: &ApiResponse) -> Option<Bytes> {
    let text = std::str::from_utf8(&response.body).ok()?;
    let body = response.is_success().then(|| body::kept(text, "", ""))?;
    body.ok()
}

fn object_answer(object: Option<Fields<'_>>, response: &ApiResponse, absent: Absent) -> Content {
    #[derive(Serialize)]
    struct Answer<T: Serialize> {
        #[serde(rename = "Object")]
        object: T,
        #[serde(rename = "Err")]
        error: Option<Failure>,
    }
    match object {
        Some(Fields(object)) => Content::encode(&Answer { object, error: None }),
        None => Content::encode(&Answer {
            object: serde_json::from_str::<&RawValue>(absent.json()).ok(),
            error: Some(failure(response)),
        }),
    }
}

/// The fields of an object, unread.
#[derive(Deserialize)]
struct Fields<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    fn of(body: Option<&'a [u8]>) -> Option<Self> {
        serde_json::from_slice(body?).ok()
    }
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
        let mut fields: Fields<'_> = serde_json::from_slice(bytes).ok()?;
        fields.0.remove("kind");
        fields.0.remove("apiVersion");
        serde_json::value::to_raw_value(&fields.0).ok()
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
pub(super) fn reason(response: &ApiResponse) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_not_told_who_manages_which_field() {
        let lease = r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"a","managedFields":[{}]},"spec":{}}"#;
        let response = ApiResponse::json(200, lease);
        let text = |content: Content| String::from_utf8(content.bytes().to_vec()).unwrap();
        assert_eq!(
            text(object_response(&response, Absent::Null)),
            r#"{"Object":{"metadata":{"name":"a"},"spec":{}},"Err":null}"#
        );
        assert_eq!(
            text(typed_object_response(&response, Absent::Null)),
            r#"{"Object":{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a"},"spec":{}},"Err":null}"#
        );
    }
}
