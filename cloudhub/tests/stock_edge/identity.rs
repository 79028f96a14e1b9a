//! Who may call himself what: the certificate port, and what a connection may do once it stands.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use cloudhub::pki::{Authority, AuthorityConfig, PkiConfig, PkiRequest, PkiService};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;
use hub_core::testing::TestCa;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::cloud::{Cloud, pod, secret};
use crate::peer::{StockEdge, failure};

struct Port {
    service: PkiService,
    authority: Arc<Authority>,
    files: AuthorityConfig,
    _folder: tempfile::TempDir,
}

impl Port {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = AuthorityConfig {
            ca: CredentialFiles::new(path("ca.crt"), path("ca.key")),
            server: CredentialFiles::new(path("server.crt"), path("server.key")),
            ..AuthorityConfig::default()
        };
        let authority = Arc::new(Authority::open(&files, SystemTime::now()).unwrap());
        Self {
            service: PkiService::new(authority.clone(), PkiConfig::default()),
            authority,
            files,
            _folder: folder,
        }
    }

    async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        client: Option<&CertificateDer<'_>>,
        body: &[u8],
    ) -> Response<Bytes> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let request = PkiRequest {
            method: &Method::GET,
            path,
            headers: &headers,
            client,
            now: SystemTime::now(),
        };
        self.service.respond(request, body).await
    }

    /// As `edgecore` asks with a join token.
    async fn join(&self, node: &str, token: &str, request: &[u8]) -> u16 {
        // The first part is the hash of the authority.
        let jwt = token.split_once('.').unwrap().1;
        let bearer = format!("Bearer {jwt}");
        let headers = [("Authorization", &*bearer), ("NodeName", node)];
        self.get("/edge.crt", &headers, None, request)
            .await
            .status()
            .as_u16()
    }
}

/// A signing request as `edgecore` makes it.
fn request(common_name: &str, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "CN"),
        (DnType::OrganizationName, "system:nodes"),
        (DnType::StateOrProvinceName, "Zhejiang"),
        (DnType::LocalityName, "Hangzhou"),
        (DnType::CommonName, common_name),
    ] {
        params.distinguished_name.push(kind, value);
    }
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[tokio::test]
async fn s2_a_request_is_signed_for_the_node_that_asks_and_nothing_else() {
    let port = Port::new();
    let token = port.authority.join_token(None, SystemTime::now()).unwrap();
    assert_eq!(
        port.join("edge-1", &token, &request("system:node:edge-1", &[]))
            .await,
        200
    );
    for common_name in [
        "system:node:edge-2",
        "admin",
        "system:kube-controller-manager",
        "kubeedge.io",
        "",
    ] {
        assert_eq!(
            port.join("edge-1", &token, &request(common_name, &[])).await,
            403,
            "{common_name}"
        );
    }
    assert_eq!(port.join("", &token, &request("system:node:", &[])).await, 403);
    // A token may be for one node only.
    let bound = port
        .authority
        .join_token(Some(&NodeId::new("edge-2").unwrap()), SystemTime::now())
        .unwrap();
    assert_eq!(
        port.join("edge-1", &bound, &request("system:node:edge-1", &[]))
            .await,
        401
    );
    assert_eq!(
        port.join("edge-2", &bound, &request("system:node:edge-2", &[]))
            .await,
        200
    );
}

#[tokio::test]
async fn s3_a_client_certificate_gets_no_server_certificate_for_foreign_names() {
    let port = Port::new();
    let client = TestCa::new().node("edge-1").chain.remove(0);
    let headers = [("NodeName", "edge-1"), ("ExtKeyUsages", "[1]")];
    for name in ["cloud.example", "kubernetes.default.svc", "edge-2"] {
        let response = port
            .get(
                "/edge.crt",
                &headers,
                Some(&client),
                &request("system:node:edge-1", &[name]),
            )
            .await;
        assert_eq!(response.status(), 403, "{name}");
    }
    let own = request("system:node:edge-1", &["edge-1"]);
    assert_eq!(
        port.get("/edge.crt", &headers, Some(&client), &own)
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn p5_a_certificate_without_organization_or_name_is_refused_and_nobody_falls() {
    let port = Port::new();
    let authority = TestCa::new();
    for client in [
        authority.client("system:node:edge-1", "").chain.remove(0),
        authority.client("", "").chain.remove(0),
        authority.client("", "system:nodes").chain.remove(0),
        authority.client("system:node:", "system:nodes").chain.remove(0),
        bare(),
        CertificateDer::from(vec![0x30, 0x03, 0x01, 0x02, 0x03]),
        CertificateDer::from(Vec::new()),
    ] {
        let headers = [("NodeName", "edge-1")];
        let response = port
            .get(
                "/edge.crt",
                &headers,
                Some(&client),
                &request("system:node:edge-1", &[]),
            )
            .await;
        assert_eq!(response.status(), 401);
    }
}

/// A certificate whose subject has only a common name.
fn bare() -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "system:node:edge-1");
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

#[tokio::test]
async fn s4_nothing_can_be_reported_or_found_out_without_a_certificate() {
    let port = Port::new();
    for path in [
        "/nodeupgrade",
        "/task/upgrade/name/a/node/b/status",
        "/node/edge-1",
        "/node/",
        "/",
        "/edge.crt/",
        "/metrics",
    ] {
        let response = port.get(path, &[], None, b"{}").await;
        assert_eq!(response.status(), 404, "{path}");
    }
    assert_eq!(port.get("/edge.crt", &[], None, b"").await.status(), 401);
    // H4: a load balancer may ask.
    assert_eq!(port.get("/readyz", &[], None, b"").await.status(), 200);
}

#[tokio::test]
async fn s8_tokens_do_not_depend_on_a_task_that_renews_them() {
    let port = Port::new();
    let lives = port.files.token_lifetime;
    let mut now = SystemTime::now();
    for _ in 0..5 {
        let token = port.authority.join_token(None, now).unwrap();
        let jwt = token.split_once('.').unwrap().1;
        let tokens = hub_core_tokens(&port, jwt, now + lives - Duration::from_secs(60));
        assert!(
            tokens,
            "a token is made when it is asked for, and then is good for its whole life"
        );
        assert!(!hub_core_tokens(
            &port,
            jwt,
            now + lives + Duration::from_secs(3600)
        ));
        now += lives * 2;
    }
}

fn hub_core_tokens(port: &Port, jwt: &str, now: SystemTime) -> bool {
    let key = port.files.ca.load().unwrap().unwrap().key;
    cloudhub::pki::TokenKey::of_ca(&key)
        .verify(jwt, None, now)
        .is_ok()
}

#[test]
fn s10_keys_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let port = Port::new();
    for file in [&port.files.ca.key, &port.files.server.key] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn s1_s5_neither_header_nor_source_nor_operation_gives_rights() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    cloud
        .create(
            "nodes",
            json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "edge-2" } }),
        )
        .await;
    cloud.create("secrets", secret("other")).await;
    cloud.create("pods", pod("far", "edge-2", &[])).await;
    let before = cloud.get("pods", Some("default"), "far").await;
    for source in [
        "edged",
        "metaserver",
        "twin",
        "edgecontroller",
        "devicecontroller",
        "cloudhub",
        "synccontroller",
        "websocket",
    ] {
        for (operation, resource, content) in [
            ("query", "default/secret/other", Value::Null),
            (
                "patch",
                "default/podpatch/far",
                json!({ "status": { "phase": "Failed" } }).to_string().into(),
            ),
            ("delete", "default/pod/far", json!({})),
            (
                "patch",
                "null/nodepatch/edge-2",
                json!({ "status": { "phase": "x" } }).to_string().into(),
            ),
            (
                "update",
                "null/node/edge-2",
                json!({ "metadata": { "labels": { "mine": "yes" } } }),
            ),
            (
                "insert",
                "kube-node-lease/lease/edge-2",
                crate::metamanager::lease("edge-2", "2026-01-01T00:00:00.000000Z"),
            ),
        ] {
            let answer = edge
                .ask(edge.message(source, "resource", operation, resource, content))
                .await;
            assert!(
                failure(&answer).is_some(),
                "{source} {operation} {resource}: {answer}"
            );
        }
    }
    assert_eq!(cloud.get("pods", Some("default"), "far").await, before);
    let node = cloud.get("nodes", None, "edge-2").await.unwrap();
    assert_eq!(node["metadata"]["labels"].get("mine"), None);
    // An application is its connection's, whatever it says of its node.
    let mut forged = edge.application("get", "/core/v1/secrets/default/other", &json!({}), None, "");
    forged["content"]["Nodename"] = "edge-2".into();
    let answer = edge.ask(forged).await;
    assert_eq!(answer["content"]["Error"]["ErrStatus"]["code"], 403, "{answer}");
    let text = answer["content"]["Error"]["ErrStatus"]["message"]
        .as_str()
        .unwrap();
    assert!(text.contains("system:node:edge-1"), "{text}");
}

#[tokio::test]
async fn s6_events_of_a_node_are_taken() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    let event = json!({ "metadata": { "name": "edge-1.1", "namespace": "default", "creationTimestamp": null },
        "involvedObject": { "kind": "Node", "name": "edge-1", "uid": "edge-1" }, "reason": "Starting", "message": "Starting kubelet.",
        "source": { "component": "kubelet", "host": "edge-1" }, "type": "Normal", "count": 1,
        "firstTimestamp": "2026-11-22T05:29:16Z", "lastTimestamp": "2026-11-22T05:29:16Z", "eventTime": null,
        "reportingComponent": "kubelet", "reportingInstance": "edge-1" });
    let insert = edge.message("edged", "meta", "insert", "default/event/edge-1.1", event.clone());
    edge.send(&insert).await.unwrap();
    // There is no answer; what comes after it is answered, and by then it is there.
    let found = async {
        while cloud.get("events", Some("default"), "edge-1.1").await.is_none() {
            edge.edged("query", "kube-node-lease/lease/edge-1", Value::Null)
                .await;
        }
    };
    tokio::time::timeout(crate::cloud::PATIENCE, found)
        .await
        .expect("the event");
    let patch = json!({ "event": event, "patchData": json!({ "count": 2 }).to_string() });
    edge.send(&edge.message("edged", "meta", "patch", "default/event/edge-1.1", patch))
        .await
        .unwrap();
    let counted = async {
        while cloud.get("events", Some("default"), "edge-1.1").await.unwrap()["count"] != 2 {
            edge.edged("query", "kube-node-lease/lease/edge-1", Value::Null)
                .await;
        }
    };
    tokio::time::timeout(crate::cloud::PATIENCE, counted)
        .await
        .expect("the second");
    assert!(
        edge.seen()
            .log
            .iter()
            .all(|(_, m)| m["header"]["parent_msg_id"] != insert["header"]["msg_id"])
    );
}

#[tokio::test]
async fn l9_l12_p2_every_question_has_an_answer() {
    let cloud = Cloud::new().await;
    let edge = StockEdge::join(&cloud, "edge-1").await;
    edge.register().await;
    // A Go edge asks again for ever when it hears nothing.
    let detail = json!({ "event_type": "group_membership_event", "event_id": "e", "group_id": "edge-1", "operation": "detail", "timestamp": 1 });
    let asked = edge.message(
        "twin",
        "resource",
        "get",
        "membership/detail",
        detail.to_string().into(),
    );
    edge.ask(asked).await;
    for (operation, resource, content) in [
        (
            "insert",
            "default/volumeattachment/x",
            json!({ "metadata": { "name": "x" } }),
        ),
        ("query", "default/volumeattachment/x", Value::Null),
        ("query", "default/unknownkind/x", Value::Null),
        ("reboot", "default/pod/x", Value::Null),
        ("query", "one/two/three/four/five", Value::Null),
        ("query", "", Value::Null),
    ] {
        let answer = edge.edged(operation, resource, content).await;
        let text = failure(&answer).unwrap_or_else(|| panic!("{operation} {resource}: {answer}"));
        assert!(!text.is_empty());
    }
    // What is not there is deleted.
    let answer = edge
        .edged("delete", "default/volumeattachment/x", Value::Null)
        .await;
    assert_eq!(answer["content"], "OK");
    // Patches that fail, and their errors: filled, as an empty one reads as success.
    for content in [
        json!("no patch"),
        json!("{"),
        json!({ "status": 7 }),
        json!("[1]"),
        Value::Null,
    ] {
        let answer = edge
            .edged("patch", "null/nodepatch/edge-1", content.clone())
            .await;
        assert!(failure(&answer).is_some(), "{content}: {answer}");
    }
    let body = base64::engine::general_purpose::STANDARD.encode("not JSON");
    let mut broken = edge.application("create", "/core/v1/events/default/null", &json!({}), None, "");
    broken["content"]["ReqBody"] = body.into();
    assert_eq!(edge.ask(broken).await["content"]["Status"], "Rejected");
    edge.renew("insert", "2026-11-22T05:29:26.210596Z").await;
}
