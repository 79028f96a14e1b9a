//! The heads of the HTTP upgrade: pure functions over bytes.

use std::fmt::Write as _;
use std::sync::Arc;

use http::StatusCode;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::transport::{Capabilities, ConnectRequest, Endpoint, Rejection};

/// What a client's upgrade request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// What the tunnel is asked for.
    pub(super) request: ConnectRequest,
    /// The client named our header, so it reads our answer to it.
    pub(super) offers: bool,
    /// `Sec-WebSocket-Key`.
    pub(super) key: String,
}

/// The head is no upgrade that we can accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadHead(pub(super) Rejection);

impl RequestHead {
    /// Reads the head at the start of `bytes` and says how long it is. `None` as long as its end has not come.
    ///
    /// Any path is accepted, as KubeEdge does. Of repeated headers the first counts: a stock edge repeats `Connectionuse` with
    /// every attempt. An `Origin` of another host is a browser that was led astray (403).
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadHead> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let size = match head.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(bad(StatusCode::BAD_REQUEST, &error.to_string())),
        };
        let header = |name| first(head.headers, name);

        if head.method != Some("GET") || head.version != Some(1) {
            return Err(bad(
                StatusCode::BAD_REQUEST,
                "an upgrade is a GET request of HTTP/1.1",
            ));
        }
        if !has_token(head.headers, "Upgrade", "websocket")
            || !has_token(head.headers, "Connection", "upgrade")
        {
            return Err(bad(
                StatusCode::UPGRADE_REQUIRED,
                "this is the WebSocket port of the tunnel",
            ));
        }
        if header("Sec-WebSocket-Version") != Some("13") {
            return Err(bad(
                StatusCode::UPGRADE_REQUIRED,
                "only version 13 of WebSocket is spoken here",
            ));
        }
        let host = header("Host").unwrap_or_default();
        if let Some(origin) = header("Origin") {
            let origin_host = origin.split_once("://").map_or(origin, |(_, host)| host);
            if !origin_host.eq_ignore_ascii_case(host) {
                return Err(bad(StatusCode::FORBIDDEN, "the origin is another host"));
            }
        }
        // Sixteen bytes in base64.
        let key = header("Sec-WebSocket-Key").unwrap_or_default();
        if key.len() != 24 || !key.ends_with("==") {
            return Err(bad(StatusCode::BAD_REQUEST, "malformed Sec-WebSocket-Key"));
        }
        let text = |name| Arc::<str>::from(header(name).unwrap_or_default());
        let offer = header(Capabilities::HEADER);
        Ok(Some((
            Self {
                request: ConnectRequest {
                    path: head.path.unwrap_or_default().into(),
                    node_id: text("Node_id"),
                    project_id: text("Project_id"),
                    connection_use: text("Connectionuse"),
                    capabilities: offer.map(Capabilities::parse).unwrap_or_default(),
                },
                offers: offer.is_some(),
                key: key.to_owned(),
            },
            size,
        )))
    }

    /// The request of a client: the headers of a stock edge, and ours when there is something to offer.
    pub(super) fn write(request: &ConnectRequest, endpoint: &Endpoint, key: &str) -> String {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {endpoint}\r\nUser-Agent: edge-tunnel/{}\r\nConnection: Upgrade\r\n\
             Connectionuse: {}\r\nNode_id: {}\r\nProject_id: {}\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
            clean(&request.path, ' '),
            env!("CARGO_PKG_VERSION"),
            clean(&request.connection_use, '\r'),
            clean(&request.node_id, '\r'),
            clean(&request.project_id, '\r'),
        );
        if request.capabilities != Capabilities::NONE {
            let _ = write!(head, "{}: {}\r\n", Capabilities::HEADER, request.capabilities);
        }
        head.push_str("\r\n");
        head
    }

    /// The answer that opens the tunnel. It names capabilities only to those who asked.
    pub(super) fn accept(&self, capabilities: Capabilities) -> String {
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            derive_accept_key(self.key.as_bytes())
        );
        if self.offers {
            let _ = write!(head, "{}: {capabilities}\r\n", Capabilities::HEADER);
        }
        head.push_str("\r\n");
        head
    }
}

/// The whole answer that refuses an upgrade.
pub(super) fn refusal(rejection: &Rejection) -> String {
    let code = StatusCode::from_u16(rejection.code).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n",
        code.as_u16(),
        code.canonical_reason().unwrap_or("Refused"),
        rejection.reason.len() + 1,
    );
    if code == StatusCode::UPGRADE_REQUIRED {
        answer.push_str("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    }
    if let Some(seconds) = rejection.retry_after_seconds {
        let _ = write!(answer, "Retry-After: {seconds}\r\n");
    }
    let _ = write!(answer, "\r\n{}\n", rejection.reason);
    answer
}

/// What a server answers to an upgrade request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResponseHead {
    /// The status code.
    pub(super) code: u16,
    /// `Sec-WebSocket-Accept`, empty when missing.
    pub(super) accept: String,
    /// What the server takes of our offer; nothing, for a stock one.
    pub(super) capabilities: Capabilities,
    /// `Retry-After` in seconds.
    pub(super) retry_after_seconds: Option<u32>,
    /// The length of the text behind the head, where it is told.
    pub(super) content_length: Option<usize>,
}

impl ResponseHead {
    /// Reads the head at the start of `bytes` and says how long it is. `None` as long as its end has not come.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let size = match head.parse(bytes)? {
            httparse::Status::Complete(size) => size,
            httparse::Status::Partial => return Ok(None),
        };
        let header = |name| first(head.headers, name);
        Ok(Some((
            Self {
                code: head.code.unwrap_or_default(),
                accept: header("Sec-WebSocket-Accept").unwrap_or_default().to_owned(),
                capabilities: header(Capabilities::HEADER)
                    .map(Capabilities::parse)
                    .unwrap_or_default(),
                retry_after_seconds: header("Retry-After").and_then(|text| text.parse().ok()),
                content_length: header("Content-Length").and_then(|text| text.parse().ok()),
            },
            size,
        )))
    }

    /// Whether this opens a WebSocket to the client that sent `key`.
    pub(super) fn opens(&self, key: &str) -> bool {
        self.code == 101 && self.accept == derive_accept_key(key.as_bytes())
    }
}

fn first<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .and_then(|header| std::str::from_utf8(header.value).ok())
        .map(str::trim)
}

fn has_token(headers: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Ends a value where it would end its line, so that no name of ours can add a header.
fn clean(value: &str, stop: char) -> &str {
    value
        .split(|c: char| c == stop || c.is_control())
        .next()
        .unwrap_or_default()
}

fn bad(code: StatusCode, reason: &str) -> BadHead {
    BadHead(Rejection {
        code: code.as_u16(),
        reason: reason.to_owned(),
        retry_after_seconds: None,
    })
}

/// More headers than a client or proxy sends.
const HEADERS_MAX: usize = 48;
