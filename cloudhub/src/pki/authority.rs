//! The certificate authority: created once, or loaded from where KubeEdge keeps it, files or Secrets.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub_core::credentials::{CredentialError, CredentialFiles, sec1_from_pkcs8};
use hub_core::node::NodeId;
use hub_core::transport::{Identity, TlsError, TlsServer, TlsVersions};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::issue::{IssueError, LocalSigner, Signer, authority};
use super::place::{Place, load, publish, server_of_files, server_of_secrets, settle};
use super::secrets::{CA, SERVER, SecretError, SharedSecrets};
use super::server::{Purpose, Server, valid_at};
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
    config: AuthorityConfig,
    server: Server,
    cloud: Vec<String>,
    place: Place,
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
    /// What instances share cannot be read or written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The server certificate cannot be shown.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No token can be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The task that reads and writes files is gone: the program stops.
    #[error("the program is stopping")]
    Stopping,
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
        let signer = Arc::new(signer(&identity, config).map_err(unsigned)?);
        let server = server_of_files(config, &ca, &signer, now)?;
        Ok(Self::of(
            ca,
            identity,
            server,
            config,
            signer.clone(),
            Place::Files(signer),
        ))
    }

    /// The same with the Secrets that instances share, for a cloud half beside others or without a disk of its own.
    ///
    /// As in KubeEdge, files that are there come first, and are put into the Secret; then what is in the Secret; then what is made
    /// here. Of instances that start together, all take what one of them made. Files are only read.
    pub async fn shared(
        config: &AuthorityConfig,
        secrets: SharedSecrets,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let path = PathBuf::from(CA.name);
        let unsigned = |source| AuthorityError::Signer {
            path: path.clone(),
            source,
        };
        let identity = match load(&config.ca).await? {
            Some(identity) => publish(&secrets, CA, identity).await?,
            None => {
                let mut made = None;
                settle(&secrets, CA, |known| {
                    if known.is_some() {
                        return Ok(None);
                    }
                    if made.is_none() {
                        tracing::info!("making a new certificate authority");
                        made = Some(create(now).map_err(unsigned)?);
                    }
                    Ok(made.clone())
                })
                .await?
            }
        };
        let ca = identity.chain[0].clone();
        check(&ca, now).map_err(|why| AuthorityError::Unfit {
            path: path.clone(),
            why,
        })?;
        let signer = Arc::new(signer(&identity, config).map_err(unsigned)?);
        let server = match load(&config.server).await? {
            Some(server) => publish(&secrets, SERVER, server).await?,
            None => server_of_secrets(config, &ca, &signer, &secrets, now).await?,
        };
        let place = Place::Secrets(signer.clone(), secrets);
        Ok(Self::of(ca, identity, server, config, signer, place))
    }

    fn of(
        ca: CertificateDer<'static>,
        identity: Identity,
        server: Identity,
        config: &AuthorityConfig,
        signer: Arc<LocalSigner>,
        place: Place,
    ) -> Self {
        Self {
            place,
            ..Self::external(ca, signer, TokenKey::of_ca(&identity.key), server, config)
        }
    }

    /// An authority whose CA key is elsewhere: `signer` asks whoever holds it.
    pub fn external(
        ca: CertificateDer<'static>,
        signer: Arc<dyn Signer>,
        tokens: TokenKey,
        server: Identity,
        config: &AuthorityConfig,
    ) -> Self {
        let names = config.names.iter().map(|name| name.trim().to_owned());
        Self {
            ca,
            signer,
            tokens,
            config: config.clone(),
            server: Server::new(server),
            place: Place::Elsewhere,
            cloud: names
                .filter(|name| !name.is_empty())
                .chain(config.addresses.iter().map(IpAddr::to_string))
                .collect(),
        }
    }

    /// The CA's certificate, which edges and listeners trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The cloud's own certificate and key, as they are now.
    pub fn server_identity(&self) -> Arc<Identity> {
        self.server.identity()
    }

    /// TLS for a listener of the tunnel: it shows the server certificate of the moment, and asks every client for one of this CA.
    pub fn tunnel_tls(&self, versions: TlsVersions) -> Result<TlsServer, TlsError> {
        self.server.listen(&self.ca, versions, Purpose::Tunnel)
    }

    /// TLS for the port where certificates are had: clients may have none yet.
    pub(super) fn enrolment_tls(&self, versions: TlsVersions) -> Result<TlsServer, TlsError> {
        self.server.listen(&self.ca, versions, Purpose::Enrolment)
    }

    /// Takes over what is in the files or the Secret now, made anew where it is near its end.
    pub(super) async fn renew(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let Some(server) = self.place.server(&self.config, &self.ca, now).await? else {
            return Ok(());
        };
        if server.chain != self.server.identity().chain {
            self.server.replace(server, &self.ca)?;
            tracing::info!("showing another server certificate from now on");
        }
        Ok(())
    }

    /// Writes a fresh join token to its Secret, where there is one.
    pub(super) async fn publish_token(&self, now: SystemTime) -> Result<(), AuthorityError> {
        if let Place::Secrets(_, secrets) = &self.place {
            secrets.store_token(&self.join_token(None, now)?).await?;
        }
        Ok(())
    }

    pub(super) fn token_lifetime(&self) -> Duration {
        self.config.token_lifetime
    }

    /// A token that lets an edge join: any one, or `node` only.
    pub fn join_token(&self, node: Option<&NodeId>, now: SystemTime) -> Result<String, TokenError> {
        let jwt = self.tokens.issue(now + self.config.token_lifetime, node)?;
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

fn signer(ca: &Identity, config: &AuthorityConfig) -> Result<LocalSigner, IssueError> {
    let validity = config.node_validity.min(AUTHORITY_VALIDITY);
    LocalSigner::new(&ca.chain[0], &ca.key, validity)
}

fn create(now: SystemTime) -> Result<Identity, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::new)?;
    let certificate = authority(&key, now, AUTHORITY_VALIDITY)?;
    identity(certificate.der().clone(), &key)
}

pub(super) fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Identity, IssueError> {
    let sec1 = sec1_from_pkcs8(key.serialized_der(), key.public_key_raw())
        .ok_or_else(|| IssueError::new("the new key has an unknown form"))?;
    Ok(Identity {
        chain: vec![certificate],
        key: sec1.into(),
    })
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

const DAY: Duration = Duration::from_secs(24 * 3600);

/// KubeEdge's: 100 × 364 days.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(100 * 364 * 24 * 3600);
