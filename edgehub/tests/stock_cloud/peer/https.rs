//! Port 10002 (`cloud/pkg/cloudhub/servers/httpserver`).

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hub_core::transport::{TlsServer, TlsVersions};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::StockCloud;

/// What was asked, with how the asker showed who it is.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub certificate: bool,
    pub body: Vec<u8>,
}

impl StockCloud {
    /// What `keadm gettoken` shows.
    pub fn token(&self) -> String {
        let hash = Sha256::digest(&self.ca.certificate);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hash}.{JWT}")
    }
}

pub async fn serve(cloud: StockCloud, listener: TcpListener) {
    let identity = cloud.ca.server(&cloud.config.names);
    let tls = TlsServer::optional_client(identity, &cloud.ca.certificate, TlsVersions::From12).unwrap();
    let tls = TlsAcceptor::from(tls.config());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (cloud, tls) = (cloud.clone(), tls.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let certificate = stream.get_ref().1.peer_certificates().is_some();
            let service = service_fn(move |request| answer(cloud.clone(), certificate, request));
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    cloud: StockCloud,
    certificate: bool,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    cloud.state().asked.push(Asked {
        line: format!("{} {}", parts.method, parts.uri.path()),
        headers: headers.collect(),
        certificate,
        body: body.to_vec(),
    });
    let reply = |code: u16, body: Bytes| {
        Ok(http::Response::builder()
            .status(code)
            .body(Full::new(body))
            .unwrap())
    };
    let result = match parts.uri.path() {
        "/ca.crt" => reply(200, cloud.ca.certificate.to_vec().into()),
        "/edge.crt" => {
            let words: Vec<_> = header("authorization").split(' ').collect();
            if certificate || words.get(1) == Some(&JWT) {
                cloud.state().issued += 1;
                let certificate = cloud.ca.sign(&body, cloud.now());
                reply(200, certificate.into())
            } else {
                reply(401, "Invalid authorization token".into())
            }
        }
        _ => reply(404, "404: Page Not Found".into()),
    };
    cloud.tell();
    result
}

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0MTE3NDV9.c2lnbmF0dXJl";
