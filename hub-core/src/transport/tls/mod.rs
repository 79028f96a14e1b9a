//! TLS: the one place that names rustls' configuration and the crypto provider.
//!
//! The tunnel is mutually authenticated: the server requires a client certificate of its CA. TLS 1.3 between our own ends; a
//! server accepts 1.2 as well where the operator allows it for old stock edges. There is no 0-RTT anywhere: what arrives in it
//! may be replayed.

mod client;
mod identity;
mod server;
mod stream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

pub use client::TlsClient;
pub use identity::{Identity, PeerIdentity};
pub use server::TlsServer;
pub(super) use stream::ServerStream;

use super::TransportError;

/// The protocol of QUIC connections between our own ends (ALPN). WebSocket connections name none, as KubeEdge's edges do.
pub const QUIC_ALPN: &[u8] = b"edge-tunnel/1";

/// Which versions a server or client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// TLS 1.3 only: between our own ends.
    #[default]
    Only13,
    /// TLS 1.2 as well, for stock peers of old.
    From12,
}

impl TlsVersions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Only13 => &BOTH[..1],
            Self::From12 => &BOTH,
        }
    }
}

/// Certificates or keys that cannot be used. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be read.
    #[error("malformed certificate")]
    Certificate,
    /// Certificate and key do not fit together, or the provider does not support them.
    #[error(transparent)]
    Config(#[from] rustls::Error),
    /// The CA cannot be used to verify clients.
    #[error("CA of the clients: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// The one crypto provider of this build.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    compile_error!("choose a crypto provider: feature aws-lc-rs or ring");
}

fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    #[cfg(feature = "aws-lc-rs")]
    return rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return rustls::crypto::ring::Ticketer::new();
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(Arc::new(roots))
}

/// What an error of a TLS stream means. rustls wraps its own errors into [`std::io::Error`].
///
/// Certificates and versions that do not fit are for a person to look at, and may show only after the handshake: a TLS 1.3 client
/// is told of them by its first read. Other errors of TLS are broken protocol.
pub(super) fn stream_error(error: std::io::Error) -> TransportError {
    use rustls::{AlertDescription as Alert, Error};

    let Some(inner) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
        return TransportError::Link(error);
    };
    match inner {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::PeerIncompatible(_) => {
            TransportError::Tls(inner.to_string())
        }
        Error::AlertReceived(alert) => match alert {
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure
            | Alert::ProtocolVersion
            | Alert::NoApplicationProtocol => TransportError::Tls(inner.to_string()),
            _ => TransportError::Link(error),
        },
        _ => TransportError::Protocol(format!("TLS: {inner}")),
    }
}
