//! OpenAPI documents of this server's own, in the form that a client reads, and when it need not be sent them again.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderValue,
    LAST_MODIFIED, LOCATION, VARY,
};
use http::request::Parts;
use hub_core::discovery::{Discovery, openapi};
use hub_core::registry::Registry;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

use crate::clause::sorted;
use crate::conditional::{Sent, sent};
use crate::reply::{self, Reply};
use crate::request::query;

/// Answers out of the documents that are made of the registry.
pub(crate) fn answer(documents: &Discovery, registry: &Registry, head: &Parts, path: &str) -> Reply {
    let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_version_2 = path == "/openapi/v2";
    let is_index = path == "/openapi/v3";
    if head.uri.path().ends_with('/') {
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
    let form = match is_index {
        true => Form::Json,
        false => Form::of(accept.unwrap_or_default(), is_version_2),
    };
    let document = match form {
        Form::Protobuf => documents.openapi_protobuf(registry, path),
        _ => documents.openapi(registry, path),
    };
    let Some(document) = document else {
        return reply::empty(404);
    };
    match form {
        Form::Unsaid if !is_version_2 => return reply::empty(200),
        Form::Unread | Form::Unsaid => return varies(reply::empty(406)),
        _ => {}
    }
    let Some(tag) = &document.etag else {
        // A real server puts the index together each time.
        let now = SystemTime::now();
        return file(
            &head.headers,
            &document.body,
            "",
            "text/plain; charset=utf-8",
            now,
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
    let content_type = match (form, is_version_2) {
        (Form::Protobuf, true) => openapi::PROTOBUF_2,
        (Form::Protobuf, false) => openapi::PROTOBUF_3,
        _ => "application/json",
    };
    let reply = varies(file(&head.headers, &document.body, tag, content_type, modified));
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

/// A document as Go's server of files sends it.
fn file(headers: &HeaderMap, body: &Bytes, tag: &str, content_type: &str, modified: SystemTime) -> Reply {
    let tagged = |reply| match tag {
        "" => reply,
        tag => reply::header(reply, ETAG, tag),
    };
    let dated = |reply| {
        tagged(reply::header(
            reply,
            LAST_MODIFIED,
            &httpdate::fmt_http_date(modified),
        ))
    };
    let whole = |code, body: Bytes| {
        let reply = reply::header(reply::json(code, body, false), CONTENT_TYPE, content_type);
        dated(reply::header(reply, ACCEPT_RANGES, "bytes"))
    };
    match sent(headers, tag, modified, body.len()) {
        Sent::Whole => whole(200, body.clone()),
        Sent::Part(part) => {
            let range = format!(
                "bytes {}-{}/{}",
                part.start,
                part.end.saturating_sub(1),
                body.len()
            );
            reply::header(whole(206, body.slice(part)), CONTENT_RANGE, &range)
        }
        Sent::Nothing => match tag {
            "" => dated(reply::empty(304)),
            _ => tagged(reply::empty(304)),
        },
        Sent::Refused => match tag {
            "" => dated(reply::empty(412)),
            _ => dated(reply::header(reply::empty(412), CONTENT_TYPE, content_type)),
        },
        Sent::NoSuchPart => {
            let reply = reply::text(416, "invalid range: failed to overlap\n");
            reply::header(reply, CONTENT_RANGE, &format!("bytes */{}", body.len()))
        }
    }
}

/// The form of a document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
    /// None of those that the client reads.
    Unread,
    /// The client names forms in a way that cannot be read at all.
    Unsaid,
}

impl Form {
    /// The first that is acceptable. Older clients ask for protobuf with an `@` in it, which no content type may have in an answer.
    fn of(accept: &str, is_version_2: bool) -> Self {
        let clauses = sorted(if accept.is_empty() { "*/*" } else { accept });
        let protobuf = if is_version_2 {
            openapi::PROTOBUF_2
        } else {
            openapi::PROTOBUF_3
        };
        let found = clauses.iter().find_map(|clause| match clause {
            clause if clause.names("application/json") => Some(Self::Json),
            clause if clause.names(protobuf) => Some(Self::Protobuf),
            _ => None,
        });
        found.unwrap_or(if clauses.is_empty() {
            Self::Unsaid
        } else {
            Self::Unread
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::IF_NONE_MATCH;

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
        assert_eq!(text(&first, CONTENT_TYPE), openapi::PROTOBUF_2);
        assert_ne!(text(&first, ETAG), text(&json, ETAG));
        assert_eq!(old(&text(&first, ETAG)).status(), 304);
    }

    #[test]
    fn the_index_is_text_and_what_nobody_can_read_is_not_sent() {
        assert_eq!(
            text(&ask("/openapi/v3", ""), CONTENT_TYPE),
            "text/plain; charset=utf-8"
        );
        for (path, accept, code) in [
            ("/openapi/v2", "text/html", 406),
            ("/openapi/v2", "garbage", 406),
            ("/openapi/v2", "*/json", 200),
            ("/openapi/v3/api/v1", "text/html", 406),
            ("/openapi/v3/api/v1", "garbage", 200),
            ("/openapi/v3/api/v1", openapi::PROTOBUF_3, 200),
        ] {
            let request = Request::get(path).header(ACCEPT, accept).body(()).unwrap();
            let (head, ()) = request.into_parts();
            let (documents, registry) = (Discovery::default(), Registry::builtin());
            let answered = answer(&documents, &registry, &head, path);
            assert_eq!(answered.status(), code, "{path} {accept}");
        }
    }
}
