//! Making certificates: ours with the CA's key at hand, or somebody else's behind [`Signer`].

use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use hub_core::credentials::pkcs8_from_sec1;
use hub_core::node::NODES_GROUP;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::sign::{Approved, Usage};

/// Whoever holds the CA's key: this process, or a service that it asks.
pub trait Signer: Send + Sync {
    /// Makes the certificate of an approved request, good from `now` on for as long as the signer sees fit.
    fn sign(
        &self,
        approved: Approved,
        now: SystemTime,
    ) -> BoxFuture<'_, Result<CertificateDer<'static>, IssueError>>;
}

/// A certificate could not be made. Ours, or the external CA's.
#[derive(Debug, thiserror::Error)]
#[error("fail to signCerts, err: {0}")]
pub struct IssueError(String);

/// The CA's key in this process.
pub struct LocalSigner {
    issuer: Issuer<'static, KeyPair>,
    validity: Duration,
}

impl LocalSigner {
    /// Signs with the CA's `key`; the certificates of nodes are good for `validity`.
    pub fn new(
        ca: &CertificateDer<'static>,
        key: &PrivateKeyDer<'static>,
        validity: Duration,
    ) -> Result<Self, IssueError> {
        let issuer = Issuer::from_ca_cert_der(ca, key_pair(key)?).map_err(IssueError::new)?;
        Ok(Self { issuer, validity })
    }

    /// The certificate of a node.
    pub fn node(&self, approved: &Approved, now: SystemTime) -> Result<CertificateDer<'static>, IssueError> {
        let mut params = leaf(now, self.validity);
        params
            .distinguished_name
            .push(DnType::OrganizationName, NODES_GROUP);
        params
            .distinguished_name
            .push(DnType::CommonName, approved.node.user_name());
        params.extended_key_usages = approved
            .usages
            .iter()
            .map(|usage| match usage {
                Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
                Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            })
            .collect();
        params.subject_alt_names = alternative_names(
            approved.addresses.iter().copied(),
            approved.names.iter().map(String::as_str),
        )?;
        let certificate = params
            .signed_by(&approved.public_key, &self.issuer)
            .map_err(IssueError::new)?;
        Ok(certificate.der().clone())
    }

    /// The certificate of the cloud itself.
    pub(super) fn server(
        &self,
        key: &KeyPair,
        names: Vec<SanType>,
        now: SystemTime,
        validity: Duration,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let mut params = leaf(now, validity);
        params
            .distinguished_name
            .push(DnType::OrganizationName, AUTHORITY_NAME);
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names;
        let certificate = params.signed_by(key, &self.issuer).map_err(IssueError::new)?;
        Ok(certificate.der().clone())
    }
}

impl Signer for LocalSigner {
    fn sign(
        &self,
        approved: Approved,
        now: SystemTime,
    ) -> BoxFuture<'_, Result<CertificateDer<'static>, IssueError>> {
        Box::pin(std::future::ready(self.node(&approved, now)))
    }
}

impl IssueError {
    /// Says why, for logs and for the edge.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Makes the certificate of a new CA.
pub(super) fn authority(
    key: &KeyPair,
    now: SystemTime,
    validity: Duration,
) -> Result<Certificate, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    set_validity(&mut params, now, validity);
    params.serial_number = Some(serial());
    params.self_signed(key).map_err(IssueError::new)
}

/// A subject alternative name for each; malformed names are errors.
pub(super) fn alternative_names<'a>(
    addresses: impl IntoIterator<Item = std::net::IpAddr>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<SanType>, IssueError> {
    let names = names
        .into_iter()
        .map(|name| name.try_into().map(SanType::DnsName).map_err(IssueError::new));
    addresses
        .into_iter()
        .map(|address| Ok(SanType::IpAddress(address)))
        .chain(names)
        .collect()
}

fn leaf(now: SystemTime, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    set_validity(&mut params, now, validity);
    params
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, validity: Duration) {
    // An edge without a good clock may be a little behind.
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + validity).into();
}

/// Random, positive, 16 bytes (RFC 5280 4.1.2.2 allows 20).
fn serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// The key as rcgen wants it: PKCS #8, with either crypto provider.
fn key_pair(key: &PrivateKeyDer<'_>) -> Result<KeyPair, IssueError> {
    let pkcs8 = match key {
        PrivateKeyDer::Sec1(sec1) => pkcs8_from_sec1(sec1.secret_sec1_der())
            .ok_or_else(|| IssueError::new("the CA's key is on a curve that is not supported"))?,
        PrivateKeyDer::Pkcs8(pkcs8) => PrivatePkcs8KeyDer::from(pkcs8.secret_pkcs8_der().to_vec()),
        _ => return Err(IssueError::new("the CA's key must be in SEC1 or PKCS #8")),
    };
    KeyPair::try_from(&pkcs8).map_err(IssueError::new)
}

/// CN of the CA, CN and O of the server certificate (KubeEdge, `pkg/security/certs`).
pub(super) const AUTHORITY_NAME: &str = "KubeEdge";

const CLOCK_SKEW: Duration = Duration::from_secs(300);
