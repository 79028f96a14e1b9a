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
                    version: offer.and_then(ConnectRequest::version_in),
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
            "GET {} HTTP/1.1\r\nHost: {endpoint}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\n\
             Connectionuse: {}\r\nNode_id: {}\r\nProject_id: {}\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
            clean(&request.path, ' '),
            clean(&request.connection_use, '\r'),
            clean(&request.node_id, '\r'),
            clean(&request.project_id, '\r'),
        );
        if let Some(offer) = request.offer() {
            let _ = write!(head, "{}: {offer}\r\n", Capabilities::HEADER);
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

/// What a stock edge says; a gate that lets those through lets ours through.
const USER_AGENT: &str = "Go-http-client/1.1";
/// More headers than a client or proxy sends.
const HEADERS_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// An upgrade that was recorded: path, headers as they came, status of the answer, its headers.
    struct Recorded {
        name: String,
        path: String,
        request: Vec<(String, String)>,
        status: u16,
        response: Vec<(String, String)>,
    }

    impl Recorded {
        fn all() -> Vec<Self> {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
            let mut found = Vec::new();
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "zst") {
                    continue;
                }
                let text = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
                let lines = std::str::from_utf8(&text).unwrap().lines();
                let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
                for line in lines.filter(|line| line["request"].is_object() && line["response"].is_object()) {
                    found.push(Self {
                        name: format!("{} {}", path.display(), line["connection"]),
                        path: line["request"]["path"].as_str().unwrap().into(),
                        request: headers(&line["request"]),
                        status: u16::try_from(line["response"]["status"].as_u64().unwrap()).unwrap(),
                        response: headers(&line["response"]),
                    });
                }
            }
            assert!(found.len() > 40, "only {} upgrades found", found.len());
            found
        }

        fn header(&self, name: &str) -> &str {
            let found = self.request.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        }

        fn bytes(&self) -> Vec<u8> {
            head(&format!("GET {} HTTP/1.1", self.path), &self.request).into_bytes()
        }
    }

    fn headers(message: &Value) -> Vec<(String, String)> {
        let pairs = message["headers"].as_array().unwrap().iter();
        pairs
            .map(|pair| {
                let text = |index: usize| pair[index].as_str().unwrap().to_owned();
                (text(0), text(1))
            })
            .collect()
    }

    fn head(first: &str, headers: &[(String, String)]) -> String {
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("{first}\r\n{lines}\r\n")
    }

    #[test]
    fn our_requests_are_those_of_a_stock_edge_and_one_header_more() {
        let mut seen = 0;
        for recorded in Recorded::all() {
            // The others were written by bare test clients.
            if recorded.header("User-Agent") != USER_AGENT {
                continue;
            }
            seen += 1;
            let node = recorded.header("Node_id");
            let request = ConnectRequest::tunnel(
                &crate::node::NodeId::new(node).unwrap(),
                recorded.header("Project_id"),
                Capabilities::NONE,
            );
            let endpoint = Endpoint::parse(recorded.header("Host")).unwrap();
            let write = |request: &ConnectRequest| {
                RequestHead::write(request, &endpoint, recorded.header("Sec-WebSocket-Key"))
            };
            // Each attempt of Go's client adds the header of the use once more.
            let mut once = recorded.bytes();
            let twice = b"Connectionuse: msg\r\nConnectionuse: msg\r\n";
            while let Some(at) = once.windows(twice.len()).position(|window| window == twice) {
                once.drain(at..at + twice.len() / 2);
            }
            assert_eq!(
                write(&request),
                String::from_utf8(once).unwrap(),
                "{}",
                recorded.name
            );
            let ours = write(&ConnectRequest {
                capabilities: Capabilities::ALL,
                ..request.clone()
            });
            let extra = format!("{}: {}\r\n", Capabilities::HEADER, Capabilities::ALL);
            assert_eq!(ours.replacen(&extra, "", 1), write(&request));
        }
        assert!(seen > 15, "only {seen} requests of edges found");
    }

    #[test]
    fn our_answers_are_those_of_a_stock_cloud() {
        for recorded in Recorded::all() {
            match RequestHead::parse(&recorded.bytes()) {
                Ok(Some((request, _))) => {
                    assert_eq!(recorded.status, 101, "{}", recorded.name);
                    assert_eq!(
                        request.accept(Capabilities::ALL),
                        head("HTTP/1.1 101 Switching Protocols", &recorded.response),
                        "{}",
                        recorded.name
                    );
                }
                Ok(None) => panic!("{} is whole", recorded.name),
                Err(BadHead(rejection)) => assert_eq!(rejection.code, recorded.status, "{}", recorded.name),
            }
        }
    }
}
