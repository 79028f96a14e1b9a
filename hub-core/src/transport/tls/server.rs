//! The listening side of TLS.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;

use super::{Identity, QUIC_ALPN, TlsError, TlsVersions, provider, roots, ticketer};

/// What a listener needs: its own identity and the CA of the clients.
///
/// Clones share one configuration. [`replace`](Self::replace) changes it for all of them while they run: connections that stand
/// go on, new ones meet the new certificate. Session tickets do not outlive a replacement, so that a certificate of a CA that is
/// no longer trusted cannot resume.
#[derive(Clone)]
pub struct TlsServer {
    current: Arc<ArcSwap<Configs>>,
}

/// One configuration for TCP and, with our protocol named, one for QUIC.
#[derive(Clone)]
struct Configs {
    stream: Arc<ServerConfig>,
    quic: Arc<QuicServerConfig>,
}

impl TlsServer {
    /// For the tunnel: the client must show a certificate of `client_ca` that is good for client authentication.
    pub fn mutual(
        identity: Identity,
        client_ca: &CertificateDer<'static>,
        versions: TlsVersions,
    ) -> Result<Self, TlsError> {
        Self::new(identity, client_ca, versions, true)
    }

    /// For enrolment: a client without certificate is welcome; one that shows a certificate must show a good one.
    pub fn optional_client(
        identity: Identity,
        client_ca: &CertificateDer<'static>,
        versions: TlsVersions,
    ) -> Result<Self, TlsError> {
        Self::new(identity, client_ca, versions, false)
    }

    fn new(
        identity: Identity,
        client_ca: &CertificateDer<'static>,
        versions: TlsVersions,
        required: bool,
    ) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca)?, provider());
        let verifier = if required {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions.list())?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(identity.chain, identity.key)?;
        // Tickets carry the session, so the server keeps nothing; one is enough, since a node redials one connection.
        config.ticketer = ticketer()?;
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.max_early_data_size = 0;
        let mut quic = config.clone();
        quic.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        let quic = QuicServerConfig::try_from(quic)
            .map_err(|_| rustls::Error::General("QUIC needs TLS 1.3 with AES-128-GCM".into()))?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(Configs {
                stream: Arc::new(config),
                quic: Arc::new(quic),
            })),
        })
    }

    /// From now on new connections, of all clones, meet the configuration of `other`.
    pub fn replace(&self, other: &Self) {
        self.current.store(other.current.load_full());
    }

    /// The configuration of this moment, for `tokio_rustls::TlsAcceptor`. Ask anew for each connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().stream.clone()
    }

    /// The same for QUIC.
    pub(crate) fn quic_config(&self) -> Arc<QuicServerConfig> {
        self.current.load().quic.clone()
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsServer")
            .field(&self.current.load().stream)
            .finish()
    }
}
