//! A client's request goes to the cloud's API, and the answer comes back.
//!
//! The requests travel as KubeEdge's applications. While the link is down they fail at once. A read whose link breaks fails at
//! once too; a write waits for its answer until its time is over, since it may have happened.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Target, Upstream, UpstreamError, Verb};
use hub_core::application::Application;
use hub_core::handle::CallError;
use hub_core::message::{Message, Operation};
use hub_core::session::Lane;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::handle::EdgeHandle;
use crate::link::Link;

impl EdgeHandle {
    /// Puts a request to the cloud's API. What the cloud denies is an answer.
    pub async fn request(&self, request: ApiRequest) -> Result<ApiResponse, UpstreamError> {
        let metrics = &self.shared.board.metrics;
        metrics.requests.inc();
        let config = &self.shared.config;
        let within = if request.verb.is_read() {
            config.read_timeout
        } else {
            config.write_timeout
        };
        let answer = self.put(request, within).await;
        if answer.is_err() {
            metrics.requests_failed.inc();
        }
        answer
    }

    async fn put(&self, request: ApiRequest, within: Duration) -> Result<ApiResponse, UpstreamError> {
        if request.verb == Verb::Watch {
            return Err(UpstreamError::Protocol(
                "a watch is not forwarded; want its scope in the store".into(),
            ));
        }
        let mut link = self.link();
        let Link::Up { capabilities, .. } = *link.borrow_and_update() else {
            return Err(UpstreamError::Unreachable);
        };
        if capabilities == Capabilities::NONE
            && let Some(refusal) = misunderstood(&request)
        {
            return Ok(refusal.into());
        }
        let _place = self
            .shared
            .requests
            .try_acquire()
            .map_err(|_| UpstreamError::Overloaded)?;
        let message = message(&self.shared.config.node, &request, capabilities);
        let call = self.shared.call(message, Lane::Urgent, within);
        let answer = if request.verb.is_read() {
            tokio::select! {
                biased;
                answer = call => answer,
                _ = link.wait_for(|link| !link.is_up()) => return Err(UpstreamError::Unreachable),
            }
        } else {
            call.await
        };
        match answer {
            Ok(answer) => {
                let answered = response(&answer);
                let (node, code) = (
                    &self.shared.config.node,
                    answered.as_ref().ok().map(|answer| answer.code),
                );
                tracing::debug!(target: "way", %node, id = answer.header.parent_id.as_ref().map(tracing::field::display), verb = %request.verb, target = ?request.target, code, "the cloud answered a request");
                answered
            }
            Err(CallError::TimedOut) => Err(UpstreamError::Timeout),
            Err(CallError::NotSent) if self.link().borrow().is_up() => Err(UpstreamError::Overloaded),
            Err(CallError::NotSent | CallError::Over) => Err(UpstreamError::Unreachable),
        }
    }
}

/// The message that asks. A stock cloud gets nothing that it does not know.
pub(crate) fn message(
    node: &hub_core::node::NodeId,
    request: &ApiRequest,
    capabilities: Capabilities,
) -> Message {
    if capabilities != Capabilities::NONE {
        return Application::request(node, request).to_message();
    }
    let named = named_by_its_body(request);
    let mut application = Application::request(node, named.as_ref().unwrap_or(request));
    application.tunnel = None;
    application.to_message()
}

/// A stock cloud creates a subresource of the object that the *body* names; clients name it in the path and may leave it at that.
fn named_by_its_body(request: &ApiRequest) -> Option<ApiRequest> {
    let Target::Resource {
        name: Some(name),
        subresource: Some(_),
        ..
    } = &request.target
    else {
        return None;
    };
    let mut body: Value = serde_json::from_slice(&request.body).ok()?;
    let metadata = body
        .as_object_mut()?
        .entry("metadata")
        .or_insert_with(|| json!({}));
    let absent = metadata.get("name").is_none_or(|name| name == "");
    if request.verb != Verb::Create || !absent {
        return None;
    }
    metadata.as_object_mut()?.insert("name".into(), (&**name).into());
    Some(ApiRequest {
        body: body.to_string().into(),
        ..request.clone()
    })
}

/// What a stock cloud would answer with something else: it reads and deletes without looking at the subresource, knows no
/// deletion of collections, and passes paths through without the form that was asked for, which matters for OpenAPI
/// (`cloud/pkg/dynamiccontroller/application/application.go`).
fn misunderstood(request: &ApiRequest) -> Option<Status> {
    let (resource, subresource) = match &request.target {
        Target::Resource {
            resource,
            subresource,
            ..
        } => (resource, subresource),
        Target::Path(path) => return path.starts_with("/openapi/").then(|| refusal(request.verb, path)),
    };
    let what = match (request.verb, subresource.as_deref()) {
        // Doors into other machines: a message has no stream.
        (_, Some(door @ ("exec" | "attach" | "portforward" | "proxy"))) => {
            format!("{}/{door}", resource.resource)
        }
        (Verb::Get, Some(subresource)) if subresource != "status" => {
            format!("{}/{subresource}", resource.resource)
        }
        (Verb::Delete, Some(subresource)) => format!("{}/{subresource}", resource.resource),
        (Verb::DeleteCollection, _) => format!("collections of {}", resource.resource),
        _ => return None,
    };
    Some(refusal(request.verb, &what))
}

fn refusal(verb: Verb, what: &str) -> Status {
    let text = format!("KubeEdge's cloudcore cannot {verb} {what}");
    Status {
        code: 501,
        reason: None,
        ..Status::failure(Reason::InternalError, text)
    }
}

/// The answer in a message.
pub(crate) fn response(answer: &Message) -> Result<ApiResponse, UpstreamError> {
    if answer.route.operation == Operation::Error {
        let reason = answer.content.as_string().unwrap_or_default();
        return Err(UpstreamError::Protocol(reason));
    }
    let application = Application::from_content(&answer.content);
    Ok(application
        .map_err(|error| UpstreamError::Protocol(error.to_string()))?
        .to_response())
}

impl Service<ApiRequest> for EdgeHandle {
    type Response = ApiResponse;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<ApiResponse, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        // Whether there is room is known only when the request is made; it is never queued here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ApiRequest) -> Self::Future {
        let handle = self.clone();
        Box::pin(async move { handle.request(request).await })
    }
}

impl From<EdgeHandle> for Upstream {
    fn from(handle: EdgeHandle) -> Self {
        BoxCloneSyncService::new(handle)
    }
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;

    use super::*;

    #[test]
    fn a_subresource_created_through_a_stock_cloud_is_named_in_its_body() {
        let request = ApiRequest::resource(
            Verb::Create,
            GroupVersionResource::core("serviceaccounts"),
            Some("d"),
            Some("agent"),
        )
        .with_subresource("token")
        .with_body("application/json", r#"{"spec":{}}"#);
        let node = hub_core::node::NodeId::new("edge-1").unwrap();
        let asked = |capabilities| {
            let application = Application::from_content(&message(&node, &request, capabilities).content);
            let request = application.unwrap().to_request().unwrap();
            serde_json::from_slice::<Value>(&request.body).unwrap()
        };
        assert_eq!(
            asked(Capabilities::NONE),
            json!({"metadata": {"name": "agent"}, "spec": {}})
        );
        assert_eq!(asked(Capabilities::ALL), json!({"spec": {}}));
    }

    #[test]
    fn a_stock_cloud_is_not_asked_what_it_would_answer_with_something_else() {
        let ask = |verb, subresource: Option<&str>| {
            let pods = GroupVersionResource::core("pods");
            let request = ApiRequest::resource(verb, pods, Some("d"), Some("web-0"));
            let request = match subresource {
                Some(subresource) => request.with_subresource(subresource),
                None => request,
            };
            misunderstood(&request).map(|status| status.code)
        };
        assert_eq!(ask(Verb::Get, Some("log")), Some(501));
        for door in ["exec", "attach", "portforward", "proxy"] {
            for verb in [Verb::Get, Verb::Create, Verb::Update, Verb::Delete] {
                assert_eq!(ask(verb, Some(door)), Some(501), "{verb} {door}");
            }
        }
        assert_eq!(ask(Verb::Create, Some("eviction")), None);
        assert_eq!(ask(Verb::Delete, Some("ephemeralcontainers")), Some(501));
        assert_eq!(ask(Verb::DeleteCollection, None), Some(501));
        for (verb, subresource) in [
            (Verb::Get, None),
            (Verb::Get, Some("status")),
            (Verb::Patch, Some("status")),
            (Verb::Create, Some("eviction")),
        ] {
            assert_eq!(ask(verb, subresource), None, "{verb} {subresource:?}");
        }
    }
}
