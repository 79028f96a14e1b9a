//! One request: which room answers it.

mod asked;
mod kinds;
mod scale;

use std::sync::{Arc, Mutex, OnceLock};

use bytes::{Buf, Bytes};
use http::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hub_core::api::{Reason, Status, Verb};
use hub_core::discovery::Discovery;
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use hub_core::store::{Coverage, ObjectStore};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use asked::Asked;
pub(crate) use kinds::definitions;

use crate::accept::{self, Form};
use crate::auth::{Guard, Peer};
use crate::client::Client;
use crate::cloud::Cloud;
use crate::config::{MetaConfig, Revisions};
use crate::decode;
use crate::documents;
use crate::duration;
use crate::encode::{Cache, View};
use crate::explain::OpenWatches;
use crate::extension;
use crate::fault::{self, away};
use crate::fit::{self, deprecation, is_segment, wants_watch, warned};
use crate::gzip;
use crate::metrics::Metrics;
use crate::read::included;
use crate::reply::{self, Reply, Source};
use crate::request::{ResourceRoute, Route, query};
use crate::websocket::Upgrade;
use crate::write::local::Local;

/// What all requests share.
pub(crate) struct Api {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) cloud: Cloud,
    pub(crate) config: MetaConfig,
    pub(crate) metrics: Metrics,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) open: Arc<OpenWatches>,
    pub(crate) local: Local,
    pub(crate) guard: Guard,
    /// What was put into protobuf before.
    encoded: Arc<Cache>,
    /// Ends the watches when the server stops.
    pub(crate) stop: CancellationToken,
    pub(crate) discovery: Discovery,
    kinds_asked: Mutex<Option<Instant>>,
    /// What `/metrics` shows.
    pub(crate) shown: OnceLock<Arc<Registry>>,
}

impl Api {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, cloud: Cloud, config: MetaConfig) -> Self {
        let metrics = Metrics::new();
        Self {
            store,
            cloud,
            local: Local::default(),
            guard: Guard::new(config.auth.clone()),
            watches: Arc::new(Semaphore::new(config.watches_max)),
            open: Arc::new(OpenWatches::new(metrics.watches.clone())),
            metrics,
            encoded: Arc::new(Cache::new(config.encoded_bytes_max)),
            stop: CancellationToken::new(),
            discovery: Discovery::default(),
            kinds_asked: Mutex::new(None),
            shown: OnceLock::new(),
            config,
        }
    }

    /// Answers a request. Never fails: what goes wrong is an answer too.
    pub(crate) async fn answer<B>(self: &Arc<Self>, head: Parts, peer: &Peer, body: B) -> Reply
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let start = Instant::now();
        let mut client = Client::new(
            &head.headers,
            head.uri.query().unwrap_or_default(),
            self.config.cbor,
        );
        let (form, compressed, person) = (client.status_form(), client.gzip, client.person);
        let agent = client.agent.clone();
        let (mut verb, mut resource) = ("other", String::new());
        let is_file = head.uri.path().starts_with("/openapi/v3");
        let audited = audit_id(&head.headers);
        let route = Route::parse(head.uri.path());
        if route == Route::Malformed {
            return reply::malformed();
        }
        let admitted = self.admit(&head, peer, &route).await;
        let refused = admitted.is_err();
        let admitted = admitted.map(|caller| {
            client.caller = caller;
            route
        });
        let answered = match admitted {
            Err(status) => {
                // What was sent must be taken in, or the connection ends behind the answer.
                let rest = Limited::new(body, REFUSED_BYTES_MAX).collect();
                let _ = tokio::time::timeout(REFUSED_WAIT, rest).await;
                Err(status)
            }
            Ok(route) => {
                self.routed(head, route, client, body, &mut verb, &mut resource)
                    .await
            }
        };
        let mut reply = answered.unwrap_or_else(|status| reply::status(&status, form));
        if person && reply.status() == StatusCode::SERVICE_UNAVAILABLE && self.is_long_away() {
            // Programs made with client-go try ten times where they are told when.
            reply.headers_mut().remove(RETRY_AFTER);
        }
        if let Some(audited) = audited {
            reply.headers_mut().insert(AUDIT_ID, audited);
        }
        if refused && reply.status() != StatusCode::UNAUTHORIZED {
            reply = reply::header(reply, X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        // Documents of version 3 go as they are, as a file would.
        if compressed && !is_file {
            reply = gzip::compress(reply).await;
        }
        let source = reply.extensions().get().copied().unwrap_or(Source::Own);
        let code = reply.status().as_u16();
        self.metrics
            .answered(verb, resource, code, source, &agent, start.elapsed());
        reply
    }

    async fn routed<B>(
        self: &Arc<Self>,
        head: Parts,
        route: Route,
        client: Client,
        body: B,
        verb: &mut &'static str,
        resource: &mut String,
    ) -> Result<Reply, Status>
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        // The cluster itself has no such URLs.
        if let Some(status) =
            extension::refused(&head.method, head.uri.path()).filter(|_| !self.authoritative())
        {
            return Err(status);
        }
        if let Some(status) = unread_timeout(&route, head.uri.query().unwrap_or_default()) {
            return Err(status);
        }
        match route {
            Route::Nowhere | Route::Malformed => documents::nowhere(head.uri.path()),
            Route::Other(path) => self.other(&head, &path, &client).await,
            Route::Resource(route) => match self.kind(&route.resource).await? {
                Some(kind) => {
                    *resource = kind.resource.to_string();
                    let (form, outdated) = (client.status_form(), kind.deprecation.clone());
                    let answer = self.resource(&head, route, kind, client, body, verb).await;
                    if outdated.is_none() {
                        return answer;
                    }
                    if answer.as_ref().is_ok_and(reply::is_nowhere) {
                        return answer;
                    }
                    // Whatever else comes of it.
                    let answer = answer.unwrap_or_else(|status| reply::status(&status, form));
                    Ok(warned(answer, outdated.as_deref()))
                }
                None => Ok(reply::nowhere()),
            },
        }
    }

    async fn resource<B>(
        self: &Arc<Self>,
        head: &Parts,
        mut route: ResourceRoute,
        kind: Arc<ResourceKind>,
        client: Client,
        body: B,
        shown: &mut &'static str,
    ) -> Result<Reply, Status>
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let (query_text, form) = (head.uri.query().unwrap_or_default(), client.status_form());
        if kind.custom && head.method == Method::POST && route.subresource.is_none() {
            // Their server takes a new object at any path below the collection.
            route.name = None;
        }
        let method = match &head.method {
            // The server of custom kinds reads what is only to be headed too.
            &Method::HEAD if kind.custom => &Method::GET,
            method => method,
        };
        let verb = match fit::verb(method, &route, &kind, query_text) {
            Ok(verb) => verb,
            Err(refusal) => return refusal.into(),
        };
        *shown = verb.as_str();
        if let Err(refusal) = fit::check(verb, &route, &kind, form) {
            return refusal.into();
        }
        if kind.custom {
            // Their server looks no further than this.
            let first = |below: String| below.split('/').next().map(Into::into);
            route.subresource = route.subresource.and_then(first);
        }
        if let Some(name) = route.name.as_deref().filter(|name| !is_segment(name)) {
            return Err(fault::bad_name(name));
        }
        let text = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let asked = Asked {
            path: head.uri.path().to_owned(),
            kind,
            namespace: route.namespace,
            name: route.name,
            subresource: route.subresource,
            query: query_text.to_owned(),
            client,
            content_type: text.unwrap_or_default().to_owned(),
            upgrade: match verb {
                Verb::Watch => Upgrade::of(head)?,
                _ => None,
            },
        };
        let warning = deprecation(&asked.kind.resource);
        let connects = matches!(
            asked.subresource.as_deref(),
            Some("exec" | "attach" | "portforward")
        );
        let mut answer = self.dispatch(asked, verb, body).await;
        let is_unserved = |answer: &Reply| answer.status() == StatusCode::NOT_IMPLEMENTED;
        if connects && !head.headers.contains_key(UPGRADE) && answer.as_ref().is_ok_and(is_unserved) {
            // Said by a real server before it connects to anybody.
            answer = Err(fault::bad("Upgrade request required"));
        }
        if warning.is_none() {
            return answer;
        }
        match answer {
            Err(status) if accept::is_unrouted(&status) => Err(status),
            answer => {
                let answer = answer.unwrap_or_else(|status| reply::status(&status, form));
                Ok(warned(answer, warning))
            }
        }
    }

    async fn dispatch<B>(self: &Arc<Self>, mut asked: Asked, verb: Verb, body: B) -> Result<Reply, Status>
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let stream = extension::stream(&asked.kind.resource, asked.subresource.as_deref(), &asked.query);
        if let Some(status) = stream.filter(|_| !self.authoritative()) {
            return Err(status);
        }
        match verb {
            Verb::Get if matches!(asked.subresource.as_deref(), None | Some("status")) => {
                self.get(&asked).await
            }
            Verb::Get if asked.subresource.as_deref() == Some("scale") => self.scale(&asked).await,
            Verb::Get => self.forward(&asked, verb, Bytes::new()).await,
            Verb::List => self.list(&asked).await,
            Verb::Watch => self.watch(asked).await,
            _ => {
                let mut body = self.read(body).await?;
                if let Some(decoded) = decode::body(&asked, verb, &body)? {
                    self.metrics.skipped_fields.inc_by(decoded.skipped);
                    body = decoded.json;
                    asked.content_type = decoded.content_type.into();
                }
                if let Some(answer) = self.review(&asked, verb, &body).await {
                    return answer;
                }
                self.write(&asked, verb, body).await
            }
        }
    }

    /// Puts a request to the cloud and hands its answer on.
    pub(crate) async fn forward(&self, asked: &Asked, verb: Verb, body: Bytes) -> Result<Reply, Status> {
        let answer = self.cloud.call(asked.request(verb, body)).await;
        let response = answer.map_err(|error| away(&error, verb, &asked.kind, asked.name.as_deref()))?;
        Ok(reply::passed(response, asked.client.status_form()))
    }

    /// How the client wants to see objects of the kind.
    pub(crate) fn view(&self, asked: &Asked, form: Form) -> Result<View, Status> {
        let include = included(asked, form.shape)?;
        Ok(View::new(asked.kind.clone(), form, include, self.encoded.clone()))
    }

    async fn read<B>(&self, body: B) -> Result<Bytes, Status>
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let limit = self.config.body_bytes_max;
        let read = Limited::new(body, limit).collect();
        match tokio::time::timeout(self.config.request_timeout, read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(fault::too_large(limit)),
            Ok(Err(error)) => Err(fault::bad(error.to_string())),
            Err(_) => Err(Status::failure(
                Reason::Timeout,
                "the body of the request did not come in time",
            )),
        }
    }

    /// Whether this server is the cluster itself.
    pub(crate) fn authoritative(&self) -> bool {
        self.config.revisions == Revisions::Authoritative
    }

    /// Whether the cloud has been away for so long that people are told so at once.
    fn is_long_away(&self) -> bool {
        let away = self.cloud.away();
        !self.authoritative() && away.is_some_and(|away| away >= self.config.people_wait)
    }

    /// Whether everything in a scope that exists is in the store.
    pub(crate) fn holds(&self, scope: &Scope) -> bool {
        self.authoritative() || self.store.coverage(scope) == Coverage::Complete
    }
}

/// The id by which a client finds its request in the logs: its own, or one made here.
fn audit_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let given = headers.get(AUDIT_ID).filter(|id| !id.is_empty());
    match given {
        Some(id) => HeaderValue::from_bytes(&id.as_bytes()[..id.len().min(AUDIT_ID_BYTES_MAX)]).ok(),
        None => HeaderValue::from_str(&Uuid::new_v4().to_string()).ok(),
    }
}

/// What is wrong with the time that a client gives its request, unless it is one that may last for ever.
fn unread_timeout(route: &Route, query_text: &str) -> Option<Status> {
    let lasts = match route {
        Route::Resource(route) => {
            let below = route.subresource.as_deref().unwrap_or_default();
            route.watch
                || wants_watch(query_text)
                || matches!(
                    below.split('/').next(),
                    Some("proxy" | "exec" | "attach" | "portforward" | "log")
                )
        }
        _ => false,
    };
    let (_, given) = query(query_text).find(|(key, _)| key == "timeout")?;
    if lasts || given.is_empty() {
        return None;
    }
    let wrong = duration::wrong(&given)?;
    Some(fault::bad(format!(
        "invalid timeout specified in the request URL - {wrong}"
    )))
}

/// Of the body of who is not let in. A Go server takes as much.
const REFUSED_BYTES_MAX: usize = 256 << 10;
/// For it to come.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Kubernetes `apiserver/pkg/endpoints/filters/request_received_time.go` and its neighbours take no more of a client.
const AUDIT_ID_BYTES_MAX: usize = 64;
