//! Devices: which are the node's, and what they report (tunnel specification §9).
//!
//! A node reports of devices that are bound to it, of no others (weak spot S5).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::message::{Content, Group, Message, Operation, Route, Source, Subject};
use hub_core::node::NodeId;
use hub_core::registry::ResourceKind;
use hub_core::service::{BoxError, Reply, Request};
use hub_core::session::{Delivery, Lane, Outgoing};

use super::Upstream;
use super::answer::reason;
use super::device_status::{NotTaken, State, Twins, report};

/// Which devices are the node's.
///
/// The edge takes any message that answers its question for a confirmation and looks at nothing in it
/// (`edge/pkg/devicetwin/process.go`), so the devices follow in a message of their own, which answers none. KubeEdge's cloud says
/// neither: its edges ask again for ever (weak spot L9), and never hear of devices that came or went while they were away (L4).
pub(super) async fn membership(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let Some(devices) = kind(&upstream, "devices") else {
        // No kind, no devices: there is nothing to tell.
        return Ok(confirmation(&request));
    };
    let listed = list(&upstream, &devices, &request.node).await;
    let detail = match listed {
        Ok(devices) => detail(&devices),
        Err(response) => return Err(reason(&response).into()),
    };
    if let Some(session) = upstream.sessions.handle(&request.node) {
        let route = Route::new(
            CONTROLLER.as_str(),
            Group::Twin.as_str(),
            Operation::Update,
            DETAIL,
        );
        let outgoing = Outgoing {
            key: DETAIL.into(),
            version: None,
            lane: Lane::Own,
            delivery: Delivery::Once(Duration::from_secs(60)),
            message: Message::new(route, Content::encode(&detail)),
            previous: None,
        };
        if session.push(outgoing).is_err() {
            // Unanswered it asks again, when there is room.
            return Err("there is no room for the devices of the node".into());
        }
    }
    Ok(confirmation(&request))
}

/// New values of a device's properties.
pub(super) async fn twin(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    struct Update {
        #[serde(default)]
        twin: Twins,
    }
    let Subject::DeviceTwin { namespace, name } = request.message.route.resource.subject() else {
        return Err("this names no device".into());
    };
    let update: Update = match request.message.content.decode("values of a device") {
        Ok(update) => update,
        Err(error) => return Ok(refusal(&request, &error.to_string())),
    };
    let reported = report(&upstream, &request.node, namespace, name, &update.twin, None).await;
    answered(&upstream, &request, reported)
}

/// Whether a device is there.
pub(super) async fn state(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    struct Update {
        device: State,
    }
    let Subject::DeviceState { namespace, name } = request.message.route.resource.subject() else {
        return Err("this names no device".into());
    };
    let Update { device } = match request.message.content.decode("the state of a device") {
        Ok(update) => update,
        Err(error) => return Ok(refusal(&request, &error.to_string())),
    };
    let none = Twins::new();
    let reported = report(&upstream, &request.node, namespace, name, &none, Some(&device)).await;
    answered(&upstream, &request, reported)
}

/// Values and states of several devices, from our own edges. The answer names those of which not all was taken.
pub(super) async fn reports(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    #[derive(Deserialize)]
    struct Batch {
        #[serde(default)]
        devices: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        id: String,
        #[serde(default)]
        twin: Twins,
        device: Option<State>,
    }
    let batch: Batch = match request.message.content.decode("values and states of devices") {
        Ok(batch) => batch,
        Err(error) => return Ok(refusal(&request, &error.to_string())),
    };
    let lines = batch.devices.into_iter().map(|line| {
        let (upstream, node) = (&upstream, &request.node);
        async move {
            let reported = match line.id.split_once('/') {
                Some((namespace, name)) => {
                    report(
                        upstream,
                        node,
                        Some(namespace),
                        name,
                        &line.twin,
                        line.device.as_ref(),
                    )
                    .await
                }
                None => Err(NotTaken::Ever("this names no device".into())),
            };
            (line.id, reported)
        }
    });
    let (mut refused, mut failed) = (Map::new(), Map::new());
    let mut lines = futures::stream::iter(lines).buffer_unordered(AT_ONCE);
    while let Some((id, reported)) = lines.next().await {
        match reported {
            Ok(()) => {}
            Err(NotTaken::Ever(reason)) => {
                upstream.metrics.denied(&Subject::Twin, 422);
                refused.insert(id, reason.into());
            }
            Err(NotTaken::Now(reason)) => drop(failed.insert(id, reason.into())),
        }
    }
    drop(lines);
    if refused.is_empty() && failed.is_empty() {
        return Ok(confirmation(&request));
    }
    tracing::debug!(node = %request.node, refused = refused.len(), failed = failed.len(), "not all reports of devices are taken");
    let answer_content = Content::encode(&json!({ "refused": refused, "failed": failed }));
    Ok(answer(
        request.message.response(answer_content),
        Operation::Response,
    ))
}

fn answered(
    upstream: &Upstream,
    request: &Request,
    reported: Result<(), NotTaken>,
) -> Result<Reply, BoxError> {
    match reported {
        Ok(()) => Ok(confirmation(request)),
        Err(NotTaken::Ever(reason)) => {
            upstream.metrics.denied(&Subject::Twin, 422);
            Ok(refusal(request, &reason))
        }
        Err(NotTaken::Now(reason)) => Err(reason.into()),
    }
}

/// The device, if it is bound to the node. Edges before 1.15 name no namespace: there the name alone must say which is meant.
pub(super) async fn device(
    upstream: &Upstream,
    devices: &ResourceKind,
    node: &NodeId,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>, ApiResponse> {
    let Some(namespace) = namespace else {
        let mut named = list(upstream, devices, node).await?;
        named.retain(|device| text(device, "name") == name);
        return Ok(named.pop().filter(|_| named.is_empty()));
    };
    match get(upstream, devices, namespace, name).await {
        Ok(device) => Ok(Some(device).filter(|device| is_of(device, node))),
        Err(response) if response.code == 404 => Ok(None),
        Err(response) => Err(response),
    }
}

/// The devices that are bound to the node.
async fn list(upstream: &Upstream, devices: &ResourceKind, node: &NodeId) -> Result<Vec<Value>, ApiResponse> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Value>,
    }
    let mut request = ApiRequest::resource(Verb::List, devices.resource.clone(), None, None);
    if devices
        .selectable_fields
        .iter()
        .any(|field| &**field == "spec.nodeName")
    {
        request.query = form_urlencoded::Serializer::new(String::new())
            .append_pair("fieldSelector", &format!("spec.nodeName={node}"))
            .finish();
    }
    let response = upstream.execute_as_hub(request).await;
    if !response.is_success() {
        return Err(response);
    }
    let List { mut items } = serde_json::from_slice(&response.body).map_err(|_| response)?;
    items.retain(|device| is_of(device, node));
    Ok(items)
}

pub(super) async fn get(
    upstream: &Upstream,
    kind: &ResourceKind,
    namespace: &str,
    name: &str,
) -> Result<Value, ApiResponse> {
    let get = ApiRequest::resource(Verb::Get, kind.resource.clone(), Some(namespace), Some(name));
    let response = upstream.execute_as_hub(get).await;
    if !response.is_success() {
        return Err(response);
    }
    serde_json::from_slice(&response.body).map_err(|_| response)
}

/// A kind of the device API, in the version that comes first in discovery.
pub(super) fn kind(upstream: &Upstream, resource: &str) -> Option<Arc<ResourceKind>> {
    let all = upstream.cluster.registry().all();
    all.into_iter()
        .find(|kind| &*kind.resource.group == GROUP && &*kind.resource.resource == resource)
}

/// `MembershipDetail` of `edge/pkg/devicetwin/dttype`. Without the empty twin an edge tells its applications of a mistake for each
/// device that it has already.
fn detail(devices: &[Value]) -> Value {
    let device = |device: &Value| {
        let (namespace, name) = (text(device, "namespace"), text(device, "name"));
        let mut shown = json!({ "id": format!("{namespace}/{name}"), "name": name, "twin": {} });
        if let Some(description) = device["metadata"]["labels"]["description"].as_str() {
            shown["description"] = description.into();
        }
        shown
    };
    json!({
        "event_id": uuid::Uuid::new_v4().to_string(),
        "timestamp": time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000,
        "devices": devices.iter().map(device).collect::<Vec<_>>(),
    })
}

/// The report was taken, or needs no answer: the edge forgets it.
fn confirmation(request: &Request) -> Reply {
    answer(request.message.response(Content::ok()), Operation::Response)
}

/// The report will never be taken: the edge is told, and forgets it. What may go better another time is an error of the handler
/// instead; that answer does not reach the edge's twins, and they report again after a minute.
fn refusal(request: &Request, reason: &str) -> Reply {
    tracing::debug!(node = %request.node, resource = %request.message.route.resource, reason, "a device's report is refused");
    answer(request.message.error(reason), Operation::Error)
}

fn answer(mut message: Message, operation: Operation) -> Reply {
    message.route = Route::new(CONTROLLER.as_str(), Group::Twin.as_str(), operation, "twin");
    Reply::Answer(message, Lane::Own)
}

fn is_of(device: &Value, node: &NodeId) -> bool {
    device["spec"]["nodeName"] == node.as_str()
}

pub(super) fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object["metadata"][field].as_str().unwrap_or_default()
}

const GROUP: &str = "devices.kubeedge.io";
const CONTROLLER: Source<'static> = Source::DeviceController;
const DETAIL: &str = "membership/detail";
/// Devices of one message that are worked on at once.
const AT_ONCE: usize = 16;
