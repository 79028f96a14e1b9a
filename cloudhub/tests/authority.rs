//! The authority's files, what it issues, and what it refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cloudhub::pki::{Approved, Authority, AuthorityConfig, AuthorityError, LocalSigner, RequestError, Usage};
use hub_core::credentials::{CredentialError, CredentialFiles, certificate_pem};
use hub_core::node::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn config(folder: &Path) -> AuthorityConfig {
    AuthorityConfig {
        ca: CredentialFiles::new(folder.join("ca/rootCA.crt"), folder.join("ca/rootCA.key")),
        server: CredentialFiles::new(folder.join("certs/server.crt"), folder.join("certs/server.key")),
        addresses: vec![IpAddr::from([192, 0, 2, 10])],
        names: vec![String::new(), "cloud.example".into()],
        ..AuthorityConfig::default()
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

#[test]
fn the_authority_is_created_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = Authority::open(&config, now()).unwrap();
    let again = Authority::open(&config, now()).unwrap();
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(first.server_identity().chain, again.server_identity().chain);
    let token = first.join_token(None, now()).unwrap();
    assert_eq!(token.split('.').count(), 4);
    for file in [&config.ca.key, &config.ca.certificate, &config.server.key] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_authority_says_what_a_go_cloudcore_expects() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&config(folder.path()), now()).unwrap();
    let (_, ca) = X509Certificate::from_der(authority.certificate()).unwrap();
    assert_eq!(ca.subject().to_string(), "CN=KubeEdge");
    assert!(ca.is_ca());
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    let server = &authority.server_identity().chain;
    let (_, server) = X509Certificate::from_der(&server[0]).unwrap();
    let names = &server
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names.len(),
        2,
        "the empty name of KubeEdge's default is left out: {names:?}"
    );
}

#[test]
fn the_server_certificate_follows_addresses_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let first = Authority::open(&config, now()).unwrap();
    config.addresses.push(IpAddr::from([192, 0, 2, 11]));
    let second = Authority::open(&config, now()).unwrap();
    assert_ne!(first.server_identity().chain, second.server_identity().chain);
    let third = Authority::open(&config, now() + 8 * YEAR).unwrap();
    assert_eq!(second.server_identity().chain, third.server_identity().chain);
    let fourth = Authority::open(&config, now() + 9 * YEAR + YEAR / 2).unwrap();
    assert_ne!(third.server_identity().chain, fourth.server_identity().chain);
    assert_eq!(first.certificate(), fourth.certificate());
}

#[test]
fn a_server_certificate_of_an_older_authority_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = Authority::open(&config, now()).unwrap();
    std::fs::remove_dir_all(folder.path().join("ca")).unwrap();
    let second = Authority::open(&config, now()).unwrap();
    assert_ne!(first.certificate(), second.certificate());
    assert_ne!(first.server_identity().chain, second.server_identity().chain);
}

#[test]
fn half_an_authority_is_an_error_that_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    Authority::open(&config, now()).unwrap();
    std::fs::remove_file(&config.ca.key).unwrap();
    let error = Authority::open(&config, now()).unwrap_err();
    assert!(matches!(
        error,
        AuthorityError::Files(CredentialError::Incomplete { .. })
    ));
    assert!(error.to_string().contains("rootCA.key does not"), "{error}");
}

#[test]
fn a_leaf_is_not_taken_for_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    Authority::open(&config, now()).unwrap();
    config.ca = config.server.clone();
    assert!(matches!(
        Authority::open(&config, now()),
        Err(AuthorityError::Unfit { .. })
    ));
}

fn openssl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).output().ok()?;
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn openssl_agrees_with_what_we_issue() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let authority = Authority::open(&config, now()).unwrap();
    let (ca, server) = (
        config.ca.certificate.to_str().unwrap(),
        config.server.certificate.to_str().unwrap(),
    );
    let Some(text) = openssl(&[
        "verify",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "192.0.2.10",
        "-CAfile",
        ca,
        server,
    ]) else {
        return;
    };
    assert!(text.contains("OK"));
    openssl(&["ec", "-in", config.ca.key.to_str().unwrap(), "-check", "-noout"]);
    let key = KeyPair::generate().unwrap();
    let edge = folder.path().join("edge.crt");
    let der = sign(
        &authority,
        &config,
        &stock_request("edge1").serialize_request(&key).unwrap(),
    );
    std::fs::write(&edge, certificate_pem(&der)).unwrap();
    openssl(&[
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        ca,
        edge.to_str().unwrap(),
    ]);
}

#[test]
fn an_authority_made_by_openssl_is_loaded() {
    for pkcs8 in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        std::fs::create_dir_all(folder.path().join("ca")).unwrap();
        let (key, certificate) = (
            config.ca.key.to_str().unwrap(),
            config.ca.certificate.to_str().unwrap(),
        );
        let made = if pkcs8 {
            openssl(&[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-384",
                "-out",
                key,
            ])
        } else {
            openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", key])
        };
        if made.is_none() {
            return;
        }
        openssl(&[
            "req",
            "-x509",
            "-key",
            key,
            "-subj",
            "/CN=mine",
            "-days",
            "30",
            "-out",
            certificate,
        ]);
        let authority = Authority::open(&config, now()).unwrap();
        assert!(authority.join_token(None, now()).is_ok());
        openssl(&[
            "verify",
            "-CAfile",
            certificate,
            config.server.certificate.to_str().unwrap(),
        ]);
    }
}

fn sign(
    authority: &Authority,
    config: &AuthorityConfig,
    request: &rcgen::CertificateSigningRequest,
) -> CertificateDer<'static> {
    let key = config.ca.load().unwrap().unwrap().key;
    let signer = LocalSigner::new(authority.certificate(), &key, YEAR).unwrap();
    let node = NodeId::new("edge1").unwrap();
    let approved = Approved::check(request.der(), &node, vec![Usage::Client], &[]).unwrap();
    signer.node(&approved, now()).unwrap()
}

fn stock_request(node: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "CN"),
        (DnType::OrganizationName, "system:nodes"),
        (DnType::StateOrProvinceName, "Zhejiang"),
        (DnType::LocalityName, "Hangzhou"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    params
}

/// What is said to a request of `edge1`, with the cloud at 192.0.2.10.
fn check(params: &CertificateParams, usages: Vec<Usage>) -> Result<Approved, RequestError> {
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let cloud = ["192.0.2.10".to_owned()];
    Approved::check(request.der(), &NodeId::new("edge1").unwrap(), usages, &cloud)
}

#[test]
fn a_node_may_serve_its_own_names_and_addresses_only() {
    let with = |names: &[&str], addresses: &[[u8; 4]]| {
        let mut params = stock_request("edge1");
        params.subject_alt_names = names
            .iter()
            .map(|n| SanType::DnsName((*n).try_into().unwrap()))
            .chain(addresses.iter().map(|a| SanType::IpAddress((*a).into())))
            .collect();
        params
    };
    let both = || vec![Usage::Server, Usage::Client];
    let approved = check(
        &with(&["edge1", "localhost"], &[[127, 0, 0, 1], [10, 1, 2, 3]]),
        both(),
    )
    .unwrap();
    assert_eq!((approved.names.len(), approved.addresses.len()), (2, 2));
    for (params, usages) in [
        (with(&["edge1"], &[]), vec![Usage::Client]),
        (with(&["edge2"], &[]), both()),
        (with(&["*.example"], &[]), both()),
        (with(&[], &[[192, 0, 2, 10]]), both()),
        (with(&[], &[[0, 0, 0, 0]]), both()),
    ] {
        assert!(matches!(check(&params, usages), Err(RequestError::Refused(_))));
    }
}

#[test]
fn a_node_may_not_become_an_authority_or_somebody_else() {
    let mut ca = stock_request("edge1");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = stock_request("edge2");
    let mut signing = stock_request("edge1");
    signing.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let mut code = stock_request("edge1");
    code.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    for params in [ca, other, signing, code] {
        assert!(matches!(
            check(&params, vec![Usage::Client]),
            Err(RequestError::Refused(_))
        ));
    }
    assert!(check(&stock_request("edge1"), vec![Usage::Client]).is_ok());
}
