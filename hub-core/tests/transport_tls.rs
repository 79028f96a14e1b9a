//! Who gets in: certificates, versions and names, over TCP and UDP.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::time::Duration;

use futures::StreamExt;
use hub_core::node::NodeId;
use hub_core::testing::TestCa;
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Listener, PeerIdentity, QuicConfig, QuicDialer,
    QuicListener, TlsClient, TlsServer, TlsVersions, Transport, TransportError, WebSocketConfig,
    WebSocketDialer, WebSocketListener,
};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A hub that accepts everybody whom TLS lets through, until it is dropped.
struct Hub {
    endpoint: Endpoint,
    tls: TlsServer,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Hub {
    fn serve(mut listener: Box<dyn Listener>, tls: TlsServer) -> Self {
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
        };
        let task = tokio::spawn(async move {
            loop {
                let incoming = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let upgrade = incoming.handshake().await?;
                    let mut transport = upgrade.accept(Capabilities::ALL).await?;
                    while let Some(Ok(_)) = transport.next().await {}
                    Ok::<_, TransportError>(())
                });
            }
        });
        Self {
            endpoint,
            tls,
            _task: tokio_util::task::AbortOnDropHandle::new(task),
        }
    }

    async fn websocket(tls: TlsServer) -> Self {
        let listener = WebSocketListener::bind("127.0.0.1:0", tls.clone(), WebSocketConfig::default());
        Self::serve(Box::new(listener.await.unwrap()), tls)
    }

    fn quic(tls: TlsServer) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = QuicListener::bind(address, tls.clone(), QuicConfig::default()).unwrap();
        Self::serve(Box::new(listener), tls)
    }

    async fn both(ca: &TestCa, names: &[&str]) -> [(Self, fn(TlsClient) -> Box<dyn Dialer>); 2] {
        [
            (
                Self::websocket(mutual(ca, names)).await,
                websocket_dialer as fn(_) -> _,
            ),
            (Self::quic(mutual(ca, names)), quic_dialer),
        ]
    }
}

fn websocket_dialer(tls: TlsClient) -> Box<dyn Dialer> {
    Box::new(WebSocketDialer::new(tls, WebSocketConfig::default()))
}

fn quic_dialer(tls: TlsClient) -> Box<dyn Dialer> {
    Box::new(QuicDialer::new(tls, QuicConfig::default()))
}

fn mutual(ca: &TestCa, names: &[&str]) -> TlsServer {
    TlsServer::mutual(ca.server(names), ca.certificate(), TlsVersions::Only13).unwrap()
}

async fn dial(dialer: &dyn Dialer, endpoint: &Endpoint) -> Result<Box<dyn Transport>, TransportError> {
    let node = NodeId::new("edge-1").unwrap();
    let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
    tokio::time::timeout(Duration::from_secs(20), dialer.dial(endpoint, request))
        .await
        .expect("in time")
}

async fn refused_by_tls(dialer: &dyn Dialer, endpoint: &Endpoint) {
    match dial(dialer, endpoint).await {
        Err(TransportError::Tls(_)) => {}
        Err(other) => panic!("{}: {other}", dialer.transport()),
        Ok(_) => panic!("{}: connected", dialer.transport()),
    }
}

#[tokio::test]
async fn only_holders_of_a_client_certificate_of_the_ca_get_in() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    for (hub, dialer) in Hub::both(&ca, &["127.0.0.1"]).await {
        let client = |identity| dialer(TlsClient::new(ca.certificate(), identity).unwrap());
        refused_by_tls(&*client(None), &hub.endpoint).await;
        refused_by_tls(&*client(Some(other.node("edge-1"))), &hub.endpoint).await;
        // A server's certificate is not good for a client.
        refused_by_tls(&*client(Some(ca.server(&["edge-1"]))), &hub.endpoint).await;
        assert!(
            dial(&*client(Some(ca.node("edge-1"))), &hub.endpoint)
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn an_edge_trusts_only_its_ca_and_the_name_it_dialed() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    for (hub, dialer) in Hub::both(&ca, &["127.0.0.2", "cloud.example"]).await {
        let right = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
        refused_by_tls(&*dialer(right), &hub.endpoint).await;
        let wrong = TlsClient::new(other.certificate(), Some(ca.node("edge-1"))).unwrap();
        refused_by_tls(&*dialer(wrong), &hub.endpoint).await;
    }
}

#[tokio::test]
async fn an_empty_name_in_a_stock_server_s_certificate_does_no_harm() {
    let ca = TestCa::new();
    for (hub, dialer) in Hub::both(&ca, &["", "127.0.0.1"]).await {
        let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
        assert!(dial(&*dialer(client), &hub.endpoint).await.is_ok());
    }
}

#[tokio::test]
async fn certificates_change_while_the_hub_and_the_edge_run() {
    let (old, new) = (TestCa::new(), TestCa::new());
    for (hub, dialer) in Hub::both(&old, &["127.0.0.1"]).await {
        let tls = TlsClient::new(old.certificate(), Some(old.node("edge-1"))).unwrap();
        let dialer = dialer(tls.clone());
        let standing = dial(&*dialer, &hub.endpoint).await.unwrap();

        hub.tls.replace(&mutual(&new, &["127.0.0.1"]));
        // The ticket of the first connection is worth nothing any more.
        refused_by_tls(&*dialer, &hub.endpoint).await;
        tls.replace(&TlsClient::new(new.certificate(), Some(new.node("edge-1"))).unwrap());
        assert!(dial(&*dialer, &hub.endpoint).await.is_ok());
        drop(standing);
    }
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_where_it_is_allowed() {
    let ca = TestCa::new();
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    for (versions, welcome) in [(TlsVersions::Only13, false), (TlsVersions::From12, true)] {
        let tls = TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), versions).unwrap();
        let hub = Hub::websocket(tls).await;
        // As an old edge: TLS 1.2 with the three ECDHE-ECDSA suites of KubeEdge.
        let mut provider = (*hub_core::transport::provider()).clone();
        provider
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_ECDSA"));
        let identity = ca.node("edge-1");
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(identity.chain, identity.key)
            .unwrap();
        let stream = TcpStream::connect(("127.0.0.1", hub.endpoint.port))
            .await
            .unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let connected = TlsConnector::from(std::sync::Arc::new(config))
            .connect(name, stream)
            .await;
        assert_eq!(connected.is_ok(), welcome, "{versions:?}");
        if let Ok(mut stream) = connected {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn enrolment_needs_no_certificate_and_takes_only_good_ones() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let server =
        TlsServer::optional_client(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::From12).unwrap();
    for (client, welcome, named) in [
        (TlsClient::unverified_to_fetch_the_ca().unwrap(), true, false),
        (TlsClient::new(ca.certificate(), None).unwrap(), true, false),
        (
            TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap(),
            true,
            true,
        ),
        (
            TlsClient::new(ca.certificate(), Some(other.node("edge-1"))).unwrap(),
            false,
            false,
        ),
    ] {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let name = "127.0.0.1".try_into().unwrap();
        let connecting = TlsConnector::from(client.config()).connect(name, ours);
        let accepting = tokio_rustls::TlsAcceptor::from(server.config()).accept(theirs);
        let (_connected, accepted) = tokio::join!(connecting, accepting);
        assert_eq!(accepted.is_ok(), welcome);
        if let Ok(accepted) = accepted {
            let identity = PeerIdentity::of_chain(accepted.get_ref().1.peer_certificates()).unwrap();
            assert_eq!(identity.is_some(), named);
        }
    }
}

#[test]
fn a_certificate_says_who_it_is_for() {
    let identity = TestCa::new().node("edge-1");
    let peer = PeerIdentity::of(&identity.chain[0]).unwrap();
    assert_eq!(peer.common_name.as_deref(), Some("system:node:edge-1"));
    assert_eq!(peer.organizations, ["system:nodes"]);
    assert!(peer.not_before_unix_s < peer.not_after_unix_s);
    assert!(PeerIdentity::of(&b"garbage".to_vec().into()).is_err());
}

#[tokio::test]
async fn the_second_connection_resumes_the_first() {
    let ca = TestCa::new();
    let server = mutual(&ca, &["127.0.0.1"]);
    let client = TlsClient::new(ca.certificate(), Some(ca.node("edge-1"))).unwrap();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let name = "127.0.0.1".try_into().unwrap();
        let connecting = TlsConnector::from(client.config()).connect(name, ours);
        let accepting = tokio_rustls::TlsAcceptor::from(server.config()).accept(theirs);
        let (connected, accepted) = tokio::join!(connecting, accepting);
        let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap());
        let mut byte = [0];
        // The ticket comes with the first byte.
        accepted.write_all(&[1]).await.unwrap();
        connected.read_exact(&mut byte).await.unwrap();
        kinds.push(format!("{:?}", accepted.get_ref().1.handshake_kind().unwrap()));
        assert!(accepted.get_ref().1.peer_certificates().is_some());
    }
    assert_eq!(kinds, ["Full", "Resumed"]);
}
