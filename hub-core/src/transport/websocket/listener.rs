//! The cloud's end: TCP, TLS, the request, and a decision.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

use super::WebSocketConfig;
use super::frame::{Role, WebSocketFraming};
use super::head::{BadHead, RequestHead, refusal};
use crate::codec::Codec;
use crate::transport::framed::{Established, Framed};
use crate::transport::tls::{ServerStream, stream_error};
use crate::transport::{
    Capabilities, ConnectRequest, Incoming, Listener, Peer, PeerIdentity, Rejection, TlsServer, Transport,
    TransportError, Upgrade,
};

/// Waits for edges on a TCP port.
pub struct WebSocketListener {
    listener: TcpListener,
    tls: TlsServer,
    config: WebSocketConfig,
}

impl WebSocketListener {
    /// Binds a port; 0 for any free one. `tls` may be replaced while the listener runs.
    pub async fn bind(
        address: impl ToSocketAddrs,
        tls: TlsServer,
        config: WebSocketConfig,
    ) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?, tls, config))
    }

    /// Listens on a socket that is bound already.
    pub fn new(listener: TcpListener, tls: TlsServer, config: WebSocketConfig) -> Self {
        Self {
            listener,
            tls,
            config,
        }
    }
}

impl Listener for WebSocketListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Box<dyn Incoming>, TransportError>> {
        async move {
            loop {
                match self.listener.accept().await {
                    Ok((stream, address)) => {
                        return Ok(Box::new(WebSocketIncoming {
                            stream,
                            address,
                            tls: self.tls.clone(),
                            config: self.config,
                        }) as Box<dyn Incoming>);
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) if is_exhaustion(&error) => {
                        // The kernel keeps the connections that wait. Others must end before one more fits.
                        tracing::warn!(%error, "cannot accept connections for now");
                        tokio::time::sleep(EXHAUSTION_PAUSE).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    fn transport(&self) -> &'static str {
        super::NAME
    }
}

struct WebSocketIncoming {
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsServer,
    config: WebSocketConfig,
}

impl Incoming for WebSocketIncoming {
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Upgrade>, TransportError>> {
        async move {
            let Self {
                stream,
                address,
                tls,
                config,
            } = *self;
            stream.set_nodelay(true)?;
            let mut stream = ServerStream::accept(stream, tls.config())
                .await
                .map_err(stream_error)?;
            let identity = PeerIdentity::of_chain(stream.peer_certificates())
                .map_err(|error| TransportError::Tls(error.to_string()))?;

            let (head, size, bytes) = match read_head(&mut stream, config.head_bytes_max).await? {
                Ok(read) => read,
                Err(BadHead(rejection)) => {
                    let reason = rejection.reason.clone();
                    refuse(stream, &rejection).await;
                    return Err(TransportError::Protocol(reason));
                }
            };
            let peer = Peer {
                address: Some(address),
                common_name: identity.as_ref().and_then(|id| id.common_name.clone()),
                fingerprint: identity.map(|id| id.fingerprint),
                capabilities: head.request.capabilities,
                version: head.request.version.clone(),
                transport: super::NAME,
            };
            Ok(Box::new(WebSocketUpgrade {
                stream,
                head,
                rest: Bytes::copy_from_slice(&bytes[size..]),
                head_size: size,
                peer,
                config,
            }) as Box<dyn Upgrade>)
        }
        .boxed()
    }
}

struct WebSocketUpgrade {
    stream: ServerStream,
    head: RequestHead,
    /// What came behind the head: a hasty client's first frames.
    rest: Bytes,
    head_size: usize,
    peer: Peer,
    config: WebSocketConfig,
}

impl Upgrade for WebSocketUpgrade {
    fn request(&self) -> &ConnectRequest {
        &self.head.request
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn accept(
        self: Box<Self>,
        capabilities: Capabilities,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        async move {
            let Self {
                mut stream,
                head,
                rest,
                head_size,
                mut peer,
                config,
            } = *self;
            let capabilities = capabilities.common(head.request.capabilities);
            let answer = head.accept(capabilities);
            stream.write_all(answer.as_bytes()).await.map_err(stream_error)?;
            stream.flush().await.map_err(stream_error)?;

            peer.capabilities = capabilities;
            let framing = WebSocketFraming::new(Role::Server, config.limits.message_max);
            let established = Established {
                codec: Codec::new(capabilities, config.limits),
                peer,
                rest,
                bytes: (head_size as u64, answer.len() as u64),
                queue_bytes_max: config.queue_bytes_max,
            };
            Ok(Box::new(Framed::new(stream, framing, established)) as Box<dyn Transport>)
        }
        .boxed()
    }

    fn reject(self: Box<Self>, rejection: Rejection) -> BoxFuture<'static, ()> {
        async move { refuse(self.stream, &rejection).await }.boxed()
    }
}

type HeadRead = Result<(RequestHead, usize, Vec<u8>), BadHead>;

/// Reads until the head is whole; what came is handed out with it.
async fn read_head(stream: &mut ServerStream, max: usize) -> Result<HeadRead, TransportError> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        match RequestHead::parse(&bytes) {
            Ok(Some((head, size))) => return Ok(Ok((head, size, bytes))),
            Ok(None) if bytes.len() >= max => {
                return Ok(Err(BadHead(Rejection {
                    code: 431,
                    reason: "the request head is too long".to_owned(),
                    retry_after_seconds: None,
                })));
            }
            Ok(None) => {}
            Err(bad) => return Ok(Err(bad)),
        }
        let room = (max - bytes.len()) as u64;
        if (&mut *stream)
            .take(room)
            .read_buf(&mut bytes)
            .await
            .map_err(stream_error)?
            == 0
        {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Answers and closes. Waits for the peer to close too, so that the answer is not lost in a reset, but not for long.
async fn refuse(mut stream: ServerStream, rejection: &Rejection) {
    let answer = refusal(rejection);
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, told).await;
}

/// The peer was gone before we looked.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// No more file descriptors (EMFILE, ENFILE) or memory (ENOBUFS, ENOMEM).
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 64 << 10;
