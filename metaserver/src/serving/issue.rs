//! Makes the certificates of a node's own authority.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_core::transport::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Under which a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) names: BTreeSet<String>,
}

/// A new authority.
pub(super) fn authority(now: SystemTime, validity: Duration) -> Result<Identity, Error> {
    let key = KeyPair::generate()?;
    let mut params = params(AUTHORITY, now, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?;
    Ok(identity(vec![certificate.der().clone()], &key))
}

/// A new certificate with a new key, followed by that of the authority.
pub(super) fn server(
    authority: &Identity,
    names: &Names,
    now: SystemTime,
    validity: Duration,
) -> Result<Identity, Error> {
    let key = KeyPair::generate()?;
    let mut params = params(SERVER, now, validity);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let addresses = names
        .addresses
        .iter()
        .map(|address| Ok(SanType::IpAddress(*address)));
    let names = names
        .names
        .iter()
        .map(|name| name.as_str().try_into().map(SanType::DnsName));
    params.subject_alt_names = addresses.chain(names).collect::<Result<_, Error>>()?;
    let own = KeyPair::try_from(authority.key.secret_der())?;
    let signer = Issuer::from_ca_cert_der(&authority.chain[0], own)?;
    let certificate = params.signed_by(&key, &signer)?;
    Ok(identity(
        vec![certificate.der().clone(), authority.chain[0].clone()],
        &key,
    ))
}

/// Whether a certificate need not be made anew: it has all the names, and does not end within `margin`. One that seems to be of the
/// future was made when the clock was right.
pub(super) fn covers(leaf: &CertificateDer<'_>, names: &Names, now: SystemTime, margin: Duration) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let at = (now + margin)
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    if leaf.validity().not_after.timestamp() <= i64::try_from(at).unwrap_or(i64::MAX) {
        return false;
    }
    let Ok(Some(known)) = leaf.subject_alternative_name() else {
        return false;
    };
    let has = |wanted: &GeneralName<'_>| known.value.general_names.contains(wanted);
    names.names.iter().all(|name| has(&GeneralName::DNSName(name)))
        && names.addresses.iter().all(|address| match address {
            IpAddr::V4(four) => has(&GeneralName::IPAddress(&four.octets())),
            IpAddr::V6(six) => has(&GeneralName::IPAddress(&six.octets())),
        })
}

fn params(name: &str, now: SystemTime, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Random, positive, 16 bytes (RFC 5280 4.1.2.2 allows 20).
    let mut serial = *uuid::Uuid::new_v4().as_bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // A client's clock may be a little behind.
    params.not_before = (now - CLOCK_SKEW.min(now.duration_since(UNIX_EPOCH).unwrap_or_default())).into();
    params.not_after = (now + validity).into();
    params
}

fn identity(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Identity {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity {
        chain,
        key: PrivateKeyDer::Pkcs8(key),
    }
}

const AUTHORITY: &str = "metaserver-ca";
const SERVER: &str = "metaserver";
const CLOCK_SKEW: Duration = Duration::from_secs(300);
