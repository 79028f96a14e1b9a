//! Who an end of a connection is: our own certificate and key, and what the peer's certificate says.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::TlsError;

/// A certificate chain (leaf first) and its key.
#[derive(Debug)]
pub struct Identity {
    /// The chain, leaf first. A stock CloudHub that authorizes refuses clients that send more than the leaf.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// What a verified certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The first common name of the subject.
    pub common_name: Option<Arc<str>>,
    /// The organizations of the subject; a Kubernetes user's groups.
    pub organizations: Vec<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Not valid before, in seconds since 1970.
    pub not_before_unix_s: i64,
    /// Not valid after, in seconds since 1970.
    pub not_after_unix_s: i64,
}

impl PeerIdentity {
    /// Reads a certificate. It verifies nothing: hand in the leaf that TLS has verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| TlsError::Certificate)?;
        let subject = parsed.subject();
        Ok(Self {
            common_name: subject
                .iter_common_name()
                .find_map(|name| name.as_str().ok())
                .map(Arc::from),
            organizations: subject
                .iter_organization()
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            fingerprint: Sha256::digest(certificate).into(),
            not_before_unix_s: parsed.validity().not_before.timestamp(),
            not_after_unix_s: parsed.validity().not_after.timestamp(),
        })
    }

    /// The leaf among the certificates that a TLS or QUIC session kept of its peer, if the peer sent any.
    pub fn of_chain(chain: Option<&[CertificateDer<'_>]>) -> Result<Option<Self>, TlsError> {
        chain.and_then(<[_]>::first).map(Self::of).transpose()
    }
}
