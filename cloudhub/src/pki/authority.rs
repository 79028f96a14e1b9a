//! The certificate authority: created once, or loaded from the files that KubeEdge uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub_core::credentials::{CredentialError, CredentialFiles, sec1_from_pkcs8};
use hub_core::node::NodeId;
use hub_core::transport::Identity;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::issue::{AUTHORITY_NAME, IssueError, LocalSigner, Signer, alternative_names, authority};
use super::sign::one;
use super::token::{DEFAULT_LIFETIME, TokenError, TokenKey, join_token};

/// Where the authority keeps its files, and what it issues. The names are those of KubeEdge's `modules.cloudHub`.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// `tlsCAFile` and `tlsCAKeyFile`: both or neither exist.
    pub ca: CredentialFiles,
    /// `tlsCertFile` and `tlsPrivateKeyFile`: both or neither exist.
    pub server: CredentialFiles,
    /// `advertiseAddress`: the addresses that edges dial.
    pub addresses: Vec<IpAddr>,
    /// `dnsNames`: the names that edges dial. Empty ones are skipped: KubeEdge's default is one empty name.
    pub names: Vec<String>,
    /// `edgeCertSigningDuration`, as a time: how long a node's certificate is good. At most a hundred years.
    pub node_validity: Duration,
    /// How long a join token is good: twice `tokenRefreshDuration`.
    pub token_lifetime: Duration,
}

/// The CA, the cloud's own certificate, and what tokens are checked with.
pub struct Authority {
    ca: CertificateDer<'static>,
    signer: Arc<dyn Signer>,
    tokens: TokenKey,
    token_lifetime: Duration,
    server: Identity,
    cloud: Vec<String>,
}

/// The authority cannot be opened. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is missing, foreign or damaged.
    #[error(transparent)]
    Files(#[from] CredentialError),
    /// The CA's key cannot sign.
    #[error("the CA in {} cannot sign: {source}", path.display())]
    Signer {
        /// The CA's certificate.
        path: PathBuf,
        /// Why.
        source: IssueError,
    },
    /// The CA is no CA, or its time is over.
    #[error("{} {why}", path.display())]
    Unfit {
        /// The CA's certificate.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

impl Default for AuthorityConfig {
    fn default() -> Self {
        Self {
            ca: CredentialFiles::new("/etc/kubeedge/ca/rootCA.crt", "/etc/kubeedge/ca/rootCA.key"),
            server: CredentialFiles::new("/etc/kubeedge/certs/server.crt", "/etc/kubeedge/certs/server.key"),
            addresses: Vec::new(),
            names: Vec::new(),
            node_validity: 365 * DAY,
            token_lifetime: DEFAULT_LIFETIME,
        }
    }
}

impl Authority {
    /// Loads the CA and the server certificate, or creates them. Reads and writes files: not for an async task.
    ///
    /// A server certificate that we issued is made anew when the addresses changed or its end is near; one from elsewhere
    /// is left alone.
    pub fn open(config: &AuthorityConfig, now: SystemTime) -> Result<Self, AuthorityError> {
        let path = config.ca.certificate.clone();
        let unsigned = |source| AuthorityError::Signer {
            path: path.clone(),
            source,
        };
        let identity = config.ca.load_or_store(|| {
            tracing::info!(file = %path.display(), "making a new certificate authority");
            create(now).map_err(unsigned)
        })?;
        let ca = identity.chain[0].clone();
        check(&ca, now).map_err(|why| AuthorityError::Unfit {
            path: path.clone(),
            why,
        })?;
        let validity = config.node_validity.min(AUTHORITY_VALIDITY);
        let signer = LocalSigner::new(&ca, &identity.key, validity).map_err(unsigned)?;
        let server = match config.server.load()? {
            Some(server) if !needs_renewal(&server.chain[0], &ca, config, now) => server,
            _ => {
                let server = issue_server(&signer, config, now).map_err(unsigned)?;
                config.server.store(&server)?;
                tracing::info!(file = %config.server.certificate.display(), "issued a new server certificate");
                server
            }
        };
        Ok(Self {
            tokens: TokenKey::of_ca(&identity.key),
            ..Self::external(ca, Arc::new(signer), TokenKey::new(&[]), server, config)
        })
    }

    /// An authority whose CA key is elsewhere: `signer` asks whoever holds it.
    pub fn external(
        ca: CertificateDer<'static>,
        signer: Arc<dyn Signer>,
        tokens: TokenKey,
        server: Identity,
        config: &AuthorityConfig,
    ) -> Self {
        let names = names(config).map(str::to_owned);
        Self {
            ca,
            signer,
            tokens,
            token_lifetime: config.token_lifetime,
            server,
            cloud: names
                .chain(config.addresses.iter().map(IpAddr::to_string))
                .collect(),
        }
    }

    /// The CA's certificate, which edges and listeners trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The cloud's own certificate and key.
    pub fn server_identity(&self) -> &Identity {
        &self.server
    }

    /// A token that lets an edge join: any one, or `node` only.
    pub fn join_token(&self, node: Option<&NodeId>, now: SystemTime) -> Result<String, TokenError> {
        let jwt = self.tokens.issue(now + self.token_lifetime, node)?;
        Ok(join_token(&self.ca, &jwt))
    }

    pub(super) fn tokens(&self) -> &TokenKey {
        &self.tokens
    }

    pub(super) fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// The names and addresses of the cloud, which no node may have.
    pub(super) fn cloud(&self) -> &[String] {
        &self.cloud
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cloud", &self.cloud).finish()
    }
}

fn create(now: SystemTime) -> Result<Identity, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::new)?;
    let certificate = authority(&key, now, AUTHORITY_VALIDITY)?;
    identity(certificate.der().clone(), &key)
}

fn issue_server(
    signer: &LocalSigner,
    config: &AuthorityConfig,
    now: SystemTime,
) -> Result<Identity, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::new)?;
    let (addresses, names) = served(config);
    let names = alternative_names(addresses, names)?;
    let certificate = signer.server(&key, names, now, SERVER_VALIDITY)?;
    identity(certificate, &key)
}

fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Identity, IssueError> {
    let sec1 = sec1_from_pkcs8(key.serialized_der(), key.public_key_raw())
        .ok_or_else(|| IssueError::new("the new key has an unknown form"))?;
    Ok(Identity {
        chain: vec![certificate],
        key: sec1.into(),
    })
}

/// What the server certificate covers; loopback when nothing is advertised, never nothing.
fn served(config: &AuthorityConfig) -> (Vec<IpAddr>, Vec<&str>) {
    let (mut addresses, mut names) = (config.addresses.clone(), names(config).collect::<Vec<_>>());
    if addresses.is_empty() && names.is_empty() {
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        names = vec!["localhost"];
    }
    (addresses, names)
}

fn names(config: &AuthorityConfig) -> impl Iterator<Item = &str> {
    config.names.iter().map(|n| n.trim()).filter(|n| !n.is_empty())
}

fn check(ca: &CertificateDer<'_>, now: SystemTime) -> Result<(), &'static str> {
    let (_, ca) = X509Certificate::from_der(ca).map_err(|_| "is not an X.509 certificate")?;
    if !ca.is_ca() {
        return Err("is not the certificate of a CA");
    }
    if !valid_at(&ca, now) {
        return Err("is expired, or the clock is wrong");
    }
    Ok(())
}

/// Whether the server certificate is ours and unfit; one from elsewhere is only warned about.
fn needs_renewal(
    leaf: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    config: &AuthorityConfig,
    now: SystemTime,
) -> bool {
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(leaf), X509Certificate::from_der(ca))
    else {
        return false;
    };
    let ours = leaf.issuer() == ca.subject()
        && one(leaf.subject().iter_common_name()) == Some(AUTHORITY_NAME)
        && one(leaf.subject().iter_organization()) == Some(AUTHORITY_NAME);
    // A CA made anew has the old one's name, and another key.
    let fit = valid_at(&leaf, now + SERVER_RENEWAL)
        && leaf.verify_signature(Some(ca.public_key())).is_ok()
        && covers(&leaf, config);
    if !ours && !fit {
        tracing::warn!(
            file = %config.server.certificate.display(),
            "the server certificate does not cover what is advertised, is near its end, or is of another CA; \
             replace it, or remove it and its key to have one issued"
        );
    }
    ours && !fit
}

fn covers(leaf: &X509Certificate<'_>, config: &AuthorityConfig) -> bool {
    let Ok(Some(san)) = leaf.subject_alternative_name() else {
        return false;
    };
    let (addresses, names) = served(config);
    let has = |wanted: &GeneralName<'_>| san.value.general_names.contains(wanted);
    names.into_iter().all(|name| has(&GeneralName::DNSName(name)))
        && addresses.into_iter().all(|address| match address {
            IpAddr::V4(a) => has(&GeneralName::IPAddress(&a.octets())),
            IpAddr::V6(a) => has(&GeneralName::IPAddress(&a.octets())),
        })
}

fn valid_at(certificate: &X509Certificate<'_>, at: SystemTime) -> bool {
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// KubeEdge's: 100 × 364 days.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(100 * 364 * 24 * 3600);

/// Ten years; a start within the last of them issues a new one.
const SERVER_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);
const SERVER_RENEWAL: Duration = Duration::from_secs(365 * 24 * 3600);
