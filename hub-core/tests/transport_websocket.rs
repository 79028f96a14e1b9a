//! The WebSocket port as stock edges, strangers and attackers meet it: scripted bytes over real TLS.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hub_core::codec::CodecLimits;
use hub_core::message::Message;
use hub_core::node::NodeId;
use hub_core::testing::{TestCa, Wire};
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, Inbound, Listener, Outbound, Received,
    Rejection, TlsClient, TlsServer, TlsVersions, Transport, TransportError, WebSocketConfig,
    WebSocketDialer, WebSocketListener,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const MESSAGE: &str = r#"{"header":{"msg_id":"f9c7ef19-81d4-4a1f-b149-a08d4647724d","timestamp":1795325356182},"route":{"source":"websocket","group":"resource","operation":"keepalive","resource":"node"},"content":"ping"}"#;

struct World {
    ca: TestCa,
    listener: WebSocketListener,
    client: TlsClient,
}

impl World {
    async fn new() -> Self {
        let ca = TestCa::new();
        let tls =
            TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::Only13).unwrap();
        let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
        let listener = WebSocketListener::bind("127.0.0.1:0", tls, config())
            .await
            .unwrap();
        Self { ca, listener, client }
    }

    /// TLS to the port, and nothing said yet.
    fn raw(&self) -> impl Future<Output = TlsStream<TcpStream>> + use<> {
        let address = self.listener.local_addr().unwrap();
        let connector = TlsConnector::from(self.client.config());
        async move {
            let stream = TcpStream::connect(address).await.unwrap();
            connector
                .connect("127.0.0.1".try_into().unwrap(), stream)
                .await
                .unwrap()
        }
    }

    /// A stock edge that says `behind` in the same breath as its request, and the cloud's end of the connection.
    async fn stock(&mut self, behind: &[u8]) -> (TlsStream<TcpStream>, Box<dyn Transport>) {
        let raw = self.raw();
        let edge = async {
            let mut edge = raw.await;
            edge.write_all(&[stock_request("").as_bytes(), behind].concat())
                .await
                .unwrap();
            edge
        };
        let cloud = async {
            let upgrade = self.listener.accept().await.unwrap().handshake().await.unwrap();
            upgrade.accept(Capabilities::ALL).await.unwrap()
        };
        tokio::join!(edge, cloud)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig {
        limits: CodecLimits {
            message_max: 1 << 20,
            ..CodecLimits::default()
        },
        ..WebSocketConfig::default()
    }
}

/// The request of a stock edge on its third attempt, as recorded.
fn stock_request(more: &str) -> String {
    format!(
        "GET /e632aba927ea4ac2b575ec1603d56f10/edge-1/events HTTP/1.1\r\nHost: 127.0.0.1:11000\r\n\
         User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nConnectionuse: msg\r\nConnectionuse: msg\r\n\
         Connectionuse: msg\r\nNode_id: edge-1\r\nProject_id: e632aba927ea4ac2b575ec1603d56f10\r\n\
         Sec-WebSocket-Key: 8dfx3I75hVtvTMIExk2ZMA==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n{more}\r\n"
    )
}

/// A masked frame, as clients send them.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

async fn next_message(transport: &mut Box<dyn Transport>) -> Message {
    loop {
        match within(transport.next()).await.unwrap().unwrap() {
            Inbound::Message(Received::Whole(message)) => return message,
            // Its pieces are signs of life.
            Inbound::Alive => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stock_edge_gets_a_stock_answer_and_a_hasty_one_loses_nothing() {
    let mut world = World::new().await;
    let (mut edge, mut cloud) = world.stock(&frame(0x81, MESSAGE.as_bytes())).await;
    assert_eq!(
        read_head(&mut edge).await,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: 98A+w/l0VgX6Ht1KeLoSQpYTslc=\r\n\r\n"
    );
    assert_eq!(cloud.peer().capabilities, Capabilities::NONE);
    let message = next_message(&mut cloud).await;
    assert_eq!(message.route.resource.as_str(), "node");

    // What goes down is one text frame without mask, a document and a newline.
    cloud
        .send(Outbound::Message { message, base: None })
        .await
        .unwrap();
    let mut head = [0; 4];
    edge.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..2], [0x81, 126]);
    let mut document = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
    edge.read_exact(&mut document).await.unwrap();
    assert_eq!(document, format!("{MESSAGE}\n").as_bytes());
}

#[tokio::test]
async fn new_keys_are_taken_in_the_middle_of_a_connection() {
    let mut world = World::new().await;
    let (mut edge, mut cloud) = world.stock(b"").await;
    let _ = read_head(&mut edge).await;
    for _ in 0..3 {
        edge.get_mut().1.refresh_traffic_keys().unwrap();
        edge.write_all(&frame(0x81, MESSAGE.as_bytes())).await.unwrap();
        next_message(&mut cloud).await;
        cloud.send(Outbound::Ping).await.unwrap();
        let mut ping = [0; 2];
        within(edge.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, *b"\x89\x00");
    }
}

#[tokio::test]
async fn messages_in_pieces_come_together() {
    let mut world = World::new().await;
    let text = MESSAGE.replace("\"ping\"", &format!("\"{}\"", "p".repeat(900_000)));
    let (mut edge, mut cloud) = world.stock(b"").await;
    let writing = tokio::spawn(async move {
        // As a Go client does: its buffer of 4 KiB after the other, and an empty end.
        let mut first = 0x01;
        for piece in text.as_bytes().chunks(4082) {
            edge.write_all(&frame(first, piece)).await.unwrap();
            first = 0x00;
        }
        edge.write_all(&frame(0x89, b"between")).await.unwrap();
        edge.write_all(&frame(0x80, b"")).await.unwrap();
        // A binary frame is taken for the same.
        edge.write_all(&frame(0x82, MESSAGE.as_bytes())).await.unwrap();
        edge
    });
    assert!(matches!(within(cloud.next()).await, Some(Ok(Inbound::Alive))));
    assert_eq!(next_message(&mut cloud).await.content.bytes().len(), 900_002);
    assert_eq!(
        next_message(&mut cloud).await.content.bytes().as_ref(),
        b"\"ping\""
    );
    // The ping that came between the fragments was answered.
    let mut edge = writing.await.unwrap();
    let _ = read_head(&mut edge).await;
    let mut pong = [0; 9];
    within(edge.read_exact(&mut pong)).await.unwrap();
    assert_eq!(pong, *b"\x8a\x07between");
}

#[tokio::test]
async fn broken_frames_end_their_connection_and_no_other() {
    let mut world = World::new().await;
    let (_standing_edge, mut standing) = world.stock(b"").await;
    let huge = [&[0x81, 0xff][..], &(1u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for (what, bytes) in [
        ("not masked", b"\x81\x02{}".to_vec()),
        ("too large", huge),
        ("reserved", frame(0xf1, b"{}")),
        ("garbage", frame(0x81, b"not json")),
        ("empty", frame(0x81, b"")),
        ("http again", stock_request("").into_bytes()),
    ] {
        let (_edge, mut cloud) = world.stock(&bytes).await;
        let error = within(cloud.next()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, TransportError::Protocol(_) | TransportError::Decode(_)),
            "{what}: {error}"
        );
        assert!(cloud.next().await.is_none());
    }
    let (edge, mut cloud) = world.stock(&frame(0x81, MESSAGE.as_bytes())[..50]).await;
    drop(edge);
    let error = within(cloud.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, TransportError::Link(_)), "truncated: {error}");

    assert!(futures::poll!(standing.next()).is_pending(), "undisturbed");
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_so() {
    let mut world = World::new().await;
    let good = stock_request("");
    let cases = [
        (426, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (426, good.replace("Version: 13", "Version: 8")),
        (400, good.replace("GET", "POST")),
        (400, good.replace("HTTP/1.1", "HTTP/1.0")),
        (400, good.replace("8dfx3I75hVtvTMIExk2ZMA==", "short")),
        (400, "\u{16}\u{3}garbage\r\n\r\n".to_owned()),
        (403, stock_request("Origin: https://elsewhere.example\r\n")),
        (431, stock_request(&format!("X: {}\r\n", "x".repeat(9000)))),
    ];
    for (code, request) in cases {
        let raw = world.raw();
        let asking = async {
            let mut edge = raw.await;
            edge.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            within(edge.read_to_string(&mut answer)).await.unwrap();
            answer
        };
        let answering = async {
            let incoming = world.listener.accept().await.unwrap();
            assert!(matches!(
                incoming.handshake().await,
                Err(TransportError::Protocol(_))
            ));
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code} ")),
            "{code}: {answer}"
        );
        assert!(answer.contains("Connection: close\r\n"));
    }
    let raw = world.raw();
    let same_origin = stock_request("Origin: https://127.0.0.1:11000\r\n");
    let asking = async {
        let mut edge = raw.await;
        edge.write_all(same_origin.as_bytes()).await.unwrap();
        edge
    };
    let answering = async { world.listener.accept().await.unwrap().handshake().await };
    let (_edge, upgrade) = tokio::join!(asking, answering);
    assert!(upgrade.is_ok(), "an origin of the same host is none");
}

#[tokio::test]
async fn a_refused_edge_reads_a_whole_answer() {
    let mut world = World::new().await;
    let raw = world.raw();
    let asking = async {
        let mut edge = raw.await;
        edge.write_all(stock_request("").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(edge.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let refusing = async {
        let upgrade = world.listener.accept().await.unwrap().handshake().await.unwrap();
        let rejection = Rejection {
            code: 503,
            reason: "full".into(),
            retry_after_seconds: Some(30),
        };
        upgrade.reject(rejection).await;
    };
    let (answer, ()) = tokio::join!(asking, refusing);
    assert_eq!(
        answer,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
         Connection: close\r\nRetry-After: 30\r\n\r\nfull\n"
    );
}

/// Accepts one TLS connection and answers its upgrade request with `answer`.
async fn scripted_server(ca: &TestCa, answer: &'static [u8]) -> (Endpoint, tokio::task::JoinHandle<String>) {
    let tls = TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::From12).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    };
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(tls.config()).accept(stream).await.unwrap();
        assert!(stream.get_ref().1.alpn_protocol().is_none());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (endpoint, serving)
}

#[tokio::test]
async fn the_edge_asks_as_a_stock_edge_does() {
    let world = World::new().await;
    let answer = b"HTTP/1.1 403 Forbidden\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\nnot you!\n";
    let (endpoint, serving) = scripted_server(&world.ca, answer).await;
    let dialer = WebSocketDialer::new(world.client, config());
    let node = NodeId::new("edge-1").unwrap();
    let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
    let refused = dialer.dial(&endpoint, request).await;

    let head = serving.await.unwrap();
    let (key, rest): (Vec<_>, Vec<_>) = head
        .lines()
        .partition(|line| line.starts_with("Sec-WebSocket-Key: "));
    assert_eq!(key.len(), 1);
    let host = format!("Host: {endpoint}");
    assert_eq!(
        rest,
        [
            "GET /e632aba927ea4ac2b575ec1603d56f10/edge-1/events HTTP/1.1",
            &host,
            "User-Agent: Go-http-client/1.1",
            "Connection: Upgrade",
            "Connectionuse: msg",
            "Node_id: edge-1",
            "Project_id: e632aba927ea4ac2b575ec1603d56f10",
            "Sec-WebSocket-Version: 13",
            "Upgrade: websocket",
            "Edge-Tunnel: bincode, zstd, resume, ack, twins, source",
            "",
        ]
    );
    match refused {
        Err(TransportError::Refused(rejection)) => assert_eq!(
            rejection,
            Rejection {
                code: 403,
                reason: "not you!".into(),
                retry_after_seconds: Some(9)
            }
        ),
        _ => panic!("not refused"),
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_broken_protocol() {
    let world = World::new().await;
    let wrong_key =
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: 98A+w/l0VgX6Ht1KeLoSQpYTslc=\r\n\r\n";
    for answer in [&b"\x00\x00\x12 not http"[..], wrong_key] {
        let (endpoint, _serving) = scripted_server(&world.ca, answer).await;
        let dialer = WebSocketDialer::new(world.client.clone(), config());
        let node = NodeId::new("edge-1").unwrap();
        let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::NONE);
        let error = within(dialer.dial(&endpoint, request)).await.err().unwrap();
        assert!(matches!(error, TransportError::Protocol(_)), "{error}");
    }
}

#[tokio::test]
async fn a_silent_client_blocks_nobody_and_a_closing_one_is_heard() {
    let mut world = World::new().await;
    let _silent = TcpStream::connect(world.listener.local_addr().unwrap())
        .await
        .unwrap();
    let silent = tokio::spawn(world.listener.accept().await.unwrap().handshake());
    let (mut edge, mut cloud) = world.stock(&frame(0x88, b"")).await;
    let closed = within(cloud.next()).await.unwrap().unwrap();
    assert!(matches!(closed, Inbound::Closed(CloseReason::Other(text)) if text.is_empty()));
    assert!(cloud.next().await.is_none());
    // A close is answered with a close.
    let _ = read_head(&mut edge).await;
    let mut answer = [0; 2];
    within(edge.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, *b"\x88\x00");
    assert!(!silent.is_finished());
    silent.abort();
}

#[tokio::test]
async fn a_reset_link_fails_and_a_stalled_one_is_only_silent() {
    let mut world = World::new().await;
    let wire = Wire::tcp(world.listener.local_addr().unwrap()).await.unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: wire.address().port(),
    };
    let dialer = WebSocketDialer::new(world.client.clone(), config());
    let node = NodeId::new("edge-1").unwrap();
    let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
    let accepting = async {
        let upgrade = world.listener.accept().await.unwrap().handshake().await.unwrap();
        upgrade.accept(Capabilities::ALL).await.unwrap()
    };
    let (edge, mut cloud) = tokio::join!(dialer.dial(&endpoint, request), accepting);
    let mut edge = edge.unwrap();

    wire.stall();
    edge.send(Outbound::Ping).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), cloud.next())
            .await
            .is_err()
    );
    wire.set(Default::default());
    assert!(matches!(within(cloud.next()).await, Some(Ok(Inbound::Alive))));

    wire.reset();
    for end in [&mut edge, &mut cloud] {
        loop {
            match within(end.next()).await.unwrap() {
                Ok(Inbound::Alive) => {}
                Err(TransportError::Link(_)) => break,
                other => panic!("{other:?}"),
            }
        }
    }
}
