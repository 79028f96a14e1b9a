//! CertificateSigningRequests on the embedded cluster: what is refused, what is approved by itself, what waits, and what is signed.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloudhub::cluster::{Cluster, ClusterEvent, EmbeddedCluster, EmbeddedConfig};
use cloudhub::pki::{Authority, AuthorityConfig, CertificateRequests};
use futures::StreamExt;
use hub_core::api::{ApiRequest, User, Verb};
use hub_core::credentials::CredentialFiles;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";

struct World {
    cluster: EmbeddedCluster,
    authority: Arc<Authority>,
    _run: AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = AuthorityConfig {
            ca: CredentialFiles::new(path("ca.crt"), path("ca.key")),
            server: CredentialFiles::new(path("server.crt"), path("server.key")),
            addresses: vec![IpAddr::from([192, 0, 2, 10])],
            ..AuthorityConfig::default()
        };
        let authority = Arc::new(Authority::open(&config, SystemTime::now()).unwrap());
        let cluster = EmbeddedCluster::open(&path("cluster.db"), EmbeddedConfig::default()).unwrap();
        let requests = CertificateRequests::signing(Arc::new(cluster.clone()), authority.clone());
        let run = AbortOnDropHandle::new(tokio::spawn(requests.run(CancellationToken::new())));
        Self {
            cluster,
            authority,
            _run: run,
            _folder: folder,
        }
    }

    async fn execute(&self, request: ApiRequest) -> (u16, Value) {
        let answer = self.cluster.execute(request).await.unwrap();
        (answer.code, serde_json::from_slice(&answer.body).unwrap())
    }

    async fn create(&self, user: &str, request: &Value) -> (u16, Value) {
        let mut create = ApiRequest::resource(Verb::Create, requests(), None, None)
            .with_body("application/json", request.to_string());
        create.user = Some(User {
            name: user.into(),
            groups: match user.starts_with("system:node:") {
                true => vec!["system:nodes".into(), "system:authenticated".into()],
                false => vec!["system:authenticated".into()],
            },
            ..User::default()
        });
        self.execute(create).await
    }

    /// As `kubectl certificate approve` and `deny` do it.
    async fn decide(&self, name: &str, decision: &str) -> (u16, Value) {
        let get = ApiRequest::resource(Verb::Get, requests(), None, Some(name));
        let (_, mut request) = self.execute(get).await;
        request["status"]["conditions"] =
            json!([{ "type": decision, "status": "True", "reason": "ByHand", "message": "by hand" }]);
        let update = ApiRequest::resource(Verb::Update, requests(), None, Some(name))
            .with_subresource("approval")
            .with_body("application/json", request.to_string());
        self.execute(update).await
    }

    /// Waits until a request is so.
    async fn until(&self, name: &str, mut done: impl FnMut(&Value) -> bool) -> Value {
        let mut events = Cluster::watch(&self.cluster, Scope::all(requests()));
        let waited = async {
            loop {
                if let Some(ClusterEvent::Applied { object, .. }) = events.next().await {
                    let request: Value = serde_json::from_slice(&object.body).unwrap();
                    if &*object.key.name == name && done(&request) {
                        return request;
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited)
            .await
            .unwrap()
    }
}

fn requests() -> GroupVersionResource {
    GroupVersionResource::new("certificates.k8s.io", "v1", "certificatesigningrequests")
}

fn subject(organization: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn pem(params: &CertificateParams) -> String {
    let key = KeyPair::generate().unwrap();
    BASE64.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn request(name: &str, signer: &str, usages: &[&str], params: &CertificateParams) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "request": pem(params), "signerName": signer, "usages": usages } })
}

fn of_node(name: &str, signer: &str, node: &str) -> Value {
    let mut params = subject("system:nodes", &format!("system:node:{node}"));
    let usage = match signer {
        SERVING => {
            params.subject_alt_names = vec![SanType::IpAddress([169, 254, 30, 10].into())];
            "server auth"
        }
        _ => "client auth",
    };
    request(
        name,
        signer,
        &["digital signature", "key encipherment", usage],
        &params,
    )
}

fn conditions(request: &Value) -> Vec<&str> {
    let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
    conditions.map(|c| c["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_nodes_own_certificates_are_approved_and_signed_by_the_clusters_authority() {
    let world = World::new();
    for (name, signer) in [("client", CLIENT), ("serving", SERVING)] {
        let (code, made) = world
            .create("system:node:edge-1", &of_node(name, signer, "edge-1"))
            .await;
        assert_eq!(
            (code, &made["spec"]["username"]),
            (201, &json!("system:node:edge-1"))
        );
        let issued = world
            .until(name, |request| request["status"]["certificate"].is_string())
            .await;
        assert_eq!(conditions(&issued), ["Approved"]);
        assert_eq!(issued["status"]["conditions"][0]["reason"], "AutoApproved");
        let pem = BASE64
            .decode(issued["status"]["certificate"].as_str().unwrap())
            .unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(
            certificate.subject().to_string(),
            "O=system:nodes, CN=system:node:edge-1"
        );
        let (_, ca) = X509Certificate::from_der(world.authority.certificate()).unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert_eq!(
            (usage.server_auth, usage.client_auth),
            (signer == SERVING, signer == CLIENT)
        );
    }
}

#[tokio::test]
async fn what_is_no_fit_request_is_refused_with_a_status_that_says_why() {
    let world = World::new();
    let node = || subject("system:nodes", "system:node:edge-1");
    let usages = ["digital signature", "client auth"];
    let good = request("a", CLIENT, &usages, &node());
    let with = |path: &str, value: Value| {
        let mut request = good.clone();
        *request.pointer_mut(path).unwrap() = value;
        request
    };
    let mut broken = BASE64.decode(good["spec"]["request"].as_str().unwrap()).unwrap();
    broken.truncate(60);
    let cases = [
        (
            with("/spec/request", "bm8gUEVN".into()),
            422,
            "CERTIFICATE REQUEST",
        ),
        (
            with("/spec/request", BASE64.encode(broken).into()),
            422,
            "spec.request",
        ),
        (
            with("/spec/usages", json!([])),
            422,
            "spec.usages: Required value",
        ),
        (
            with("/spec/usages", json!(["client auth", "be king"])),
            422,
            "spec.usages[1]: Unsupported value: \"be king\"",
        ),
        (
            with("/spec/usages", json!(["client auth", "client auth"])),
            422,
            "spec.usages[1]: Duplicate value",
        ),
        (
            with("/spec/signerName", "".into()),
            422,
            "spec.signerName: Required value",
        ),
        (
            with("/spec/signerName", "unqualified".into()),
            422,
            "fully qualified domain and path",
        ),
        (
            with("/spec/signerName", "kubernetes.io/legacy-unknown".into()),
            422,
            "legacy",
        ),
        (
            request("a", CLIENT, &usages, &subject("system:nodes", "edge-1")),
            422,
            "CN=system:node:",
        ),
        (
            request("a", CLIENT, &usages, &subject("staff", "system:node:edge-1")),
            422,
            "O=system:nodes",
        ),
        (
            request(
                "a",
                CLIENT,
                &usages,
                &subject("system:nodes", "system:node:edge-2"),
            ),
            403,
            "its own certificate only",
        ),
        (
            request(
                "a",
                "kubernetes.io/kube-apiserver-client",
                &usages,
                &subject("system:masters", "me"),
            ),
            403,
            "system:masters",
        ),
    ];
    for (request, expected, text) in cases {
        let (code, status) = world.create("system:node:edge-1", &request).await;
        assert_eq!((code, &status["kind"]), (expected, &json!("Status")), "{status}");
        assert!(
            status["message"].as_str().unwrap().contains(text),
            "{text}: {status}"
        );
    }
}

#[tokio::test]
async fn what_others_ask_waits_for_an_approval_and_is_signed_then() {
    let world = World::new();
    for name in ["yes", "no"] {
        let (code, _) = world.create("alice", &of_node(name, CLIENT, "edge-9")).await;
        assert_eq!(code, 201);
    }
    // One that is approved by itself comes after them: they were looked at.
    world
        .create("system:node:edge-1", &of_node("mark", CLIENT, "edge-1"))
        .await;
    world
        .until("mark", |request| request["status"]["certificate"].is_string())
        .await;
    let waits = world.until("yes", |_| true).await;
    assert!(conditions(&waits).is_empty());
    assert_eq!(world.decide("yes", "Approved").await.0, 200);
    assert_eq!(world.decide("no", "Denied").await.0, 200);
    world
        .until("yes", |request| request["status"]["certificate"].is_string())
        .await;
    // What was decided stays so, and what is signed too.
    let (code, status) = world.decide("no", "Approved").await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    let denied = world.until("no", |_| true).await;
    assert_eq!(conditions(&denied), ["Denied"]);
    assert!(denied["status"].get("certificate").is_none());
}

#[tokio::test]
async fn an_approval_does_not_sign_what_no_signer_may_sign() {
    let world = World::new();
    let serving = subject("system:nodes", "system:node:edge-1");
    let asked = request("bare", SERVING, &["digital signature", "server auth"], &serving);
    assert_eq!(world.create("system:node:edge-1", &asked).await.0, 201);
    assert_eq!(world.decide("bare", "Approved").await.0, 200);
    let failed = world
        .until("bare", |request| conditions(request).contains(&"Failed"))
        .await;
    assert_eq!(
        failed["status"]["conditions"][1]["reason"],
        "SignerValidationFailure"
    );
    // Of other signers nothing is known here.
    let other = request(
        "other",
        "example.com/signer",
        &["client auth"],
        &subject("staff", "bob"),
    );
    assert_eq!(world.create("bob", &other).await.0, 201);
    let (code, approved) = world.decide("other", "Approved").await;
    assert_eq!((code, conditions(&approved)), (200, vec!["Approved"]));
    // Nobody but who may approve can approve.
    let (_, mine) = world
        .create(
            "bob",
            &request(
                "mine",
                "example.com/signer",
                &["client auth"],
                &subject("staff", "bob"),
            ),
        )
        .await;
    let mut mine = mine;
    mine["status"]["conditions"] = json!([{ "type": "Approved", "status": "True" }]);
    let update = ApiRequest::resource(Verb::Update, requests(), None, Some("mine"))
        .with_subresource("status")
        .with_body("application/json", mine.to_string());
    assert_eq!(world.execute(update).await.0, 422);
}
