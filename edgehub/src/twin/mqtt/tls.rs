//! TLS to the broker. The MQTT client speaks plainly into a socket that only this user may open; here that is carried on.
//!
//! The client's own TLS would bring an outdated verifier of certificates (decision 19).

use std::io;
use std::path::PathBuf;

use hub_core::credentials::{CredentialError, CredentialFiles, read_certificates};
use hub_core::socket::{Access, BindError, Socket};
use hub_core::transport::{Endpoint, TlsClient, TlsError};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// What TLS to the broker needs. The files are read anew for each connection, so new certificates need no restart.
#[derive(Debug, Clone)]
pub struct MqttTls {
    /// The CA of the broker.
    pub ca: PathBuf,
    /// What this node shows when the broker asks for it; nothing where neither file is there.
    pub identity: CredentialFiles,
    /// A path for the socket between the client and this, in a folder of this program's own.
    pub socket: PathBuf,
}

/// The broker is not reached over TLS.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("{} is not there", .0.display())]
    NoCa(PathBuf),
    #[error(transparent)]
    Files(#[from] CredentialError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} is no name that a certificate could carry")]
    Name(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Carries one connection at a time.
pub(super) struct Relay {
    socket: Socket,
    tls: MqttTls,
    broker: Endpoint,
}

impl Relay {
    pub(super) async fn bind(tls: MqttTls, broker: Endpoint) -> Result<Self, BindError> {
        let socket = Socket::bind(&tls.socket, Access::OWNER).await?;
        Ok(Self { socket, tls, broker })
    }

    /// Runs until it is dropped. The client tries again by itself: it finds a connection that ends.
    pub(super) async fn run(&self) {
        let mut said = String::new();
        let mut next = self.accept().await;
        loop {
            let carried = tokio::select! {
                carried = self.carry(next) => carried,
                // The client has given up the other.
                newer = self.accept() => {
                    next = newer;
                    continue;
                }
            };
            let why = carried.err().map_or_else(String::new, |error| error.to_string());
            if why != said && !why.is_empty() {
                tracing::warn!(broker = %self.broker, error = why, "no TLS connection to the MQTT broker");
            }
            said = why;
            next = self.accept().await;
        }
    }

    async fn accept(&self) -> UnixStream {
        loop {
            match self.socket.accept().await {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "the MQTT client is not heard");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn carry(&self, mut client: UnixStream) -> Result<(), CarryError> {
        let ca = read_certificates(&self.tls.ca)?.and_then(|all| all.into_iter().next());
        let ca = ca.ok_or_else(|| CarryError::NoCa(self.tls.ca.clone()))?;
        let tls = TlsClient::new(&ca, self.tls.identity.load()?)?;
        let host = &*self.broker.host;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| CarryError::Name(host.into()))?;
        let stream = TcpStream::connect((host, self.broker.port)).await?;
        stream.set_nodelay(true)?;
        let mut stream = TlsConnector::from(tls.config()).connect(name, stream).await?;
        match tokio::io::copy_bidirectional(&mut client, &mut stream).await {
            // Brokers end without a word.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            ended => Ok(ended.map(drop)?),
        }
    }
}

const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
