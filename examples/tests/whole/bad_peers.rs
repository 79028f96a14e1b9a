//! Peers that are broken, lost or hostile: each is turned away, and a good node does not notice.

use std::time::{Duration, Instant, SystemTime};

use edgehub::Link;
use edgehub::enroll::{EnrollConfig, enroll};
use futures::{SinkExt, StreamExt};
use hub_core::codec::CodecLimits;
use hub_core::credentials::CredentialFiles;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::testing::TestCa;
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Identity, Inbound, Outbound, QuicConfig, QuicDialer,
    TlsClient, Transport, TransportError, WebSocketConfig, WebSocketDialer,
};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use crate::world::{CloudHalf, EdgeHalf, NODE, SERVICES, Tunnel, over_both, service, until, within};

over_both!(peers_that_speak_nonsense_are_turned_away_and_nobody_else_notices);
async fn peers_that_speak_nonsense_are_turned_away_and_nobody_else_notices(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let edge = cloud.edge(NODE, &["services"]).await;
    let since = edge.handle.link().borrow().clone();
    let (ca, identity) = join(&cloud, "edge-9").await;

    match tunnel {
        Tunnel::WebSocket => {
            let garbage: Vec<u8> = (0..4096u32).map(|i| ((i * 7919) >> 3) as u8).collect();
            let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
            // The head of a TLS record with a ClientHello that does not come.
            let truncated = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03].to_vec();
            for (what, bytes) in [
                ("garbage", garbage),
                ("plain HTTP", http),
                ("half a ClientHello", truncated),
            ] {
                let mut peer = TcpStream::connect(cloud.tunnel()).await.unwrap();
                peer.write_all(&bytes).await.unwrap();
                peer.shutdown().await.unwrap();
                closed(what, &mut peer).await;
            }
            inside_tls(&cloud, &ca, &identity).await;
        }
        Tunnel::Quic => {
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for size in [1, 20, 1200, 1400] {
                let datagram: Vec<u8> = (0..size).map(|i: u32| ((i * 7919) >> 3) as u8 | 0xc0).collect();
                peer.send_to(&datagram, cloud.tunnel()).await.unwrap();
            }
        }
    }

    // A node of good standing that sends more than anybody may.
    let mut peer = dial(&cloud, tunnel, &ca, Some(identity), "edge-9").await.unwrap();
    let route = Route::new("edge", "resource", Operation::Upload, "big");
    let message = Message::new(route, Content::string(&"x".repeat(33 << 20)));
    let sent = Outbound::Message { message, base: None };
    // The cloud does not wait for the end of it.
    let _ = within("the end of sending", peer.send(sent)).await;
    within("the end of the connection", async {
        while let Some(Ok(frame)) = peer.next().await {
            if matches!(frame, Inbound::Closed(_)) {
                break;
            }
        }
    })
    .await;

    undisturbed(&cloud, &edge, &since).await;
    edge.end().await;
    cloud.end().await;
}

over_both!(peers_without_the_right_certificate_are_refused_before_they_are_connected);
async fn peers_without_the_right_certificate_are_refused_before_they_are_connected(tunnel: Tunnel) {
    let cloud = CloudHalf::start(tunnel).await;
    let edge = cloud.edge(NODE, &["services"]).await;
    let since = edge.handle.link().borrow().clone();
    let (ca, identity) = join(&cloud, "edge-9").await;

    // Another CA signed it, or nobody did. TLS 1.3 tells a client only after its handshake, so the error's kind varies.
    let other = TestCa::new();
    for identity in [Some(other.node(NODE)), None] {
        let refused = dial(&cloud, tunnel, &ca, identity, NODE).await;
        assert!(!matches!(refused, Err(TransportError::Timeout(_))));
        if let Ok(mut transport) = refused {
            let first = within("the connection's end", transport.next()).await;
            assert!(!matches!(first, Some(Ok(Inbound::Message(_)))), "{first:?}");
        }
    }
    // The certificate of one node, the name of another.
    let refused = dial(&cloud, tunnel, &ca, Some(identity.clone()), NODE).await;
    let Err(TransportError::Refused(rejection)) = refused else {
        panic!("a foreign name is refused with words");
    };
    assert_eq!(rejection.code, 403);
    assert!(
        rejection.reason.contains("edge-9") && rejection.reason.contains(NODE),
        "{}",
        rejection.reason
    );
    // Another cloud: the node does not believe it, and tells it nothing.
    let distrust = dial(&cloud, tunnel, other.certificate(), Some(identity), "edge-9").await;
    assert!(distrust.is_err());
    assert_eq!(cloud.metric("cloudhub_connected_nodes").await, 1);
    assert!(
        cloud
            .metric("cloudhub_rejections_total{reason=\"identity\"}")
            .await
            >= 1
    );

    undisturbed(&cloud, &edge, &since).await;
    edge.end().await;
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_finish_their_handshake_are_cut_off() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let edge = cloud.edge(NODE, &["services"]).await;
    let since = edge.handle.link().borrow().clone();
    let mut silent = Vec::new();
    // More than there are places for handshakes.
    for _ in 0..300 {
        silent.push(TcpStream::connect(cloud.tunnel()).await.unwrap());
    }
    let start = Instant::now();
    silent[0].write_all(&[0x16]).await.unwrap();
    undisturbed(&cloud, &edge, &since).await;
    for peer in silent.iter_mut().take(100) {
        closed("a slow peer", peer).await;
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // The places are free again: a node may join.
    drop(silent);
    let (ca, identity) = join(&cloud, "edge-9").await;
    dial(&cloud, Tunnel::WebSocket, &ca, Some(identity), "edge-9")
        .await
        .unwrap();
    edge.end().await;
    cloud.end().await;
}

/// Broken upgrades and frames behind a good certificate.
async fn inside_tls(cloud: &CloudHalf, ca: &CertificateDer<'static>, identity: &Identity) {
    let upgrade = "GET /e632aba927ea4ac2b575ec1603d56f10/edge-9/events HTTP/1.1\r\nHost: cloud\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Node_id: edge-9\r\nNode-Id: edge-9\r\nConnectionUse: msg\r\nProjectID: e632aba927ea4ac2b575ec1603d56f10\r\n\r\n";
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n", "y".repeat(20_000));
    let frame = |bytes: &[u8]| [upgrade.as_bytes(), bytes].concat();
    for (what, bytes) in [
        ("no HTTP", b"\x00\x01\x02\r\n\r\n".to_vec()),
        ("an endless head", long.into_bytes()),
        // A masked text frame that claims 2⁶² bytes.
        (
            "an oversized frame",
            frame(&[0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ),
        ("an unmasked frame", frame(&[0x81, 0x02, b'{', b'}'])),
        ("reserved bits", frame(&[0xf1, 0x80, 1, 2, 3, 4])),
        ("no JSON", frame(&[0x81, 0x83, 0, 0, 0, 0, b'{', b'{', b'{'])),
        (
            "binary that was not offered",
            frame(&[0x82, 0x83, 0, 0, 0, 0, 9, 9, 9]),
        ),
    ] {
        let tls = TlsClient::new(ca, Some(identity.clone())).unwrap();
        let stream = TcpStream::connect(cloud.tunnel()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(tls.config())
            .connect(name, stream)
            .await
            .unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // The end may come as a reset.
        let _ = within(what, stream.read_to_end(&mut answer)).await;
    }
}

/// Waits until the cloud has closed a connection.
async fn closed(what: &str, peer: &mut TcpStream) {
    let mut rest = [0; 1024];
    let end = async { while !matches!(peer.read(&mut rest).await, Ok(0) | Err(_)) {} };
    within(&format!("the end of {what}"), end).await;
}

/// The good node has the connection it had, and a change arrives on it.
async fn undisturbed(cloud: &CloudHalf, edge: &EdgeHalf, since: &Link) {
    cloud.api.create(SERVICES, service("proof")).await;
    until("a change for the good node", async || {
        edge.held("services", "proof")
    })
    .await;
    assert_eq!(&*edge.handle.link().borrow(), since);
    cloud
        .api
        .merge(
            &format!("{SERVICES}/proof"),
            json!({ "metadata": { "labels": { "a": "b" } } }),
        )
        .await;
}

/// Joins as a node does, with a token.
async fn join(cloud: &CloudHalf, node: &str) -> (CertificateDer<'static>, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let https = Endpoint::parse(&cloud.addresses.https.unwrap().to_string()).unwrap();
    let mut config = EnrollConfig::new(NodeId::new(node).unwrap(), vec![https]);
    config.token = Some(cloud.token.clone());
    config.ca_file = folder.path().join("ca.crt");
    config.files = CredentialFiles::new(folder.path().join("node.crt"), folder.path().join("node.key"));
    let joined = enroll(&config, SystemTime::now()).await.unwrap();
    (joined.ca, joined.identity)
}

async fn dial(
    cloud: &CloudHalf,
    tunnel: Tunnel,
    ca: &CertificateDer<'static>,
    identity: Option<Identity>,
    node: &str,
) -> Result<Box<dyn Transport>, TransportError> {
    let tls = TlsClient::new(ca, identity).unwrap();
    // What these peers send is not limited by their own good manners.
    let limits = CodecLimits {
        message_max: 1 << 30,
        ..CodecLimits::default()
    };
    let dialer: Box<dyn Dialer> = match tunnel {
        Tunnel::WebSocket => Box::new(WebSocketDialer::new(
            tls,
            WebSocketConfig {
                limits,
                ..WebSocketConfig::default()
            },
        )),
        Tunnel::Quic => Box::new(QuicDialer::new(
            tls,
            QuicConfig {
                limits,
                ..QuicConfig::default()
            },
        )),
    };
    let endpoint = Endpoint::parse(&cloud.tunnel().to_string()).unwrap();
    let node = NodeId::new(node).unwrap();
    let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::NONE);
    within("an answer to the dial", dialer.dial(&endpoint, request)).await
}
