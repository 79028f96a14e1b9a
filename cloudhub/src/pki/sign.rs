//! What of a certificate signing request may be signed.
//!
//! KubeEdge signs whatever is asked. Here a request becomes an [`Approved`] value or nothing: the certificate is made of the
//! approved parts alone, never of the request.

use std::net::IpAddr;

use hub_core::node::{NODES_GROUP, NodeId};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A request that passed every check: what the node's certificate will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// Whose certificate it is.
    pub node: NodeId,
    /// The key it is for.
    pub public_key: SubjectPublicKeyInfo,
    /// What it may be used for; never empty.
    pub usages: Vec<Usage>,
    /// Addresses it serves, with [`Usage::Server`] only.
    pub addresses: Vec<IpAddr>,
    /// Names it serves, with [`Usage::Server`] only.
    pub names: Vec<String>,
}

/// An extended key usage that a node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Serve TLS; the node's own metaserver does.
    Server,
    /// Be a TLS client; the tunnel is.
    Client,
}

/// A request cannot be signed. The edge's move, or whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is something else.
    #[error("fail to signCerts, err: failed to parse csr, err: {0}")]
    Malformed(String),
    /// The header `ExtKeyUsages` is not a JSON array of integers.
    #[error("unmarshal http header ExtKeyUsages fail, err: {0}")]
    Usages(String),
    /// It asks for more than a node may have.
    #[error("the certificate request is refused: {0}")]
    Refused(String),
}

impl Approved {
    /// Checks the DER bytes of a request by `node`. `cloud` are the names and addresses of the cloud itself, which no node may serve.
    pub fn check(
        der: &[u8],
        node: &NodeId,
        usages: Vec<Usage>,
        cloud: &[String],
    ) -> Result<Self, RequestError> {
        let csr = match X509CertificationRequest::from_der(der) {
            Ok(([], csr)) => csr,
            Ok(_) => return Err(RequestError::Malformed("trailing bytes".into())),
            Err(error) => return Err(RequestError::Malformed(error.to_string())),
        };
        check_subject(&csr.certification_request_info.subject, node)?;
        check_key(&csr)?;
        csr.verify_signature()
            .map_err(|_| refused("its own signature is invalid"))?;
        let mut approved = Self {
            node: node.clone(),
            public_key: SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw)
                .map_err(|error| refused(&format!("the key cannot be used: {error}")))?,
            usages,
            addresses: Vec::new(),
            names: Vec::new(),
        };
        for extension in csr.requested_extensions().into_iter().flatten() {
            approved.check_extension(extension, cloud)?;
        }
        Ok(approved)
    }

    fn check_extension(
        &mut self,
        extension: &ParsedExtension<'_>,
        cloud: &[String],
    ) -> Result<(), RequestError> {
        match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                if !self.usages.contains(&Usage::Server) {
                    return Err(refused(
                        "subject alternative names need the usage serverAuth (header ExtKeyUsages: [1,2])",
                    ));
                }
                san.general_names
                    .iter()
                    .try_for_each(|name| self.check_name(name, cloud))
            }
            // Ours are fixed; asking for the same ones, or fewer, does no harm.
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() && !usage.crl_sign() => Ok(()),
            ParsedExtension::ExtendedKeyUsage(asked) => {
                let others = asked.any
                    || asked.code_signing
                    || asked.email_protection
                    || asked.time_stamping
                    || asked.ocsp_signing
                    || !asked.other.is_empty();
                let missing = asked.server_auth && !self.usages.contains(&Usage::Server);
                if others || missing {
                    return Err(refused(
                        "its extended key usages go beyond the header ExtKeyUsages",
                    ));
                }
                Ok(())
            }
            ParsedExtension::BasicConstraints(constraints) if !constraints.ca => Ok(()),
            ParsedExtension::SubjectKeyIdentifier(_) => Ok(()),
            _ => Err(refused("it asks for an extension that a node may not have")),
        }
    }

    fn check_name(&mut self, name: &GeneralName<'_>, cloud: &[String]) -> Result<(), RequestError> {
        let (text, address) = match name {
            GeneralName::DNSName(name) => (name.to_ascii_lowercase(), None),
            GeneralName::IPAddress(bytes) => match parse_address(bytes) {
                Some(address) => (address.to_string(), Some(address)),
                None => return Err(refused("an IP address in it is malformed")),
            },
            _ => return Err(refused("only DNS names and IP addresses may be served")),
        };
        if cloud.iter().any(|own| own.eq_ignore_ascii_case(&text)) && !is_loopback(&text) {
            return Err(refused(&format!("{text} belongs to the cloud")));
        }
        match address {
            Some(address) if address.is_unspecified() || address.is_multicast() => {
                Err(refused(&format!("{address} is nobody's address")))
            }
            Some(address) => {
                self.addresses.push(address);
                Ok(())
            }
            None if text == "localhost" || text == self.node.as_str() => {
                self.names.push(text);
                Ok(())
            }
            None => Err(refused(&format!(
                "a node may serve its own name, localhost and IP addresses, not {text:?}"
            ))),
        }
    }
}

impl Usage {
    /// Reads the header `ExtKeyUsages`: a JSON array of Go's `x509.ExtKeyUsage` integers; clientAuth when there is none.
    pub fn from_header(value: Option<&[u8]>) -> Result<Vec<Self>, RequestError> {
        let Some(value) = value.filter(|v| !v.is_empty()) else {
            return Ok(vec![Self::Client]);
        };
        let numbers: Vec<i64> =
            serde_json::from_slice(value).map_err(|error| RequestError::Usages(error.to_string()))?;
        let mut usages = Vec::new();
        for number in numbers {
            let usage = match number {
                1 => Self::Server,
                2 => Self::Client,
                _ => {
                    return Err(refused(
                        "a node may have the usages serverAuth (1) and clientAuth (2)",
                    ));
                }
            };
            if !usages.contains(&usage) {
                usages.push(usage);
            }
        }
        if usages.is_empty() {
            usages.push(Self::Client);
        }
        Ok(usages)
    }
}

fn check_subject(subject: &X509Name<'_>, node: &NodeId) -> Result<(), RequestError> {
    let user = node.user_name();
    match one(subject.iter_common_name()) {
        Some(name) if name == user => {}
        _ => return Err(refused(&format!("its common name must be {user:?} alone"))),
    }
    match one(subject.iter_organization()) {
        Some(NODES_GROUP) => Ok(()),
        _ => Err(refused(&format!(
            "its organization must be {NODES_GROUP:?} alone"
        ))),
    }
}

/// The text of the only value.
pub(super) fn one<'a>(mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<&'a str> {
    let first = values.next()?.as_str().ok()?;
    values.next().is_none().then_some(first)
}

fn check_key(csr: &X509CertificationRequest<'_>) -> Result<(), RequestError> {
    let spki = &csr.certification_request_info.subject_pki;
    let good = match spki.parsed() {
        Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384),
        Ok(PublicKey::RSA(key)) => (2048..=8192).contains(&key.key_size()),
        _ => spki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519,
    };
    good.then_some(())
        .ok_or_else(|| refused("its key must be P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits"))
}

fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn is_loopback(text: &str) -> bool {
    text == "localhost" || text.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn refused(why: &str) -> RequestError {
    RequestError::Refused(why.to_owned())
}
