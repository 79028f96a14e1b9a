//! Two drivers, one at each end: what is sent arrives once, what is acknowledged was handled, and a dead link is noticed.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hub_core::codec::CodecLimits;
use hub_core::driver::{DetachReason, Driver, DriverConfig, Notice, Observer};
use hub_core::handle::{CallError, SendError, SessionHandle};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::service::{Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::{Delivery, KeepaliveConfig, Lane, Outgoing, SessionConfig};
use hub_core::testing::{TestCa, Wire};
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, Listener, MemoryConfig, QuicConfig,
    QuicDialer, QuicListener, TlsClient, TlsServer, TlsVersions, Transport, WebSocketConfig, WebSocketDialer,
    WebSocketListener, memory,
};
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(10);

fn node() -> NodeId {
    NodeId::new("edge-1").unwrap()
}

/// What an observer saw, as text, in order.
struct Seen {
    notices: mpsc::UnboundedSender<String>,
    held: Mutex<Option<Bytes>>,
}

impl Observer for Seen {
    fn notice(&self, notice: Notice<'_>) {
        let text = match notice {
            Notice::Attached(_) => "attached".into(),
            Notice::Detached(reason) => format!("detached: {reason}"),
            Notice::Delivered(key, version) => format!("delivered {key}@{}", version.unwrap_or(0)),
            Notice::Refused(key, reason) => format!("refused {key}: {reason}"),
            Notice::Depth { .. } => return,
            other => format!("{other:?}"),
        };
        let _ = self.notices.send(text);
    }

    fn held(&self, _: &Message) -> Option<Bytes> {
        self.held.lock().unwrap().clone()
    }
}

/// One end: its handle, what its observer saw, and the messages its handler got, each with the means to finish it.
struct End {
    handle: SessionHandle,
    seen: Arc<Seen>,
    notices: mpsc::UnboundedReceiver<String>,
    handled: mpsc::UnboundedReceiver<(Message, oneshot::Sender<Result<Reply, String>>)>,
}

impl End {
    fn new(session: SessionConfig) -> Self {
        Self::with(DriverConfig::new(session))
    }

    fn with(config: DriverConfig) -> Self {
        let (sender, handled) = mpsc::unbounded_channel();
        let handler = tower::service_fn(move |request: Request| {
            let sender = sender.clone();
            async move {
                let (finish, finished) = oneshot::channel::<Result<Reply, String>>();
                sender
                    .send((request.message, finish))
                    .map_err(|_| "the test is over")?;
                finished
                    .await
                    .map_err(|_| "the test is over".to_string())?
                    .map_err(Into::into)
            }
        });
        let router = Router::new().route(Default::default(), handler);
        let handler = stack(
            router,
            tower::layer::util::Identity::new(),
            ServiceConfig::default(),
            ServiceMetrics::default(),
        );
        let (notices_in, notices) = mpsc::unbounded_channel();
        let seen = Arc::new(Seen {
            notices: notices_in,
            held: Mutex::new(None),
        });
        let (driver, handle) = Driver::new(
            node(),
            Arc::new(config),
            Arc::new(handler),
            seen.clone(),
            rand_seed(),
        );
        tokio::spawn(driver.run());
        Self {
            handle,
            seen,
            notices,
            handled,
        }
    }

    async fn handled(&mut self) -> (Message, oneshot::Sender<Result<Reply, String>>) {
        tokio::time::timeout(PATIENCE, self.handled.recv())
            .await
            .expect("a message in time")
            .unwrap()
    }

    /// The next notice that begins like this.
    async fn noticed(&mut self, beginning: &str) -> String {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let notice = self.notices.recv().await.unwrap();
                if notice.starts_with(beginning) {
                    return notice;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no notice {beginning:?}"))
    }
}

fn rand_seed() -> u64 {
    u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into().unwrap())
}

async fn connect(
    listener: &mut dyn Listener,
    dialer: &dyn Dialer,
    endpoint: &Endpoint,
) -> (Box<dyn Transport>, Box<dyn Transport>) {
    let request = ConnectRequest::tunnel(&node(), ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
    let dialed = tokio::spawn(dialer.dial(endpoint, request));
    let upgrade = listener.accept().await.unwrap().handshake().await.unwrap();
    let offered = upgrade.peer().capabilities;
    let cloud = upgrade.accept(offered).await.unwrap();
    (cloud, dialed.await.unwrap().unwrap())
}

async fn in_memory() -> (Box<dyn Transport>, Box<dyn Transport>) {
    let (mut listener, dialer) = memory(MemoryConfig::default());
    connect(
        &mut listener,
        &dialer.with_common_name("system:node:edge-1"),
        &Endpoint::parse("cloud:1").unwrap(),
    )
    .await
}

async fn pair() -> (End, End) {
    let (cloud_wire, edge_wire) = in_memory().await;
    let (cloud, edge) = (End::new(SessionConfig::cloud()), End::new(SessionConfig::edge()));
    cloud.handle.attach(cloud_wire).await.unwrap();
    edge.handle.attach(edge_wire).await.unwrap();
    (cloud, edge)
}

fn push(name: &str, version: u64, body: &str) -> Outgoing {
    let resource = format!("default/configmap/{name}");
    Outgoing {
        key: resource.as_str().into(),
        version: Some(version),
        lane: Lane::Own,
        delivery: Delivery::Acked,
        message: Message::new(
            Route::new("edgecontroller", "resource", Operation::Update, resource),
            Content::from_json(body.to_owned().into()),
        ),
        previous: None,
    }
}

#[tokio::test]
async fn a_message_is_delivered_only_once_its_handler_has_succeeded() {
    let (mut cloud, mut edge) = pair().await;
    cloud.handle.send(push("a", 1, "{\"v\":1}")).await.unwrap();
    let (message, finish) = edge.handled().await;
    assert_eq!(message.content.bytes().as_ref(), b"{\"v\":1}");
    cloud.noticed("attached").await;
    assert!(cloud.notices.try_recv().is_err(), "the handler is still at work");
    finish.send(Ok(Reply::Done)).unwrap();
    cloud.noticed("delivered default/configmap/a@1").await;
}

#[tokio::test]
async fn a_handler_that_fails_is_asked_again() {
    let quick = SessionConfig {
        resend: Duration::from_millis(20),
        ..SessionConfig::cloud()
    };
    let (cloud_wire, edge_wire) = in_memory().await;
    let (mut cloud, mut edge) = (End::new(quick), End::new(SessionConfig::edge()));
    cloud.handle.attach(cloud_wire).await.unwrap();
    edge.handle.attach(edge_wire).await.unwrap();
    cloud.handle.send(push("a", 1, "{}")).await.unwrap();
    edge.handled()
        .await
        .1
        .send(Err("the disk is full".into()))
        .unwrap();
    assert!(cloud.noticed("refused").await.contains("the disk is full"));
    edge.handled().await.1.send(Ok(Reply::Done)).unwrap();
    cloud.noticed("delivered").await;
}

#[tokio::test]
async fn a_question_is_answered_and_without_a_link_not_even_sent() {
    let (cloud, mut edge) = pair().await;
    let question = Message::new(
        Route::new("edged", "meta", Operation::Query, "default/secret/s"),
        Content::null(),
    );
    let asked = {
        let (handle, question) = (cloud.handle.clone(), question.clone());
        tokio::spawn(async move { handle.call(question, Lane::Urgent, PATIENCE).await })
    };
    let (message, finish) = edge.handled().await;
    finish
        .send(Ok(Reply::Answer(
            message.response(Content::string("here")),
            Lane::Urgent,
        )))
        .unwrap();
    assert_eq!(asked.await.unwrap().unwrap().content, Content::string("here"));

    let alone = End::new(SessionConfig::edge());
    assert_eq!(
        alone
            .handle
            .call(question, Lane::Urgent, PATIENCE)
            .await
            .unwrap_err(),
        CallError::NotSent
    );
}

#[tokio::test]
async fn a_change_travels_as_a_difference_and_whole_where_the_difference_does_not_apply() {
    let (mut cloud, mut edge) = pair().await;
    let old: Bytes = format!("{{\"v\":1,\"text\":\"{}\"}}", "lorem ipsum ".repeat(100)).into();
    let new = String::from_utf8(old.to_vec())
        .unwrap()
        .replace("\"v\":1", "\"v\":2");
    for base_is_held in [true, false] {
        let name = if base_is_held { "held" } else { "lost" };
        cloud
            .handle
            .send(push(name, 1, std::str::from_utf8(&old).unwrap()))
            .await
            .unwrap();
        edge.handled().await.1.send(Ok(Reply::Done)).unwrap();
        cloud.noticed("delivered").await;

        *edge.seen.held.lock().unwrap() = base_is_held.then(|| old.clone());
        let change = Outgoing {
            previous: Some(old.clone()),
            ..push(name, 2, &new)
        };
        cloud.handle.send(change).await.unwrap();
        let (message, finish) = edge.handled().await;
        assert_eq!(message.content.bytes().as_ref(), new.as_bytes());
        finish.send(Ok(Reply::Done)).unwrap();
        cloud.noticed("delivered").await;
    }
}

#[tokio::test]
async fn a_new_connection_takes_over_without_losing_what_was_under_way() {
    let (mut cloud, mut edge) = pair().await;
    cloud.handle.send(push("a", 1, "{}")).await.unwrap();
    let (_, finish) = edge.handled().await;

    let (cloud_wire, edge_wire) = in_memory().await;
    cloud.handle.attach(cloud_wire).await.unwrap();
    assert_eq!(
        cloud.noticed("detached").await,
        "detached: a newer connection took over"
    );
    edge.handle.attach(edge_wire).await.unwrap();
    finish.send(Ok(Reply::Done)).unwrap();
    cloud.noticed("delivered").await;
    assert!(
        edge.handled.try_recv().is_err(),
        "the copy on the new connection was not handled again"
    );
}

#[tokio::test]
async fn what_is_queued_without_a_link_waits_for_one() {
    let (mut cloud, mut edge) = (End::new(SessionConfig::cloud()), End::new(SessionConfig::edge()));
    cloud.handle.push(push("a", 1, "{\"v\":1}")).unwrap();
    cloud.handle.push(push("a", 2, "{\"v\":2}")).unwrap();
    let (cloud_wire, edge_wire) = in_memory().await;
    edge.handle.attach(edge_wire).await.unwrap();
    cloud.handle.attach(cloud_wire).await.unwrap();
    let (message, finish) = edge.handled().await;
    assert_eq!(
        message.content.bytes().as_ref(),
        b"{\"v\":2}",
        "only the newest of a key"
    );
    finish.send(Ok(Reply::Done)).unwrap();
    cloud.noticed("delivered default/configmap/a@2").await;
}

#[tokio::test]
async fn a_full_outbox_gives_the_message_back() {
    let mut cloud = End::new(SessionConfig {
        slots_max: 1,
        ..SessionConfig::cloud()
    });
    cloud.handle.send(push("a", 1, "{}")).await.unwrap();
    match cloud.handle.send(push("b", 1, "{}")).await {
        Err(SendError::Full(full)) => assert_eq!(&*full.0.key, "default/configmap/b"),
        other => panic!("{other:?}"),
    }
    cloud.handle.push(push("c", 1, "{}")).unwrap();
    assert!(cloud.noticed("Overflow").await.contains("default/configmap/c"));
}

#[tokio::test]
async fn handlers_at_their_limit_leave_the_rest_to_a_bounded_queue_and_to_the_socket() {
    let narrow = SessionConfig {
        handling_max: 2,
        unhandled_max: 4,
        ..SessionConfig::edge()
    };
    let (cloud_wire, edge_wire) = in_memory().await;
    let (mut cloud, mut edge) = (End::new(SessionConfig::cloud()), End::new(narrow));
    cloud.handle.attach(cloud_wire).await.unwrap();
    edge.handle.attach(edge_wire).await.unwrap();
    for i in 0..20 {
        cloud.handle.send(push(&format!("c{i}"), 1, "{}")).await.unwrap();
    }
    let mut waiting = vec![edge.handled().await.1, edge.handled().await.1];
    for _ in 0..18 {
        assert!(edge.handled.try_recv().is_err(), "a third handler is at work");
        waiting.remove(0).send(Ok(Reply::Done)).unwrap();
        waiting.push(edge.handled().await.1);
    }
    waiting
        .into_iter()
        .for_each(|finish| finish.send(Ok(Reply::Done)).unwrap());
    for _ in 0..20 {
        cloud.noticed("delivered").await;
    }
}

#[tokio::test]
async fn a_stopped_session_tells_the_peer_why() {
    let (cloud, mut edge) = pair().await;
    cloud.handle.stop(CloseReason::NodeDeleted).await;
    assert!(edge.noticed("detached").await.contains("NodeDeleted"));
    assert!(matches!(
        cloud.handle.send(push("a", 1, "{}")).await,
        Err(SendError::Over)
    ));
}

fn watchful(silence: Duration) -> (SessionConfig, SessionConfig) {
    let expect = KeepaliveConfig::Expect { silence_max: silence };
    let send = KeepaliveConfig::Send {
        interval: silence / 4,
        silence_max: silence,
    };
    (
        SessionConfig {
            keepalive: expect,
            ..SessionConfig::cloud()
        },
        SessionConfig {
            keepalive: send,
            ..SessionConfig::edge()
        },
    )
}

async fn a_half_open_link_is_noticed_on_both_ends(
    mut listener: Box<dyn Listener>,
    dialer: Box<dyn Dialer>,
    wire: Wire,
) {
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: wire.address().port(),
    };
    let (cloud_wire, edge_wire) = connect(&mut *listener, &*dialer, &endpoint).await;
    let (cloud_config, edge_config) = watchful(Duration::from_millis(600));
    let (mut cloud, mut edge) = (End::new(cloud_config), End::new(edge_config));
    cloud.handle.attach(cloud_wire).await.unwrap();
    edge.handle.attach(edge_wire).await.unwrap();

    // Alive for longer than the silence allowed, by keepalives alone.
    let quiet = tokio::time::timeout(Duration::from_millis(1500), cloud.noticed("detached")).await;
    assert!(quiet.is_err(), "{quiet:?}");

    wire.stall();
    assert_eq!(
        cloud.noticed("detached").await,
        format!("detached: {}", DetachReason::Silence)
    );
    assert_eq!(
        edge.noticed("detached").await,
        format!("detached: {}", DetachReason::Silence)
    );
}

fn tls() -> (TlsServer, TlsClient) {
    let ca = TestCa::new();
    let server = TlsServer::mutual(
        ca.server(&["127.0.0.1", "localhost"]),
        ca.certificate(),
        TlsVersions::Only13,
    )
    .unwrap();
    let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
    (server, client)
}

#[tokio::test]
async fn a_half_open_websocket_is_noticed_on_both_ends() {
    let (server, client) = tls();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = WebSocketListener::bind(address, server, WebSocketConfig::default())
        .await
        .unwrap();
    let wire = Wire::tcp(listener.local_addr().unwrap()).await.unwrap();
    let dialer = WebSocketDialer::new(client, WebSocketConfig::default());
    a_half_open_link_is_noticed_on_both_ends(Box::new(listener), Box::new(dialer), wire).await;
}

#[tokio::test]
async fn a_half_open_quic_connection_is_noticed_on_both_ends() {
    let (server, client) = tls();
    let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), server, QuicConfig::default()).unwrap();
    let wire = Wire::udp(listener.local_addr().unwrap()).await.unwrap();
    let dialer = QuicDialer::new(client, QuicConfig::default());
    a_half_open_link_is_noticed_on_both_ends(Box::new(listener), Box::new(dialer), wire).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_after_the_write_deadline() {
    let (server, client) = tls();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut listener = WebSocketListener::bind(address, server, WebSocketConfig::default())
        .await
        .unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    };
    let dialer = WebSocketDialer::new(client, WebSocketConfig::default());
    let (cloud_wire, _deaf) = connect(&mut listener, &dialer, &endpoint).await;

    let config = DriverConfig {
        write_deadline: Duration::from_millis(200),
        ..DriverConfig::new(SessionConfig::cloud())
    };
    let mut cloud = End::with(config);
    cloud.handle.attach(cloud_wire).await.unwrap();
    let noise: String = (0..400_000).map(|_| format!("{:016x}", rand_seed())).collect();
    for i in 0..4 {
        cloud
            .handle
            .send(push(&format!("big{i}"), 1, &format!("\"{noise}\"")))
            .await
            .unwrap();
    }
    assert_eq!(
        cloud.noticed("detached").await,
        format!("detached: {}", DetachReason::WriteDeadline)
    );
}

#[tokio::test]
async fn a_message_that_no_wire_takes_is_given_up_and_the_link_lives_on() {
    let config = MemoryConfig {
        limits: CodecLimits {
            message_max: 4096,
            compress_min: usize::MAX,
        },
        ..MemoryConfig::default()
    };
    let (mut listener, dialer) = memory(config);
    let endpoint = Endpoint::parse("cloud:1").unwrap();
    let (cloud_wire, edge_wire) = connect(
        &mut listener,
        &dialer.with_common_name("system:node:edge-1"),
        &endpoint,
    )
    .await;
    let (mut cloud, mut edge) = (End::new(SessionConfig::cloud()), End::new(SessionConfig::edge()));
    cloud.handle.attach(cloud_wire).await.unwrap();
    edge.handle.attach(edge_wire).await.unwrap();

    let big = format!("\"{}\"", "x".repeat(5000));
    cloud.handle.send(push("big", 1, &big)).await.unwrap();
    assert!(cloud.noticed("Expired").await.contains("big"));
    cloud.handle.send(push("small", 1, "{}")).await.unwrap();
    edge.handled().await.1.send(Ok(Reply::Done)).unwrap();
    cloud.noticed("delivered default/configmap/small").await;

    // An answer that is too large is an error to the asker, not silence.
    let route = Route::new("edged", "meta", Operation::Query, "default/secret/s");
    let asked = {
        let handle = cloud.handle.clone();
        tokio::spawn(async move {
            handle
                .call(Message::new(route, Content::null()), Lane::Urgent, PATIENCE)
                .await
        })
    };
    let (question, finish) = edge.handled().await;
    finish
        .send(Ok(Reply::Answer(
            question.response(Content::from_json(big.into())),
            Lane::Urgent,
        )))
        .unwrap();
    assert_eq!(asked.await.unwrap().unwrap().route.operation, Operation::Error);
}

#[test]
fn a_driver_s_task_is_small() {
    let handler = stack(
        Router::new(),
        tower::layer::util::Identity::new(),
        ServiceConfig::default(),
        ServiceMetrics::default(),
    );
    let observer = Arc::new(Seen {
        notices: mpsc::unbounded_channel().0,
        held: Mutex::new(None),
    });
    let config = Arc::new(DriverConfig::new(SessionConfig::cloud()));
    let (driver, _handle) = Driver::new(node(), config, Arc::new(handler), observer, 1);
    let (value, task) = (size_of_val(&driver), size_of_val(&driver.run()));
    println!("a driver has {value} bytes, its task {task}");
    assert!(
        task <= 1280,
        "a driver of {value} bytes runs in a task of {task}; it exists once for each node"
    );
}
