//! What the API server's answers look like: pages of lists, events of watches, and refusals.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use hub_core::api::{Reason, Status};
use hub_core::body;
use hub_core::object::{GroupVersionResource, Metadata, Object};

/// Which objects are read, and what stands in those that do not say it themselves.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) resource: GroupVersionResource,
    /// None where discovery does not know it: then the kind of the list tells.
    pub(super) kind: Option<std::sync::Arc<str>>,
}

/// What came makes no sense. The server's move, or that of something between.
#[derive(Debug, thiserror::Error)]
pub(super) enum Garbage {
    #[error("not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not text: {0}")]
    Text(#[from] std::str::Utf8Error),
    #[error("not an object: {0}")]
    Object(#[from] hub_core::object::InvalidObject),
    #[error("{0}")]
    Senseless(String),
}

/// A page of a list.
pub(super) struct Page {
    pub(super) version: String,
    /// Empty on the last page.
    pub(super) next: String,
    pub(super) objects: Vec<Object>,
}

impl Page {
    /// An answer that does not surely say "this is the list" is none: an empty page would delete everything.
    pub(super) fn parse(shape: &Shape, answer: &[u8]) -> Result<Self, Garbage> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct List<'a> {
            kind: String,
            #[serde(default)]
            api_version: String,
            metadata: Meta,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            #[serde(default)]
            resource_version: String,
            #[serde(default, rename = "continue")]
            next: String,
        }
        let List {
            kind,
            api_version,
            metadata,
            items,
        } = serde_json::from_str(std::str::from_utf8(answer)?)?;
        let Some(item) = kind.strip_suffix("List") else {
            return Err(Garbage::Senseless(format!("a {kind} in place of a list")));
        };
        if metadata.resource_version.is_empty() {
            return Err(Garbage::Senseless("a list without a version".into()));
        }
        let item = shape.kind.as_deref().unwrap_or(item);
        let objects = items.unwrap_or_default().into_iter().map(|raw| {
            let body = body::kept(raw.get(), &api_version, item)?;
            object(shape, body)
        });
        Ok(Self {
            version: metadata.resource_version,
            next: metadata.next,
            objects: objects.collect::<Result<_, _>>()?,
        })
    }
}

/// A line of a watch.
pub(super) enum Event {
    Put(Object),
    Deleted(Object),
    /// Nothing before this version is missing.
    Bookmark {
        version: String,
        /// All that existed at the start of a streaming list has been named.
        initial_end: bool,
    },
    Failed(Refusal),
}

impl Event {
    pub(super) fn parse(shape: &Shape, line: &[u8]) -> Result<Self, Garbage> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow, rename = "type")]
            what: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let Line { what, object: raw } = serde_json::from_str(std::str::from_utf8(line)?)?;
        let taken = || {
            let kind = shape.kind.as_deref().unwrap_or_default();
            object(shape, body::kept(raw.get(), &shape.resource.api_version(), kind)?)
        };
        match &*what {
            "ADDED" | "MODIFIED" => taken().map(Self::Put),
            "DELETED" => taken().map(Self::Deleted),
            "BOOKMARK" => {
                let version = Metadata::parse(raw.get().as_bytes())?
                    .resource_version
                    .into_owned();
                if version.is_empty() {
                    return Err(Garbage::Senseless("a bookmark without a version".into()));
                }
                Ok(Self::Bookmark {
                    version,
                    initial_end: is_initial_end(raw.get()),
                })
            }
            "ERROR" => Ok(Self::Failed(Refusal::of(
                0,
                &HeaderMap::new(),
                raw.get().as_bytes(),
            ))),
            other => Err(Garbage::Senseless(format!("an event of type {other:?}"))),
        }
    }
}

fn object(shape: &Shape, body: bytes::Bytes) -> Result<Object, Garbage> {
    let object = Object::from_body(shape.resource.clone(), body)?;
    if object.version.as_str().is_empty() {
        return Err(Garbage::Senseless(format!("{} without a version", object.key)));
    }
    Ok(object)
}

fn is_initial_end(bookmark: &str) -> bool {
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    serde_json::from_str(bookmark).is_ok_and(|Bookmark { metadata }| {
        metadata
            .annotations
            .get("k8s.io/initial-events-end")
            .is_some_and(|end| end == "true")
    })
}

/// The server did not do what it was asked to, and said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status code, or that of the `Status`.
    pub(super) code: u16,
    /// Whether it is a `Status`: the API server itself speaks, not something in front of it.
    pub(super) is_status: bool,
    pub(super) message: String,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads an answer. The code of a `Status` is used where `code` is 0.
    pub(super) fn of(code: u16, headers: &HeaderMap, answer: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Body {
            kind: String,
            code: u16,
            message: String,
            details: Option<Details>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Details {
            retry_after_seconds: u32,
        }
        let body: Body = serde_json::from_slice(answer).unwrap_or_default();
        let is_status = body.kind == "Status";
        let header = headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
        let named = body.details.map(|details| details.retry_after_seconds);
        let seconds = header.or(named.filter(|seconds| *seconds > 0));
        let message = if is_status && !body.message.is_empty() {
            body.message
        } else {
            String::from_utf8_lossy(answer)
                .chars()
                .take(MESSAGE_MAX)
                .collect()
        };
        Self {
            code: if code == 0 { body.code } else { code },
            is_status,
            message,
            retry_after: seconds.map(|seconds| Duration::from_secs(u64::from(seconds)).min(RETRY_AFTER_MAX)),
        }
    }

    pub(super) fn to_status(&self) -> Status {
        let reason = match self.code {
            400 => Reason::BadRequest,
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            405 => Reason::MethodNotAllowed,
            409 => Reason::Conflict,
            410 => Reason::Expired,
            422 => Reason::Invalid,
            429 => Reason::TooManyRequests,
            503 => Reason::ServiceUnavailable,
            504 => Reason::Timeout,
            _ => Reason::InternalError,
        };
        Status {
            code: self.code,
            ..Status::failure(reason, self.message.clone())
        }
    }
}

/// Of an answer that is no `Status`, as much as one wants to read in a log.
const MESSAGE_MAX: usize = 300;
/// No server keeps us away for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Shape {
        Shape {
            resource: GroupVersionResource::core("pods"),
            kind: Some("Pod".into()),
        }
    }

    #[test]
    fn a_page_gives_its_objects_their_kind() {
        let page = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"c"},
            "items":[{"metadata":{"name":"a","namespace":"d","resourceVersion":"3","managedFields":[]}}]}"#;
        let page = Page::parse(&pods(), page).unwrap();
        assert_eq!((&*page.version, &*page.next, page.objects.len()), ("9", "c", 1));
        assert_eq!(
            page.objects[0].body,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","resourceVersion":"3"}}"#
        );
        let empty = br#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":null}"#;
        assert!(Page::parse(&pods(), empty).unwrap().objects.is_empty());
    }

    #[test]
    fn what_is_not_surely_a_list_is_none() {
        for odd in [
            "",
            "{}",
            "null",
            "<html>",
            r#"{"kind":"Status","metadata":{"resourceVersion":"9"}}"#,
            r#"{"kind":"PodList","metadata":{},"items":[]}"#,
            r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":[{}]}"#,
            r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":["#,
            r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"a"}}]}"#,
        ] {
            assert!(Page::parse(&pods(), odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn events_are_read() {
        let parse = |line: &str| Event::parse(&pods(), line.as_bytes());
        let put = parse(r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"3"}}}"#);
        assert!(matches!(put, Ok(Event::Put(object)) if object.version.as_str() == "3"));
        let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"4","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(parse(end), Ok(Event::Bookmark { version, initial_end: true }) if version == "4"));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        assert!(matches!(parse(gone), Ok(Event::Failed(refusal)) if refusal.code == 410));
        for odd in [
            "",
            "{}",
            r#"{"type":"ADDED"}"#,
            r#"{"type":"ODD","object":{}}"#,
            r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#,
            r#"{"type":"BOOKMARK","object":{"metadata":{}}}"#,
        ] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let mut headers = HeaderMap::new();
        let status = br#"{"kind":"Status","code":429,"message":"busy","details":{"retryAfterSeconds":2}}"#;
        let refusal = Refusal::of(429, &headers, status);
        assert_eq!(
            (refusal.is_status, refusal.retry_after),
            (true, Some(Duration::from_secs(2)))
        );
        headers.insert("retry-after", "100000".parse().unwrap());
        let refusal = Refusal::of(503, &headers, b"<html>");
        assert_eq!((refusal.code, refusal.is_status), (503, false));
        assert_eq!(refusal.retry_after, Some(RETRY_AFTER_MAX));
        assert_eq!(refusal.to_status().code, 503);
    }
}
