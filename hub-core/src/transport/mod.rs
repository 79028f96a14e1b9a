//! How frames cross a wire: WebSocket, QUIC, or memory for tests.
//!
//! A transport is established by a handshake ([`Listener`] → [`Incoming`] → [`Upgrade`] on the cloud, [`Dialer`] on the edge) and
//! is then a stream of [`Inbound`] and a sink of [`Outbound`] frames, nothing else. It keeps no deadlines and starts no tasks
//! of its own per connection: pings, silence and resends are the [`session`](crate::session)'s business.
//!
//! ```text
//!   cloud  Listener ──accept──► Incoming ──handshake──► Upgrade ──accept──► Transport
//!                                  TLS, request           403 before the upgrade
//!   edge   Dialer ──dial────────────────────────────────────────────────────► Transport
//! ```

mod close;
mod frame;
mod framed;
#[cfg(feature = "test-util")]
pub(crate) mod fuzz;
mod greeting;
mod handshake;
mod length_prefixed;
mod memory;
mod outbox;
mod quic;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{Sink, Stream};

pub use handshake::{Capabilities, ConnectRequest, Endpoint, Rejection};
pub use memory::{MemoryConfig, MemoryDialer, MemoryListener, memory};
pub use quic::{QuicConfig, QuicDialer, QuicListener};
pub use tls::{Identity, PeerIdentity, QUIC_ALPN, TlsClient, TlsError, TlsServer, TlsVersions, provider};
pub use websocket::{WebSocketConfig, WebSocketDialer, WebSocketListener};

use crate::codec::{DecodeError, EncodeError};
use crate::message::Message;

/// A frame to the peer.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every frame is a message, and none is kept"
)]
pub enum Outbound {
    /// A message; `base` is the content of a version that both ends hold, against which it may be sent as a difference.
    Message {
        /// What to send.
        message: Message,
        /// What the peer surely holds of the same object.
        base: Option<bytes::Bytes>,
    },
    /// Asks the peer for a sign of life.
    Ping,
    /// The last frame: says why the connection ends.
    Close(CloseReason),
}

/// A frame from the peer.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every frame is a message, and none is kept"
)]
pub enum Inbound {
    /// A message.
    Message(Received),
    /// A sign of life without content: a ping, which the transport answers itself, or a pong.
    Alive,
    /// The peer ends the connection in good order.
    Closed(CloseReason),
}

/// A message as it came from the wire.
#[derive(Debug, Clone)]
pub enum Received {
    /// With its content.
    Whole(Message),
    /// With the difference to a content that the receiver should hold; the message's own content is null.
    /// [`codec::Patch::apply`](crate::codec::Patch::apply) makes the content out of both.
    Patched(Message, crate::codec::Patch),
}

/// Why a connection ends, as text for the log of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The program stops.
    Shutdown,
    /// A newer connection of the same node took over.
    Superseded,
    /// The node was deleted.
    NodeDeleted,
    /// The peer broke the protocol.
    Protocol(String),
    /// Nothing was heard for too long.
    Silence,
    /// The peer gave no reason, or one we do not know.
    Other(String),
}

/// The connection is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The link failed: back off and dial again.
    #[error("the link failed: {0}")]
    Link(#[from] std::io::Error),
    /// The peer sent what no peer may send: close and count.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer sent a message that does not decode: close and count.
    #[error("the peer sent a malformed message: {0}")]
    Decode(#[from] DecodeError),
    /// This one message cannot be sent, as it is over the limit. It was not queued; **the connection is as good as before**.
    /// Only `start_send` says this.
    #[error("a message cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// Certificates do not match: somebody must look.
    #[error("TLS: {0}")]
    Tls(String),
    /// The peer refused the connection.
    #[error("the peer refused the connection: {0}")]
    Refused(Rejection),
    /// It took too long.
    #[error("no {0} in time")]
    Timeout(&'static str),
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The network address, where there is one.
    pub address: Option<SocketAddr>,
    /// The subject common name of its verified certificate.
    pub common_name: Option<Arc<str>>,
    /// A fingerprint (SHA-256) of its certificate, to tell two holders of one name apart.
    pub fingerprint: Option<[u8; 32]>,
    /// What both ends can do.
    pub capabilities: Capabilities,
    /// `websocket`, `quic` or `memory`; for logs and metrics.
    pub transport: &'static str,
    /// The version of a client's software, where it says one. For people: nothing is decided by it.
    pub version: Option<Arc<str>>,
}

/// One established connection: a stream of inbound and a sink of outbound frames.
///
/// The stream ends with `None` or an error and is not polled again. `poll_close` sends what is queued and ends the connection.
/// Order is kept in each direction. Dropping it cuts the connection.
pub trait Transport:
    Stream<Item = Result<Inbound, TransportError>> + Sink<Outbound, Error = TransportError> + Send + Unpin
{
    /// Who is at the other end.
    fn peer(&self) -> &Peer;

    /// Bytes received and sent so far, inside TLS.
    fn bytes(&self) -> (u64, u64);
}

/// Waits for connections.
pub trait Listener: Send {
    /// The next connection, not yet shaken hands with. An error is of the listener and fatal; errors of one connection come later.
    fn accept(&mut self) -> BoxFuture<'_, Result<Box<dyn Incoming>, TransportError>>;

    /// Where it listens.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// `websocket`, `quic` or `memory`.
    fn transport(&self) -> &'static str;
}

/// A connection before its handshake.
pub trait Incoming: Send {
    /// TLS and the peer's request. To be run in a task of its own, under a deadline.
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Upgrade>, TransportError>>;
}

/// A peer's request to be connected, still to be answered.
pub trait Upgrade: Send {
    /// What the peer asks, and who it says it is.
    fn request(&self) -> &ConnectRequest;

    /// The verified peer; its capabilities are those it offers.
    fn peer(&self) -> &Peer;

    /// Yes, with these of the offered capabilities.
    fn accept(
        self: Box<Self>,
        capabilities: Capabilities,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>>;

    /// No. The connection is closed once the peer was told.
    fn reject(self: Box<Self>, rejection: Rejection) -> BoxFuture<'static, ()>;
}

/// Makes connections.
pub trait Dialer: Send + Sync {
    /// Connects to one endpoint. Runs until done; put a deadline around it.
    fn dial(
        &self,
        endpoint: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>>;

    /// `websocket`, `quic` or `memory`.
    fn transport(&self) -> &'static str;
}
