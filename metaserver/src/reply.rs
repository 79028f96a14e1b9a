//! Answers, with the headers that a real API server sends.

use std::borrow::Cow;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use hub_core::api::{ApiResponse, Status, warning_header};

use crate::accept::{Form, Media};
use crate::body::{Body, Slices};
use crate::encode::{self, EncodeError};
use crate::fault;

/// An answer to a client.
pub(crate) type Reply = Response<Body>;

/// Where an answer came from, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The store.
    Cache,
    /// The cloud.
    Cloud,
    /// The store, where the answer is to a write that the cloud has not been told of yet.
    Journal,
    /// The server itself: discovery, health, refusals.
    Own,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Cloud => "cloud",
            Self::Journal => "journal",
            Self::Own => "own",
        }
    }
}

/// JSON that names its kind, in the form that the client wants.
pub(crate) fn object(code: u16, json: impl Into<Slices>, form: Form) -> Reply {
    encoded(code, encode::transcode(json.into(), form), form)
}

/// An answer that is in the form that the client wants already, if it has one.
pub(crate) fn encoded(code: u16, body: Result<Slices, EncodeError>, form: Form) -> Reply {
    match body {
        Ok(slices) => typed(code, form.media.content_type(), Body::whole(slices)),
        Err(error) => {
            tracing::warn!(%error, "an answer could not be encoded");
            status(&fault::not_encoded(&error), Form::PLAIN)
        }
    }
}

/// Plain JSON that is no object of a kind, such as the server's version.
pub(crate) fn json(code: u16, slices: impl Into<Slices>, pretty: bool) -> Reply {
    object(
        code,
        slices,
        Form {
            pretty,
            ..Form::PLAIN
        },
    )
}

/// Plain text, as for health checks and unknown paths.
pub(crate) fn text(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
    let bytes = match text.into() {
        Cow::Borrowed(text) => bytes::Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    };
    let mut reply = typed(code, "text/plain; charset=utf-8", Body::whole(bytes));
    reply
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Metrics in the text form of Prometheus.
pub(crate) fn metrics(text: String) -> Reply {
    const FORM: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    typed(200, FORM, Body::whole(bytes::Bytes::from(text)))
}

/// The same for what people do not read in a browser.
pub(crate) fn plain(code: u16, text: &'static str) -> Reply {
    let mut reply = self::text(code, text);
    reply.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
    reply
}

/// No such path at all: what Go's own HTTP server says.
pub(crate) fn nowhere() -> Reply {
    text(404, "404 page not found\n")
}

/// Whether it is that answer.
pub(crate) fn is_nowhere(reply: &Reply) -> bool {
    reply.status() == StatusCode::NOT_FOUND && reply.headers().contains_key(X_CONTENT_TYPE_OPTIONS)
}

/// No URL at all: what Go's own HTTP server says before anybody is asked, and it says no more on such a connection.
pub(crate) fn malformed() -> Reply {
    let mut reply = Response::new(Body::whole(bytes::Bytes::from_static(b"400 Bad Request")));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    let headers = reply.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// What went wrong.
pub(crate) fn status(status: &Status, form: Form) -> Reply {
    let mut body = status.to_json();
    body.push(b'\n');
    let mut reply = object(status.code, bytes::Bytes::from(body), form);
    if let Some(seconds) = status.retry_after_seconds {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// An answer of the cloud. Its objects come in JSON and are put into the form that the client wants.
pub(crate) fn passed(response: ApiResponse, form: Form) -> Reply {
    let retry = retry_after(&response);
    let warnings = response.warnings.clone();
    let mut reply = if response.content_type.starts_with("application/json") {
        object(response.code, response.body, form)
    } else {
        typed(response.code, &response.content_type, Body::whole(response.body))
    };
    if let Some(seconds) = retry {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    from(warned(reply, &warnings), Source::Cloud)
}

/// The same answer with what people should be told beside it.
pub(crate) fn warned(mut reply: Reply, warnings: &[String]) -> Reply {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&warning_header(warning)) {
            reply.headers_mut().append(WARNING, value);
        }
    }
    reply
}

/// A stream of events. Its head goes out at once.
pub(crate) fn stream(body: Body, media: Media) -> Reply {
    typed(200, media.stream_type().unwrap_or(media.content_type()), body)
}

/// The same answer, marked with where it came from.
pub(crate) fn from(mut reply: Reply, source: Source) -> Reply {
    reply.extensions_mut().insert(source);
    reply
}

/// The same answer with one more header; a value that is no header value is left out.
pub(crate) fn header(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn typed(code: u16, content_type: &str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(value) = HeaderValue::from_str(content_type)
        && !value.is_empty()
    {
        headers.insert(CONTENT_TYPE, value);
    }
    reply
}

/// An answer without a body.
pub(crate) fn empty(code: u16) -> Reply {
    typed(code, "", Body::empty())
}

/// The cloud's answer is data; the header that its Status stands for must be made again.
fn retry_after(response: &ApiResponse) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Failure {
        details: Details,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        retry_after_seconds: u32,
    }
    if response.code < 400 {
        return None;
    }
    let failure: Failure = serde_json::from_slice(&response.body).ok()?;
    Some(failure.details.retry_after_seconds).filter(|seconds| *seconds > 0)
}
