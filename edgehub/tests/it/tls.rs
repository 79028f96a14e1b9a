//! The front door, with certificates, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use edgehub::store::EdgeStore;
use edgehub::{EdgeHub, EdgeHubConfig, Link, TransportConfig};
use http_body_util::{BodyExt, Full};
use hub_core::credentials::{CredentialFiles, certificate_pem};
use hub_core::transport::{
    Capabilities, Endpoint, Identity, Listener, QuicConfig, QuicListener, TlsServer, TlsVersions,
    WebSocketConfig, WebSocketListener,
};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, Told};
use crate::world::{config, node, within};

/// A certificate authority whose certificates last as long as asked.
struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "KubeEdge");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn server(&self) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.identity(&params)
    }

    /// Good from `before` ago until `after` from now.
    fn node(&self, before: Duration, after: Duration) -> Identity {
        let mut params = CertificateParams::default();
        self.lasting(&mut params, before, after);
        params
            .distinguished_name
            .push(DnType::CommonName, node().user_name());
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        self.identity(&params)
    }

    fn sign(&self, csr: &[u8], after: Duration) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr);
        let mut csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
        self.lasting(&mut csr.params, Duration::from_secs(60), after);
        csr.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    fn lasting(&self, params: &mut CertificateParams, before: Duration, after: Duration) {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - before).into();
        params.not_after = (SystemTime::now() + after).into();
    }

    fn identity(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    fn tls(&self) -> TlsServer {
        TlsServer::mutual(self.server(), &self.certificate, TlsVersions::Only13).unwrap()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A node's directory with a certificate in it.
fn directory(ca: &Ca, identity: &Identity) -> (tempfile::TempDir, EdgeHubConfig) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.enroll.ca_file = directory.path().join("ca.crt");
    config.enroll.files = CredentialFiles::new(
        directory.path().join("node.crt"),
        directory.path().join("node.key"),
    );
    std::fs::write(&config.enroll.ca_file, certificate_pem(&ca.certificate)).unwrap();
    config.enroll.files.store(identity).unwrap();
    (directory, config)
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::parse(&address.to_string()).unwrap()
}

async fn websocket(ca: &Ca) -> (Box<dyn Listener>, Endpoint) {
    let listener = WebSocketListener::bind("127.0.0.1:0", ca.tls(), WebSocketConfig::default())
        .await
        .unwrap();
    let at = endpoint(listener.local_addr().unwrap());
    (Box::new(listener), at)
}

fn cloud_at(listener: Box<dyn Listener>) -> Cloud {
    Cloud::at(
        &node(),
        Capabilities::ALL,
        nothing_differs(),
        listener,
        Arc::default(),
    )
}

/// A port where nobody listens.
async fn nobody() -> Endpoint {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    endpoint(listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_preferred_transport_falls_back_to_the_other_and_the_store_becomes_the_node_s() {
    let ca = Ca::new();
    let (directory, mut config) = directory(&ca, &ca.node(HOUR, HOUR));
    let quic = QuicListener::bind("127.0.0.1:0".parse().unwrap(), ca.tls(), QuicConfig::default()).unwrap();
    config.websocket = vec![nobody().await];
    config.quic = vec![endpoint(quic.local_addr().unwrap())];
    let mut cloud = cloud_at(Box::new(quic));
    let store = EdgeStore::open(directory.path().join("edge.db")).unwrap();
    let hub = EdgeHub::new(config.clone(), store.clone()).unwrap();
    let handle = hub.handle();
    let run = tokio::spawn(hub.run());
    cloud.wait_for("sync/have").await;
    assert!(matches!(
        *handle.link().borrow(),
        Link::Up {
            transport: "quic",
            ..
        }
    ));
    handle.stop();
    within("the end", run).await.unwrap().unwrap();

    config.node = hub_core::node::NodeId::new("another").unwrap();
    let error = EdgeHub::new(config, store).unwrap().run().await.unwrap_err();
    assert!(error.to_string().contains("edge-1"), "{error}");
}

#[tokio::test]
async fn quic_may_be_preferred() {
    let ca = Ca::new();
    let (directory, mut config) = directory(&ca, &ca.node(HOUR, HOUR));
    let (listener, at) = websocket(&ca).await;
    config.websocket = vec![at];
    let quic = QuicListener::bind("127.0.0.1:0".parse().unwrap(), ca.tls(), QuicConfig::default()).unwrap();
    config.quic = vec![endpoint(quic.local_addr().unwrap())];
    config.prefer = TransportConfig::Quic;
    let _other = cloud_at(listener);
    let mut cloud = cloud_at(Box::new(quic));
    let store = EdgeStore::open(directory.path().join("edge.db")).unwrap();
    tokio::spawn(EdgeHub::new(config, store).unwrap().run());
    cloud.wait_for("sync/have").await;
}

#[tokio::test]
async fn a_certificate_is_renewed_and_the_new_connection_is_there_before_the_old_one_goes() {
    let ca = Arc::new(Ca::new());
    // Halfway through its life, which is when these nodes renew.
    let (directory, mut config) = directory(&ca, &ca.node(HOUR, HOUR));
    config.renewal.earliest_percent = 40;
    config.renewal.latest_percent = 40;
    let (listener, at) = websocket(&ca).await;
    config.websocket = vec![at];
    let issued = Arc::new(AtomicUsize::new(0));
    config.enroll.http_servers = vec![issuer(ca.clone(), issued.clone()).await];
    let mut cloud = cloud_at(listener);
    let store = EdgeStore::open(directory.path().join("edge.db")).unwrap();
    let before = std::fs::read(directory.path().join("node.crt")).unwrap();
    let hub = EdgeHub::new(config, store).unwrap();
    let mut link = hub.handle().link();
    tokio::spawn(hub.run());
    within("the link", link.wait_for(Link::is_up)).await.unwrap();
    let down = tokio::spawn(async move { link.wait_for(|link| !link.is_up()).await.is_ok() });
    while issued.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The session of the cloud sees the second connection take over the first.
    within("two connections", cloud.asked.wait_for(|n| *n == 2))
        .await
        .unwrap();
    cloud.wait_told(&Told::Attached).await;
    cloud.wait_told(&Told::Attached).await;
    cloud
        .push(
            "insert",
            "shop/configmap/a",
            Some(1),
            &crate::world::config_map("a", 1, "x"),
        )
        .await;
    cloud.wait_delivered("shop/configmap/a").await;
    assert!(!down.is_finished(), "the link never went down");
    down.abort();
    assert_ne!(before, std::fs::read(directory.path().join("node.crt")).unwrap());
    // An attempt under way while the first connection is just being made may be lost, and is made again then.
    let asked = issued.load(Ordering::SeqCst);
    assert!((1..=2).contains(&asked), "{asked} certificates for one renewal");
}

#[tokio::test]
async fn with_an_expired_certificate_the_node_serves_and_a_new_one_in_its_files_is_found() {
    let ca = Ca::new();
    let (directory, mut config) = directory(&ca, &ca.node(HOUR, Duration::ZERO));
    let (listener, at) = websocket(&ca).await;
    config.websocket = vec![at];
    config.identity_retry = Duration::from_millis(20);
    let mut cloud = cloud_at(listener);
    let store = EdgeStore::open(directory.path().join("edge.db")).unwrap();
    let body = crate::world::config_map("a", 1, "x").into();
    let object = hub_core::object::Object::from_body(crate::world::config_maps(), body).unwrap();
    hub_core::store::ObjectStore::apply(&store, vec![hub_core::store::Change::Put(object)])
        .await
        .unwrap();
    let files = config.enroll.files.clone();
    let hub = EdgeHub::new(config, store).unwrap();
    let mut link = hub.handle().link();
    let run = tokio::spawn(hub.run());
    let looking = |link: &Link| matches!(link, Link::Down { reason, .. } if reason.contains("certificate"));
    within("the reason", link.wait_for(looking)).await.unwrap();
    files.store(&ca.node(HOUR, HOUR)).unwrap();
    cloud.wait_for("sync/have").await;
    assert!(!run.is_finished());
}

/// Serves `/edge.crt` to holders of a certificate.
async fn issuer(ca: Arc<Ca>, issued: Arc<AtomicUsize>) -> Endpoint {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = endpoint(listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(ca.tls().config());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (ca, issued) = (ca.clone(), issued.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (ca, issued) = (ca.clone(), issued.clone());
                async move {
                    assert_eq!(request.uri().path(), "/edge.crt");
                    let csr = request.into_body().collect().await.unwrap().to_bytes();
                    issued.fetch_add(1, Ordering::SeqCst);
                    let certificate = ca.sign(&csr, 100 * HOUR);
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(
                        certificate,
                    ))))
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        }
    });
    at
}
