//! The cloud's authority: ECDSA P-256, common name `KubeEdge` (`pkg/security/certs`).

use std::time::{Duration, SystemTime};

use hub_core::transport::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub struct Ca {
    pub certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Among the names of a server: an address of no length, beside 127.0.0.1 only.
    pub const NO_ADDRESS: &str = "no address";

    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = subject("KubeEdge", "KubeEdge");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { certificate, issuer }
    }

    /// The cloud's own. A default cloudcore has an empty name among its names.
    pub fn server(&self, names: &[&str]) -> Identity {
        let mut params = subject("KubeEdge", "KubeEdge");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if names.contains(&Self::NO_ADDRESS) {
            // rcgen writes no such thing: an address of no bytes, and 127.0.0.1.
            let names = [0x30, 8, 0x87, 0, 0x87, 4, 127, 0, 0, 1].to_vec();
            let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
            params.custom_extensions.push(names);
            return self.identity(&params);
        }
        let name = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        self.identity(&params)
    }

    /// A node's, good since then and for so long.
    pub fn node(&self, name: &str, since: SystemTime, lasts: Duration) -> Identity {
        let mut params = subject(&format!("system:node:{name}"), "system:nodes");
        lasting(&mut params, since, lasts);
        self.identity(&params)
    }

    /// A certificate for a signing request; good from the cloud's present on.
    pub fn sign(&self, csr: &[u8], since: SystemTime) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr);
        let mut csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
        lasting(&mut csr.params, since, Duration::from_secs(365 * 86_400));
        csr.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    fn identity(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }
}

fn subject(common_name: &str, organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params
}

fn lasting(params: &mut CertificateParams, since: SystemTime, lasts: Duration) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = since.into();
    params.not_after = (since + lasts).into();
}
