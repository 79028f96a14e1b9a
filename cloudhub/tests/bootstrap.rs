//! Every request to port 10002 that was recorded against a Go cloudcore, put to ours.
//!
//! The recorded tokens were signed with the key of the recorded CA. A token that was good there is signed again with our
//! key; the others stay as they are.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cloudhub::pki::{Authority, AuthorityConfig, NodeLookup, PkiConfig, PkiRequest, PkiService};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// How our answer relates to the recorded one.
enum Ours {
    /// Status, type and text are the same; a certificate says the same.
    Same,
    /// Status and type are the same, the text begins with this; Go's parser names its own internals after that.
    Begins(&'static str),
    /// A Go cloudcore says yes. We say 403, and this.
    Refuses(&'static str),
    /// Another status, for the reason given beside it.
    Status(u16),
}

const CSR_TEXT: &str =
    "failed to sign certs for edgenode boot1, err: fail to signCerts, err: failed to parse csr, err: ";

#[rustfmt::skip]
const TABLE: &[(&str, Ours)] = &[
    ("00-real-edge-01-ca-crt", Ours::Same),
    ("00-real-edge-02-edge-crt", Ours::Same),
    ("01-ca", Ours::Same),
    ("02-edge-ok", Ours::Same),
    ("03-wrong-token", Ours::Same),
    ("04-expired-token", Ours::Same),
    ("05-no-token", Ours::Same),
    ("06-full-token-with-hash", Ours::Same),
    ("07-not-bearer", Ours::Same),
    ("08-bearer-only", Ours::Same),
    ("09-other-key-token", Ours::Same),
    ("10-hs512-token", Ours::Same),
    ("11-alg-none", Ours::Begins("token validation failure, err: token is unverifiable: ")),
    // Whoever has a token could have become any node, or the cluster's administrator.
    ("12-wrong-cn", Ours::Refuses("its common name must be \"system:node:boot1\" alone")),
    ("13-foreign-subject", Ours::Refuses("its common name must be \"system:node:boot1\" alone")),
    ("14-no-nodename", Ours::Refuses("header NodeName: \"\" is not a node name")),
    ("15-pem-body", Ours::Begins(CSR_TEXT)),
    ("16-garbage-body", Ours::Begins(CSR_TEXT)),
    ("17-empty-body", Ours::Begins(CSR_TEXT)),
    ("18-post-method", Ours::Same),
    // The name edge.local is not the node's; with its own names the request passes (see below).
    ("19-ext-key-usages", Ours::Refuses("not \"edge.local\"")),
    ("20-ext-key-usages-bad", Ours::Begins("failed to sign certs for edgenode boot1, err: unmarshal http header ExtKeyUsages fail, err: ")),
    ("21-body-with-san", Ours::Refuses("subject alternative names need the usage serverAuth")),
    ("22-bad-csr-signature", Ours::Refuses("its own signature is invalid")),
    ("23-client-certificate", Ours::Same),
    ("24-client-certificate-other-node", Ours::Same),
    ("25-client-certificate-no-nodename", Ours::Same),
    ("26-node-found", Ours::Same),
    ("27-node-absent", Ours::Same),
    ("28-other-path", Ours::Same),
    ("29-root", Ours::Same),
    // Anybody could report for any node; reports come through the tunnel.
    ("30-nodeupgrade-empty", Ours::Status(404)),
    // KubeEdge's load balancer scripts ask for it, though it has none.
    ("31-healthz", Ours::Status(200)),
    ("32-ca-post", Ours::Same),
    ("33-head-ca", Ours::Same),
];

#[tokio::test]
async fn every_recorded_request_is_answered_as_recorded_or_more_strictly() {
    let world = World::new();
    let names: Vec<_> = recordings().into_keys().collect();
    let table: Vec<_> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, table, "every recording has its line");
    for (name, ours) in TABLE {
        let recorded = &recordings()[*name];
        let response = world.put(name, recorded).await;
        check(&world, name, recorded, ours, &response);
    }
}

fn check(world: &World, name: &str, recorded: &Recorded, ours: &Ours, response: &Response<Bytes>) {
    let text = String::from_utf8_lossy(response.body());
    let expected_status = match ours {
        Ours::Same | Ours::Begins(_) => recorded.status,
        Ours::Refuses(_) => 403,
        Ours::Status(status) => *status,
    };
    assert_eq!(response.status().as_u16(), expected_status, "{name}: {text}");
    if matches!(ours, Ours::Same | Ours::Begins(_)) {
        for header in ["content-type", "allow"] {
            assert_eq!(
                response.headers().get(header),
                recorded.response_headers.get(header),
                "{name}: {header}"
            );
        }
    }
    match ours {
        Ours::Same if recorded.status == 200 && recorded.head.contains("/ca.crt") => {
            assert_eq!(response.body(), world.authority.certificate().as_ref(), "{name}");
        }
        Ours::Same if recorded.status == 200 && recorded.head.contains("/edge.crt") => {
            let (ours, theirs) = (says(response.body()), says(&recorded.response));
            assert_eq!(ours, theirs, "{name}");
        }
        // The server leaves the body of an answer to HEAD out.
        Ours::Same if recorded.head.starts_with("HEAD") => {}
        Ours::Same => assert_eq!(response.body(), &recorded.response, "{name}: {text}"),
        Ours::Begins(start) => assert!(text.starts_with(start), "{name}: {text}"),
        Ours::Refuses(why) => assert!(text.contains(why), "{name}: {text}"),
        Ours::Status(_) => {}
    }
}

/// What matters in a certificate: issuer, subject, key, usages, names, days.
fn says(der: &[u8]) -> String {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let usage = certificate.key_usage().unwrap().unwrap();
    let extended = certificate.extended_key_usage().unwrap().unwrap();
    let names = certificate.subject_alternative_name().unwrap();
    let validity = certificate.validity();
    format!(
        "{} {} {:?} {}{} {:?}{} {:?} {}",
        certificate.issuer(),
        certificate.subject(),
        certificate.public_key().subject_public_key,
        usage.value,
        usage.critical,
        extended.value,
        extended.critical,
        names.map(|n| n.value.general_names.clone()),
        (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400,
    )
}

struct World {
    authority: Arc<Authority>,
    service: PkiService,
    key: Vec<u8>,
    client: CertificateDer<'static>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = AuthorityConfig {
            ca: CredentialFiles::new(path("ca.crt"), path("ca.key")),
            server: CredentialFiles::new(path("server.crt"), path("server.key")),
            ..AuthorityConfig::default()
        };
        let authority = Arc::new(Authority::open(&config, now()).unwrap());
        let key = config.ca.load().unwrap().unwrap().key.secret_der().to_vec();
        let pki = PkiConfig {
            nodes: Some(Arc::new(OneNode)),
            ..PkiConfig::default()
        };
        let service = PkiService::new(authority.clone(), pki);
        // Only its names are looked at: TLS has verified it.
        let client = recordings()["02-edge-ok"].response.to_vec().into();
        Self {
            authority,
            service,
            key,
            client,
            _folder: folder,
        }
    }

    async fn put(&self, name: &str, recorded: &Recorded) -> Response<Bytes> {
        let mut words = recorded.head.split(' ');
        let method: Method = words.next().unwrap().parse().unwrap();
        let mut headers = recorded.headers.clone();
        let altered = ["03-wrong-token", "09-other-key-token", "11-alg-none"];
        if let Some(value) = headers
            .get_mut("authorization")
            .filter(|_| !altered.contains(&name))
        {
            *value = self.sign_again(value.to_str().unwrap()).parse().unwrap();
        }
        let request = PkiRequest {
            method: &method,
            path: words.next().unwrap(),
            headers: &headers,
            client: name.contains("client-certificate").then_some(&self.client),
            now: now(),
        };
        self.service.respond(request, &recorded.request).await
    }

    fn sign_again(&self, authorization: &str) -> String {
        let jwt = authorization.rsplit(' ').next().unwrap();
        let start = jwt.find("eyJ").unwrap();
        let jwt = &jwt[start..];
        let claims: serde_json::Value = jsonwebtoken::dangerous::insecure_decode_claims(jwt).unwrap();
        let algorithm: Algorithm = jsonwebtoken::decode_header(jwt).unwrap().alg;
        let key = EncodingKey::from_secret(&self.key);
        let signed = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
        authorization.replace(jwt, &signed)
    }
}

struct OneNode;

impl NodeLookup for OneNode {
    fn exists(&self, node: NodeId) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move { Ok(node.as_str() == "edge2") })
    }
}

/// When the recordings were made.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_325_900)
}

#[derive(Default)]
struct Recorded {
    head: String,
    headers: HeaderMap,
    request: Bytes,
    status: u16,
    response_headers: HeaderMap,
    response: Bytes,
}

fn recordings() -> BTreeMap<String, Recorded> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bootstrap");
    let mut all = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        all.insert(name, parse(&std::fs::read_to_string(&path).unwrap()));
    }
    all
}

fn parse(text: &str) -> Recorded {
    let (_, text) = text.split_once("### request\n").unwrap();
    let (request, text) = text.split_once("### request body\n").unwrap();
    let (request_body, text) = text.split_once("### response\n").unwrap();
    let (response, response_body) = text.split_once("### response body\n").unwrap();
    let (head, headers) = request.split_once('\n').unwrap();
    let (status, response_headers) = response.split_once('\n').unwrap();
    Recorded {
        head: head.to_owned(),
        headers: parse_headers(headers),
        request: parse_body(request_body),
        status: status.split(' ').nth(1).unwrap().parse().unwrap(),
        response_headers: parse_headers(response_headers),
        response: parse_body(response_body),
    }
}

fn parse_headers(text: &str) -> HeaderMap {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn parse_body(text: &str) -> Bytes {
    if let Some(base64) = text.strip_prefix("base64:\n") {
        // The PEM reader knows base64.
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64.trim()
        );
        use rustls_pki_types::pem::PemObject;
        return CertificateDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
            .into();
    }
    match text.strip_prefix("text:\n") {
        Some(text) => {
            let text = text.trim_end_matches('\n');
            text.strip_suffix("\n(no newline at end)")
                .unwrap_or(text)
                .to_owned()
                .into()
        }
        None => Bytes::new(),
    }
}
