//! The certificate that this server shows: from the disk at once, whatever became of the cloud; made here where there is none.
//!
//! What is made here is signed by an authority of this node's own, whose certificate ([`Serving::authority_file`]) is what clients
//! must trust. Both are kept, and the certificate is made anew in time, or when an address or name is to be added. Connections that
//! stand go on; new ones meet the new certificate.

mod issue;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hub_core::credentials::{CredentialError, CredentialFiles};
use hub_core::transport::{Identity, provider};
use rustls::ServerConfig;

use crate::auth::AnyCertificate;
use issue::{Names, authority, covers, server};

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// A certificate of the operator's, with its key: shown as it is, and read again when it changes.
    pub files: Option<CredentialFiles>,
    /// Where this node keeps its authority and what it makes. Private to its owner.
    pub folder: PathBuf,
    /// Addresses under which clients reach the server, beside loopback.
    pub addresses: Vec<IpAddr>,
    /// Names, beside `localhost` and those of the service `kubernetes`.
    pub names: Vec<String>,
    /// How long a certificate made here is good. In the last third a new one is made.
    pub validity: Duration,
    /// How long the node's authority is good.
    pub authority_validity: Duration,
    /// How often it is looked at whether something must be done.
    pub interval: Duration,
}

impl ServingConfig {
    /// With certificates of this node's own, kept in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            files: None,
            folder: folder.into(),
            addresses: Vec::new(),
            names: Vec::new(),
            validity: Duration::from_secs(365 * 86_400),
            authority_validity: Duration::from_secs(3650 * 86_400),
            interval: Duration::from_secs(60),
        }
    }
}

/// There is no certificate to show. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A file cannot be used.
    #[error(transparent)]
    Files(#[from] CredentialError),
    /// A certificate could not be made: a name that is none.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The certificate does not suit TLS.
    #[error("cannot show the certificate in {path}: {source}")]
    Tls {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// The certificate of this moment. Cheap to clone; all clones show the same one.
#[derive(Clone)]
pub struct Serving {
    inner: Arc<Inner>,
}

struct Inner {
    config: ServingConfig,
    names: Mutex<Names>,
    shown: Mutex<Identity>,
    tls: ArcSwap<ServerConfig>,
}

impl Serving {
    /// Loads what is on the disk, or makes it. Asks nobody.
    pub fn open(config: ServingConfig, now: SystemTime) -> Result<Self, ServingError> {
        let mut names = Names {
            addresses: config.addresses.iter().copied().collect(),
            names: config.names.iter().cloned().collect(),
        };
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        names.addresses.extend(loopback);
        names.names.extend(NAMES.map(str::to_owned));
        let identity = identity(&config, &names, now)?;
        let tls = tls(&config, &identity)?;
        Ok(Self {
            inner: Arc::new(Inner {
                names: Mutex::new(names),
                shown: Mutex::new(identity),
                tls: ArcSwap::from_pointee(tls),
                config,
            }),
        })
    }

    /// The certificate of the authority that clients must trust, PEM. With a certificate of the operator's that is theirs to say.
    pub fn authority_file(&self) -> PathBuf {
        authority_files(&self.inner.config.folder).certificate
    }

    /// Keeps the certificate good, until it is dropped. `more` says which addresses are to be covered as well.
    pub async fn keep(&self, more: impl Fn() -> BTreeSet<IpAddr> + Send) {
        loop {
            let more = more();
            let (this, now) = (self.clone(), SystemTime::now());
            let looked = tokio::task::spawn_blocking(move || this.look(more, now)).await;
            if let Ok(Err(error)) = looked {
                tracing::warn!(%error, "the server certificate stays as it is");
            }
            tokio::time::sleep(self.inner.config.interval).await;
        }
    }

    /// The configuration of this moment. Ask anew for each connection.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        self.inner.tls.load_full()
    }

    fn look(&self, more: BTreeSet<IpAddr>, now: SystemTime) -> Result<(), ServingError> {
        let inner = &*self.inner;
        let names = {
            let mut names = inner.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.addresses.extend(more);
            names.clone()
        };
        let identity = identity(&inner.config, &names, now)?;
        let mut shown = inner.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.chain != shown.chain {
            inner.tls.store(Arc::new(tls(&inner.config, &identity)?));
            *shown = identity;
            tracing::info!("another server certificate is shown from now on");
        }
        Ok(())
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serving").field(&self.inner.config.folder).finish()
    }
}

/// What is to be shown now.
fn identity(config: &ServingConfig, names: &Names, now: SystemTime) -> Result<Identity, ServingError> {
    if let Some(files) = &config.files
        && let Some(identity) = files.load()?
    {
        return Ok(identity);
    }
    let files = authority_files(&config.folder);
    let authority =
        files.load_or_store(|| authority(now, config.authority_validity).map_err(ServingError::from))?;
    let files = CredentialFiles::new(config.folder.join("server.crt"), config.folder.join("server.key"));
    if let Some(known) = files.load()?
        && known.chain.get(1) == authority.chain.first()
        && covers(&known.chain[0], names, now, config.validity / 3)
    {
        return Ok(known);
    }
    let made = server(&authority, names, now, config.validity)?;
    files.store(&made)?;
    Ok(made)
}

fn tls(config: &ServingConfig, identity: &Identity) -> Result<ServerConfig, ServingError> {
    let refused = |source| ServingError::Tls {
        path: config
            .files
            .as_ref()
            .map_or_else(|| config.folder.clone(), |files| files.certificate.clone()),
        source,
    };
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions)
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(AnyCertificate))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Nothing is resumed: clients keep their connections, and what they showed is looked at anew.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(tls)
}

fn authority_files(folder: &Path) -> CredentialFiles {
    CredentialFiles::new(folder.join("ca.crt"), folder.join("ca.key"))
}

/// What programs in pods call an API server, and people on the machine.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(serving: &Serving) -> Vec<rustls_pki_types::CertificateDer<'static>> {
        serving.inner.shown.lock().unwrap().chain.clone()
    }

    #[test]
    fn a_certificate_is_made_once_kept_private_and_made_anew_in_time_or_for_a_new_address() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let config = ServingConfig::new(folder.path().join("pki"));
        let now = SystemTime::now();
        let first = Serving::open(config.clone(), now).unwrap();
        for file in ["ca.key", "server.key", "ca.crt", "server.crt"] {
            let mode = std::fs::metadata(config.folder.join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let again = Serving::open(config.clone(), now).unwrap();
        assert_eq!(names(&first), names(&again));
        assert!(!format!("{first:?}").contains("PRIVATE"));

        first.look([].into(), now).unwrap();
        assert_eq!(names(&first), names(&again));
        first.look(["10.96.0.1".parse().unwrap()].into(), now).unwrap();
        assert_ne!(names(&first)[0], names(&again)[0]);
        assert_eq!(names(&first)[1], names(&again)[1], "the authority stays");

        let late = now + config.validity * 3 / 4;
        let known = names(&first);
        first.look([].into(), late).unwrap();
        assert_ne!(known[0], names(&first)[0], "its last third");

        // A clock that stands in 1970 is no reason to throw a good certificate away.
        let known = names(&first);
        first.look([].into(), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(known, names(&first));
    }

    #[test]
    fn a_certificate_of_the_operator_s_is_shown_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| {
            CredentialFiles::new(
                folder.path().join(format!("{name}.crt")),
                folder.path().join(format!("{name}.key")),
            )
        };
        let make = || {
            let authority = authority(SystemTime::now(), Duration::from_secs(3600)).unwrap();
            server(
                &authority,
                &Names::default(),
                SystemTime::now(),
                Duration::from_secs(3600),
            )
            .unwrap()
        };
        let (one, two) = (make(), make());
        of("own").store(&one).unwrap();
        let config = ServingConfig {
            files: Some(of("own")),
            ..ServingConfig::new(folder.path().join("pki"))
        };
        let serving = Serving::open(config, SystemTime::now()).unwrap();
        assert_eq!(names(&serving), one.chain);
        of("own").store(&two).unwrap();
        serving.look([].into(), SystemTime::now()).unwrap();
        assert_eq!(names(&serving), two.chain);
        std::fs::write(of("own").certificate, "no certificate").unwrap();
        assert!(serving.look([].into(), SystemTime::now()).is_err());
        assert_eq!(names(&serving), two.chain, "what is shown stays");
    }
}
