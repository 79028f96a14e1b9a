//! What one message costs on the wire, and how long it takes: `cargo run --release -p hub-core --features test-util --example figures`.
//!
//! Bytes are counted by the transports, inside TLS; a TLS 1.3 record adds 22. The pod is one that a real KubeEdge sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hub_core::codec::{Codec, CodecLimits};
use hub_core::driver::{Driver, DriverConfig, Notice, Observer};
use hub_core::handle::{SendError, SessionHandle};
use hub_core::message::{Content, Message, MessageId, Operation, Route};
use hub_core::node::NodeId;
use hub_core::service::{Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::{Delivery, Lane, Outgoing, SessionConfig};
use hub_core::testing::TestCa;
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Listener, Outbound, QuicConfig, QuicDialer, QuicListener,
    Received, TlsClient, TlsServer, TlsVersions, Transport, WebSocketConfig, WebSocketDialer,
    WebSocketListener,
};
use tokio::sync::mpsc;

type Error = Box<dyn std::error::Error>;
type Pair = (Box<dyn Transport>, Box<dyn Transport>);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let first = recorded_pod()?;
    let pod = std::str::from_utf8(first.content.bytes())?.to_owned();
    println!("recorded pod: {} bytes", pod.len());
    let changed = |from: &str, to: &str| {
        assert!(pod.contains(from), "the recorded pod has {from}");
        with_content(&first, pod.replace(from, to))
    };
    let ready = changed("\"resourceVersion\":\"", "\"resourceVersion\":\"9");
    let sibling = changed("\"name\":\"web-0\"", "\"name\":\"web-1\"");
    let ack = acknowledgement(&first);

    for (name, (mut cloud, mut edge)) in [("WebSocket", pair(false).await?), ("QUIC", pair(true).await?)] {
        println!("\n{name}, bytes inside TLS");
        let base = Some(first.content.bytes().clone());
        let frames: [(&str, bool, Outbound); 5] = [
            (
                "sign of life, up (its answer costs the same)",
                true,
                Outbound::Ping,
            ),
            (
                "first pod, down",
                false,
                Outbound::Message {
                    message: first.clone(),
                    base: None,
                },
            ),
            (
                "its acknowledgement, up",
                true,
                Outbound::Message {
                    message: ack.clone(),
                    base: None,
                },
            ),
            (
                "the same pod in its next version, down",
                false,
                Outbound::Message {
                    message: ready.clone(),
                    base: base.clone(),
                },
            ),
            (
                "a sibling pod against the first, down",
                false,
                Outbound::Message {
                    message: sibling.clone(),
                    base,
                },
            ),
        ];
        for (what, up, frame) in frames {
            let (from, to) = if up {
                (&mut edge, &mut cloud)
            } else {
                (&mut cloud, &mut edge)
            };
            let before = from.bytes().1;
            from.send(frame).await?;
            to.next().await.ok_or("the link ended")??;
            println!("  {what:<46} {:>6}", from.bytes().1 - before);
        }
    }

    for quic in [false, true] {
        let name = if quic { "QUIC" } else { "WebSocket" };
        latency(name, pair(quic).await?).await?;
        for size in [1 << 10, 4 << 10] {
            throughput(name, size, pair(quic).await?).await?;
        }
    }
    Ok(())
}

/// A message of 1 KiB every 2 ms: from `push` at the cloud to the handler at the edge.
async fn latency(name: &str, (cloud_wire, edge_wire): Pair) -> Result<(), Error> {
    const MESSAGES: u64 = 5_000;
    let (arrived_in, mut arrived) = mpsc::unbounded_channel();
    let cloud = end(SessionConfig::cloud(), mpsc::unbounded_channel().0);
    let edge = end(SessionConfig::edge(), arrived_in);
    cloud.attach(cloud_wire).await?;
    edge.attach(edge_wire).await?;
    let noise: String = (0..64)
        .map(|i: u64| format!("{:016x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let content = Content::string(&noise[..1022]);
    let mut latencies = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(2));
    for n in 0..MESSAGES {
        beat.tick().await;
        let route = Route::new(
            "edgecontroller",
            "resource",
            Operation::Update,
            format!("default/configmap/c{}", n % 100),
        );
        let sent = Instant::now();
        cloud.push(Outgoing {
            key: format!("c{}", n % 100).into(),
            version: Some(n + 1),
            lane: Lane::Rest,
            delivery: Delivery::Acked,
            message: Message::new(route, content.clone()),
            previous: None,
        })?;
        let at: Instant = arrived.recv().await.ok_or("the edge ended")?;
        latencies.push(at - sent);
    }
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "\n{name}, 1 KiB every 2 ms, push to handler: p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(())
}

/// As many acknowledged messages as go: processor time of both ends together, session, codec, TLS and sockets included.
async fn throughput(name: &str, size: usize, (cloud_wire, edge_wire): Pair) -> Result<(), Error> {
    const MESSAGES: u64 = 100_000;
    let (arrived_in, mut arrived) = mpsc::unbounded_channel();
    let cloud = end(SessionConfig::cloud(), mpsc::unbounded_channel().0);
    let edge = end(SessionConfig::edge(), arrived_in);
    cloud.attach(cloud_wire).await?;
    edge.attach(edge_wire).await?;
    let noise: String = (0..256)
        .map(|i: u64| format!("{:016x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let content = Content::string(&noise[..size - 2]);
    let (start, before) = (Instant::now(), processor_time()?);
    let sender = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let resource = format!("default/configmap/c{n}");
            let mut outgoing = Outgoing {
                key: resource.as_str().into(),
                version: Some(n + 1),
                lane: Lane::Rest,
                delivery: Delivery::Acked,
                message: Message::new(
                    Route::new("edgecontroller", "resource", Operation::Update, resource),
                    content.clone(),
                ),
                previous: None,
            };
            // A full outbox gives the message back.
            while let Err(SendError::Full(full)) = cloud.send(outgoing).await {
                outgoing = *full.0;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        cloud
    });
    for _ in 0..MESSAGES {
        arrived.recv().await.ok_or("the edge ended")?;
    }
    let (wall, used) = (start.elapsed(), processor_time()? - before);
    sender.await?;
    println!(
        "{name}, {size} bytes as fast as they go: {:.0} messages/s, {:.1} µs of processor time each, both ends",
        MESSAGES as f64 / wall.as_secs_f64(),
        used.as_secs_f64() * 1e6 / MESSAGES as f64,
    );
    Ok(())
}

/// User and system time of this process: fields 14 and 15 of `/proc/self/stat` (proc(5)), 100 ticks a second.
fn processor_time() -> Result<Duration, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0))
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

struct Silent;

impl Observer for Silent {
    fn notice(&self, _: Notice<'_>) {}
}

fn end(session: SessionConfig, arrived: mpsc::UnboundedSender<Instant>) -> SessionHandle {
    let handler = tower::service_fn(move |_: Request| {
        let _ = arrived.send(Instant::now());
        std::future::ready(Ok(Reply::Done))
    });
    let router = Router::new().route(Default::default(), handler);
    let identity = tower::layer::util::Identity::new();
    let handler = stack(
        router,
        identity,
        ServiceConfig::default(),
        ServiceMetrics::default(),
    );
    let node = NodeId::new("edge-1").expect("a name");
    let config = Arc::new(DriverConfig::new(session));
    let (driver, handle) = Driver::new(node, config, Arc::new(handler), Arc::new(Silent), 7);
    tokio::spawn(driver.run());
    handle
}

async fn pair(quic: bool) -> Result<Pair, Error> {
    let ca = TestCa::new();
    let server = TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::Only13)?;
    let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1")))?;
    let address = "127.0.0.1:0".parse()?;
    let (mut listener, dialer): (Box<dyn Listener>, Box<dyn Dialer>) = if quic {
        let listener = QuicListener::bind(address, server, QuicConfig::default())?;
        (
            Box::new(listener),
            Box::new(QuicDialer::new(client, QuicConfig::default())),
        )
    } else {
        let listener = WebSocketListener::bind(address, server, WebSocketConfig::default()).await?;
        (
            Box::new(listener),
            Box::new(WebSocketDialer::new(client, WebSocketConfig::default())),
        )
    };
    let port = listener.local_addr().ok_or("no address")?.port();
    let request = ConnectRequest::tunnel(
        &NodeId::new("edge-1")?,
        ConnectRequest::DEFAULT_PROJECT,
        Capabilities::ALL,
    );
    let dialed = tokio::spawn(dialer.dial(
        &Endpoint {
            host: "127.0.0.1".into(),
            port,
        },
        request,
    ));
    let upgrade = listener.accept().await?.handshake().await?;
    let offered = upgrade.peer().capabilities;
    let cloud = upgrade.accept(offered).await?;
    let edge = dialed.await??;
    // Endpoints of QUIC live as long as their listeners and dialers.
    std::mem::forget((listener, dialer));
    Ok((cloud, edge))
}

fn recorded_pod() -> Result<Message, Error> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/captures/02-pod-lifecycle.jsonl.zst"
    );
    let text = zstd::decode_all(std::fs::File::open(file)?)?;
    let codec = Codec::new(Capabilities::NONE, CodecLimits::default());
    for line in std::str::from_utf8(&text)?.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let Some(payload) = line["payload"].as_str() else {
            continue;
        };
        if let Ok(Received::Whole(message)) = codec.decode(Bytes::copy_from_slice(payload.as_bytes()))
            && message.route.operation == Operation::Insert
            && message.route.resource.parts().is_some_and(|p| p.kind == "pod")
        {
            return Ok(message);
        }
    }
    Err("the recording has no pod".into())
}

fn with_content(like: &Message, content: String) -> Message {
    Message {
        content: Content::from_json(content.into()),
        ..like.clone()
    }
}

fn acknowledgement(of: &Message) -> Message {
    let mut message = Message::new(Route::new("", "", Operation::Response, ""), Content::ok());
    message.header.parent_id = Some(of.header.id.clone());
    message.header.id = MessageId::NIL;
    message
}
