//! Where the server certificate is kept, and how it is made anew there.

use std::sync::Arc;
use std::time::SystemTime;

use hub_core::credentials::CredentialFiles;
use hub_core::transport::Identity;
use rustls_pki_types::CertificateDer;

use super::authority::{AuthorityConfig, AuthorityError};
use super::issue::LocalSigner;
use super::secrets::{ATTEMPTS, CA, Pair, SERVER, SecretError, SharedSecrets};
use super::server::{Fitness, Names, complain, fitness, issue};

/// Where the server certificate and its signer are.
pub(super) enum Place {
    Files(Arc<LocalSigner>),
    Secrets(Arc<LocalSigner>, SharedSecrets),
    /// Somebody else keeps it good.
    Elsewhere,
}

impl Place {
    /// The server certificate that is there now, made anew where it is ours and near its end. None where nobody knows.
    pub(super) async fn server(
        &self,
        config: &AuthorityConfig,
        ca: &CertificateDer<'static>,
        now: SystemTime,
    ) -> Result<Option<Identity>, AuthorityError> {
        let server = match self {
            Self::Files(signer) => {
                let (config, ca, signer) = (config.clone(), ca.clone(), signer.clone());
                let server = move || server_of_files(&config, &ca, &signer, now);
                tokio::task::spawn_blocking(server)
                    .await
                    .map_err(|_| AuthorityError::Stopping)??
            }
            Self::Secrets(signer, secrets) => match load(&config.server).await? {
                Some(server) => {
                    if fitness(&server.chain[0], ca, &Names::of(config), now) != Fitness::Good {
                        complain(&config.server.certificate.display());
                    }
                    server
                }
                None => server_of_secrets(config, ca, signer, secrets, now).await?,
            },
            Self::Elsewhere => return Ok(None),
        };
        Ok(Some(server))
    }
}

/// The server certificate in the files, or a new one.
pub(super) fn server_of_files(
    config: &AuthorityConfig,
    ca: &CertificateDer<'static>,
    signer: &LocalSigner,
    now: SystemTime,
) -> Result<Identity, AuthorityError> {
    let names = Names::of(config);
    let file = config.server.certificate.display();
    if let Some(server) = config.server.load()? {
        match fitness(&server.chain[0], ca, &names, now) {
            Fitness::Good => return Ok(server),
            Fitness::Foreign => {
                complain(&file);
                return Ok(server);
            }
            Fitness::Renew => {}
        }
    }
    let server = issue(signer, &names, now).map_err(|source| AuthorityError::Signer {
        path: config.ca.certificate.clone(),
        source,
    })?;
    config.server.store(&server)?;
    tracing::info!(%file, "issued a new server certificate");
    Ok(server)
}

/// The server certificate in the Secret, or a new one.
pub(super) async fn server_of_secrets(
    config: &AuthorityConfig,
    ca: &CertificateDer<'static>,
    signer: &LocalSigner,
    secrets: &SharedSecrets,
    now: SystemTime,
) -> Result<Identity, AuthorityError> {
    let names = Names::of(config);
    settle(secrets, SERVER, |known| {
        let mut names = names.clone();
        if let Some(server) = known {
            match fitness(&server.chain[0], ca, &names, now) {
                Fitness::Good => return Ok(None),
                Fitness::Foreign => {
                    complain(&SERVER.name);
                    return Ok(None);
                }
                Fitness::Renew => names = names.and_those_of(&server.chain[0]),
            }
        }
        tracing::info!("issuing a new server certificate");
        let server = issue(signer, &names, now);
        server.map(Some).map_err(|source| AuthorityError::Signer {
            path: CA.name.into(),
            source,
        })
    })
    .await
}

/// What a Secret holds in the end: what is there, unless `make` makes something better of it.
pub(super) async fn settle(
    secrets: &SharedSecrets,
    pair: Pair,
    mut make: impl FnMut(Option<&Identity>) -> Result<Option<Identity>, AuthorityError>,
) -> Result<Identity, AuthorityError> {
    for _ in 0..ATTEMPTS {
        let (known, seen) = secrets.load(pair).await?;
        match (make(known.as_ref())?, known) {
            (None, Some(known)) => return Ok(known),
            (Some(made), _) => {
                if secrets.store(pair, &made, seen).await? {
                    return Ok(made);
                }
            }
            (None, None) => {}
        }
    }
    Err(SecretError::Contested(pair.name).into())
}

/// What the operator put into files goes into the Secret, so that all instances have it.
pub(super) async fn publish(
    secrets: &SharedSecrets,
    pair: Pair,
    own: Identity,
) -> Result<Identity, AuthorityError> {
    settle(secrets, pair, |known| {
        Ok(known
            .is_none_or(|known| known.chain.first() != own.chain.first() || known.key != own.key)
            .then(|| own.clone()))
    })
    .await
    .map(|_| own)
}

pub(super) async fn load(files: &CredentialFiles) -> Result<Option<Identity>, AuthorityError> {
    let files = files.clone();
    let loaded = tokio::task::spawn_blocking(move || files.load()).await;
    Ok(loaded.map_err(|_| AuthorityError::Stopping)??)
}
