//! Where callers come in, and what each way in says about them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hub_core::socket::Socket;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::Api;
use crate::auth::{Peer, PeerCertificates};
use crate::server::MetaService;
use crate::serving::Serving;
use crate::stall::Patient;

/// A listener of a [`MetaServer`](crate::MetaServer).
#[derive(Debug)]
pub enum Listen {
    /// Plain HTTP. Callers of the same machine are known by the user that they run as.
    Plain(TcpListener),
    /// HTTPS. Callers may show certificates.
    Tls(TcpListener, Serving),
    /// Plain HTTP on a Unix socket. Callers are known by the user that they run as.
    Unix(Socket),
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self::Plain(listener)
    }
}

impl Listen {
    /// The next caller.
    pub(crate) async fn accept(&self) -> io::Result<Arrival> {
        Ok(match self {
            Self::Plain(listener) => {
                let (stream, remote) = listener.accept().await?;
                Arrival::Plain(stream, remote)
            }
            Self::Tls(listener, serving) => Arrival::Tls(listener.accept().await?.0, serving.clone()),
            Self::Unix(socket) => Arrival::Unix(socket.accept().await?),
        })
    }
}

/// Somebody who connected.
pub(crate) enum Arrival {
    Plain(TcpStream, SocketAddr),
    Tls(TcpStream, Serving),
    Unix(UnixStream),
}

impl Arrival {
    /// Answers them until one of both has enough.
    pub(crate) async fn attend(self, connection: Connection) {
        match self {
            Self::Plain(stream, remote) => {
                let _ = stream.set_nodelay(true);
                // The kernel is asked only where the answer decides something.
                let peer = match stream.local_addr() {
                    Ok(local) if connection.api.is_guarded() => Peer::of_tcp(local, remote),
                    _ => Peer::Unknown,
                };
                connection.converse(stream, peer).await;
            }
            Self::Unix(stream) => {
                let uid = stream.peer_cred().ok().map(|caller| caller.uid());
                connection.converse(stream, Peer::Local(uid)).await;
            }
            Self::Tls(stream, serving) => {
                // An event must not wait for more of them.
                let _ = stream.set_nodelay(true);
                let handshake = TlsAcceptor::from(serving.tls()).accept(stream);
                let stream = match timeout(connection.api.config.head_timeout, handshake).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        return;
                    }
                    Err(_) => return,
                };
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.map(|chain| Arc::new(PeerCertificates(chain.to_vec())));
                connection.converse(stream, Peer::Tls(shown)).await;
            }
        }
    }
}

/// What a connection is served with.
pub(crate) struct Connection {
    pub(crate) api: Arc<Api>,
    pub(crate) watcher: Watcher,
    /// Its place among those that may stand at a time.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn converse<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.api.config;
        let stalled = self.api.metrics.stalled.clone();
        let patient = Patient::new(stream, config.head_timeout, config.stall_timeout, move || {
            stalled.inc();
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.head_timeout)
            .max_buf_size(config.head_bytes_max)
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(config.head_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(1000)
            .keep_alive_interval(config.stall_timeout)
            .keep_alive_timeout(config.stall_timeout);
        let service = MetaService {
            api: self.api.clone(),
            peer: Arc::new(peer),
        };
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(patient), TowerToHyperService::new(service))
            .into_owned();
        let open = self.api.metrics.connections.clone();
        open.inc();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
        open.dec();
    }
}
