//! OpenAPI documents of this server's own, and when a client need not be sent them again.

use std::time::SystemTime;

use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, VARY,
};
use http::request::Parts;
use hub_core::discovery::{Discovery, openapi};
use hub_core::registry::Registry;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

use crate::accept::Form;
use crate::reply::{self, Reply};
use crate::request::query;

/// Answers out of the documents that are made of the registry.
pub(crate) fn answer(documents: &Discovery, registry: &Registry, head: &Parts, path: &str) -> Reply {
    let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or("*/*");
    let is_version_2 = path == "/openapi/v2";
    let is_index = path == "/openapi/v3";
    if is_index && head.uri.path().ends_with('/') {
        return reply::empty(404);
    }
    let varies = |mut reply: Reply| {
        let all: &[&str] = if is_version_2 {
            &["Accept-Encoding", "Accept"]
        } else {
            &["Accept"]
        };
        for name in all {
            reply.headers_mut().append(VARY, HeaderValue::from_static(name));
        }
        reply
    };
    let modified = documents.made(registry);
    let in_protobuf = is_version_2 && openapi::wants_protobuf(accept);
    let document = match in_protobuf {
        true => documents.openapi_protobuf(registry),
        false => documents.openapi(registry, path),
    };
    let Some(document) = document else {
        return reply::empty(404);
    };
    if !is_index && !in_protobuf && !takes_json(accept) {
        return varies(reply::empty(406));
    }
    let Some(tag) = &document.etag else {
        let reply = reply::json(200, document.body.clone(), false);
        return dated(
            reply::header(reply, CONTENT_TYPE, "text/plain; charset=utf-8"),
            modified,
        );
    };
    let hash = query(head.uri.query().unwrap_or_default())
        .find(|(key, value)| key == "hash" && !value.is_empty() && !is_version_2)
        .map(|(_, value)| value.into_owned());
    let right = hash.as_deref() == Some(tag.trim_matches('"'));
    if hash.is_some() && !right {
        let place = format!("{path}?hash={}", tag.trim_matches('"'));
        let reply = reply::empty(301);
        let reply = reply::header(reply, CONTENT_TYPE, "application/json");
        return varies(reply::header(reply::header(reply, LOCATION, &place), ETAG, tag));
    }
    let known = match head.headers.contains_key(IF_NONE_MATCH) {
        true => is_known(&head.headers, tag),
        false => is_unmodified(&head.headers, modified),
    };
    let reply = if known {
        reply::empty(304)
    } else {
        dated(reply::object(200, document.body.clone(), Form::PLAIN), modified)
    };
    let reply = match in_protobuf && !known {
        true => reply::header(reply, CONTENT_TYPE, openapi::PROTOBUF),
        false => reply,
    };
    let reply = varies(reply::header(reply, ETAG, tag));
    if !right {
        return reply;
    }
    // A document under its hash never changes.
    let reply = reply::header(reply, CACHE_CONTROL, "public, immutable");
    let next_year = (OffsetDateTime::now_utc() + Duration::days(365)).format(&Rfc2822);
    reply::header(
        reply,
        EXPIRES,
        &next_year.unwrap_or_default().replace("+0000", "UTC"),
    )
}

/// The same answer with when its document was made, as Go's server of files has it.
fn dated(reply: Reply, modified: SystemTime) -> Reply {
    let reply = reply::header(reply, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    reply::header(reply, ACCEPT_RANGES, "bytes")
}

/// Whether a client says that it has what was made before a time.
fn is_unmodified(headers: &HeaderMap, modified: SystemTime) -> bool {
    let since = headers
        .get(IF_MODIFIED_SINCE)
        .and_then(|value| value.to_str().ok());
    let since = since.and_then(|since| httpdate::parse_http_date(since).ok());
    // The header has whole seconds.
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map(|since| since.as_secs())
    };
    since.is_some_and(
        |since| matches!((seconds(since), seconds(modified)), (Ok(since), Ok(made)) if made <= since),
    )
}

/// Whether a client says that it has what the tag is of.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag)
}

fn takes_json(accept: &str) -> bool {
    accept.trim().is_empty()
        || accept
            .split(',')
            .map(|offer| offer.split(';').next().unwrap_or_default().trim())
            .any(|media| matches!(media, "*/*" | "application/*" | "application/json"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(url: &str, known: &str) -> Reply {
        let request = Request::get(url).header(IF_NONE_MATCH, known).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let (documents, registry) = (Discovery::default(), Registry::builtin());
        answer(&documents, &registry, &head, head.uri.path())
    }

    fn text(reply: &Reply, name: http::HeaderName) -> String {
        let value = reply.headers().get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    }

    #[test]
    fn a_document_is_found_under_its_hash_and_sent_once() {
        let path = "/openapi/v3/apis/coordination.k8s.io/v1";
        let plain = ask(path, "");
        let tag = text(&plain, ETAG);
        assert_eq!((plain.status().as_u16(), tag.len()), (200, 130));
        assert_eq!(text(&plain, CACHE_CONTROL), "no-cache, private");

        let url = format!("{path}?hash={}", tag.trim_matches('"'));
        let right = ask(&url, "");
        assert_eq!(text(&right, CACHE_CONTROL), "public, immutable");
        assert!(text(&right, EXPIRES).ends_with(" UTC"));
        let wrong = ask(&format!("{path}?hash=ABCDEF"), "");
        assert_eq!(
            (wrong.status().as_u16(), text(&wrong, LOCATION)),
            (301, url.clone())
        );
        assert_eq!(ask(&url, &tag).status(), 304);
        assert_eq!(ask("/openapi/v3/apis/no.such/v1", "").status(), 404);
    }

    #[test]
    fn an_old_client_reads_version_2_in_protobuf_and_is_sent_it_once() {
        let old = |known: &str| {
            let request = Request::get("/openapi/v2")
                .header(
                    ACCEPT,
                    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
                )
                .header(IF_NONE_MATCH, known)
                .body(())
                .unwrap();
            let (head, ()) = request.into_parts();
            let (documents, registry) = (Discovery::default(), Registry::builtin());
            answer(&documents, &registry, &head, "/openapi/v2")
        };
        let (first, json) = (old(""), ask("/openapi/v2", ""));
        assert_eq!(text(&first, CONTENT_TYPE), openapi::PROTOBUF);
        assert_ne!(text(&first, ETAG), text(&json, ETAG));
        assert_eq!(old(&text(&first, ETAG)).status(), 304);
    }

    #[test]
    fn the_index_is_text_and_what_nobody_can_read_is_not_sent() {
        assert_eq!(
            text(&ask("/openapi/v3", ""), CONTENT_TYPE),
            "text/plain; charset=utf-8"
        );
        let request = Request::get("/openapi/v2")
            .header(ACCEPT, "text/html")
            .body(())
            .unwrap();
        let (head, ()) = request.into_parts();
        let (documents, registry) = (Discovery::default(), Registry::builtin());
        let refused = answer(&documents, &registry, &head, "/openapi/v2");
        assert_eq!(refused.status(), 406);
    }
}
