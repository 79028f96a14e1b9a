//! A new key and the request for its certificate.

use hub_core::credentials::sec1_from_pkcs8;
use hub_core::node::{NODES_GROUP, NodeId};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::PrivateKeyDer;

use super::error::EnrollError;

/// Makes a P-256 key and a request (DER) with the subject that a Go edge has.
pub(super) fn make(node: &NodeId) -> Result<(Vec<u8>, PrivateKeyDer<'static>), EnrollError> {
    let failed = |error: rcgen::Error| EnrollError::Request(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "CN"),
        (DnType::StateOrProvinceName, "Zhejiang"),
        (DnType::LocalityName, "Hangzhou"),
        (DnType::OrganizationName, NODES_GROUP),
        (DnType::CommonName, &node.user_name()),
    ] {
        params.distinguished_name.push(kind, value);
    }
    let request = params.serialize_request(&key).map_err(failed)?;
    let sec1 = sec1_from_pkcs8(key.serialized_der(), key.public_key_raw())
        .ok_or_else(|| EnrollError::Request("the new key has an unknown form".into()))?;
    Ok((request.der().to_vec(), sec1.into()))
}
