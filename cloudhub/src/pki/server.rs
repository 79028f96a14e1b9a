//! The cloud's own certificate: what it must say, when it is made anew, and who shows it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hub_core::transport::{Identity, TlsError, TlsServer, TlsVersions};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::authority::{AuthorityConfig, identity};
use super::issue::{AUTHORITY_NAME, IssueError, LocalSigner, alternative_names};
use super::sign::one;

/// The certificate of this moment, and the listeners that show it.
pub(super) struct Server {
    current: ArcSwap<Identity>,
    listeners: Mutex<Vec<Shown>>,
}

/// A listener's TLS, and how to make it again.
struct Shown {
    tls: TlsServer,
    versions: TlsVersions,
    purpose: Purpose,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Every client shows a certificate.
    Tunnel,
    /// Clients may have none yet.
    Enrolment,
}

impl Server {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            current: ArcSwap::from_pointee(identity),
            listeners: Mutex::default(),
        }
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        self.current.load_full()
    }

    /// TLS for a listener. It follows every [replacement](Self::replace).
    pub(super) fn listen(
        &self,
        ca: &CertificateDer<'static>,
        versions: TlsVersions,
        purpose: Purpose,
    ) -> Result<TlsServer, TlsError> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = purpose.tls(&self.identity(), ca, versions)?;
        listeners.push(Shown {
            tls: tls.clone(),
            versions,
            purpose,
        });
        Ok(tls)
    }

    /// From now on this is shown to those who connect. Connections that stand go on.
    pub(super) fn replace(&self, identity: Identity, ca: &CertificateDer<'static>) -> Result<(), TlsError> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let anew = listeners
            .iter()
            .map(|shown| shown.purpose.tls(&identity, ca, shown.versions));
        let anew: Vec<_> = anew.collect::<Result<_, _>>()?;
        for (shown, tls) in listeners.iter().zip(anew) {
            shown.tls.replace(&tls);
        }
        self.current.store(Arc::new(identity));
        Ok(())
    }
}

impl Purpose {
    fn tls(
        self,
        identity: &Identity,
        ca: &CertificateDer<'static>,
        versions: TlsVersions,
    ) -> Result<TlsServer, TlsError> {
        match self {
            Self::Tunnel => TlsServer::mutual(identity.clone(), ca, versions),
            Self::Enrolment => TlsServer::optional_client(identity.clone(), ca, versions),
        }
    }
}

/// The addresses and names that edges dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    addresses: BTreeSet<IpAddr>,
    names: BTreeSet<String>,
}

impl Names {
    /// Those of a configuration; loopback when nothing is advertised, never nothing.
    pub(super) fn of(config: &AuthorityConfig) -> Self {
        let names = config.names.iter().map(|name| name.trim());
        let mut wanted = Self {
            addresses: config.addresses.iter().copied().collect(),
            names: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        };
        if wanted.addresses.is_empty() && wanted.names.is_empty() {
            wanted.addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into();
            wanted.names = ["localhost".into()].into();
        }
        wanted
    }

    /// These, and what a certificate covers already: instances that share one do not take each other's addresses away.
    pub(super) fn and_those_of(mut self, leaf: &CertificateDer<'_>) -> Self {
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
            return self;
        };
        let Ok(Some(san)) = leaf.subject_alternative_name() else {
            return self;
        };
        for name in &san.value.general_names {
            match name {
                GeneralName::DNSName(name) => drop(self.names.insert((*name).to_owned())),
                GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                    Ok(v4) => drop(self.addresses.insert(v4.into())),
                    Err(_) => {
                        self.addresses
                            .extend(<[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from));
                    }
                },
                _ => {}
            }
        }
        self
    }

    fn are_covered_by(&self, leaf: &X509Certificate<'_>) -> bool {
        let Ok(Some(san)) = leaf.subject_alternative_name() else {
            return false;
        };
        let has = |wanted: &GeneralName<'_>| san.value.general_names.contains(wanted);
        self.names.iter().all(|name| has(&GeneralName::DNSName(name)))
            && self.addresses.iter().all(|address| match address {
                IpAddr::V4(a) => has(&GeneralName::IPAddress(&a.octets())),
                IpAddr::V6(a) => has(&GeneralName::IPAddress(&a.octets())),
            })
    }
}

/// Makes a new certificate with a new key.
pub(super) fn issue(signer: &LocalSigner, names: &Names, now: SystemTime) -> Result<Identity, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::new)?;
    let names = alternative_names(
        names.addresses.iter().copied(),
        names.names.iter().map(String::as_str),
    )?;
    let certificate = signer.server(&key, names, now, SERVER_VALIDITY)?;
    identity(certificate, &key)
}

/// Whether a certificate can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitness {
    /// It can.
    Good,
    /// It is ours, and must be made anew.
    Renew,
    /// It cannot, and is from elsewhere: only its owner can make it anew.
    Foreign,
}

/// What is to be done about a certificate. One of a Go cloudcore with our CA is ours.
pub(super) fn fitness(
    leaf: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    names: &Names,
    now: SystemTime,
) -> Fitness {
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(leaf), X509Certificate::from_der(ca))
    else {
        return Fitness::Foreign;
    };
    let ours = leaf.issuer() == ca.subject()
        && one(leaf.subject().iter_common_name()) == Some(AUTHORITY_NAME)
        && one(leaf.subject().iter_organization()) == Some(AUTHORITY_NAME);
    // A CA made anew has the old one's name, and another key.
    let fit = valid_at(&leaf, now + SERVER_RENEWAL)
        && leaf.verify_signature(Some(ca.public_key())).is_ok()
        && names.are_covered_by(&leaf);
    match (fit, ours) {
        (true, _) => Fitness::Good,
        (false, true) => Fitness::Renew,
        (false, false) => Fitness::Foreign,
    }
}

/// Tells the operator of a certificate that only they can replace.
pub(super) fn complain(from: &dyn std::fmt::Display) {
    tracing::warn!(
        %from,
        "the server certificate does not cover what is advertised, is near its end, or is of another CA; \
         replace it, or remove it and its key to have one issued"
    );
}

pub(super) fn valid_at(certificate: &X509Certificate<'_>, at: SystemTime) -> bool {
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds)
}

/// Ten years; in the last of them a new one is issued.
const SERVER_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);
const SERVER_RENEWAL: Duration = Duration::from_secs(365 * 24 * 3600);
