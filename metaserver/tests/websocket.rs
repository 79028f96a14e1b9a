//! Watches over WebSocket, with a client that is not ours (T26).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use http::Request;
use metaserver::MetaConfig;
use serde_json::Value;
use support::{Mood, Node, config_map, soon};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";

struct Socket {
    stream: WebSocketStream<TcpStream>,
    answer: Response,
}

impl Socket {
    async fn open(node: &Node, path: &str, headers: &[(&str, &str)]) -> Result<Self, Error> {
        let mut request = Request::get(format!("ws://{}{path}", node.address))
            .header("host", &node.address)
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let tcp = TcpStream::connect(&node.address).await.unwrap();
        let (stream, answer) = client_async(request.body(()).unwrap(), tcp).await?;
        Ok(Self { stream, answer })
    }

    async fn watch(node: &Node, query: &str) -> Self {
        let path = format!("{SHOP}?watch=true{query}");
        Self::open(node, &path, &[]).await.unwrap()
    }

    async fn next(&mut self) -> Option<Message> {
        soon(self.stream.next()).await.map(Result::unwrap)
    }

    /// The next event. It must come in a text frame of its own.
    async fn event(&mut self) -> Value {
        let Some(Message::Text(text)) = self.next().await else {
            panic!("no text")
        };
        serde_json::from_str(&text).unwrap()
    }

    async fn short(&mut self) -> String {
        let event = self.event().await;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} {}",
            word(&event["type"]),
            word(&event["object"]["metadata"]["name"])
        )
    }

    async fn closed(&mut self) {
        let Some(Message::Close(Some(goodbye))) = self.next().await else {
            panic!("no goodbye")
        };
        assert_eq!(goodbye.code, CloseCode::Normal);
        assert!(self.next().await.is_none());
    }
}

/// The status and the text of an answer that is no upgrade.
fn refused(opened: Result<Socket, Error>) -> (u16, String) {
    match opened.map(|_| ()) {
        Err(Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            (answer.status().as_u16(), String::from_utf8(body).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_event_is_one_text_frame_under_every_subprotocol() {
    let node = Node::start().await;
    for name in ["a", "b"] {
        node.cloud.put("configmaps", config_map("shop", name, "1"));
    }
    let path = format!("{SHOP}?watch=true");
    for protocol in [None, Some("binary.k8s.io"), Some("base64.binary.k8s.io")] {
        let headers: Vec<_> = protocol
            .iter()
            .map(|name| ("sec-websocket-protocol", *name))
            .collect();
        let mut socket = Socket::open(&node, &path, &headers).await.unwrap();
        let chosen = socket.answer.headers().get("sec-websocket-protocol");
        assert_eq!(chosen.map(|name| name.to_str().unwrap()), protocol);
        assert_eq!(
            [socket.short().await, socket.short().await],
            ["ADDED a", "ADDED b"]
        );
        node.cloud.put("configmaps", config_map("shop", "b", "2"));
        assert_eq!(socket.short().await, "MODIFIED b");
        let configmaps = hub_core::object::GroupVersionResource::core("configmaps");
        node.cloud.remove(configmaps, Some("shop"), "b");
        assert_eq!(socket.short().await, "DELETED b");
        node.cloud.put("configmaps", config_map("shop", "b", "1"));
        assert_eq!(socket.short().await, "ADDED b");
    }
}

#[tokio::test]
async fn a_token_among_the_subprotocols_is_not_said_back() {
    let node = Node::start().await;
    let offered = "base64url.bearer.authorization.k8s.io.c2VjcmV0, base64.binary.k8s.io";
    let headers = [("sec-websocket-protocol", offered)];
    let socket = Socket::open(&node, &format!("{SHOP}?watch=1"), &headers)
        .await
        .unwrap();
    assert_eq!(
        socket.answer.headers()["sec-websocket-protocol"],
        "base64.binary.k8s.io"
    );
}

#[tokio::test]
async fn it_survives_an_outage_and_hears_of_it_afterwards() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let mut socket = Socket::watch(&node, "").await;
    assert_eq!(socket.short().await, "ADDED a");
    node.cloud.mood(Mood::Unreachable);
    node.cloud.put("configmaps", config_map("shop", "b", "1"));
    let mut other = Socket::watch(&node, "").await;
    assert_eq!(other.short().await, "ADDED a");
    node.cloud.mood(Mood::Up);
    assert_eq!(
        [socket.short().await, other.short().await],
        ["ADDED b", "ADDED b"]
    );
}

#[tokio::test]
async fn a_streaming_list_has_its_bookmark_and_the_end_of_the_time_a_goodbye() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let query =
        "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut socket = Socket::watch(&node, query).await;
    assert_eq!(socket.short().await, "ADDED a");
    let mark = socket.event().await;
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    // A watch this short gets no other: the last bookmark comes two seconds before the end.
    socket.closed().await;
}

#[tokio::test]
async fn a_revision_that_is_gone_is_an_error_event_and_a_goodbye() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.get(SHOP).await;
    let node = node.restart(MetaConfig::default()).await;
    let mut socket = Socket::watch(&node, "&resourceVersion=1").await;
    let event = socket.event().await;
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&"ERROR".into(), &410.into())
    );
    assert_eq!(
        (&event["object"]["kind"], &event["object"]["apiVersion"]),
        (&"Status".into(), &"v1".into())
    );
    socket.closed().await;
}

#[tokio::test]
async fn protobuf_comes_in_binary_frames_without_lengths() {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    let headers = [("accept", "application/vnd.kubernetes.protobuf")];
    let mut socket = Socket::open(&node, &format!("{SHOP}?watch=true"), &headers)
        .await
        .unwrap();
    let Some(Message::Binary(event)) = socket.next().await else {
        panic!("no bytes")
    };
    // Field 1 of a WatchEvent is its type.
    assert_eq!(&event[..7], b"\x0a\x05ADDED");
    assert!(event.windows(4).any(|bytes| bytes == b"k8s\0"));
}

#[tokio::test]
async fn what_is_wrong_with_a_watch_is_said_before_there_is_a_socket() {
    let node = Node::start().await;
    let open = |query: &'static str, headers: &'static [(&str, &str)]| {
        let node = &node;
        async move { refused(Socket::open(node, &format!("{SHOP}?watch=true{query}"), headers).await) }
    };
    let (code, said) = open("&fieldSelector=spec.x%3Dy", &[]).await;
    assert!(
        code == 400 && said.contains("is not a known field selector"),
        "{code} {said}"
    );
    let (code, said) = open("&sendInitialEvents=true", &[]).await;
    assert!(
        code == 422 && said.contains("resourceVersionMatch"),
        "{code} {said}"
    );
    node.cloud.mood(Mood::Unreachable);
    let (code, said) = open("", &[]).await;
    assert!(code == 503 && said.contains("CloudUnreachable"), "{code} {said}");
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_watch_unless_it_brings_a_token() {
    let node = Node::start().await;
    let path = format!("{SHOP}?watch=true");
    let own = format!("http://{}", node.address);
    assert!(Socket::open(&node, &path, &[("origin", &own)]).await.is_ok());
    for origin in ["http://evil.example", "null", "https://127.0.0.1", ""] {
        let (code, said) = refused(Socket::open(&node, &path, &[("origin", origin)]).await);
        assert!(
            code == 403 && said.contains("another origin"),
            "{origin}: {code} {said}"
        );
    }
    let token = [
        ("origin", "https://console.example"),
        ("authorization", "Bearer abc"),
    ];
    assert!(Socket::open(&node, &path, &token).await.is_ok());
}

#[tokio::test]
async fn a_client_that_pings_is_answered_and_one_that_talks_too_much_is_cut_off() {
    use futures::SinkExt as _;
    let node = Node::start().await;
    let mut socket = Socket::watch(&node, "").await;
    socket
        .stream
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    assert_eq!(socket.next().await, Some(Message::Pong("are you there".into())));
    socket
        .stream
        .send(Message::text("x".repeat(100_000)))
        .await
        .unwrap();
    soon(async { while let Some(Ok(_)) = socket.stream.next().await {} }).await;
    soon(async {
        while node.open_watches() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_off_and_hurts_nobody() {
    let config = MetaConfig {
        stall_timeout: Duration::from_millis(300),
        ..MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.get(SHOP).await;
    let stalled = Socket::watch(&node, "").await;
    let mut others = join_all((0..3).map(|_| Socket::watch(&node, ""))).await;
    assert_eq!(node.open_watches(), 4);
    let big = "x".repeat(100_000);
    // More than the sockets of both sides take in.
    for round in 0..200 {
        node.cloud
            .put("configmaps", config_map("shop", "a", &format!("{round}{big}")));
        join_all(others.iter_mut().map(Socket::event)).await;
    }
    soon(async {
        while node.open_watches() > 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(stalled);
    node.cloud.put("configmaps", config_map("shop", "last", "1"));
    for other in &mut others {
        assert_eq!(other.short().await, "ADDED last");
    }
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye() {
    let node = Node::start().await;
    let mut socket = Socket::watch(&node, "").await;
    let stopped = tokio::spawn(node.stop());
    socket.closed().await;
    soon(stopped).await.unwrap();
}
