//! TLS: the one place that names rustls' configuration and the crypto provider.
//!
//! The tunnel is mutually authenticated: the server requires a client certificate of its CA. TLS 1.3 between our own ends; a
//! server accepts 1.2 as well where the operator allows it for old stock edges.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate chain (leaf first) and its key.
#[derive(Debug)]
pub struct Identity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

/// What a listener needs: its own identity and, for mutual TLS, the CA of the clients. Replaceable while running.
#[derive(Debug, Clone)]
pub struct TlsServer(pub Arc<rustls::ServerConfig>);

/// What a dialer needs: the CA of the server and its own identity.
#[derive(Debug, Clone)]
pub struct TlsClient(pub Arc<rustls::ClientConfig>);

/// The one crypto provider of this build.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    compile_error!("choose a crypto provider: feature aws-lc-rs or ring");
}
