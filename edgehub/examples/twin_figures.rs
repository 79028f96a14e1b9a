//! What many devices cost one node: memory, disk, bytes to the cloud, and the time until an outage is made good.
//!
//! `cargo run --release -p edgehub --example twin_figures [devices]`. The cloud is a session of ours in this process that confirms
//! whatever comes; the disk is the one of the temporary folder.
#![allow(clippy::unwrap_used, reason = "a program for developers")]

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use edgehub::store::EdgeStore;
use edgehub::twin::{self, Change as TwinEvent, DeviceId, TwinConfig, TwinHub, Twins, Value};
use edgehub::{EdgeHub, EdgeHubConfig};
use futures::{Sink, Stream, StreamExt};
use hub_core::backoff::Backoff;
use hub_core::driver::{Driver, DriverConfig, Notice, Observer};
use hub_core::handle::SessionHandle;
use hub_core::message::Content;
use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::service::{Matcher, Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::{Lane, SessionConfig};
use hub_core::store::{Change, ObjectStore};
use hub_core::transport::{
    Capabilities, CloseReason, Endpoint, Inbound, Listener, MemoryConfig, MemoryListener, Outbound, Peer,
    Rejection, Transport, TransportError, memory,
};
use serde_json::json;
use tokio::sync::watch;

const PROPERTIES: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let devices: usize = std::env::args()
        .nth(1)
        .map_or(10_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let node = NodeId::new("edge-1").unwrap();
    let before = resident();
    let store = EdgeStore::open(&path).unwrap();
    let hub = TwinHub::new(TwinConfig::new(node.clone()), Arc::new(store.clone()));
    let twins = hub.handle();
    let (listener, dialer) = memory(MemoryConfig::default());
    let cloud = Cloud::start(&node, listener);
    let mut config = EdgeHubConfig::new(node.clone());
    config.backoff = Backoff {
        first: Duration::from_millis(10),
        max: Duration::from_millis(50),
    };
    let edge = EdgeHub::with_store(config, store.clone())
        .with_routes(twins.routes())
        .with_dialer(
            dialer.with_common_name(&node.user_name()),
            Endpoint::parse("cloud:1").unwrap(),
        )
        .build();
    let handle = edge.handle();
    tokio::spawn(hub.run(edge.handle()));
    tokio::spawn(edge.run());
    handle.link().wait_for(|link| link.is_up()).await.unwrap();

    println!("{devices} devices with {PROPERTIES} properties each");
    let start = Instant::now();
    join(&store, &twins, devices).await;
    told(&twins).await;
    show(
        "joined, every wish seen by the cloud",
        start,
        &cloud,
        &path,
        before,
    );

    let start = Instant::now();
    report(&twins, devices, 0..PROPERTIES, 1).await;
    told(&twins).await;
    show("every property reported once", start, &cloud, &path, before);

    let (start, sent) = (Instant::now(), cloud.received());
    const ALONE: usize = 500;
    for n in 0..ALONE {
        report_one(&twins, n % devices, 0..1, 2).await;
        told(&twins).await;
    }
    let each = (cloud.received() - sent) / ALONE as u64;
    println!(
        "{ALONE} changes one after the other: {:.1?} and {each} bytes up each",
        start.elapsed() / ALONE as u32
    );

    let (start, sent) = (Instant::now(), cloud.received());
    report(&twins, devices, 0..1, 3).await;
    told(&twins).await;
    let each = (cloud.received() - sent) / devices as u64;
    println!(
        "one change of each device at once: {:.1?}, {each} bytes up each",
        start.elapsed()
    );

    cloud.open.send_replace(false);
    cloud.session.hang_up(CloseReason::Other("away".into())).await;
    handle.link().wait_for(|link| !link.is_up()).await.unwrap();
    for round in 0..4 {
        let start = Instant::now();
        report(&twins, devices, 0..PROPERTIES, 10 + round).await;
        show(
            &format!("away, every property changed for the {}. time", round + 1),
            start,
            &cloud,
            &path,
            before,
        );
    }
    let (start, sent) = (Instant::now(), cloud.received());
    cloud.open.send_replace(true);
    handle.link().wait_for(|link| link.is_up()).await.unwrap();
    told(&twins).await;
    show("back, and all told", start, &cloud, &path, before);
    println!("bytes up for that: {}", cloud.received() - sent);
}

async fn join(store: &EdgeStore, twins: &Twins, devices: usize) {
    let mut changes = twins.changes();
    for first in (0..devices).step_by(500) {
        let puts = (first..devices.min(first + 500)).map(|n| {
            let properties: Vec<_> = (0..PROPERTIES)
                .map(|p| json!({ "name": format!("property-{p}"), "desired": { "value": "20", "metadata": { "type": "float" } } }))
                .collect();
            let body = json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
                "metadata": { "name": name(n), "namespace": "plant", "uid": format!("uid-{n}"), "resourceVersion": "1" },
                "spec": { "nodeName": "edge-1", "deviceModelRef": { "name": "sensor" }, "properties": properties } });
            Change::Put(Object::from_body(twin::devices().clone(), body.to_string().into()).unwrap())
        });
        store.apply(puts.collect()).await.unwrap();
    }
    let last = DeviceId::new("plant", &name(devices - 1)).unwrap();
    while twins.get(&last).is_none() {
        assert!(!matches!(
            changes.next().await,
            None | Some(TwinEvent::Removed(_))
        ));
    }
}

async fn report(twins: &Twins, devices: usize, properties: std::ops::Range<usize>, value: usize) {
    let all = (0..devices).map(|n| report_one(twins, n, properties.clone(), value));
    futures::stream::iter(all)
        .buffer_unordered(256)
        .collect::<Vec<_>>()
        .await;
}

async fn report_one(twins: &Twins, n: usize, properties: std::ops::Range<usize>, value: usize) {
    let id = DeviceId::new("plant", &name(n)).unwrap();
    let names: Vec<_> = properties.map(|p| format!("property-{p}")).collect();
    // Each device measures something of its own, or the figures would be those of zstd alone.
    let measured = |name: &str| {
        format!(
            "{}.{}",
            (n * 7919 + value * 104_729 + name.len()) % 997,
            (n + value * 31) % 10
        )
    };
    let values = names
        .iter()
        .map(|name| (name.as_str(), Value::new(measured(name))));
    twins.report(&id, values).await.unwrap();
}

async fn told(twins: &Twins) {
    while twins.owing() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn name(n: usize) -> String {
    format!("sensor-{n:05}")
}

fn show(what: &str, start: Instant, cloud: &Cloud, path: &Path, before: u64) {
    let file = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let disk = file(path) + file(&path.with_extension("db-wal"));
    println!(
        "{what}: {:.2?}, {} MiB of memory, {} MiB on disk, {} KiB up so far",
        start.elapsed(),
        (resident() - before) >> 10,
        disk >> 20,
        cloud.received() >> 10
    );
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A session of ours that confirms everything.
struct Cloud {
    session: SessionHandle,
    open: watch::Sender<bool>,
    bytes: Arc<AtomicU64>,
}

/// Counts what comes over all connections.
struct Counted {
    inner: Box<dyn Transport>,
    seen: u64,
    bytes: Arc<AtomicU64>,
}

impl Stream for Counted {
    type Item = Result<Inbound, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = Pin::new(&mut self.inner).poll_next(cx);
        let received = self.inner.bytes().0;
        self.bytes.fetch_add(received - self.seen, Ordering::Relaxed);
        self.seen = received;
        frame
    }
}

impl Sink<Outbound> for Counted {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outbound) -> Result<(), TransportError> {
        Pin::new(&mut self.inner).start_send(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Transport for Counted {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn bytes(&self) -> (u64, u64) {
        self.inner.bytes()
    }
}

struct Deaf;

impl Observer for Deaf {
    fn notice(&self, _: Notice<'_>) {}
}

impl Cloud {
    fn start(node: &NodeId, listener: MemoryListener) -> Self {
        let handler = tower::service_fn(|request: Request| async move {
            let question = &request.message;
            let content = match question.route.resource.as_str() {
                "sync/have" | "sync/buckets" => Content::from_json("{\"resources\":{}}".into()),
                _ => Content::ok(),
            };
            Ok(Reply::Answer(question.response(content), Lane::Own))
        });
        let routes = Router::new().route(Matcher::any(), handler);
        let layer = tower::layer::util::Identity::new();
        let handler = stack(routes, layer, ServiceConfig::default(), ServiceMetrics::default());
        let bytes: Arc<AtomicU64> = Arc::default();
        let config = Arc::new(DriverConfig::new(SessionConfig::cloud()));
        let (driver, session) = Driver::new(node.clone(), config, Arc::new(handler), Arc::new(Deaf), 1);
        tokio::spawn(driver.run());
        let open = watch::Sender::new(true);
        tokio::spawn(accept(listener, session.clone(), open.subscribe(), bytes.clone()));
        Self { session, open, bytes }
    }

    /// Bytes that came from the node.
    fn received(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn accept(
    mut listener: MemoryListener,
    session: SessionHandle,
    open: watch::Receiver<bool>,
    bytes: Arc<AtomicU64>,
) {
    while let Ok(incoming) = listener.accept().await {
        let Ok(upgrade) = incoming.handshake().await else {
            continue;
        };
        if !*open.borrow() {
            let code = 503;
            let reason = "away".into();
            upgrade
                .reject(Rejection {
                    code,
                    reason,
                    retry_after_seconds: None,
                })
                .await;
            continue;
        }
        if let Ok(inner) = upgrade.accept(Capabilities::ALL).await {
            let bytes = bytes.clone();
            let counted = Counted {
                inner,
                seen: 0,
                bytes,
            };
            let _ = session.attach(Box::new(counted)).await;
        }
    }
}
