//! The dialing side of TLS.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Identity, QUIC_ALPN, TlsError, TlsVersions, provider, roots};

/// What a dialer needs: the CA of the server and its own identity.
///
/// Clones share one configuration. [`replace`](Self::replace) changes it for all of them, as after a renewed certificate; the next
/// dial uses it. Sessions are resumed where the server hands out tickets. No application protocol is named, as KubeEdge's
/// edges do (a Go server refuses a list that shares nothing with its own).
#[derive(Clone)]
pub struct TlsClient {
    current: Arc<ArcSwap<Configs>>,
}

/// One configuration for TCP and, with our protocol named, one for QUIC. Each has its own sessions to resume.
struct Configs {
    stream: Arc<ClientConfig>,
    quic: Arc<QuicClientConfig>,
}

impl TlsClient {
    /// Trusts servers of `ca` whose certificate carries the host that was dialed; shows `identity` when asked for one.
    ///
    /// TLS 1.2 is accepted: whether it is good enough is the server's decision, and old stock servers have no other.
    pub fn new(ca: &CertificateDer<'static>, identity: Option<Identity>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(TlsVersions::From12.list())?
            .with_root_certificates(roots(ca)?);
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key)?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Self::from_config(config)
    }

    /// Believes any server. For one purpose: to fetch `/ca.crt`, whose SHA-256 the join token names. **Whoever uses this must check
    /// what it fetched by that hash, and send nothing secret.**
    pub fn unverified_to_fetch_the_ca() -> Result<Self, TlsError> {
        let provider = provider();
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(TlsVersions::From12.list())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self::from_config(config)
    }

    fn from_config(config: ClientConfig) -> Result<Self, TlsError> {
        let mut quic = config.clone();
        quic.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        quic.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        let quic = QuicClientConfig::try_from(quic)
            .map_err(|_| rustls::Error::General("QUIC needs TLS 1.3 with AES-128-GCM".into()))?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(Configs {
                stream: Arc::new(config),
                quic: Arc::new(quic),
            })),
        })
    }

    /// From now on all clones dial with the configuration of `other`.
    pub fn replace(&self, other: &Self) {
        self.current.store(other.current.load_full());
    }

    /// The configuration of this moment, for `tokio_rustls::TlsConnector`. Ask anew for each dial.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.current.load().stream.clone()
    }

    /// The same for QUIC.
    pub(crate) fn quic_config(&self) -> Arc<QuicClientConfig> {
        self.current.load().quic.clone()
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsClient")
            .field(&self.current.load().stream)
            .finish()
    }
}

/// Takes any certificate, but insists that the server holds its key.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Sessions to resume. An edge knows a handful of cloud endpoints; rustls keeps up to eight tickets for each.
const SESSIONS_MAX: usize = 64;
