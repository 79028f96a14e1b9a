//! What every transport promises, checked against each: memory, WebSocket, QUIC.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{Sink, SinkExt, StreamExt};
use hub_core::codec::{CodecLimits, EncodeError};
use hub_core::message::{Content, Message, MessageId, Operation, Route};
use hub_core::node::NodeId;
use hub_core::testing::TestCa;
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, Inbound, Listener, MemoryConfig, Outbound,
    QuicConfig, QuicDialer, QuicListener, Received, Rejection, TlsClient, TlsServer, TlsVersions, Transport,
    TransportError, Upgrade, WebSocketConfig, WebSocketDialer, WebSocketListener, memory,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

type Connection = Box<dyn Transport>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    WebSocket,
    Quic,
}

struct World {
    listener: Box<dyn Listener>,
    dialer: Box<dyn Dialer>,
    endpoint: Endpoint,
}

const MESSAGE_MAX: usize = 4 << 20;
const QUEUE: usize = 64 << 10;

impl World {
    async fn new(kind: Kind) -> Self {
        let limits = CodecLimits {
            message_max: MESSAGE_MAX,
            ..CodecLimits::default()
        };
        let ca = TestCa::new();
        let server =
            TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::Only13).unwrap();
        let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
        let (listener, dialer): (Box<dyn Listener>, Box<dyn Dialer>) = match kind {
            Kind::Memory => {
                let config = MemoryConfig {
                    limits,
                    queue_bytes_max: QUEUE,
                    ..MemoryConfig::default()
                };
                let (listener, dialer) = memory(config);
                (
                    Box::new(listener),
                    Box::new(dialer.with_common_name("system:node:edge-1")),
                )
            }
            Kind::WebSocket => {
                let config = WebSocketConfig {
                    limits,
                    queue_bytes_max: QUEUE,
                    ..WebSocketConfig::default()
                };
                let listener = WebSocketListener::bind("127.0.0.1:0", server, config)
                    .await
                    .unwrap();
                (Box::new(listener), Box::new(WebSocketDialer::new(client, config)))
            }
            Kind::Quic => {
                let config = QuicConfig {
                    limits,
                    queue_bytes_max: QUEUE,
                    ..QuicConfig::default()
                };
                let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), server, config).unwrap();
                (Box::new(listener), Box::new(QuicDialer::new(client, config)))
            }
        };
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: listener.local_addr().map_or(0, |address| address.port()),
        };
        Self {
            listener,
            dialer,
            endpoint,
        }
    }

    fn dial(
        &self,
        capabilities: Capabilities,
    ) -> impl Future<Output = Result<Connection, TransportError>> + use<> {
        let node = NodeId::new("edge-1").unwrap();
        let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, capabilities);
        self.dialer.dial(&self.endpoint, request)
    }

    async fn upgrade(&mut self) -> Box<dyn Upgrade> {
        let incoming = self.listener.accept().await.unwrap();
        incoming.handshake().await.unwrap()
    }

    /// The cloud's and the edge's end of one connection.
    async fn connect(&mut self, capabilities: Capabilities) -> (Connection, Connection) {
        let dialing = self.dial(capabilities);
        let accepting = async {
            let upgrade = self.upgrade().await;
            upgrade.accept(Capabilities::ALL).await.unwrap()
        };
        let (edge, cloud) = tokio::join!(dialing, accepting);
        (cloud, edge.unwrap())
    }
}

fn message(index: usize, text: &str) -> Message {
    let content = Content::from_json(format!("{{\"index\":{index},\"text\":\"{text}\"}}").into());
    let mut message = Message::new(
        Route::new(
            "edgecontroller",
            "resource",
            Operation::Update,
            format!("default/configmap/c-{index}"),
        ),
        content,
    );
    message.header.id = MessageId::from(format!("id-{index}").as_str());
    message
}

fn outbound(message: &Message) -> Outbound {
    Outbound::Message {
        message: message.clone(),
        base: None,
    }
}

/// Text that no compressor makes small.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    (0..bytes)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state >> 58) as usize],
            )
        })
        .collect()
}

async fn next(connection: &mut Connection) -> Inbound {
    within(connection.next())
        .await
        .expect("the stream goes on")
        .unwrap()
}

async fn next_message(connection: &mut Connection) -> Message {
    loop {
        match next(connection).await {
            Inbound::Message(Received::Whole(message)) => return message,
            Inbound::Alive => {}
            other => panic!("no message: {other:?}"),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

async fn send_all(connection: &mut Connection, messages: &[Message]) {
    for message in messages {
        connection.feed(outbound(message)).await.unwrap();
    }
    connection.flush().await.unwrap();
}

async fn both_ends_know_each_other(kind: Kind) {
    let mut world = World::new(kind).await;
    let offered = Capabilities {
        zstd: false,
        ..Capabilities::ALL
    };
    let dialing = tokio::spawn(world.dial(offered));
    let upgrade = world.upgrade().await;
    let request = upgrade.request();
    assert_eq!(&*request.node_id, "edge-1");
    assert_eq!(&*request.connection_use, "msg");
    assert_eq!(&*request.path, "/e632aba927ea4ac2b575ec1603d56f10/edge-1/events");
    assert_eq!(request.capabilities, offered);
    assert_eq!(upgrade.peer().common_name.as_deref(), Some("system:node:edge-1"));
    assert_eq!(upgrade.peer().fingerprint.is_some(), kind != Kind::Memory);

    let taken = Capabilities {
        ack: false,
        ..Capabilities::ALL
    };
    let cloud = upgrade.accept(taken).await.unwrap();
    let edge = dialing.await.unwrap().unwrap();
    let common = offered.common(taken);
    assert_eq!(cloud.peer().capabilities, common);
    assert_eq!(edge.peer().capabilities, common);
    assert_eq!(cloud.peer().transport, world.listener.transport());
}

async fn messages_arrive_whole_and_in_order(kind: Kind) {
    for capabilities in [Capabilities::NONE, Capabilities::ALL] {
        let mut world = World::new(kind).await;
        let (mut cloud, mut edge) = world.connect(capabilities).await;
        let down: Vec<_> = (0..1000).map(|i| message(i, "down")).collect();
        let up: Vec<_> = (0..1000).map(|i| message(i, "up")).collect();

        for (from, to, messages) in [(0, 1, &down), (1, 0, &up)] {
            let mut ends = [&mut cloud, &mut edge];
            let (left, right) = ends.split_at_mut(1);
            let (from, to) = if from < to {
                (&mut *left[0], &mut *right[0])
            } else {
                (&mut *right[0], &mut *left[0])
            };
            let sending = send_all(from, messages);
            let receiving = async {
                for expected in messages {
                    assert_eq!(&next_message(to).await, expected);
                }
            };
            within(futures::future::join(sending, receiving)).await;
        }
        let (received, sent) = cloud.bytes();
        assert!(received > 10_000 && sent > 10_000, "{received} {sent}");
        assert_eq!(edge.bytes(), (sent, received));
    }
}

async fn large_messages_arrive(kind: Kind) {
    for capabilities in [Capabilities::NONE, Capabilities::ALL] {
        let mut world = World::new(kind).await;
        let (mut cloud, mut edge) = world.connect(capabilities).await;
        let large = [message(1, &noise(3_000_000)), message(2, "small behind")];
        for up in [false, true] {
            let (from, to) = if up {
                (&mut edge, &mut cloud)
            } else {
                (&mut cloud, &mut edge)
            };
            let receiving = async {
                for expected in &large {
                    assert!(&next_message(to).await == expected);
                }
            };
            within(futures::future::join(send_all(from, &large), receiving)).await;
        }
    }
}

async fn a_message_over_the_limit_is_given_back_and_nothing_else_happens(kind: Kind) {
    let mut world = World::new(kind).await;
    let (mut cloud, mut edge) = world.connect(Capabilities::ALL).await;
    let error = cloud
        .feed(outbound(&message(1, &noise(MESSAGE_MAX + 1))))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::Encode(EncodeError::TooLarge { .. })),
        "{error}"
    );
    cloud.send(outbound(&message(2, "next"))).await.unwrap();
    assert_eq!(next_message(&mut edge).await, message(2, "next"));
}

async fn a_ping_is_answered(kind: Kind) {
    let mut world = World::new(kind).await;
    let (mut cloud, mut edge) = world.connect(Capabilities::ALL).await;
    for _ in 0..3 {
        edge.send(Outbound::Ping).await.unwrap();
        assert!(matches!(next(&mut cloud).await, Inbound::Alive));
        // The cloud's user sends and flushes nothing: reading is enough.
        let (pong, ()) = tokio::join!(next(&mut edge), async {
            tokio::select! {
                _ = cloud.next() => panic!("nothing was sent"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        });
        assert!(matches!(pong, Inbound::Alive));
    }
}

async fn the_close_reason_arrives_behind_the_last_message(kind: Kind) {
    for reason in [
        CloseReason::Superseded,
        CloseReason::Protocol("not a message".into()),
        CloseReason::Other("moved house".into()),
    ] {
        let mut world = World::new(kind).await;
        let (mut cloud, mut edge) = world.connect(Capabilities::ALL).await;
        let leaving = tokio::spawn(async move {
            cloud.feed(outbound(&message(1, "last"))).await.unwrap();
            cloud.feed(Outbound::Close(reason.clone())).await.unwrap();
            assert!(
                cloud.feed(Outbound::Ping).await.is_err(),
                "nothing follows a close"
            );
            cloud.close().await.unwrap();
            reason
        });
        assert_eq!(next_message(&mut edge).await, message(1, "last"));
        let told = next(&mut edge).await;
        assert!(within(edge.next()).await.is_none());
        drop(edge);
        let reason = within(leaving).await.unwrap();
        assert!(matches!(told, Inbound::Closed(told) if told == reason));
    }
}

async fn a_dropped_connection_is_a_failed_link(kind: Kind) {
    let mut world = World::new(kind).await;
    let (cloud, mut edge) = world.connect(Capabilities::ALL).await;
    drop(cloud);
    let error = within(edge.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, TransportError::Link(_)), "{error}");
    assert!(within(edge.next()).await.is_none());
}

async fn a_peer_that_does_not_read_stops_the_sink(kind: Kind) {
    let mut world = World::new(kind).await;
    let (mut cloud, mut edge) = world.connect(Capabilities::NONE).await;
    let one = message(0, &noise(30_000));
    let mut fed = 0;
    // Until it has been full for a moment: the bytes in flight need time to arrive.
    loop {
        let ready = tokio::time::timeout(
            Duration::from_millis(300),
            poll_fn(|cx| Pin::new(&mut cloud).poll_ready(cx)),
        );
        match ready.await {
            Ok(ready) => ready.unwrap(),
            Err(_) => break,
        }
        Pin::new(&mut cloud).start_send(outbound(&one)).unwrap();
        fed += 1;
        assert!(fed < 2000, "nothing stops the sink");
    }
    let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut cloud).poll_flush(cx).is_ready())).await;
    assert!(!flushed);

    // A ping that comes meanwhile is taken, and its answer does not wait for all that waits.
    edge.send(Outbound::Ping).await.unwrap();
    assert!(matches!(next(&mut cloud).await, Inbound::Alive));

    let flushing = cloud.flush();
    let receiving = async {
        let (mut messages, mut answered_after) = (0, None);
        while messages < fed {
            match next(&mut edge).await {
                Inbound::Message(Received::Whole(message)) => {
                    assert_eq!(message.route, one.route);
                    messages += 1;
                }
                Inbound::Alive => answered_after = Some(messages),
                other => panic!("{other:?}"),
            }
        }
        assert!(answered_after.is_some_and(|messages| messages < fed));
    };
    let (flushed, ()) = within(futures::future::join(flushing, receiving)).await;
    flushed.unwrap();
}

async fn two_tasks_may_share_the_ends(kind: Kind) {
    let mut world = World::new(kind).await;
    let (cloud, edge) = world.connect(Capabilities::NONE).await;
    let messages: Vec<_> = (0..200).map(|i| message(i, &noise(20_000))).collect();
    let both_have_all = Arc::new(Barrier::new(2));
    let mut tasks = JoinSet::new();
    for end in [cloud, edge] {
        let (mut sink, mut stream) = end.split();
        let sent = messages.clone();
        let writing = async move {
            for message in &sent {
                sink.feed(outbound(message)).await.unwrap();
                sink.feed(Outbound::Ping).await.unwrap();
            }
            sink.flush().await.unwrap();
            sink
        };
        let mut expected = messages.clone().into_iter();
        let both_have_all = both_have_all.clone();
        let reading = async move {
            while expected.len() > 0 {
                match stream.next().await.unwrap().unwrap() {
                    Inbound::Message(Received::Whole(message)) => assert_eq!(Some(message), expected.next()),
                    Inbound::Alive => {}
                    other => panic!("{other:?}"),
                }
            }
            // Goes on reading, so that the other end's pings are answered.
            tokio::select! {
                _ = both_have_all.wait() => {}
                () = async { while let Some(Ok(Inbound::Alive)) = stream.next().await {} } => panic!("cut"),
            }
        };
        let writing = tokio::spawn(writing);
        tasks.spawn(async move {
            reading.await;
            writing.await.unwrap()
        });
    }
    within(tasks.join_all()).await;
}

async fn a_refusal_says_why_and_when_to_come_again(kind: Kind) {
    let mut world = World::new(kind).await;
    let dialing = tokio::spawn(world.dial(Capabilities::ALL));
    let rejection = Rejection {
        code: 503,
        reason: "the hub is full".into(),
        retry_after_seconds: Some(7),
    };
    world.upgrade().await.reject(rejection.clone()).await;
    match within(dialing).await.unwrap() {
        Err(TransportError::Refused(told)) => assert_eq!(told, rejection),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("connected"),
    }
}

async fn an_unanswered_client_does_not_block_others(kind: Kind) {
    let mut world = World::new(kind).await;
    let waiting = tokio::spawn(world.dial(Capabilities::ALL));
    let first = world.upgrade().await;
    let (mut cloud, mut edge) = world.connect(Capabilities::ALL).await;
    cloud.send(outbound(&message(1, "hello"))).await.unwrap();
    assert_eq!(next_message(&mut edge).await, message(1, "hello"));

    let (cloud, edge) = tokio::join!(first.accept(Capabilities::NONE), waiting);
    assert!(cloud.is_ok() && edge.unwrap().is_ok());
}

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        contract!(@kind memory, Memory, $($name),+);
        contract!(@kind websocket, WebSocket, $($name),+);
        contract!(@kind quic, Quic, $($name),+);
    };
    (@kind $module:ident, $kind:ident, $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Kind::$kind).await;
                }
            )+
        }
    };
}

contract! {
    both_ends_know_each_other,
    messages_arrive_whole_and_in_order,
    large_messages_arrive,
    a_message_over_the_limit_is_given_back_and_nothing_else_happens,
    a_ping_is_answered,
    the_close_reason_arrives_behind_the_last_message,
    a_dropped_connection_is_a_failed_link,
    a_peer_that_does_not_read_stops_the_sink,
    two_tasks_may_share_the_ends,
    a_refusal_says_why_and_when_to_come_again,
    an_unanswered_client_does_not_block_others,
}
