//! Watches over WebSocket, one event a frame, as JavaScript clients and older Python ones ask for them
//! (Kubernetes `apiserver/pkg/endpoints/handlers/watch.go`, `HandleWS`).
//!
//! The watch itself is the one that goes over HTTP: it holds a position in the store's history and is pulled by the socket.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hub_core::api::{Reason, Status};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Duration, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Utf8Bytes, coding::CloseCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::accept::Media;
use crate::fault;
use crate::reply::{self, Reply};
use crate::watch::Watcher;

/// A connection that its client wants to become a WebSocket.
pub(crate) struct Upgrade {
    on: OnUpgrade,
    accept: String,
    protocol: Option<HeaderValue>,
}

impl Upgrade {
    /// What a request asks for; None where it asks for no WebSocket, or where its connection can be none, as with HTTP/2.
    pub(crate) fn of(head: &Parts) -> Result<Option<Self>, Status> {
        let headers = &head.headers;
        let asks = names(headers, UPGRADE, "websocket") && names(headers, CONNECTION, "upgrade");
        let Some(on) = head.extensions.get::<OnUpgrade>().filter(|_| asks) else {
            return Ok(None);
        };
        if !names(headers, SEC_WEBSOCKET_VERSION, "13") {
            return Err(fault::bad("the version of WebSocket must be 13"));
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return Err(fault::bad("Sec-WebSocket-Key is missing"));
        };
        if !is_own_page(headers) {
            return Err(Status::failure(
                Reason::Forbidden,
                "a page of another origin may not watch here without credentials of its own",
            ));
        }
        // A token among the names is for the authenticator, and never said back.
        let protocol = protocols(headers).find(|name| !name.starts_with(BEARER));
        Ok(Some(Self {
            on: on.clone(),
            accept: derive_accept_key(key.as_bytes()),
            protocol: protocol.and_then(|name| HeaderValue::from_str(name).ok()),
        }))
    }

    /// Agrees, and sends a watch over the socket once it is one.
    pub(crate) fn carry(self, watcher: Watcher, media: Media) -> Reply {
        let Self { on, accept, protocol } = self;
        tokio::spawn(async move {
            match on.await {
                Ok(upgraded) => carry(upgraded, watcher, media).await,
                Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
            }
        });
        let mut reply = reply::empty(101);
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        reply::header(reply, SEC_WEBSOCKET_ACCEPT, &accept)
    }
}

/// Sends until the watch or the client ends. What the client says is read for its pings and its goodbye only.
async fn carry(upgraded: Upgraded, mut watcher: Watcher, media: Media) {
    let config = WebSocketConfig::default()
        .read_buffer_size(HEARD_MAX)
        .write_buffer_size(0)
        .max_message_size(Some(HEARD_MAX))
        .max_frame_size(Some(HEARD_MAX));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    loop {
        let events = tokio::select! {
            heard = source.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            events = watcher.next_events() => events,
        };
        let Some(events) = events else { break };
        for event in events {
            // Waits for room in the socket; who leaves it full is cut off there.
            if sink.send(frame(event, media)).await.is_err() {
                return;
            }
        }
    }
    drop(watcher);
    let goodbye = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    let farewell = async {
        if sink.send(Message::Close(Some(goodbye))).await.is_ok() {
            while let Some(Ok(_)) = source.next().await {}
        }
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// An event as it stands in a frame: text where it is text, and without the length that it has in a stream of protobuf.
fn frame(mut event: Bytes, media: Media) -> Message {
    match media {
        Media::Json | Media::Yaml => match Utf8Bytes::try_from(event) {
            Ok(text) => Message::Text(text),
            Err(error) => Message::Close(Some(CloseFrame {
                code: CloseCode::Error,
                reason: error.to_string().into(),
            })),
        },
        Media::Protobuf => Message::Binary(event.split_off(LENGTH_BYTES.min(event.len()))),
        Media::Cbor => Message::Binary(event),
    }
}

/// The token that a browser's client names among its subprotocols, as it cannot send headers of its own. An error where what it
/// names is none, or where nothing else is left to agree on.
pub(crate) fn token(headers: &HeaderMap) -> Option<Result<String, &'static str>> {
    if !names(headers, UPGRADE, "websocket") || !names(headers, CONNECTION, "upgrade") {
        return None;
    }
    let mut named = protocols(headers).filter_map(|name| name.strip_prefix(BEARER));
    let encoded = named.next()?;
    if named.next().is_some() {
        return Some(Err("several tokens among the subprotocols"));
    }
    if protocols(headers).all(|name| name.starts_with(BEARER)) {
        return Some(Err("a token is the only subprotocol"));
    }
    let token = BASE64
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    Some(
        token
            .filter(|token| !token.is_empty())
            .ok_or("a subprotocol is no token"),
    )
}

/// Whether a header that is a list has a word, in any case.
fn names(headers: &HeaderMap, header: HeaderName, word: &str) -> bool {
    let values = headers.get_all(header);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(word))
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
}

/// Browsers let every page open a socket to every server, and say only whose page it is. A page of another origin would read what
/// this node shows without asking; one that brings a token could do so anyway. A real server takes all but those of no origin.
fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let text = |value: &HeaderValue| value.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
    let origin = text(origin);
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let own = headers.get(HOST).is_some_and(|host| text(host) == authority);
    own || headers.contains_key(AUTHORIZATION) || protocols(headers).any(|name| name.starts_with(BEARER))
}

/// How a browser's client names its token (Kubernetes `apiserver/pkg/authentication/request/websocket/protocol.go`).
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// Before each event in a stream of protobuf.
const LENGTH_BYTES: usize = 4;
/// Bytes of a message of the client's. It has nothing to say.
const HEARD_MAX: usize = 4 << 10;
/// How long the client may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);
