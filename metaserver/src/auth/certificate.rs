//! Client certificates: shown in the handshake, judged with each request, as a kube-apiserver does. So who shows a bad one is told so
//! in words (401), and one that ends while its connection stands is good no longer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hub_core::api::{AUTHENTICATED, User};
use hub_core::transport::{PeerIdentity, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

/// What a client showed. That it holds the key is proven; nothing else is.
#[derive(Debug)]
pub(crate) struct PeerCertificates(pub(crate) Vec<CertificateDer<'static>>);

/// Takes every certificate whose key the client holds.
#[derive(Debug)]
pub(crate) struct AnyCertificate;

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Authorities::user decides, with each request.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The authorities whose certificates are believed, out of a file that may change.
#[derive(Debug)]
pub(super) struct Authorities {
    file: PathBuf,
    interval: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    bytes: Vec<u8>,
    looked: Option<Instant>,
}

impl Authorities {
    pub(super) fn new(file: PathBuf, interval: Duration) -> Self {
        Self {
            file,
            interval,
            known: Mutex::default(),
        }
    }

    /// Whose the certificates are: the common name is the user, organizations are groups. The reason of a refusal is for a log.
    pub(super) fn user(&self, shown: &PeerCertificates, now: SystemTime) -> Result<User, String> {
        let Some((leaf, intermediates)) = shown.0.split_first() else {
            return Err("no certificate".into());
        };
        let verifier = self
            .verifier()
            .ok_or("no authority of client certificates is known")?;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| "this machine's clock is before 1970")?;
        verifier
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(now))
            .map_err(|error| error.to_string())?;
        let identity = PeerIdentity::of(leaf).map_err(|error| error.to_string())?;
        let name = identity.common_name.filter(|name| !name.is_empty());
        Ok(User {
            name: name.ok_or("the certificate names nobody")?.to_string(),
            groups: identity
                .organizations
                .into_iter()
                .chain([AUTHENTICATED.to_owned()])
                .collect(),
            ..User::default()
        })
    }

    /// Reads the file again when it is time. While it cannot be read what was known stays.
    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .looked
            .is_none_or(|looked| looked.elapsed() >= self.interval)
        {
            known.looked = Some(Instant::now());
            match std::fs::read(&self.file) {
                Ok(bytes) if bytes != known.bytes => match verifier(&bytes) {
                    Ok(verifier) => {
                        known.verifier = Some(verifier);
                        known.bytes = bytes;
                    }
                    Err(error) => complain(&self.file, &error),
                },
                Ok(_) => {}
                Err(error) => complain(&self.file, &error.to_string()),
            }
        }
        known.verifier.clone()
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
        .build()
        .map_err(|error| error.to_string())
}

fn complain(file: &Path, error: &str) {
    tracing::warn!(file = %file.display(), error, "the authorities of client certificates cannot be read");
}
