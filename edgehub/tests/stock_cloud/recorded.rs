//! The certificate exchange of a recorded Go edge, byte by byte where a byte means something.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::transport::{Endpoint, TlsServer, TlsVersions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::peer::StockCloud;
use crate::world::{Edge, NODE, fresh, within};

const CA: &str = include_str!("recorded/00-real-edge-01-ca-crt.http");
const CERTIFICATE: &str = include_str!("recorded/00-real-edge-02-edge-crt.http");

/// A request: its head line by line, and its body.
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    alpn: Option<Vec<u8>>,
}

impl Asked {
    fn parse(head: &str, body: Vec<u8>) -> Self {
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        Self {
            line,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body,
            alpn: None,
        }
    }

    fn recorded(exchange: &str) -> Self {
        let part = |from: &str, to: &str| {
            let rest = exchange.split_once(from).unwrap().1;
            rest.split_once(to).unwrap().0.trim().to_owned()
        };
        let body = part("### request body\n", "### response\n");
        let body = body
            .strip_prefix("base64:\n")
            .map_or(Vec::new(), |text| BASE64.decode(text).unwrap());
        Self::parse(&part("### request\n", "### request body\n"), body)
    }

    /// Names of headers in their order and spelling, with what is no secret and no address of this exchange alone.
    fn shape(&self) -> Vec<(String, String)> {
        let value = |name: &str, value: &str| match name {
            "Host" | "Content-Length" | "Nodename" => "<its own>".to_owned(),
            "Authorization" => value.split(' ').next().unwrap().to_owned(),
            _ => value.to_owned(),
        };
        // Go's client offers gzip, unpacks it, and no server of KubeEdge's ever packs these.
        let told = self.headers.iter().filter(|(name, _)| name != "Accept-Encoding");
        told.map(|(name, text)| (name.clone(), value(name, text)))
            .collect()
    }
}

/// Serves both requests as KubeEdge's cloud does, and keeps what was sent.
async fn serve(cloud: &StockCloud, listener: TcpListener) -> Vec<Asked> {
    let identity = cloud.ca.server(&["127.0.0.1"]);
    let tls = TlsServer::optional_client(identity, &cloud.ca.certificate, TlsVersions::From12).unwrap();
    let tls = TlsAcceptor::from(tls.config());
    let mut asked = Vec::new();
    while asked.len() < 2 {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        let mut bytes = Vec::new();
        let head = loop {
            stream.read_buf(&mut bytes).await.unwrap();
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            }
        };
        let head = head.trim_end().replace("\r\n", "\n");
        let headers: BTreeMap<_, _> = head.lines().filter_map(|line| line.split_once(": ")).collect();
        let length = headers
            .get("Content-Length")
            .map_or(0, |length| length.parse().unwrap());
        while bytes.len() < length {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        let answer = match length {
            0 => cloud.ca.certificate.to_vec(),
            _ => cloud.ca.sign(&bytes, std::time::SystemTime::now()),
        };
        let head_of_answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(head_of_answer.as_bytes()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        asked.push(Asked {
            alpn,
            ..Asked::parse(&head, bytes)
        });
    }
    asked
}

#[tokio::test]
async fn a_new_node_asks_for_its_certificates_as_the_recorded_one_did() {
    let cloud = StockCloud::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut config, directory) = fresh(&cloud);
    config.enroll.http_servers = vec![Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap()];
    let edge = Edge::start(config, directory);
    let asked = within("both requests", serve(&cloud, listener)).await;
    edge.up().await;
    for (ours, recorded) in asked.iter().zip([CA, CERTIFICATE].map(Asked::recorded)) {
        assert_eq!((&ours.line, ours.shape()), (&recorded.line, recorded.shape()));
        assert_eq!(ours.alpn, None, "none is negotiated");
    }
    let own = |name: &str| {
        &asked[1]
            .headers
            .iter()
            .find(|(header, _)| header == name)
            .unwrap()
            .1
    };
    assert_eq!(own("Nodename"), NODE);
    assert_eq!(
        *own("Authorization"),
        format!("Bearer {}", cloud.token().split_once('.').unwrap().1)
    );

    let recorded = Asked::recorded(CERTIFICATE).body;
    let (_, recorded) = X509CertificationRequest::from_der(&recorded).unwrap();
    let (rest, ours) = X509CertificationRequest::from_der(&asked[1].body).unwrap();
    assert!(rest.is_empty() && asked[0].body.is_empty());
    ours.verify_signature().unwrap();
    let (a, b) = (
        &recorded.certification_request_info,
        &ours.certification_request_info,
    );
    assert_eq!(b.version, a.version);
    assert_eq!(
        b.subject.to_string(),
        a.subject.to_string().replace("edge1", NODE)
    );
    let strings = |name: &x509_parser::x509::X509Name<'_>| {
        let attributes = name.iter_attributes();
        attributes
            .map(|attribute| attribute.attr_value().tag())
            .collect::<Vec<_>>()
    };
    assert_eq!(strings(&b.subject).len(), strings(&a.subject).len());
    assert_eq!(b.subject_pki.algorithm, a.subject_pki.algorithm);
    assert_eq!(ours.signature_algorithm, recorded.signature_algorithm);
    let asked_for =
        |request: &X509CertificationRequest<'_>| request.requested_extensions().into_iter().flatten().count();
    assert_eq!(asked_for(&ours), asked_for(&recorded));
}
