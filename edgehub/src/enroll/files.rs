//! Whether the node's certificate is of use, from files or from the server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub_core::credentials::{CredentialError, certificate_pem, read_certificates, write_private};
use hub_core::node::NodeId;
use hub_core::transport::{Identity, provider};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{EnrollConfig, Enrolled};

/// Why a certificate is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the node has no certificate")]
    Absent,
    #[error("{0}")]
    Files(#[from] CredentialError),
    #[error("the file {} does not exist", .0.display())]
    NoCa(PathBuf),
    #[error("the certificate is for {0:?}")]
    OtherNode(String),
    #[error("the certificate is expired")]
    Expired,
    #[error("the certificate does not fit the CA: {0}")]
    OtherCa(String),
    #[error("the key does not belong to the certificate: {0}")]
    OtherKey(String),
    #[error("the certificate is malformed")]
    Malformed,
}

/// From when until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// The node's certificate, if it is of use.
pub(super) fn load(config: &EnrollConfig, now: SystemTime) -> Result<Enrolled, Unfit> {
    let identity = config.files.load()?.ok_or(Unfit::Absent)?;
    let ca = read_certificates(&config.ca_file)?
        .and_then(|mut all| (!all.is_empty()).then(|| all.swap_remove(0)))
        .ok_or_else(|| Unfit::NoCa(config.ca_file.clone()))?;
    let Lifetime {
        not_before,
        not_after,
    } = check(config, &identity, &ca, now)?;
    Ok(Enrolled {
        identity,
        ca,
        not_before,
        not_after,
    })
}

/// Keeps them. The CA goes first: a certificate never lies there without it.
pub(super) fn store(
    config: &EnrollConfig,
    identity: &Identity,
    ca: &CertificateDer<'_>,
) -> Result<(), CredentialError> {
    write_private(&config.ca_file, certificate_pem(ca).as_bytes()).map_err(|source| {
        CredentialError::File {
            path: config.ca_file.clone(),
            source,
        }
    })?;
    config.files.store(identity)
}

/// Whether the certificate is this node's, of this CA, and good now.
pub(super) fn check(
    config: &EnrollConfig,
    identity: &Identity,
    ca: &CertificateDer<'static>,
    now: SystemTime,
) -> Result<Lifetime, Unfit> {
    let leaf = identity.chain.first().ok_or(Unfit::Malformed)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Unfit::Malformed)?;
    let mut names = parsed.subject().iter_common_name();
    let name = names
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    if NodeId::from_common_name(name).as_ref() != Some(&config.node) {
        return Err(Unfit::OtherNode(name.chars().take(300).collect()));
    }
    let lifetime = Lifetime {
        not_before: at(parsed.validity().not_before.timestamp()),
        not_after: at(parsed.validity().not_after.timestamp()),
    };
    if now >= lifetime.not_after {
        return Err(Unfit::Expired);
    }
    if now < lifetime.not_before {
        // The cloud's clock counts, and it has just written its own time into what it issued.
        let ahead = lifetime.not_before.duration_since(now).unwrap_or_default();
        tracing::warn!(
            ?ahead,
            "by this node's clock its certificate is not valid yet; is the clock right?"
        );
    }
    check_chain(identity, ca, now.max(lifetime.not_before))?;
    let key = identity.key.clone_key();
    rustls::sign::CertifiedKey::from_der(identity.chain.clone(), key, &provider())
        .map_err(|error| Unfit::OtherKey(error.to_string()))?;
    Ok(lifetime)
}

/// The check that the server will make.
fn check_chain(identity: &Identity, ca: &CertificateDer<'static>, now: SystemTime) -> Result<(), Unfit> {
    let other = |error: &dyn std::fmt::Display| Unfit::OtherCa(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|error| other(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| other(&error))?;
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(since);
    verifier
        .verify_client_cert(&identity.chain[0], &identity.chain[1..], now)
        .map_err(|error| other(&error))?;
    Ok(())
}

fn at(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(since)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since)
    };
    at.unwrap_or(SystemTime::UNIX_EPOCH)
}
