//! Requests and answers of port 10002, without sockets.
//!
//! Paths, statuses and texts are KubeEdge's (`cloud/pkg/cloudhub/servers/httpserver`), but what may be signed is stricter: a
//! request that a Go cloudcore signs and we do not gets 403 and the reason. `/nodeupgrade` and `/task/…` are not served: they
//! take anybody's word.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hub_core::node::{NODES_GROUP, NodeId};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::authority::Authority;
use super::sign::{Approved, RequestError, Usage, one};
use crate::readiness::Readiness;

/// Says whether the cluster has a node, for `GET /node/{name}`.
pub trait NodeLookup: Send + Sync {
    /// Whether it exists; an error when the cluster cannot be asked.
    fn exists(&self, node: NodeId) -> BoxFuture<'_, Result<bool, String>>;
}

/// How long the cluster has given no answer; None while it does.
pub type Silence = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// For so long the cluster may be silent before `/readyz/cluster` fails: an API server that is restarted is back by then.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What is answered.
#[derive(Clone, Default)]
pub struct PkiConfig {
    /// Answers `GET /node/{name}` to anybody; 404 without it. `keadm` asks it before it joins.
    pub nodes: Option<Arc<dyn NodeLookup>>,
    /// Answers `GET /readyz`: 200 while nodes should come here, 503 and why otherwise. Always 200 without it.
    pub readiness: Option<watch::Receiver<Readiness>>,
    /// Tells how long the cluster behind has given no answer, for `GET /readyz`. `/readyz` itself stays 200: nodes are served from what is
    /// held, and would have nowhere to go if all instances called themselves unready at once. `/readyz/cluster` is 503 after
    /// [`SILENCE_MAX`].
    pub silence: Option<Silence>,
    /// Lets certificates of KubeEdge up to v1.17 (O `KubeEdge`, CN `kubeedge.io`) renew. They name no node, so whoever has one
    /// gets the certificate of any node: for the time of a migration only.
    pub legacy_certificates: bool,
}

/// A request as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct PkiRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path of the URL, without the query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The client's certificate, **already verified** by TLS against our CA.
    pub client: Option<&'a CertificateDer<'a>>,
    /// The time.
    pub now: SystemTime,
}

/// Answers requests.
#[derive(Clone)]
pub struct PkiService {
    authority: Arc<Authority>,
    config: PkiConfig,
}

impl PkiService {
    /// Answers with what `authority` has.
    pub fn new(authority: Arc<Authority>, config: PkiConfig) -> Self {
        Self { authority, config }
    }

    /// The authority behind it.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The answer to a request. `body` matters to `/edge.crt` only.
    pub async fn respond(&self, request: PkiRequest<'_>, body: &[u8]) -> Response<Bytes> {
        match request.path {
            "/ca.crt" | "/edge.crt" | "/healthz" | "/readyz" | "/readyz/cluster"
                if request.method != Method::GET =>
            {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET"));
                response
            }
            "/ca.crt" => der(self.authority.certificate()),
            "/edge.crt" => match self.authenticate(request) {
                Ok(()) => self.sign(request, body).await,
                Err(response) => *response,
            },
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" => {
                let readiness = self.config.readiness.as_ref();
                match readiness.map_or(Readiness::Ready, |readiness| *readiness.borrow()) {
                    Readiness::Ready => match self.silence() {
                        None => text(StatusCode::OK, "ok"),
                        Some(silence) => text(
                            StatusCode::OK,
                            format!("ok, but {}: nodes are served from what is held", silent(silence)),
                        ),
                    },
                    not_yet => text(StatusCode::SERVICE_UNAVAILABLE, not_yet.to_string()),
                }
            }
            "/readyz/cluster" => match self.silence() {
                Some(silence) if silence > SILENCE_MAX => {
                    text(StatusCode::SERVICE_UNAVAILABLE, silent(silence))
                }
                _ => text(StatusCode::OK, "ok"),
            },
            path => match path
                .strip_prefix("/node/")
                .filter(|_| request.method == Method::GET)
            {
                Some(name) => self.node(name).await,
                None => not_found(),
            },
        }
    }

    fn silence(&self) -> Option<Duration> {
        self.config.silence.as_ref().and_then(|silence| silence())
    }

    /// Whether the request needs a body: asked before one is read.
    pub(super) fn wants_body(&self, request: PkiRequest<'_>) -> bool {
        request.path == "/edge.crt" && request.method == Method::GET && self.authenticate(request).is_ok()
    }

    /// Whether a request for a certificate may be made at all; what it asks is checked later.
    fn authenticate(&self, request: PkiRequest<'_>) -> Result<(), Box<Response<Bytes>>> {
        let refuse = |why: String| Box::new(text(StatusCode::UNAUTHORIZED, why));
        let name = node_name(request.headers);
        if let Some(certificate) = request.client {
            return self.check_client(certificate, name).map_err(|why| {
                refuse(format!(
                    "failed to verify the certificate for edgenode: {name}, err: {why}"
                ))
            });
        }
        let header = match request.headers.get(AUTHORIZATION) {
            Some(value) if !value.is_empty() => value.to_str().unwrap_or_default(),
            _ => return Err(refuse("token validation failure, token is empty".into())),
        };
        // Two words; the first is not looked at, as in KubeEdge.
        let Some((_, jwt)) = header.split_once(' ').filter(|(_, jwt)| !jwt.contains(' ')) else {
            return Err(refuse("token validation failure, token cannot be split".into()));
        };
        // An invalid name fails later, with a better text; it cannot match a bound token.
        let node = NodeId::new(name).ok();
        self.authority
            .tokens()
            .verify(jwt, node.as_ref(), request.now)
            .map_err(|why| refuse(format!("token validation failure, err: {why}")))
    }

    fn check_client(&self, certificate: &CertificateDer<'_>, name: &str) -> Result<(), &'static str> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| "the certificate is malformed")?;
        let subject = certificate.subject();
        let (organization, common) = (one(subject.iter_organization()), one(subject.iter_common_name()));
        if self.config.legacy_certificates && (organization, common) == LEGACY {
            return Ok(());
        }
        let node = common.and_then(NodeId::from_common_name);
        if organization == Some(NODES_GROUP) && node.is_some_and(|node| node.as_str() == name) {
            return Ok(());
        }
        Err("request node name is not match with the certificate")
    }

    async fn sign(&self, request: PkiRequest<'_>, body: &[u8]) -> Response<Bytes> {
        let name = node_name(request.headers);
        let failed = |status, why: &dyn std::fmt::Display| {
            text(
                status,
                format!("failed to sign certs for edgenode {name}, err: {why}"),
            )
        };
        let node = match NodeId::new(name) {
            Ok(node) => node,
            Err(why) => return failed(StatusCode::FORBIDDEN, &format!("header NodeName: {why}")),
        };
        let usages = Usage::from_header(request.headers.get("ExtKeyUsages").map(HeaderValue::as_bytes));
        let approved = usages.and_then(|usages| Approved::check(body, &node, usages, self.authority.cloud()));
        let approved = match approved {
            Ok(approved) => approved,
            Err(why @ RequestError::Refused(_)) => return failed(StatusCode::FORBIDDEN, &why),
            Err(why) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &why),
        };
        match self.authority.signer().sign(approved, request.now).await {
            Ok(certificate) => {
                tracing::info!(%node, renewal = request.client.is_some(), "issued a certificate");
                der(&certificate)
            }
            Err(why) => failed(StatusCode::INTERNAL_SERVER_ERROR, &why),
        }
    }

    async fn node(&self, name: &str) -> Response<Bytes> {
        let Some(nodes) = &self.config.nodes else {
            return not_found();
        };
        if name.is_empty() {
            return text(StatusCode::BAD_REQUEST, "Invalid node name");
        }
        let found = match NodeId::new(name) {
            Ok(node) => nodes.exists(node).await,
            Err(_) => Ok(false),
        };
        match found {
            Ok(true) => text(StatusCode::OK, "Node found"),
            Ok(false) => text(StatusCode::NOT_FOUND, "Node not found"),
            Err(why) => {
                tracing::warn!(%why, "cannot ask the cluster for a node");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Failed to query node information",
                )
            }
        }
    }
}

fn silent(silence: Duration) -> String {
    format!("the cluster has given no answer for {} s", silence.as_secs())
}

impl std::fmt::Debug for PkiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PkiConfig")
            .field("nodes", &self.nodes.is_some())
            .field(
                "readiness",
                &self.readiness.as_ref().map(|readiness| *readiness.borrow()),
            )
            .field("silence", &self.silence.as_ref().map(|silence| silence()))
            .field("legacy_certificates", &self.legacy_certificates)
            .finish()
    }
}

impl std::fmt::Debug for PkiService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PkiService")
            .field("config", &self.config)
            .finish()
    }
}

/// A text answer, typed as Go's `http.Error` types it.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn der(certificate: &CertificateDer<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(certificate));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "404: Page Not Found")
}

fn node_name(headers: &HeaderMap) -> &str {
    headers
        .get("NodeName")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Organization and common name of node certificates up to v1.17.
const LEGACY: (Option<&str>, Option<&str>) = (Some("KubeEdge"), Some("kubeedge.io"));
