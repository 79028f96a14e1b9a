//! One simulated edge, and many.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use edgehub::enroll::{EnrollConfig, enroll};
use futures::StreamExt;
use hub_core::catch_up::{self, Differ, Have, Inventory};
use hub_core::credentials::CredentialFiles;
use hub_core::driver::{Driver, DriverConfig, Notice, Observer};
use hub_core::handle::SessionHandle;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::service::{Handler, Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::{Lane, SessionConfig};
use hub_core::transport::{
    Capabilities, CloseReason, ConnectRequest, Dialer, Endpoint, QuicConfig, QuicDialer, TlsClient,
    WebSocketConfig, WebSocketDialer,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

/// Where the cloud is, and how to reach it.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// `host:port` of the tunnel.
    pub tunnel: Endpoint,
    /// `host:port` of the certificates' server.
    pub https: Endpoint,
    /// A join token.
    pub token: String,
    /// Whether over QUIC.
    pub quic: bool,
    /// Handshakes at once.
    pub concurrency: usize,
    /// Whether each has a Node, with its lease and its status.
    pub nodes: bool,
    /// Where certificates are kept.
    pub folder: std::path::PathBuf,
}

/// An object that arrived at an edge.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which edge.
    pub edge: usize,
    /// The route's resource.
    pub resource: Arc<str>,
    /// When.
    pub at: Instant,
}

/// The edges.
pub struct Fleet {
    config: FleetConfig,
    dialers: Vec<Arc<dyn Dialer>>,
    handles: HashMap<usize, SessionHandle>,
    received: Arc<AtomicU64>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    arrivals_in: mpsc::UnboundedSender<Arrival>,
}

struct Silent;

impl Observer for Silent {
    fn notice(&self, _: Notice<'_>) {}
}

impl Fleet {
    /// Gets certificates for `count` edges, none connected yet.
    pub async fn enroll(config: FleetConfig, count: usize) -> Result<Self, String> {
        let lane = Arc::new(Semaphore::new(config.concurrency));
        let tasks: Vec<_> = (0..count)
            .map(|edge| {
                let (config, lane) = (config.clone(), lane.clone());
                tokio::spawn(async move {
                    let _place = lane.acquire_owned().await.map_err(|e| e.to_string())?;
                    let folder = config.folder.join(edge.to_string());
                    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
                    let mut enrolment = EnrollConfig::new(node(edge), vec![config.https.clone()]);
                    enrolment.token = Some(config.token.clone());
                    enrolment.ca_file = folder.join("ca.crt");
                    enrolment.files = CredentialFiles::new(folder.join("node.crt"), folder.join("node.key"));
                    let enrolled = enroll(&enrolment, SystemTime::now())
                        .await
                        .map_err(|e| e.to_string())?;
                    let tls =
                        TlsClient::new(&enrolled.ca, Some(enrolled.identity)).map_err(|e| e.to_string())?;
                    let dialer: Arc<dyn Dialer> = if config.quic {
                        Arc::new(QuicDialer::new(tls, QuicConfig::default()))
                    } else {
                        Arc::new(WebSocketDialer::new(tls, WebSocketConfig::default()))
                    };
                    Ok::<_, String>(dialer)
                })
            })
            .collect();
        let mut dialers = Vec::with_capacity(count);
        for task in tasks {
            dialers.push(task.await.map_err(|e| e.to_string())??);
        }
        let (arrivals_in, arrivals) = mpsc::unbounded_channel();
        Ok(Self {
            config,
            dialers,
            handles: HashMap::new(),
            received: Arc::default(),
            arrivals,
            arrivals_in,
        })
    }

    /// Connects these edges and has each caught up. Returns how long each took, dial to caught up.
    pub async fn connect(&mut self, edges: std::ops::Range<usize>) -> Result<Vec<Duration>, String> {
        let started: Vec<_> = edges
            .map(|edge| {
                let dialer = self.dialers[edge].clone();
                let (tunnel, received, arrivals) = (
                    self.config.tunnel.clone(),
                    self.received.clone(),
                    self.arrivals_in.clone(),
                );
                async move {
                    let start = Instant::now();
                    let handle = join(edge, dialer, &tunnel, received, arrivals).await?;
                    Ok::<_, String>((edge, handle, start.elapsed()))
                }
            })
            .collect();
        let mut joined = futures::stream::iter(started).buffer_unordered(self.config.concurrency);
        let mut times = Vec::new();
        while let Some(result) = joined.next().await {
            let (edge, handle, time) = result?;
            if self.config.nodes {
                tokio::spawn(super::node::speak(handle.clone(), node_name(edge), edge));
            }
            self.handles.insert(edge, handle);
            times.push(time);
        }
        Ok(times)
    }

    /// Lets go of all connections, as after a cut. The certificates and the TLS sessions stay.
    pub async fn disconnect(&mut self) {
        for (_, handle) in self.handles.drain() {
            handle.stop(CloseReason::Shutdown).await;
        }
    }

    /// The cloud moved: another process, other ports.
    pub fn follow(&mut self, tunnel: Endpoint) {
        self.config.tunnel = tunnel;
    }

    /// Messages received by all edges so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits for the next arrival at any edge.
    pub async fn arrival(&mut self, within: Duration) -> Option<Arrival> {
        tokio::time::timeout(within, self.arrivals.recv())
            .await
            .ok()
            .flatten()
    }

    /// Forgets arrivals that nobody asked for.
    pub fn drain(&mut self) {
        while self.arrivals.try_recv().is_ok() {}
    }
}

/// The name of an edge's node.
pub(super) fn node_name(edge: usize) -> String {
    format!("fleet-{edge}")
}

fn node(edge: usize) -> NodeId {
    NodeId::new(&node_name(edge)).expect("letters, a dash and digits are a node name")
}

async fn join(
    edge: usize,
    dialer: Arc<dyn Dialer>,
    tunnel: &Endpoint,
    received: Arc<AtomicU64>,
    arrivals: mpsc::UnboundedSender<Arrival>,
) -> Result<SessionHandle, String> {
    let request = ConnectRequest::tunnel(&node(edge), ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
    let transport = dialer.dial(tunnel, request).await.map_err(|e| e.to_string())?;
    let handler = tower::service_fn(move |request: Request| {
        received.fetch_add(1, Ordering::Relaxed);
        let resource: Arc<str> = request.message.route.resource.as_str().into();
        let _ = arrivals.send(Arrival {
            edge,
            resource,
            at: Instant::now(),
        });
        std::future::ready(Ok(Reply::Done))
    });
    let router = Router::new().route(Default::default(), handler);
    let identity = tower::layer::util::Identity::new();
    let handler: Handler = stack(
        router,
        identity,
        ServiceConfig::default(),
        ServiceMetrics::default(),
    );
    let config = Arc::new(DriverConfig::new(SessionConfig::edge()));
    let (driver, handle) = Driver::new(
        node(edge),
        config,
        Arc::new(handler),
        Arc::new(Silent),
        edge as u64 + 1,
    );
    tokio::spawn(driver.run());
    handle.attach(transport).await.map_err(|e| e.to_string())?;
    catch_up(&handle).await?;
    Ok(handle)
}

/// Tells the cloud that this edge holds nothing, so that it sends all it should hold.
async fn catch_up(handle: &SessionHandle) -> Result<(), String> {
    let nothing = Inventory::default();
    let differ: Differ = ask(handle, catch_up::HAVE, &Have::default()).await?;
    if !differ.resources.is_empty() {
        let differ: Differ = ask(handle, catch_up::BUCKETS_OF, &nothing.buckets(&differ)).await?;
        tell(handle, catch_up::VERSIONS_OF, &nothing.versions(&differ)).await?;
    }
    Ok(())
}

async fn ask<T: DeserializeOwned>(
    handle: &SessionHandle,
    resource: &str,
    content: &impl Serialize,
) -> Result<T, String> {
    let answer = tell(handle, resource, content).await?;
    answer.content.decode("an answer").map_err(|e| e.to_string())
}

async fn tell(handle: &SessionHandle, resource: &str, content: &impl Serialize) -> Result<Message, String> {
    let route = Route::new(catch_up::SOURCE, "resource", Operation::Query, resource);
    let message = Message::new(route, Content::encode(content));
    let answer = handle
        .call(message, Lane::Urgent, Duration::from_secs(60))
        .await
        .map_err(|e| e.to_string())?;
    if answer.route.operation == Operation::Error {
        return Err(format!("{resource}: {:?}", answer.content));
    }
    Ok(answer)
}
