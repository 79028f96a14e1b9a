//! How a node gets its certificate, and a new one in time.
//!
//! ```text
//!   files fit? ──yes──► use them
//!      │ no
//!   token ──► GET /ca.crt (unverified) ──► hash equals the token's? ──► GET /edge.crt (verified, token, CSR) ──► files
//!
//!   70–90 % of the lifetime ──► GET /edge.crt (verified, own certificate, CSR) ──► files, and a new identity for the hub
//! ```
//!
//! The exchange is KubeEdge's (`edge/pkg/edgehub/certificate`); a stock cloudcore answers it.

mod client;
mod error;
mod files;
mod renewal;
mod request;
mod token;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;
use hub_core::transport::{Endpoint, Identity};
use rustls_pki_types::CertificateDer;

pub use error::{EnrollError, Move};
pub use renewal::{RenewalConfig, RenewalPlan};
pub use token::{JoinToken, TokenFormatError};

use client::{Client, Credentials};
use files::{Lifetime, Unfit};

/// What a node needs to enroll. The names are those of KubeEdge's `modules.edgeHub`.
#[derive(Debug, Clone)]
pub struct EnrollConfig {
    /// Who this is.
    pub node: NodeId,
    /// `httpServer`: where certificates are issued, tried in turn.
    pub http_servers: Vec<Endpoint>,
    /// `token`: needed while there is no certificate, or none that is any good.
    pub token: Option<String>,
    /// `tlsCaFile`.
    pub ca_file: PathBuf,
    /// `tlsCertFile` and `tlsPrivateKeyFile`.
    pub files: CredentialFiles,
    /// For connecting, TLS included.
    pub dial_timeout: Duration,
    /// For an answer.
    pub response_timeout: Duration,
}

/// A node with its certificate.
#[derive(Debug)]
pub struct Enrolled {
    /// Its certificate and key.
    pub identity: Identity,
    /// The CA that it trusts.
    pub ca: CertificateDer<'static>,
    /// From when the certificate is good.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl EnrollConfig {
    /// A node with KubeEdge's default files and deadlines.
    pub fn new(node: NodeId, http_servers: Vec<Endpoint>) -> Self {
        Self {
            node,
            http_servers,
            token: None,
            ca_file: "/etc/kubeedge/ca/rootCA.crt".into(),
            files: CredentialFiles::new("/etc/kubeedge/certs/server.crt", "/etc/kubeedge/certs/server.key"),
            dial_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(30),
        }
    }
}

/// Loads the node's certificate, or gets one with the token. Does not retry: [`EnrollError::whose_move`] says whether to.
pub async fn enroll(config: &EnrollConfig, now: SystemTime) -> Result<Enrolled, EnrollError> {
    let unfit = match files::load(config, now) {
        Ok(enrolled) => return Ok(enrolled),
        Err(unfit) => unfit,
    };
    let Some(token) = config.token.as_deref().filter(|token| !token.trim().is_empty()) else {
        return Err(EnrollError::NoToken(unfit.to_string()));
    };
    if !matches!(unfit, Unfit::Absent) {
        tracing::warn!(reason = %unfit, "the stored certificate is of no use; enrolling again with the token");
    }
    let token = JoinToken::parse(token)?;
    let client = Client::new(config);
    let ca = client.fetch_ca(&token).await?;
    issue(config, &client, ca, Credentials::Token(token.jwt()), now).await
}

/// Gets a new certificate by means of the current one. The current one stays good: connect with the new one, then drop the old.
pub async fn renew(
    config: &EnrollConfig,
    current: &Enrolled,
    now: SystemTime,
) -> Result<Enrolled, EnrollError> {
    if now >= current.not_after {
        return Err(EnrollError::Expired);
    }
    let client = Client::new(config);
    let credentials = Credentials::Certificate(&current.identity);
    issue(config, &client, current.ca.clone(), credentials, now).await
}

async fn issue(
    config: &EnrollConfig,
    client: &Client<'_>,
    ca: CertificateDer<'static>,
    credentials: Credentials<'_>,
    now: SystemTime,
) -> Result<Enrolled, EnrollError> {
    let (csr, key) = request::make(&config.node)?;
    let certificate = client.fetch_certificate(&ca, credentials, csr).await?;
    let identity = Identity {
        chain: vec![certificate],
        key,
    };
    let Lifetime {
        not_before,
        not_after,
    } = files::check(config, &identity, &ca, now)
        .map_err(|unfit| EnrollError::Answer(format!("the certificate it issued is of no use: {unfit}")))?;
    let (identity, ca) = keep(config.clone(), identity, ca).await?;
    Ok(Enrolled {
        identity,
        ca,
        not_before,
        not_after,
    })
}

/// Flash can take its time to be sure.
async fn keep(
    config: EnrollConfig,
    identity: Identity,
    ca: CertificateDer<'static>,
) -> Result<(Identity, CertificateDer<'static>), EnrollError> {
    let kept = tokio::task::spawn_blocking(move || {
        files::store(&config, &identity, &ca)?;
        Ok((identity, ca))
    });
    kept.await
        .map_err(|error| EnrollError::Request(error.to_string()))?
}
