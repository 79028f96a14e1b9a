//! What instances of a cloud half share in Secrets, and what they keep fresh.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cloudhub::Readiness;
use cloudhub::cluster::{Cluster, ClusterError, ClusterEvent, EmbeddedCluster, EmbeddedConfig};
use cloudhub::pki::{
    Authority, AuthorityConfig, AuthorityError, ClusterNodes, PkiConfig, PkiServer, ServeConfig,
    SharedSecrets,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hub_core::api::{ApiRequest, ApiResponse, UpstreamError, Verb};
use hub_core::clock::Clock;
use hub_core::credentials::CredentialFiles;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::transport::{TlsClient, TlsServer, TlsVersions};
use jsonwebtoken::{DecodingKey, Validation};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const PATIENCE: Duration = Duration::from_secs(10);
const YEAR: u64 = 365 * 24 * 3600;

/// A cluster whose writes fail for a while.
#[derive(Clone)]
struct World {
    cluster: EmbeddedCluster,
    failures: Arc<AtomicUsize>,
    _folder: Arc<tempfile::TempDir>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster =
            EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
        Self {
            cluster,
            failures: Arc::default(),
            _folder: Arc::new(folder),
        }
    }

    fn secrets(&self) -> SharedSecrets {
        SharedSecrets::new(Arc::new(self.clone()), SharedSecrets::NAMESPACE)
    }

    fn config(&self, address: u8) -> AuthorityConfig {
        // Nothing is there, and nothing is put there.
        let nowhere = Path::new("/nonexistent/edge-tunnel-test");
        AuthorityConfig {
            ca: CredentialFiles::new(nowhere.join("ca.crt"), nowhere.join("ca.key")),
            server: CredentialFiles::new(nowhere.join("server.crt"), nowhere.join("server.key")),
            addresses: vec![IpAddr::from([127, 0, 0, address])],
            names: vec!["localhost".into()],
            ..AuthorityConfig::default()
        }
    }

    async fn authority(&self) -> Authority {
        Authority::shared(&self.config(1), self.secrets(), SystemTime::now())
            .await
            .unwrap()
    }

    async fn secret(&self, name: &str) -> Option<Value> {
        let key = ObjectKey::new(GroupVersionResource::core("secrets"), Some("kubeedge"), name);
        let object = Cluster::get(&self.cluster, key).await.unwrap()?;
        Some(serde_json::from_slice(&object.body).unwrap())
    }

    async fn data(&self, name: &str, field: &str) -> Vec<u8> {
        let secret = self.secret(name).await.unwrap();
        STANDARD.decode(secret["data"][field].as_str().unwrap()).unwrap()
    }

    async fn create(&self, resource: &str, namespace: Option<&str>, object: Value) {
        let request = ApiRequest::resource(
            Verb::Create,
            GroupVersionResource::core(resource),
            namespace,
            None,
        );
        let request = request.with_body("application/json", object.to_string());
        assert!(self.cluster.execute(request).await.unwrap().is_success());
    }

    /// Waits until a Secret is as wanted.
    async fn until(&self, name: &str, mut done: impl FnMut(&Value) -> bool) -> Value {
        let key = ObjectKey::new(GroupVersionResource::core("secrets"), Some("kubeedge"), name);
        let mut watch = Cluster::watch(&self.cluster, Scope::object(&key));
        loop {
            if let Some(ClusterEvent::Applied { object, .. }) = watch.next().await {
                let value = serde_json::from_slice(&object.body).unwrap();
                if done(&value) {
                    return value;
                }
            }
        }
    }
}

impl Cluster for World {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        Cluster::watch(&self.cluster, scope)
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        Cluster::get(&self.cluster, key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        let fails = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
        if fails {
            return Box::pin(async { Err(UpstreamError::Unreachable) });
        }
        // The disk takes real time. While a blocking task is under way, tokio's paused clock stands; else days would pass meanwhile.
        let cluster = self.cluster.clone();
        let runtime = tokio::runtime::Handle::current();
        let executed = tokio::task::spawn_blocking(move || runtime.block_on(cluster.execute(request)));
        Box::pin(async { executed.await.unwrap() })
    }

    fn allows(&self, request: &ApiRequest) -> BoxFuture<'static, bool> {
        self.cluster.allows(request)
    }

    fn registry(&self) -> &Registry {
        Cluster::registry(&self.cluster)
    }
}

/// A clock that moves by a second whenever it is read.
struct Ticking(AtomicI64);

impl Ticking {
    fn now() -> Self {
        Self(AtomicI64::new(hub_core::clock::SystemClock.unix_ms()))
    }
}

impl Clock for Ticking {
    fn unix_ms(&self) -> i64 {
        self.0.fetch_add(1000, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn instances_that_start_together_share_one_authority_and_one_server_certificate() {
    let world = World::new();
    let instances = (0..6).map(|_| world.authority());
    let instances = futures::future::join_all(instances).await;
    for other in &instances[1..] {
        assert_eq!(other.certificate(), instances[0].certificate());
        assert_eq!(
            other.server_identity().chain,
            instances[0].server_identity().chain
        );
    }
    let again = world.authority().await;
    assert_eq!(again.certificate(), instances[0].certificate());
    assert_eq!(
        again.server_identity().chain,
        instances[0].server_identity().chain
    );
}

#[tokio::test]
async fn the_secrets_are_those_of_a_go_cloudcore() {
    let world = World::new();
    let authority = world.authority().await;
    for (name, keys) in [
        ("casecret", ["cadata", "cakeydata"]),
        ("cloudcoresecret", ["cloudcoredata", "cloudcorekeydata"]),
    ] {
        let secret = world.secret(name).await.unwrap();
        assert_eq!(
            (secret["type"].as_str(), secret["data"].as_object().unwrap().len()),
            (Some("Opaque"), 2)
        );
        let (certificate, key) = (world.data(name, keys[0]).await, world.data(name, keys[1]).await);
        let (rest, certificate) = X509Certificate::from_der(&certificate).unwrap();
        assert!(rest.is_empty());
        assert!(certificate.subject().to_string().contains("CN=KubeEdge"));
        // Go reads the key with x509.ParseECPrivateKey: SEC1, version 1, a P-256 key of 32 bytes.
        assert_eq!(&key[..1], [0x30]);
        assert_eq!(&key[2..7], [0x02, 0x01, 0x01, 0x04, 0x20], "SEC1");
    }
    assert_eq!(
        world.data("casecret", "cadata").await,
        authority.certificate().as_ref()
    );
}

/// What a Go cloudcore wrote is taken as it is: its keys sign our tokens and certificates.
#[tokio::test]
async fn what_others_put_into_the_secrets_is_taken_as_it_is() {
    let (theirs, ours) = (World::new(), World::new());
    let first = theirs.authority().await;
    ours.create(
        "namespaces",
        None,
        json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "kubeedge" } }),
    )
    .await;
    for name in ["casecret", "cloudcoresecret"] {
        let mut secret = theirs.secret(name).await.unwrap();
        secret["metadata"] = json!({ "name": name, "namespace": "kubeedge" });
        ours.create("secrets", Some("kubeedge"), secret).await;
    }
    let second = ours.authority().await;
    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(first.server_identity().chain, second.server_identity().chain);
}

#[tokio::test]
async fn an_instance_with_another_address_takes_nothing_from_the_first() {
    let world = World::new();
    world.authority().await;
    let second = Authority::shared(&world.config(2), world.secrets(), SystemTime::now())
        .await
        .unwrap();
    let chain = second.server_identity();
    let (_, leaf) = X509Certificate::from_der(&chain.chain[0]).unwrap();
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(names.len(), 3, "both addresses and the name: {names:?}");
    let first = world.authority().await;
    assert_eq!(first.server_identity().chain, chain.chain, "and it stays so");
}

#[tokio::test]
async fn files_of_the_operator_come_first_and_go_into_the_secrets() {
    let world = World::new();
    let from_secrets = world.authority().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = world.config(1);
    config.ca = CredentialFiles::new(folder.path().join("ca.crt"), folder.path().join("ca.key"));
    let mut made = config.clone();
    made.server = CredentialFiles::new(folder.path().join("s.crt"), folder.path().join("s.key"));
    let own = Authority::open(&made, SystemTime::now()).unwrap();
    let shared = Authority::shared(&config, world.secrets(), SystemTime::now())
        .await
        .unwrap();
    assert_eq!(shared.certificate(), own.certificate());
    assert_eq!(world.data("casecret", "cadata").await, own.certificate().as_ref());
    assert_ne!(
        shared.server_identity().chain,
        from_secrets.server_identity().chain,
        "that of the other CA is made anew"
    );
    // The server's own files too.
    let shared = Authority::shared(&made, world.secrets(), SystemTime::now())
        .await
        .unwrap();
    assert_eq!(shared.server_identity().chain, own.server_identity().chain);
    let secret = world.data("cloudcoresecret", "cloudcoredata").await;
    assert_eq!(secret, own.server_identity().chain[0].as_ref());
    // One without the other is a mistake, as in KubeEdge.
    std::fs::remove_file(&made.server.key).unwrap();
    let error = Authority::shared(&made, world.secrets(), SystemTime::now())
        .await
        .unwrap_err();
    assert!(matches!(error, AuthorityError::Files(_)), "{error}");
}

#[tokio::test]
async fn a_damaged_secret_is_an_error_that_names_it_and_is_not_overwritten() {
    let world = World::new();
    world.authority().await;
    let secret = world.secret("casecret").await.unwrap();
    for (field, value, expected) in [
        ("cadata", json!("!"), "holds no base64 in cadata"),
        ("cakeydata", Value::Null, "lacks cakeydata"),
        ("cakeydata", json!("AAAA"), "has no private key in cakeydata"),
    ] {
        let mut damaged = secret.clone();
        damaged["data"][field] = value;
        if damaged["data"][field].is_null() {
            damaged["data"].as_object_mut().unwrap().remove(field);
        }
        damaged["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        let update = ApiRequest::resource(
            Verb::Update,
            GroupVersionResource::core("secrets"),
            Some("kubeedge"),
            Some("casecret"),
        );
        let update = update.with_body("application/json", damaged.to_string());
        let answer = world.cluster.execute(update).await.unwrap();
        if !answer.is_success() {
            // This cluster refuses what is no base64 at all.
            assert_eq!(expected, "holds no base64 in cadata");
            continue;
        }
        let error = Authority::shared(&world.config(1), world.secrets(), SystemTime::now())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(world.secret("casecret").await.unwrap()["data"], damaged["data"]);
    }
}

#[tokio::test]
async fn the_token_in_its_secret_is_what_keadm_reads_and_a_stock_edge_and_cloud_take() {
    let world = World::new();
    let authority = Arc::new(world.authority().await);
    let stop = CancellationToken::new();
    let keeping = {
        let (authority, stop) = (authority.clone(), stop.clone());
        tokio::spawn(async move { authority.keep(&hub_core::clock::SystemClock, stop).await })
    };
    let secret = tokio::time::timeout(PATIENCE, world.until("tokensecret", |_| true))
        .await
        .unwrap();
    assert_eq!(secret["type"], "Opaque");
    let token = String::from_utf8(world.data("tokensecret", "tokendata").await).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    assert_eq!(parts.len(), 4);
    let hash: String = Sha256::digest(world.data("casecret", "cadata").await)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(parts[0], hash);
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    assert_eq!(
        (header["alg"].as_str(), header["typ"].as_str()),
        (Some("HS256"), Some("JWT"))
    );
    // As Go verifies it: HMAC with the DER bytes of the key in casecret.
    let key = DecodingKey::from_secret(&world.data("casecret", "cakeydata").await);
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Value>(parts[1..].join("."), &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims.as_object().unwrap().len(), 1, "{claims}");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let left = claims["exp"].as_u64().unwrap() - now;
    assert!((86_300..=86_400).contains(&left), "{left} s");
    stop.cancel();
    keeping.await.unwrap();
}

/// KubeEdge's weak spot S8: there the first failure ends the refresh for ever.
#[tokio::test(start_paused = true)]
async fn the_token_is_refreshed_in_time_however_often_the_cluster_fails() {
    let world = World::new();
    let authority = Arc::new(world.authority().await);
    world.failures.store(20, Ordering::SeqCst);
    let keeping = {
        let authority = authority.clone();
        tokio::spawn(async move {
            let clock = Ticking::now();
            authority.keep(&clock, CancellationToken::new()).await;
        })
    };
    let mut versions = std::collections::BTreeSet::new();
    let thrice = world.until("tokensecret", |secret| {
        versions.insert(secret["metadata"]["resourceVersion"].to_string());
        versions.len() == 3
    });
    let days = Duration::from_secs(30 * 24 * 3600);
    tokio::time::timeout(days, thrice).await.unwrap();
    assert_eq!(world.failures.load(Ordering::SeqCst), 0);
    keeping.abort();
}

struct Client(TlsStream<TcpStream>);

impl Client {
    async fn connect(ca: &CertificateDer<'static>, address: std::net::SocketAddr) -> Self {
        let tls = TlsClient::new(ca, None).unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self(connector.connect(name, stream).await.unwrap())
    }

    fn leaf(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    async fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: cloud\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut answer))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

#[tokio::test]
async fn a_server_certificate_near_its_end_is_made_anew_and_no_connection_drops() {
    let world = World::new();
    world
        .create(
            "nodes",
            None,
            json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "edge-1" } }),
        )
        .await;
    let long_ago = SystemTime::now() - Duration::from_secs(9 * YEAR + YEAR / 2);
    let authority = Authority::shared(&world.config(1), world.secrets(), long_ago).await;
    let authority = Arc::new(authority.unwrap());
    let tunnel: TlsServer = authority.tunnel_tls(TlsVersions::From12).unwrap();
    let before = tunnel.config();
    let (tell, readiness) = tokio::sync::watch::channel(Readiness::Starting);
    let pki = PkiConfig {
        nodes: Some(Arc::new(ClusterNodes::new(Arc::new(world.cluster.clone())))),
        readiness: Some(readiness),
        ..PkiConfig::default()
    };
    let server = PkiServer::new(authority.clone(), pki, ServeConfig::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(server.serve(listener, CancellationToken::new()));
    let mut standing = Client::connect(authority.certificate(), address).await;
    assert!(standing.get("/node/edge-1").await.ends_with("Node found"));
    for (readiness, code) in [
        (Readiness::Starting, "503"),
        (Readiness::Ready, "200"),
        (Readiness::Draining, "503"),
    ] {
        tell.send_replace(readiness);
        assert!(standing.get("/readyz").await.contains(code), "{readiness}");
        assert!(standing.get("/healthz").await.contains("200"));
    }
    let old = standing.leaf();

    let keeping = {
        let authority = authority.clone();
        let clock = hub_core::clock::SystemClock;
        tokio::spawn(async move { authority.keep(&clock, CancellationToken::new()).await })
    };
    let old_text = STANDARD.encode(&old);
    let renewed = world.until("cloudcoresecret", |secret| {
        secret["data"]["cloudcoredata"] != old_text.as_str()
    });
    let renewed = tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    let shown = async {
        while authority.server_identity().chain[0] == old {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.unwrap();
    assert!(
        standing.get("/node/absent").await.ends_with("Node not found"),
        "the connection stands"
    );
    let new = Client::connect(authority.certificate(), address).await.leaf();
    assert_ne!(new, old);
    assert_eq!(renewed["data"]["cloudcoredata"], STANDARD.encode(&new));
    assert!(
        !Arc::ptr_eq(&before, &tunnel.config()),
        "the tunnel's listeners too"
    );
    // The others take it over.
    assert_eq!(world.authority().await.server_identity().chain[0], new);
    keeping.abort();
    serving.abort();
}

#[tokio::test]
async fn a_certificate_that_the_operator_replaces_in_its_file_is_shown_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut config = World::new().config(1);
    config.ca = CredentialFiles::new(at("ca.crt"), at("ca.key"));
    config.server = CredentialFiles::new(at("s.crt"), at("s.key"));
    let authority = Arc::new(Authority::open(&config, SystemTime::now()).unwrap());
    let old = authority.server_identity();
    // Another process of the operator: the same CA, and a new certificate.
    let mut other = config.clone();
    other.server = CredentialFiles::new(at("t.crt"), at("t.key"));
    let new = Authority::open(&other, SystemTime::now())
        .unwrap()
        .server_identity();
    config.server.store(&new).unwrap();
    let keeping = {
        let authority = authority.clone();
        tokio::spawn(async move {
            authority
                .keep(&hub_core::clock::SystemClock, CancellationToken::new())
                .await
        })
    };
    let shown = async {
        while authority.server_identity().chain == old.chain {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.unwrap();
    assert_eq!(authority.server_identity().chain, new.chain);
    keeping.abort();
}
