//! The edge's end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use quinn::{ClientConfig, Connection, RecvStream, SendStream, TransportConfig};

use super::listener::peer;
use super::stream::QuicStream;
use super::{QuicConfig, connection_error};
use crate::transport::greeting::greet;
use crate::transport::{ConnectRequest, Dialer, Endpoint, TlsClient, Transport, TransportError};

/// Dials our own CloudHubs. Clones and dials share one UDP socket for each address family.
#[derive(Debug, Clone)]
pub struct QuicDialer {
    sockets: Arc<Mutex<Sockets>>,
    tls: TlsClient,
    config: QuicConfig,
    transport: Arc<TransportConfig>,
}

#[derive(Debug, Default)]
struct Sockets {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

impl QuicDialer {
    /// Dials with what `tls` holds at that moment. Sockets are bound when first needed.
    pub fn new(tls: TlsClient, config: QuicConfig) -> Self {
        Self {
            sockets: Arc::default(),
            tls,
            config,
            transport: config.transport(0),
        }
    }

    fn socket(&self, to: SocketAddr) -> io::Result<quinn::Endpoint> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, any) = match to {
            SocketAddr::V4(_) => (&mut sockets.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&mut sockets.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        if let Some(socket) = socket {
            return Ok(socket.clone());
        }
        Ok(socket.insert(quinn::Endpoint::client(any)?).clone())
    }

    async fn dial(
        self,
        endpoint: Endpoint,
        request: ConnectRequest,
    ) -> Result<Box<dyn Transport>, TransportError> {
        let mut last = TransportError::Link(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no address", endpoint.host),
        ));
        for address in tokio::net::lookup_host((&*endpoint.host, endpoint.port)).await? {
            match self.connect(address, &endpoint.host).await {
                Ok((connection, streams)) => return self.greet(connection, streams, &request).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> Result<(Connection, (SendStream, RecvStream)), TransportError> {
        let mut client = ClientConfig::new(self.tls.quic_config());
        client.transport_config(self.transport.clone());
        let connection = self
            .socket(address)?
            .connect_with(client, address, host)
            .map_err(|error| match error {
                quinn::ConnectError::InvalidServerName(_) => {
                    TransportError::Tls(format!("{host} is no name of a server"))
                }
                error => TransportError::Link(io::Error::other(error)),
            })?
            .await
            .map_err(connection_error)?;
        let streams = connection.open_bi().await.map_err(connection_error)?;
        Ok((connection, streams))
    }

    async fn greet(
        &self,
        connection: Connection,
        streams: (SendStream, RecvStream),
        request: &ConnectRequest,
    ) -> Result<Box<dyn Transport>, TransportError> {
        let peer = peer(&connection)?;
        let stream = QuicStream::new(connection.clone(), streams);
        greet(stream, request, peer, self.config.limits())
            .await
            .map_err(|error| match connection.close_reason() {
                // A server that does not like our certificate says so only now.
                Some(reason) if matches!(error, TransportError::Link(_)) => connection_error(reason),
                _ => error,
            })
    }
}

impl Dialer for QuicDialer {
    fn dial(
        &self,
        endpoint: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        self.clone().dial(endpoint.clone(), request).boxed()
    }

    fn transport(&self) -> &'static str {
        super::NAME
    }
}
