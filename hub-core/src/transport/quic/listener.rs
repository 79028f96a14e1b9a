//! The cloud's end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TransportConfig, default_runtime};
use rustls_pki_types::CertificateDer;

use super::stream::QuicStream;
use super::{QuicConfig, connection_error};
use crate::transport::greeting::Greeted;
use crate::transport::{
    Capabilities, Incoming, Listener, Peer, PeerIdentity, TlsServer, TransportError, Upgrade,
};

/// Waits for edges on a UDP port.
pub struct QuicListener {
    endpoint: Endpoint,
    tls: TlsServer,
    config: QuicConfig,
    transport: Arc<TransportConfig>,
}

impl QuicListener {
    /// Binds a port; 0 for any free one. `tls` may be replaced while the listener runs.
    pub fn bind(address: SocketAddr, tls: TlsServer, config: QuicConfig) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        let runtime = default_runtime().ok_or_else(|| io::Error::other("no tokio runtime"))?;
        let transport = config.transport(1);
        let server = server_config(&tls, &transport);
        Ok(Self {
            endpoint: Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)?,
            tls,
            config,
            transport,
        })
    }
}

impl Listener for QuicListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Box<dyn Incoming>, TransportError>> {
        async move {
            let incoming = self
                .endpoint
                .accept()
                .await
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            Ok(Box::new(QuicIncoming {
                incoming,
                server: Arc::new(server_config(&self.tls, &self.transport)),
                config: self.config,
            }) as Box<dyn Incoming>)
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.endpoint.local_addr().ok()
    }

    fn transport(&self) -> &'static str {
        super::NAME
    }
}

struct QuicIncoming {
    incoming: quinn::Incoming,
    server: Arc<ServerConfig>,
    config: QuicConfig,
}

impl Incoming for QuicIncoming {
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Upgrade>, TransportError>> {
        async move {
            let connection = self
                .incoming
                .accept_with(self.server)
                .map_err(connection_error)?
                .await
                .map_err(connection_error)?;
            let peer = peer(&connection)?;
            let streams = connection.accept_bi().await.map_err(connection_error)?;
            let stream = QuicStream::new(connection, streams);
            Greeted::receive(stream, peer, self.config.limits()).await
        }
        .boxed()
    }
}

/// Who a shaken-hands connection leads to; the capabilities are not known yet.
pub(super) fn peer(connection: &quinn::Connection) -> Result<Peer, TransportError> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let identity = PeerIdentity::of_chain(chain.as_ref().map(|chain| &chain[..]))
        .map_err(|error| TransportError::Tls(error.to_string()))?;
    Ok(Peer {
        address: Some(connection.remote_address()),
        common_name: identity.as_ref().and_then(|id| id.common_name.clone()),
        fingerprint: identity.map(|id| id.fingerprint),
        capabilities: Capabilities::NONE,
        version: None,
        transport: super::NAME,
    })
}

fn server_config(tls: &TlsServer, transport: &Arc<TransportConfig>) -> ServerConfig {
    let mut server = ServerConfig::with_crypto(tls.quic_config());
    server.transport_config(transport.clone());
    server
}
