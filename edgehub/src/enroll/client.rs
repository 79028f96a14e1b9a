//! The two requests to port 10002: one connection each, bounded in time and size, no redirects.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hub_core::node::NodeId;
use hub_core::transport::{Endpoint, Identity, TlsClient, TlsError};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::EnrollConfig;
use super::error::{EnrollError, Move};
use super::token::JoinToken;

/// Asks the servers in turn.
pub(super) struct Client<'a> {
    node: &'a NodeId,
    servers: &'a [Endpoint],
    dial_timeout: Duration,
    response_timeout: Duration,
}

/// With what a certificate is asked for.
#[derive(Clone, Copy)]
pub(super) enum Credentials<'a> {
    /// The JWT of a token.
    Token(&'a str),
    /// The current certificate.
    Certificate(&'a Identity),
}

impl<'a> Client<'a> {
    pub(super) fn new(config: &'a EnrollConfig) -> Self {
        Self {
            node: &config.node,
            servers: &config.http_servers,
            dial_timeout: config.dial_timeout,
            response_timeout: config.response_timeout,
        }
    }

    /// The CA, from a server that nobody vouches for yet: the token's hash does.
    pub(super) async fn fetch_ca(&self, token: &JoinToken) -> Result<CertificateDer<'static>, EnrollError> {
        let tls = &TlsClient::unverified_to_fetch_the_ca().map_err(unusable)?;
        self.in_turn(|server| async move {
            let ca = self.get(server, tls, "/ca.crt", Vec::new(), Bytes::new()).await?;
            token.check_ca(&ca).map_err(|found| EnrollError::OtherCa {
                server: server.to_string(),
                expected: token.ca_hash().to_owned(),
                found,
            })?;
            certificate(ca)
        })
        .await
    }

    /// The node's certificate for a request in DER.
    pub(super) async fn fetch_certificate(
        &self,
        ca: &CertificateDer<'static>,
        credentials: Credentials<'_>,
        csr: Vec<u8>,
    ) -> Result<CertificateDer<'static>, EnrollError> {
        let identity = match credentials {
            Credentials::Token(_) => None,
            Credentials::Certificate(identity) => Some(identity.clone()),
        };
        let tls = &TlsClient::new(ca, identity).map_err(unusable)?;
        let csr = &Bytes::from(csr);
        self.in_turn(|server| async move {
            let mut headers = Vec::with_capacity(2);
            if let Credentials::Token(jwt) = credentials {
                headers.push((AUTHORIZATION, format!("Bearer {jwt}")));
            }
            headers.push((HeaderName::from_static("nodename"), self.node.as_str().to_owned()));
            certificate(self.get(server, tls, "/edge.crt", headers, csr.clone()).await?)
        })
        .await
    }

    /// The first success. Otherwise the error that a person can do something about, or the last.
    async fn in_turn<T, F: Future<Output = Result<T, EnrollError>>>(
        &self,
        // Not an `AsyncFn` of any lifetime: the compiler could not tell that its future is `Send`.
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> Result<T, EnrollError> {
        let mut worst = EnrollError::NoServer;
        for (n, server) in self.servers.iter().enumerate() {
            match ask(server).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::debug!(%server, %error, "enrolling failed");
                    if n == 0 || worst.whose_move() == Move::Link {
                        worst = error;
                    }
                }
            }
        }
        Err(worst)
    }

    async fn get(
        &self,
        server: &Endpoint,
        tls: &TlsClient,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        body: Bytes,
    ) -> Result<Bytes, EnrollError> {
        let link = |why: String| EnrollError::Link {
            server: server.to_string(),
            why,
        };
        let stream = timeout(self.dial_timeout, dial(server, tls))
            .await
            .map_err(|_| link("no connection in time".into()))??;
        let exchange = async {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                .title_case_headers(true)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| link(error.to_string()))?;
            let host = HeaderValue::from_str(&server.to_string()).map_err(|error| link(error.to_string()))?;
            // In the order of a Go edge, for those who look.
            let mut request = Request::get(path).header(HOST, host).header(USER_AGENT, GO);
            if !body.is_empty() {
                request = request.header(CONTENT_LENGTH, body.len());
            }
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request
                .body(Full::new(body))
                .map_err(|error| EnrollError::Request(error.to_string()))?;
            let answer = async {
                let response = sender
                    .send_request(request)
                    .await
                    .map_err(|error| classify(server, &error))?;
                let status = response.status();
                let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                    .collect()
                    .await
                    .map_err(|error| EnrollError::Answer(format!("{server}: {error}")))?;
                Ok::<_, EnrollError>((status, body.to_bytes()))
            };
            // The connection lives exactly as long as the exchange: nothing is left running behind it.
            let answer = std::pin::pin!(answer);
            let connection = std::pin::pin!(connection);
            match futures::future::select(answer, connection).await {
                futures::future::Either::Left((answer, _)) => answer,
                futures::future::Either::Right((_, answer)) => answer.await,
            }
        };
        let (status, body) = timeout(self.response_timeout, exchange)
            .await
            .map_err(|_| link("no answer in time".into()))??;
        let text = || {
            String::from_utf8_lossy(&body)
                .chars()
                .take(TEXT_MAX)
                .collect::<String>()
        };
        match status {
            StatusCode::OK => Ok(body),
            // Its own trouble, or too much at once: that passes.
            status
                if status.is_server_error()
                    || matches!(
                        status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    ) =>
            {
                Err(link(format!("it answered {status}: {}", text())))
            }
            status => Err(EnrollError::Refused {
                server: server.to_string(),
                status: status.as_u16(),
                text: text(),
            }),
        }
    }
}

async fn dial(
    server: &Endpoint,
    tls: &TlsClient,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, EnrollError> {
    let link = |why: String| EnrollError::Link {
        server: server.to_string(),
        why,
    };
    let name = ServerName::try_from(server.host.to_string())
        .map_err(|_| EnrollError::Request(format!("{:?} is neither a name nor an address", server.host)))?;
    let stream = TcpStream::connect((&*server.host, server.port))
        .await
        .map_err(|error| link(error.to_string()))?;
    TlsConnector::from(tls.config())
        .connect(name, stream)
        .await
        .map_err(|error| match tls_error(&error) {
            Some(why) => EnrollError::Untrusted {
                server: server.to_string(),
                why: why.to_string(),
            },
            None => link(error.to_string()),
        })
}

/// With TLS 1.3 a server refuses a client certificate after the handshake, when the answer is awaited.
fn classify(server: &Endpoint, error: &hyper::Error) -> EnrollError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if let Some(rustls::Error::AlertReceived(alert)) = io.and_then(tls_error) {
            return EnrollError::Refused {
                server: server.to_string(),
                status: StatusCode::UNAUTHORIZED.as_u16(),
                text: format!("TLS alert {alert:?}"),
            };
        }
        source = error.source();
    }
    EnrollError::Link {
        server: server.to_string(),
        why: error.to_string(),
    }
}

fn unusable(error: TlsError) -> EnrollError {
    EnrollError::Request(error.to_string())
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn certificate(der: Bytes) -> Result<CertificateDer<'static>, EnrollError> {
    match X509Certificate::from_der(&der) {
        Ok(([], _)) => Ok(CertificateDer::from(der.to_vec())),
        _ => Err(EnrollError::Answer("it is not a certificate".into())),
    }
}

/// Of an answer's head; hyper refuses less.
const HEAD_BYTES_MAX: usize = 8192;
/// What a Go edge says that it is.
const GO: &str = "Go-http-client/1.1";

/// Of an answer's body: certificates are below 4 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Of a refusal's text, for the log.
const TEXT_MAX: usize = 512;
