//! One request: which room answers it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hub_core::api::{ApiRequest, Reason, Status, Target, UpstreamError, Verb};
use hub_core::discovery::{self, Discovery, version};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use hub_core::store::{Coverage, ObjectStore};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Form, Media, Offer};
use crate::auth::{Guard, Peer};
use crate::client::Client;
use crate::cloud::Cloud;
use crate::config::{MetaConfig, Revisions};
use crate::decode;
use crate::encode::{Cache, View};
use crate::explain::OpenWatches;
use crate::extension;
use crate::fault;
use crate::gzip;
use crate::metrics::Metrics;
use crate::openapi;
use crate::read::included;
use crate::reply::{self, Reply, Source};
use crate::request::{ResourceRoute, Route, encode, query};
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
    discovery: Discovery,
    kinds_asked: Mutex<Option<Instant>>,
}

/// A request about a known kind.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) kind: Arc<ResourceKind>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    pub(crate) query: String,
    pub(crate) client: Client,
    pub(crate) content_type: String,
    /// Set where a watch is to go over a WebSocket.
    pub(crate) upgrade: Option<Upgrade>,
}

impl Asked {
    /// The object, when one is named.
    pub(crate) fn key(&self) -> Option<ObjectKey> {
        let namespace = self.namespace.as_deref().filter(|_| self.kind.namespaced);
        Some(ObjectKey::new(
            self.kind.resource.clone(),
            namespace,
            self.name.as_deref()?,
        ))
    }

    /// The form that the answer will have.
    pub(crate) fn form(&self, offer: Offer) -> Result<Form, Status> {
        let offer = if self.kind.custom { Offer::Custom } else { offer };
        Form::negotiate(&self.client.accept, offer, self.client.cbor, self.client.pretty)
    }

    /// The same request for the cloud.
    pub(crate) fn request(&self, verb: Verb, body: Bytes) -> ApiRequest {
        let target = Target::Resource {
            resource: self.kind.resource.clone(),
            namespace: self
                .namespace
                .as_deref()
                .filter(|_| self.kind.namespaced)
                .map(Into::into),
            name: self.name.as_deref().map(Into::into),
            subresource: self.subresource.as_deref().map(Into::into),
        };
        ApiRequest {
            query: self.query_of(verb),
            content_type: self.content_type.clone(),
            body,
            user: self.client.caller.user(),
            ..ApiRequest::new(verb, target)
        }
    }

    /// The query, with who owns what is written: a client that does not say is known by its User-Agent, which goes no further. Who
    /// applies must say.
    fn query_of(&self, verb: Verb) -> String {
        let writes = matches!(verb, Verb::Create | Verb::Update | Verb::Patch)
            && matches!(
                self.subresource.as_deref(),
                None | Some("status" | "scale" | "approval" | "ephemeralcontainers" | "resize")
            );
        let applies = self.content_type.starts_with("application/apply-patch+");
        let named = |(key, value): (Cow<'_, str>, Cow<'_, str>)| key == "fieldManager" && !value.is_empty();
        if !writes || applies || query(&self.query).any(named) {
            return self.query.clone();
        }
        let manager = encode(&self.client.manager);
        let and = if self.query.is_empty() { "" } else { "&" };
        format!("{}{and}fieldManager={manager}", self.query)
    }
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
        let (form, compressed, agent) = (client.status_form(), client.gzip, client.agent.clone());
        let (mut verb, mut resource) = ("other", String::new());
        let route = Route::parse(head.uri.path());
        let admitted = self.admit(&head, peer, &route).await;
        let refused = admitted.is_err();
        let admitted = admitted.map(|caller| {
            client.caller = caller;
            route
        });
        let answered = match admitted {
            Err(status) => Err(status),
            Ok(route) => {
                self.routed(head, route, client, body, &mut verb, &mut resource)
                    .await
            }
        };
        let mut reply = answered.unwrap_or_else(|status| reply::status(&status, form));
        if refused && reply.status() != StatusCode::UNAUTHORIZED {
            reply = reply::header(reply, X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        if compressed {
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
        match route {
            Route::Nowhere => Ok(reply::nowhere()),
            Route::Other(path) => self.other(&head, &path, &client).await,
            Route::Resource(route) => match self.kind(&route.resource).await? {
                Some(kind) => {
                    *resource = kind.resource.to_string();
                    self.resource(&head, route, kind, client, body, verb).await
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
        let (named, below) = (route.name.is_some(), route.subresource.as_deref());
        let verb = match head.method {
            Method::GET if named && !route.watch => Verb::Get,
            Method::GET if route.watch || wants_watch(query_text) => Verb::Watch,
            Method::GET => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if named => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => return Err(fault::not_allowed()),
        };
        *shown = verb.as_str();
        if !fits(&kind, &route, verb) {
            // Built-in kinds and custom ones are refused by two different servers in one.
            return if matches!(verb, Verb::Create | Verb::DeleteCollection)
                && route.namespace.is_none()
                && !named
                && kind.namespaced
            {
                Err(fault::not_allowed())
            } else if kind.custom {
                Ok(reply::nowhere())
            } else {
                Err(fault::no_resource())
            };
        }
        match below {
            Some(below) => {
                let first = below.split('/').next().unwrap_or_default();
                let Some(known) = kind.subresources.iter().find(|known| *known.name == *first) else {
                    return Err(match (&route.name, kind.custom) {
                        (Some(name), true) => fault::not_found(&kind.resource, name),
                        _ => fault::no_resource(),
                    });
                };
                let connects = matches!(first, "proxy" | "exec" | "attach" | "portforward");
                if !connects && !known.verbs.iter().any(|known| **known == *verb.as_str()) {
                    return Err(fault::not_allowed());
                }
            }
            None => {
                if matches!(verb, Verb::Update | Verb::Patch) && !named {
                    return Err(if kind.custom {
                        fault::bad("name must be provided")
                    } else {
                        fault::not_allowed()
                    });
                }
                if verb == Verb::Create && named || !kind.verbs.iter().any(|known| **known == *verb.as_str())
                {
                    if verb != Verb::Watch {
                        return Err(fault::not_allowed());
                    }
                    let refused = reply::status(&fault::no_watch(&kind), form);
                    return Ok(warned(refused, deprecation(&kind.resource)));
                }
            }
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
        let answer = self.dispatch(asked, verb, body).await;
        if warning.is_none() {
            return answer;
        }
        let answer = answer.unwrap_or_else(|status| reply::status(&status, form));
        Ok(warned(answer, warning))
    }

    async fn dispatch<B>(self: &Arc<Self>, mut asked: Asked, verb: Verb, body: B) -> Result<Reply, Status>
    where
        B: http_body::Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        match verb {
            Verb::Get if matches!(asked.subresource.as_deref(), None | Some("status")) => {
                self.get(&asked).await
            }
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

    /// Whether everything in a scope that exists is in the store.
    pub(crate) fn holds(&self, scope: &Scope) -> bool {
        self.authoritative() || self.store.coverage(scope) == Coverage::Complete
    }

    /// Whether this node answers for its own part of a collection, since the cloud cannot be asked for all of it.
    pub(crate) fn stands_in(&self, kind: &ResourceKind, error: &UpstreamError) -> bool {
        let GroupVersionResource { group, resource, .. } = &kind.resource;
        let own = || {
            self.config
                .own_parts
                .iter()
                .any(|(g, r)| *g == **group && *r == **resource)
        };
        matches!(error, UpstreamError::Unreachable | UpstreamError::Timeout) && !self.authoritative() && own()
    }

    /// The kind in a collection. `None` where there can be none: an unknown group, or an unknown kind of a custom one.
    async fn kind(&self, resource: &GroupVersionResource) -> Result<Option<Arc<ResourceKind>>, Status> {
        let registry = self.store.registry();
        if let Some(kind) = registry.by_resource(resource) {
            return Ok(Some(kind));
        }
        let of_group = |kind: &Arc<ResourceKind>| !kind.custom && kind.resource.group == resource.group;
        if registry.all().iter().any(of_group) {
            return Err(fault::no_resource());
        }
        self.learn_kinds()
            .await
            .map_err(|error| away(&error, Verb::List, &definitions(self), None))?;
        Ok(registry.by_resource(resource))
    }

    /// Makes sure that the definitions of custom kinds are held, if the cloud can be asked. Asks at most once a pause.
    async fn learn_kinds(&self) -> Result<(), UpstreamError> {
        let scope = Scope::all(definitions(self).resource.clone());
        if self.holds(&scope) {
            return Ok(());
        }
        {
            let mut asked = self.kinds_asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|asked| asked.elapsed() < self.config.cloud_pause) {
                // They are on their way, or the cloud has just been found away.
                return if self.cloud.away().is_some() {
                    Err(UpstreamError::Unreachable)
                } else {
                    Ok(())
                };
            }
            *asked = Some(Instant::now());
        }
        let request = ApiRequest::resource(Verb::List, scope.resource.clone(), None, None);
        let response = self.cloud.call(request).await?;
        if response.is_success() {
            // A full store or a disk that refuses must not keep clients from the kinds that are known.
            self.keep_list(&definitions(self), scope, &response.body).await;
        }
        Ok(())
    }

    async fn other(&self, head: &Parts, path: &str, client: &Client) -> Result<Reply, Status> {
        let query_text = head.uri.query().unwrap_or_default();
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if matches!(first, "healthz" | "livez" | "readyz") {
            return Ok(self.health(path, query_text));
        }
        let known = matches!(
            first,
            "" | "version" | "api" | "apis" | "openapi" | "openid" | ".well-known"
        );
        if !known {
            return Ok(reply::nowhere());
        }
        if first == "openapi" || first == "openid" || first == ".well-known" {
            if head.method != Method::GET && head.method != Method::HEAD {
                return Err(fault::not_allowed());
            }
            return self.pass_through(head, path, query_text, client).await;
        }
        if head.method != Method::GET {
            return Err(fault::not_allowed());
        }
        match path {
            "/" => {
                let mut paths = discovery::paths(self.store.registry());
                paths.extend(
                    [
                        "/healthz",
                        "/livez",
                        "/openapi/v2",
                        "/openapi/v3",
                        "/readyz",
                        "/version",
                    ]
                    .map(Into::into),
                );
                paths.sort();
                let body = Bytes::from(json!({ "paths": paths }).to_string());
                Ok(reply::json(200, body, true))
            }
            "/version" => Ok(reply::json(
                200,
                version::document(&self.config.kubernetes_version),
                true,
            )),
            _ => self.discover(head, path, client).await,
        }
    }

    async fn discover(&self, head: &Parts, path: &str, client: &Client) -> Result<Reply, Status> {
        // Without the cloud what is known here must do: kubectl starts with these.
        if let Err(error) = self.learn_kinds().await {
            tracing::debug!(%error, "custom kinds could not be learnt");
        }
        let aggregated =
            accept::discovery_version(&client.accept).filter(|_| path == "/api" || path == "/apis");
        let form = match aggregated {
            Some((_, media)) => Form {
                media,
                pretty: client.pretty && media == Media::Json,
                ..Form::PLAIN
            },
            None => Form::of_discovery(&client.accept, client.pretty)?,
        };
        let aggregated = aggregated.map(|(version, _)| version);
        let registry = self.store.registry();
        let Some(document) = self.discovery.document(registry, path, aggregated) else {
            let group = path.split('/').nth(2).unwrap_or_default();
            let group = if path.starts_with("/apis/") { group } else { "" };
            let built_in = registry
                .all()
                .iter()
                .any(|kind| !kind.custom && *kind.resource.group == *group);
            return if built_in {
                Err(fault::no_resource())
            } else {
                Ok(reply::nowhere())
            };
        };
        let Some(etag) = &document.etag else {
            return Ok(reply::object(200, document.body.clone(), form));
        };
        let mut reply = if openapi::is_known(&head.headers, etag) {
            reply::empty(304)
        } else {
            let version = aggregated.unwrap_or_default();
            let media = form.media.content_type();
            let content_type = format!("{media};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            reply::header(
                reply::object(200, document.body.clone(), form),
                CONTENT_TYPE,
                &content_type,
            )
        };
        let headers = reply.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        Ok(reply::header(reply, ETAG, etag))
    }

    async fn pass_through(
        &self,
        head: &Parts,
        path: &str,
        query: &str,
        client: &Client,
    ) -> Result<Reply, Status> {
        let is_openapi = path.starts_with("/openapi/");
        let registry = self.store.registry();
        let own = || {
            let version = &self.config.kubernetes_version;
            openapi::answer(&self.discovery, registry, version, head, path)
        };
        if is_openapi && self.authoritative() {
            return Ok(own());
        }
        if path == "/openid/v1/jwks" {
            accept::takes(&client.accept, "application/jwk-set+json")?;
        }
        let mut request = ApiRequest::new(Verb::Get, Target::Path(path.into()));
        request.query = query.to_owned();
        request.accept = client.accept.clone();
        request.user = client.caller.user();
        let answer = self.cloud.call(request).await;
        if answer.is_err()
            && let Some(kept) = self.kept_document(path)
        {
            return Ok(reply::from(reply::passed(kept, Form::PLAIN), Source::Cache));
        }
        // Without the cloud's documents ours must do, or a client that checks its files first could send none.
        if is_openapi && !answer.as_ref().is_ok_and(|response| response.is_success()) {
            let reply = own();
            if reply.status() != StatusCode::NOT_FOUND {
                return Ok(reply);
            }
        }
        let response = answer.map_err(|error| fault::cloud_away(&error.to_string()))?;
        Ok(reply::passed(response, Form::PLAIN))
    }
}

/// The kind of CustomResourceDefinitions.
pub(crate) fn definitions(api: &Api) -> Arc<ResourceKind> {
    let resource = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    api.store
        .registry()
        .by_resource(&resource)
        .expect("a registry begins with the built-in kinds")
}

/// What a client is told when the cloud could not be asked.
pub(crate) fn away(error: &UpstreamError, verb: Verb, kind: &ResourceKind, name: Option<&str>) -> Status {
    let status = match (error, verb.is_read()) {
        (UpstreamError::Overloaded, _) => fault::busy("requests are waiting for the cloud"),
        (UpstreamError::Protocol(_), _) => Status::failure(Reason::InternalError, error.to_string()),
        (UpstreamError::Timeout, false) => fault::outcome_unknown(),
        (_, true) => fault::cloud_away(&error.to_string()),
        (_, false) => fault::cannot_write(&error.to_string()),
    };
    status.about(
        &kind.resource.group,
        &kind.resource.resource,
        name.unwrap_or_default(),
    )
}

/// Whether path and kind agree on where its objects live.
fn fits(kind: &ResourceKind, route: &ResourceRoute, verb: Verb) -> bool {
    if kind.namespaced {
        route.namespace.is_some() || (route.name.is_none() && matches!(verb, Verb::List | Verb::Watch))
    } else {
        // A Namespace has itself as its namespace in the path.
        route.namespace.is_none() || route.namespace == route.name
    }
}

pub(crate) fn wants_watch(text: &str) -> bool {
    query(text).any(|(key, value)| key == "watch" && !matches!(&*value, "0" | "false"))
}

fn warned(reply: Reply, warning: Option<&str>) -> Reply {
    let warnings: Vec<String> = warning.into_iter().map(Into::into).collect();
    reply::warned(reply, &warnings)
}

/// What Kubernetes tells people who use an outdated kind.
fn deprecation(resource: &GroupVersionResource) -> Option<&'static str> {
    match (&*resource.group, &*resource.resource) {
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}
