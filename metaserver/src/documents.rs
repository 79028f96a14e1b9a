//! What is not about objects: which kinds there are, OpenAPI, the version, health, keys.
//!
//! Three servers in one answer here in a kube-apiserver, each with its own idea of methods and of `Accept`; the differences are kept.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{Method, StatusCode};
use hub_core::api::{ApiRequest, Status, Target, Verb};
use hub_core::discovery::{self, version};
use prometheus_client::encoding::text::encode;
use serde_json::json;

use crate::accept::{self, Form, Media};
use crate::api::Api;
use crate::client::Client;
use crate::fault;
use crate::gzip;
use crate::openapi;
use crate::reply::{self, Reply, Source};
use crate::request::decode;

impl Api {
    /// Answers where no collection is asked about. `path` is without trailing slashes.
    pub(crate) async fn other(&self, head: &Parts, path: &str, client: &Client) -> Result<Reply, Status> {
        let query_text = head.uri.query().unwrap_or_default();
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let given = &*decode(head.uri.path());
        if matches!(first, "healthz" | "livez" | "readyz") {
            return Ok(match given.ends_with('/') {
                true => reply::nowhere(),
                false => self.health(path, query_text),
            });
        }
        if given == "/openapi/v2" || path == "/openapi/v3" || given.starts_with("/openapi/v3/") {
            // Whatever the method is.
            return self.pass_through(head, path, query_text, client).await;
        }
        if matches!(path, "/openid/v1/jwks" | "/.well-known/openid-configuration") {
            if head.method != Method::GET {
                return Err(fault::not_allowed().about("", "", ""));
            }
            return self.pass_through(head, path, query_text, client).await;
        }
        if given == "/metrics"
            && let Some(registry) = self.shown.get()
        {
            self.sample();
            let mut text = String::new();
            return Ok(match encode(&mut text, registry) {
                Ok(()) if client.gzip => gzip::whole(reply::metrics(text)).await,
                Ok(()) => reply::metrics(text),
                Err(_) => reply::nowhere(),
            });
        }
        if given == "/metrics/slis" && self.authoritative() {
            return Ok(reply::metrics(self.sample_of_checks()));
        }
        if !matches!(first, "" | "index.html" | "version" | "api" | "apis") {
            return nowhere(given);
        }
        if path == "/version" && head.method != Method::GET {
            return Err(fault::not_allowed());
        }
        match path {
            "/" | "/index.html" => {
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
            "/version" => {
                accept::takes(&client.accept, "application/json")?;
                let document = version::document(&self.config.kubernetes_version);
                Ok(reply::json(200, document, true))
            }
            _ => self.discover(head, path, given, client).await,
        }
    }

    /// Whether a path is served to any method: the root, the groups, and the versions of custom groups.
    fn is_lenient(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["" | "index.html" | "apis"] | ["apis", _] => true,
            ["apis", group, _] => {
                let all = self.store.registry().all();
                let mut kinds = all.iter().filter(|kind| *kind.resource.group == *group);
                kinds.next().is_some_and(|kind| kind.custom)
            }
            _ => false,
        }
    }

    async fn discover(
        &self,
        head: &Parts,
        path: &str,
        given: &str,
        client: &Client,
    ) -> Result<Reply, Status> {
        // Without the cloud what is known here must do: kubectl starts with these.
        if let Err(error) = self.learn_kinds().await {
            tracing::debug!(%error, "custom kinds could not be learnt");
        }
        let aggregated =
            accept::discovery_version(&client.accept).filter(|_| matches!(given, "/api" | "/api/" | "/apis"));
        let (version, media) = (
            aggregated.map(|(version, _)| version),
            aggregated.map(|(_, media)| media),
        );
        let registry = self.store.registry();
        let Some(document) = self.discovery.document(registry, path, version) else {
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
        if head.method != Method::GET && !self.is_lenient(path) {
            return Err(fault::not_allowed());
        }
        let form = match media {
            Some(media) => Form {
                media,
                pretty: client.pretty && media == Media::Json,
                ..Form::PLAIN
            },
            None => Form::of_discovery(&client.accept, client.pretty, !self.is_lenient(path))?,
        };
        let Some(etag) = &document.etag else {
            return Ok(reply::object(200, document.body.clone(), form));
        };
        // Compared as it stands, other than with files.
        let known = head.headers.get(IF_NONE_MATCH).is_some_and(|known| known == etag);
        let mut reply = if known {
            reply::empty(304)
        } else {
            let version = version.unwrap_or_default();
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
        let own = || openapi::answer(&self.discovery, registry, head, path);
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
        let reply = reply::passed(response, Form::PLAIN);
        if !is_openapi && reply.status().is_success() {
            return Ok(reply::header(reply, CACHE_CONTROL, "public, max-age=3600"));
        }
        Ok(reply)
    }
}

/// What is said of a path where nothing is: below what its server knows in the words of that one, else in those of Go's own server.
pub(crate) fn nowhere(path: &str) -> Result<Reply, Status> {
    let path = &*decode(path);
    let below = |place: &&str| {
        path.strip_prefix(*place)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    if below(&"/openapi/v3") {
        return Ok(reply::empty(404));
    }
    let known = [
        "/api",
        "/version",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
    ];
    match known.iter().any(below) && !path.starts_with("//") {
        true => Err(fault::no_resource()),
        false => Ok(reply::nowhere()),
    }
}
