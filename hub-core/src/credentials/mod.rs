//! Certificates and keys as files, encoded as KubeEdge encodes them, so that either half can be exchanged for a stock one.
//!
//! A certificate and its key are two files, and no file system replaces two files at once. [`CredentialFiles::store`] therefore
//! puts the new key beside the old one first, replaces the certificate, then moves the key into place; whichever moment the
//! power fails at, [`CredentialFiles::load`] finds a certificate with its key.

mod file;
mod sec1;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use file::{certificate_pem, make_private, write_private};
pub use sec1::{pkcs8_from_sec1, sec1_from_pkcs8};

use crate::transport::{Identity, provider};

/// The two files of one certificate: the chain, leaf first, and the key. Never readable by others than their owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFiles {
    /// PEM `CERTIFICATE` blocks.
    pub certificate: PathBuf,
    /// PEM `EC PRIVATE KEY` (SEC1), `PRIVATE KEY` (PKCS #8) or `RSA PRIVATE KEY`.
    pub key: PathBuf,
}

/// The files cannot be used. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// One of the two is missing.
    #[error("{} exists, but {} does not; restore it, or remove both", present.display(), missing.display())]
    Incomplete {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The key is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A file holds something else.
    #[error("{} holds no {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl CredentialFiles {
    /// Names the two files.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
        }
    }

    /// Reads both; `None` when neither exists. Completes a [`store`](Self::store) that was cut off.
    pub fn load(&self) -> Result<Option<Identity>, CredentialError> {
        let Some(certificate) = read(&self.certificate)? else {
            return match read(&self.key)? {
                None => Ok(None),
                Some(_) => Err(CredentialError::Incomplete {
                    present: self.key.clone(),
                    missing: self.certificate.clone(),
                }),
            };
        };
        let chain = parse_certificates(&self.certificate, &certificate)?;
        let key = match read(&self.key)? {
            Some(bytes) => Some(parse_key(&self.key, &bytes)?),
            None => None,
        };
        if let Some(key) = key.as_ref().filter(|key| belongs(&chain, key)) {
            return Ok(Some(Identity {
                key: key.clone_key(),
                chain,
            }));
        }
        if let Some(next) = self.take_next_key(&chain)? {
            return Ok(Some(Identity { chain, key: next }));
        }
        Err(match key {
            None => CredentialError::Incomplete {
                present: self.certificate.clone(),
                missing: self.key.clone(),
            },
            Some(_) => CredentialError::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            },
        })
    }

    /// Reads both, or stores what `make` makes when neither exists. Processes that start together make one between them.
    pub fn load_or_store<E: From<CredentialError>>(
        &self,
        make: impl FnOnce() -> Result<Identity, E>,
    ) -> Result<Identity, E> {
        if let Some(identity) = self.load()? {
            return Ok(identity);
        }
        let path = self.beside(".lock");
        let _lock = file::lock(&path).map_err(|source| CredentialError::File { path, source })?;
        if let Some(identity) = self.load()? {
            return Ok(identity);
        }
        let identity = make()?;
        self.store(&identity)?;
        Ok(identity)
    }

    /// Replaces both durably.
    pub fn store(&self, identity: &Identity) -> Result<(), CredentialError> {
        let chain: String = identity.chain.iter().map(|c| certificate_pem(c)).collect();
        let next = self.next_key();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CredentialError::File { path, source }
        };
        write_private(&next, file::key_pem(&identity.key).as_bytes()).map_err(at(&next))?;
        write_private(&self.certificate, chain.as_bytes()).map_err(at(&self.certificate))?;
        file::rename_durably(&next, &self.key).map_err(at(&self.key))
    }

    /// Where the key of a certificate waits that is not in place yet.
    fn next_key(&self) -> PathBuf {
        self.beside(".next")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.key.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn take_next_key(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<Option<PrivateKeyDer<'static>>, CredentialError> {
        let path = self.next_key();
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let key = parse_key(&path, &bytes)?;
        if !belongs(chain, &key) {
            return Ok(None);
        }
        file::rename_durably(&path, &self.key).map_err(|source| CredentialError::File {
            path: self.key.clone(),
            source,
        })?;
        Ok(Some(key))
    }
}

/// Reads the certificates of a PEM file; `None` when it does not exist.
pub fn read_certificates(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, CredentialError> {
    match read(path)? {
        None => Ok(None),
        Some(bytes) => parse_certificates(path, &bytes).map(Some),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CredentialError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse_certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CredentialError::Malformed {
            path: path.to_owned(),
            expected: "PEM certificate",
        }),
    }
}

fn parse_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| CredentialError::Malformed {
        path: path.to_owned(),
        expected: "PEM private key",
    })
}

/// Whether a key is that of the first certificate.
pub fn belongs(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> bool {
    rustls::sign::CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider()).is_ok()
}

#[cfg(test)]
mod tests;
