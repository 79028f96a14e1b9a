//! A scripted cloud: our session at the other end, and a dialer whose connections can be cut.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Sink, Stream};
use hub_core::driver::{Driver, DriverConfig, Notice, Observer};
use hub_core::handle::SessionHandle;
use hub_core::message::{Content, Message, MessageId, Route};
use hub_core::node::NodeId;
use hub_core::service::{Reply, Request, Router, ServiceConfig, ServiceMetrics, stack};
use hub_core::session::{Delivery, Lane, Outgoing, SessionConfig};
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Inbound, Listener, MemoryConfig, MemoryDialer, Outbound,
    Peer, Rejection, Transport, TransportError, memory,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::world::within;

/// What the cloud says to a message; nothing, to let it wait for ever.
pub type Script = Arc<dyn Fn(&Message) -> Option<Reply> + Send + Sync>;

/// What the cloud's driver told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Attached,
    Detached,
    Delivered(String),
    Refused(String, String),
}

pub struct Cloud {
    pub session: SessionHandle,
    /// Every message that came, in order, after the script had its word.
    pub inbox: mpsc::UnboundedReceiver<Message>,
    pub told: mpsc::UnboundedReceiver<Told>,
    /// Refuses connections with this.
    pub refusing: Arc<Mutex<Option<Rejection>>>,
    /// How many asked to be connected.
    pub asked: watch::Receiver<u64>,
    wire: Arc<AtomicU64>,
}

struct Teller(mpsc::UnboundedSender<Told>);

impl Observer for Teller {
    fn notice(&self, notice: Notice<'_>) {
        let told = match notice {
            Notice::Attached(_) => Told::Attached,
            Notice::Detached(_) => Told::Detached,
            Notice::Delivered(key, _) => Told::Delivered(key.to_string()),
            Notice::Refused(key, reason) => Told::Refused(key.to_string(), reason),
            _ => return,
        };
        let _ = self.0.send(told);
    }
}

impl Cloud {
    pub fn start(node: &NodeId, capabilities: Capabilities, script: Script) -> (Self, CutDialer) {
        let (listener, dialer) = memory(MemoryConfig::default());
        let wire: Arc<AtomicU64> = Arc::default();
        let dialer = CutDialer {
            inner: dialer.with_common_name(&node.user_name()),
            cut: Arc::default(),
            wire: wire.clone(),
            sent: Arc::default(),
        };
        (
            Self::at(node, capabilities, script, Box::new(listener), wire),
            dialer,
        )
    }

    pub fn at(
        node: &NodeId,
        capabilities: Capabilities,
        script: Script,
        listener: Box<dyn Listener>,
        wire: Arc<AtomicU64>,
    ) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let handler = tower::service_fn(move |request: Request| {
            let answer = script(&request.message);
            let _ = sender.send(request.message);
            async move {
                match answer {
                    Some(reply) => Ok(reply),
                    None => std::future::pending().await,
                }
            }
        });
        let config = ServiceConfig {
            timeout: Duration::from_secs(3600),
            ..ServiceConfig::default()
        };
        let routes = Router::new().route(hub_core::service::Matcher::any(), handler);
        let handler = stack(
            routes,
            tower::layer::util::Identity::new(),
            config,
            ServiceMetrics::default(),
        );
        let (teller, told) = mpsc::unbounded_channel();
        let session = SessionConfig {
            resend: Duration::from_millis(50),
            resend_max: Duration::from_millis(100),
            ..SessionConfig::cloud()
        };
        let (driver, session) = Driver::new(
            node.clone(),
            Arc::new(DriverConfig::new(session)),
            Arc::new(handler),
            Arc::new(Teller(teller)),
            1,
        );
        tokio::spawn(driver.run());
        let refusing = Arc::new(Mutex::new(None));
        let (asking, asked) = watch::channel(0);
        tokio::spawn(accept(
            listener,
            session.clone(),
            capabilities,
            refusing.clone(),
            asking,
        ));
        Self {
            session,
            inbox,
            told,
            refusing,
            asked,
            wire,
        }
    }

    /// Bytes that went to the edge.
    pub fn sent(&self) -> u64 {
        self.wire.load(Ordering::SeqCst)
    }

    /// Waits for a message about this resource; others are skipped.
    pub async fn wait_for(&mut self, resource: &str) -> Message {
        let found = async {
            loop {
                let message = self.inbox.recv().await.unwrap();
                if message.route.resource.as_str() == resource {
                    return message;
                }
            }
        };
        within(resource, found).await
    }

    pub async fn wait_told(&mut self, what: &Told) {
        let found = async { while self.told.recv().await.as_ref() != Some(what) {} };
        within("a notice", found).await;
    }

    /// Waits until the edge has settled this key.
    pub async fn wait_delivered(&mut self, key: &str) {
        self.wait_told(&Told::Delivered(key.into())).await;
    }

    /// Waits until the edge has refused this key, and gives the reason.
    pub async fn wait_refused(&mut self, key: &str) -> String {
        let found = async {
            loop {
                if let Some(Told::Refused(found, reason)) = self.told.recv().await
                    && found == key
                {
                    return reason;
                }
            }
        };
        within("a refusal", found).await
    }

    /// Pushes an object as EdgeController does. The key is the resource text.
    pub async fn push(&self, operation: &str, resource: &str, version: Option<u64>, body: &str) {
        self.push_with(operation, resource, version, body, None).await;
    }

    pub async fn push_with(
        &self,
        operation: &str,
        resource: &str,
        version: Option<u64>,
        body: &str,
        previous: Option<&str>,
    ) {
        let route = Route::new("edgecontroller", "resource", operation.into(), resource);
        let mut message = Message::new(route, Content::from_json(Bytes::copy_from_slice(body.as_bytes())));
        message.header.resource_version = version.map(|v| v.to_string().into());
        self.send(resource, version, Delivery::Acked, message, previous)
            .await;
    }

    pub async fn send(
        &self,
        key: &str,
        version: Option<u64>,
        delivery: Delivery,
        message: Message,
        previous: Option<&str>,
    ) {
        let outgoing = Outgoing {
            key: key.into(),
            version,
            lane: Lane::Own,
            delivery,
            message,
            previous: previous.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        };
        self.session.send(outgoing).await.unwrap();
    }
}

async fn accept(
    mut listener: Box<dyn Listener>,
    session: SessionHandle,
    capabilities: Capabilities,
    refusing: Arc<Mutex<Option<Rejection>>>,
    asking: watch::Sender<u64>,
) {
    while let Ok(incoming) = listener.accept().await {
        let Ok(upgrade) = incoming.handshake().await else {
            continue;
        };
        asking.send_modify(|n| *n += 1);
        let refused = refusing.lock().unwrap().clone();
        if let Some(rejection) = refused {
            upgrade.reject(rejection).await;
            continue;
        }
        let common = upgrade.peer().capabilities.common(capabilities);
        if let Ok(transport) = upgrade.accept(common).await {
            let _ = session.attach(transport).await;
        }
    }
}

/// A dialer whose connections can be cut, on the edge's side, without a word to anybody.
#[derive(Clone)]
pub struct CutDialer {
    inner: MemoryDialer,
    cut: Arc<Mutex<CancellationToken>>,
    wire: Arc<AtomicU64>,
    sent: Arc<Mutex<Vec<(String, MessageId)>>>,
}

impl CutDialer {
    pub fn cut(&self) {
        let mut cut = self.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    /// The ids of the messages that the edge sent about something, copies too.
    pub fn sent(&self, about: &str) -> Vec<MessageId> {
        let sent = self.sent.lock().unwrap();
        let about = sent.iter().filter(|(resource, _)| resource.starts_with(about));
        about.map(|(_, id)| id.clone()).collect()
    }
}

impl Dialer for CutDialer {
    fn dial(
        &self,
        to: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        let cut = self.cut.lock().unwrap().clone();
        let dialed = self.inner.dial(to, request);
        let (wire, sent) = (self.wire.clone(), self.sent.clone());
        async move {
            let inner = dialed.await?;
            let cut = cut.cancelled_owned().boxed();
            let transport = CutTransport {
                inner,
                cut,
                wire,
                sent,
            };
            Ok(Box::new(transport) as Box<dyn Transport>)
        }
        .boxed()
    }

    fn transport(&self) -> &'static str {
        "memory"
    }
}

struct CutTransport {
    inner: Box<dyn Transport>,
    cut: BoxFuture<'static, ()>,
    wire: Arc<AtomicU64>,
    sent: Arc<Mutex<Vec<(String, MessageId)>>>,
}

impl Stream for CutTransport {
    type Item = Result<Inbound, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.cut.poll_unpin(cx).is_ready() {
            self.cut = std::future::pending().boxed();
            return Poll::Ready(Some(Err(std::io::Error::from(
                std::io::ErrorKind::ConnectionReset,
            )
            .into())));
        }
        let frame = Pin::new(&mut self.inner).poll_next(cx);
        self.wire.store(self.inner.bytes().0, Ordering::SeqCst);
        frame
    }
}

impl Sink<Outbound> for CutTransport {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outbound) -> Result<(), TransportError> {
        if let Outbound::Message { message, .. } = &frame {
            let sent = (message.route.resource.to_string(), message.header.id.clone());
            self.sent.lock().unwrap().push(sent);
        }
        Pin::new(&mut self.inner).start_send(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Transport for CutTransport {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn bytes(&self) -> (u64, u64) {
        self.inner.bytes()
    }
}
