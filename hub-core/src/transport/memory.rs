//! Connections within a process: for tests, and for both halves in one program.
//!
//! They go through the codec and a bounded pipe, so they keep the same promises as the others.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{self, DuplexStream};
use tokio::sync::mpsc;

use super::greeting::{Greeted, Limits, greet};
use super::{ConnectRequest, Dialer, Endpoint, Incoming, Listener, Peer, Transport, TransportError, Upgrade};
use crate::codec::CodecLimits;

/// The limits of connections within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// The limits of messages.
    pub limits: CodecLimits,
    /// How many bytes may wait to be sent before the sink is not ready. One message may exceed it.
    pub queue_bytes_max: usize,
    /// How many bytes each direction of the pipe holds.
    pub pipe_bytes: usize,
    /// How many connections may wait to be accepted.
    pub backlog: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            limits: CodecLimits::default(),
            queue_bytes_max: 64 << 10,
            pipe_bytes: 64 << 10,
            backlog: 16,
        }
    }
}

impl MemoryConfig {
    fn limits(&self) -> Limits {
        Limits {
            codec: self.limits,
            greeting_bytes_max: 8 << 10,
            queue_bytes_max: self.queue_bytes_max,
        }
    }
}

/// A listener and a dialer that reaches it.
pub fn memory(config: MemoryConfig) -> (MemoryListener, MemoryDialer) {
    let (sender, receiver) = mpsc::channel(config.backlog.max(1));
    let listener = MemoryListener { receiver };
    let dialer = MemoryDialer {
        sender,
        common_name: None,
        config,
    };
    (listener, dialer)
}

/// Waits for [`MemoryDialer`]s.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::Receiver<MemoryIncoming>,
}

/// Reaches the [`MemoryListener`] it was made with, whatever the endpoint.
#[derive(Debug, Clone)]
pub struct MemoryDialer {
    sender: mpsc::Sender<MemoryIncoming>,
    common_name: Option<Arc<str>>,
    config: MemoryConfig,
}

impl MemoryDialer {
    /// Dials as the holder of a certificate with this common name. There is no fingerprint.
    #[must_use]
    pub fn with_common_name(mut self, common_name: &str) -> Self {
        self.common_name = Some(common_name.into());
        self
    }
}

#[derive(Debug)]
struct MemoryIncoming {
    stream: DuplexStream,
    common_name: Option<Arc<str>>,
    config: MemoryConfig,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Box<dyn Incoming>, TransportError>> {
        async move {
            match self.receiver.recv().await {
                Some(incoming) => Ok(Box::new(incoming) as Box<dyn Incoming>),
                // All dialers are gone: none will ever come.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn transport(&self) -> &'static str {
        NAME
    }
}

impl Incoming for MemoryIncoming {
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Upgrade>, TransportError>> {
        Greeted::receive(self.stream, peer(self.common_name), self.config.limits()).boxed()
    }
}

impl Dialer for MemoryDialer {
    fn dial(
        &self,
        _endpoint: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        let Self {
            sender,
            common_name,
            config,
        } = self.clone();
        async move {
            let (stream, theirs) = io::duplex(config.pipe_bytes);
            let incoming = MemoryIncoming {
                stream: theirs,
                common_name,
                config,
            };
            sender
                .send(incoming)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            greet(stream, &request, peer(None), config.limits()).await
        }
        .boxed()
    }

    fn transport(&self) -> &'static str {
        NAME
    }
}

fn peer(common_name: Option<Arc<str>>) -> Peer {
    Peer {
        address: None,
        common_name,
        fingerprint: None,
        capabilities: super::Capabilities::NONE,
        transport: NAME,
        version: None,
    }
}

const NAME: &str = "memory";
