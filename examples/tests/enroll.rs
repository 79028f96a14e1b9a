//! A node and the cloud's port 10002, over real sockets and TLS.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudhub::pki::{
    Approved, Authority, AuthorityConfig, LocalSigner, PkiConfig, PkiServer, ServeConfig, TokenKey, Usage,
};
use edgehub::enroll::{EnrollConfig, EnrollError, Enrolled, Move, enroll, renew};
use hub_core::credentials::{CredentialFiles, sec1_from_pkcs8, write_private};
use hub_core::node::NodeId;
use hub_core::transport::{Endpoint, Identity};
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

/// A running cloud.
struct Cloud {
    folder: tempfile::TempDir,
    authority: Arc<Authority>,
    endpoint: Endpoint,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Cloud {
    async fn start() -> Self {
        Self::start_with(ServeConfig::default(), Ok).await
    }

    async fn start_with(
        serve: ServeConfig,
        change: impl FnOnce(Authority) -> Result<Authority, rustls::Error>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&authority_config(&folder), SystemTime::now()).unwrap();
        let authority = Arc::new(change(authority).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = PkiServer::new(authority.clone(), PkiConfig::default(), serve).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            folder,
            authority,
            endpoint: Endpoint::parse(&format!("127.0.0.1:{port}")).unwrap(),
            server: tokio::spawn(server.serve(listener, shutdown.clone())),
            shutdown,
        }
    }

    fn token(&self) -> String {
        self.authority.join_token(None, SystemTime::now()).unwrap()
    }

    /// Signs as nobody may ask for: a certificate from another time.
    fn sign(&self, node: &NodeId, at: SystemTime) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params
            .distinguished_name
            .push(DnType::CommonName, node.user_name());
        let request = params.serialize_request(&key).unwrap();
        let approved = Approved::check(request.der(), node, vec![Usage::Client], &[]).unwrap();
        let ca = authority_config(&self.folder).ca.load().unwrap().unwrap();
        let signer = LocalSigner::new(self.authority.certificate(), &ca.key, 24 * HOUR).unwrap();
        Identity {
            chain: vec![signer.node(&approved, at).unwrap()],
            key: sec1_from_pkcs8(key.serialized_der(), key.public_key_raw())
                .unwrap()
                .into(),
        }
    }
}

fn authority_config(folder: &tempfile::TempDir) -> AuthorityConfig {
    let path = |name: &str| folder.path().join(name);
    AuthorityConfig {
        ca: CredentialFiles::new(path("rootCA.crt"), path("rootCA.key")),
        server: CredentialFiles::new(path("server.crt"), path("server.key")),
        addresses: vec![IpAddr::from(Ipv4Addr::LOCALHOST)],
        ..AuthorityConfig::default()
    }
}

/// A node with empty disks.
struct Node {
    config: EnrollConfig,
    folder: tempfile::TempDir,
}

impl Node {
    fn new(name: &str, cloud: &Cloud, token: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = EnrollConfig::new(NodeId::new(name).unwrap(), vec![cloud.endpoint.clone()]);
        config.token = token;
        config.ca_file = path("ca/rootCA.crt");
        config.files = CredentialFiles::new(path("certs/server.crt"), path("certs/server.key"));
        config.dial_timeout = Duration::from_secs(5);
        config.response_timeout = Duration::from_secs(5);
        Self { config, folder }
    }

    async fn enroll(&self) -> Result<Enrolled, EnrollError> {
        enroll(&self.config, SystemTime::now()).await
    }
}

fn operator(error: &EnrollError, says: &str) {
    assert_eq!(error.whose_move(), Move::Operator, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_then_needs_neither_token_nor_cloud() {
    let cloud = Cloud::start().await;
    let mut node = Node::new("edge1", &cloud, Some(cloud.token()));
    let joined = node.enroll().await.unwrap();
    assert_eq!(&joined.ca, cloud.authority.certificate());
    let lifetime = joined.not_after.duration_since(joined.not_before).unwrap();
    assert_eq!(lifetime.as_secs() / 86_400, 365);
    for file in [
        &node.config.files.key,
        &node.config.files.certificate,
        &node.config.ca_file,
    ] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let key = std::fs::read_to_string(&node.config.files.key).unwrap();
    assert!(
        key.starts_with("-----BEGIN EC PRIVATE KEY-----"),
        "as a Go edge reads it"
    );
    node.config.token = None;
    node.config.http_servers.clear();
    assert_eq!(node.enroll().await.unwrap().identity.chain, joined.identity.chain);
    cloud.shutdown.cancel();
    cloud.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_certificate_and_token_the_error_says_what_to_do() {
    let cloud = Cloud::start().await;
    let error = Node::new("edge1", &cloud, None).enroll().await.unwrap_err();
    operator(&error, "put it into modules.edgeHub.token");
    let error = Node::new("edge1", &cloud, Some("nonsense".into()))
        .enroll()
        .await
        .unwrap_err();
    operator(&error, "four parts");
}

#[tokio::test]
async fn a_token_of_another_cloud_is_not_shown_to_this_one() {
    let (cloud, other) = (Cloud::start().await, Cloud::start().await);
    let node = Node::new("edge1", &cloud, Some(other.token()));
    let error = node.enroll().await.unwrap_err();
    assert!(matches!(error, EnrollError::OtherCa { .. }));
    operator(&error, "somebody is in between");
    assert_eq!(
        std::fs::read_dir(node.folder.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}

#[tokio::test]
async fn expired_and_foreign_tokens_are_refused() {
    let cloud = Cloud::start().await;
    let expired = cloud
        .authority
        .join_token(None, SystemTime::now() - 48 * HOUR)
        .unwrap();
    let bound = cloud
        .authority
        .join_token(Some(&NodeId::new("edge2").unwrap()), SystemTime::now())
        .unwrap();
    for (token, says) in [
        (expired, "token is expired"),
        (bound.clone(), "bound to another node"),
        (cloud.token() + "A", "signature is invalid"),
    ] {
        let error = Node::new("edge1", &cloud, Some(token))
            .enroll()
            .await
            .unwrap_err();
        operator(&error, says);
    }
    Node::new("edge2", &cloud, Some(bound)).enroll().await.unwrap();
}

#[tokio::test]
async fn a_server_that_only_shows_the_right_ca_gets_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = Authority::open(&authority_config(&folder), SystemTime::now()).unwrap();
    let cloud = Cloud::start_with(ServeConfig::default(), |honest| {
        let ca = honest.certificate().clone();
        let signer = LocalSigner::new(
            stranger.certificate(),
            &authority_config(&folder).ca.load().unwrap().unwrap().key,
            HOUR,
        )
        .unwrap();
        let config = authority_config(&folder);
        Ok(Authority::external(
            ca,
            Arc::new(signer),
            TokenKey::new(b"x"),
            stranger.server_identity().as_ref().clone(),
            &config,
        ))
    })
    .await;
    let node = Node::new("edge1", &cloud, Some(cloud.token()));
    let error = node.enroll().await.unwrap_err();
    assert!(matches!(error, EnrollError::Untrusted { .. }), "{error}");
    operator(&error, "cannot be trusted");
}

#[tokio::test]
async fn a_certificate_renews_itself_and_both_are_good_for_a_while() {
    let cloud = Cloud::start().await;
    let mut node = Node::new("edge1", &cloud, Some(cloud.token()));
    let first = node.enroll().await.unwrap();
    node.config.token = None;
    let second = renew(&node.config, &first, SystemTime::now()).await.unwrap();
    assert_ne!(first.identity.chain, second.identity.chain);
    assert_ne!(first.identity.key, second.identity.key);
    assert_eq!(node.enroll().await.unwrap().identity.chain, second.identity.chain);
    // The hub connects with the new one before it drops the old.
    renew(&node.config, &first, SystemTime::now()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_does_not_renew_for_another_node() {
    let cloud = Cloud::start().await;
    let one = Node::new("edge1", &cloud, Some(cloud.token()))
        .enroll()
        .await
        .unwrap();
    let other = Node::new("edge2", &cloud, None);
    let error = renew(&other.config, &one, SystemTime::now()).await.unwrap_err();
    operator(&error, "request node name is not match with the certificate");
}

#[tokio::test]
async fn a_certificate_of_another_ca_does_not_renew() {
    let (cloud, other) = (Cloud::start().await, Cloud::start().await);
    let mut foreign = Node::new("edge1", &other, Some(other.token()))
        .enroll()
        .await
        .unwrap();
    foreign.ca = cloud.authority.certificate().clone();
    let node = Node::new("edge1", &cloud, None);
    let error = renew(&node.config, &foreign, SystemTime::now())
        .await
        .unwrap_err();
    operator(&error, "TLS alert");
}

#[tokio::test]
async fn an_expired_or_foreign_certificate_gives_way_to_a_token() {
    let cloud = Cloud::start().await;
    let mut node = Node::new("edge1", &cloud, None);
    let other = NodeId::new("edge2").unwrap();
    write_private(
        &node.config.ca_file,
        hub_core::credentials::certificate_pem(cloud.authority.certificate()).as_bytes(),
    )
    .unwrap();
    for (identity, says) in [
        (
            cloud.sign(&node.config.node, SystemTime::now() - 48 * HOUR),
            "expired",
        ),
        (cloud.sign(&other, SystemTime::now()), "system:node:edge2"),
        (
            Cloud::start().await.sign(&node.config.node, SystemTime::now()),
            "does not fit the CA",
        ),
    ] {
        node.config.token = None;
        node.config.files.store(&identity).unwrap();
        operator(&node.enroll().await.unwrap_err(), says);
        node.config.token = Some(cloud.token());
        let joined = node.enroll().await.unwrap();
        assert_ne!(joined.identity.chain, identity.chain);
    }
    let current = node.enroll().await.unwrap();
    let error = renew(&node.config, &current, SystemTime::now() + 400 * 24 * HOUR)
        .await
        .unwrap_err();
    operator(&error, "new token");
}

#[tokio::test]
async fn servers_are_tried_in_turn() {
    let cloud = Cloud::start().await;
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = |listener: &TcpListener| Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let (dead_at, mute_at) = (at(&dead), at(&mute));
    drop(dead);
    let mut node = Node::new("edge1", &cloud, Some(cloud.token()));
    node.config.dial_timeout = Duration::from_millis(500);
    node.config.http_servers = vec![dead_at, mute_at];
    let error = node.enroll().await.unwrap_err();
    assert_eq!(error.whose_move(), Move::Link, "{error}");
    node.config.http_servers.push(cloud.endpoint.clone());
    node.enroll().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed_and_hurts_only_itself() {
    let serve = ServeConfig {
        handshake_timeout: Duration::from_millis(300),
        ..ServeConfig::default()
    };
    let cloud = Cloud::start_with(serve, Ok).await;
    let mut silent = TcpStream::connect(("127.0.0.1", cloud.endpoint.port))
        .await
        .unwrap();
    Node::new("edge1", &cloud, Some(cloud.token()))
        .enroll()
        .await
        .unwrap();
    let mut bytes = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut bytes));
    let _ = closed.await.expect("the server closes it");
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed() {
    let serve = ServeConfig {
        connections_per_address_max: 1,
        ..ServeConfig::default()
    };
    let cloud = Cloud::start_with(serve, Ok).await;
    let _first = TcpStream::connect(("127.0.0.1", cloud.endpoint.port))
        .await
        .unwrap();
    let error = Node::new("edge1", &cloud, Some(cloud.token()))
        .enroll()
        .await
        .unwrap_err();
    assert_eq!(error.whose_move(), Move::Link, "{error}");
}

#[tokio::test]
async fn whoever_is_refused_too_often_is_told_to_wait_while_good_tokens_pass() {
    let serve = ServeConfig {
        refusals_per_minute_max: 2,
        ..ServeConfig::default()
    };
    let cloud = Cloud::start_with(serve, Ok).await;
    let bad = Node::new("edge1", &cloud, Some(cloud.token() + "A"));
    for _ in 0..2 {
        operator(&bad.enroll().await.unwrap_err(), "401");
    }
    let error = bad.enroll().await.unwrap_err();
    assert_eq!(error.whose_move(), Move::Link);
    assert!(error.to_string().contains("429"), "{error}");
    Node::new("edge2", &cloud, Some(cloud.token()))
        .enroll()
        .await
        .unwrap();
}
