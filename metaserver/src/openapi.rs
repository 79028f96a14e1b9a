//! OpenAPI documents of this server's own, and when a client need not be sent them again.

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, IF_NONE_MATCH, LOCATION, VARY,
};
use http::request::Parts;
use hub_core::discovery::{self, Discovery, openapi};
use hub_core::registry::Registry;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

use crate::accept::Form;
use crate::reply::{self, Reply};
use crate::request::query;

/// Answers out of the documents that are made of the registry.
pub(crate) fn answer(
    documents: &Discovery,
    registry: &Registry,
    kubernetes_version: &str,
    head: &Parts,
    path: &str,
) -> Reply {
    let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or("*/*");
    if path == "/openapi/v2" && openapi::wants_protobuf(accept) {
        let body = bytes::Bytes::from(openapi::version_2_protobuf(kubernetes_version));
        let tag = discovery::tag(&body);
        let reply = reply::json(200, body, false);
        let reply = reply::header(reply, CONTENT_TYPE, openapi::PROTOBUF);
        return reply::header(reply, ETAG, &tag);
    }
    if !takes_json(accept) {
        return reply::empty(406);
    }
    let Some(document) = documents.openapi(registry, path) else {
        return reply::empty(404);
    };
    let Some(tag) = &document.etag else {
        let reply = reply::json(200, document.body.clone(), false);
        return reply::header(reply, CONTENT_TYPE, "text/plain; charset=utf-8");
    };
    let hash = query(head.uri.query().unwrap_or_default())
        .find(|(key, value)| key == "hash" && !value.is_empty())
        .map(|(_, value)| value.into_owned());
    let right = hash.as_deref() == Some(tag.trim_matches('"'));
    let reply = if hash.is_some() && !right {
        let place = format!("{path}?hash={}", tag.trim_matches('"'));
        let reply = reply::empty(301);
        let reply = reply::header(reply, CONTENT_TYPE, "application/json");
        reply::header(reply, LOCATION, &place)
    } else if is_known(&head.headers, tag) {
        reply::empty(304)
    } else {
        reply::object(200, document.body.clone(), Form::PLAIN)
    };
    let reply = reply::header(reply, ETAG, tag);
    let reply = if path == "/openapi/v2" {
        reply::header(reply, VARY, "Accept-Encoding, Accept")
    } else {
        reply::header(reply, VARY, "Accept")
    };
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
        answer(&documents, &registry, "v1.36.2", &head, head.uri.path())
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
        let refused = answer(&documents, &registry, "v1.36.2", &head, "/openapi/v2");
        assert_eq!(refused.status(), 406);
    }
}
