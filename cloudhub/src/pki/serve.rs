//! The HTTPS server of port 10002: sockets, TLS, deadlines and limits around [`PkiService`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hub_core::transport::{TlsError, TlsServer, TlsVersions};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::Authority;
use super::http::{PkiConfig, PkiRequest, PkiService, text};
use super::refusals::Refusals;

/// Limits of the server. Each protects the others from one peer.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Connections at once; one more is closed unheard.
    pub connections_max: usize,
    /// Connections of one address at once. A fleet may sit behind one address, so not small.
    pub connections_per_address_max: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the head of a request, and again for its body.
    pub read_timeout: Duration,
    /// How long a connection may live.
    pub connection_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Bytes of a request's body. KubeEdge's limit is 1 MiB; a request is below 4 KiB.
    pub body_bytes_max: usize,
    /// Refusals of one address within a minute; those beyond get 429. A good token or certificate is always served.
    pub refusals_per_minute_max: u32,
    /// Addresses whose refusals are counted.
    pub refused_addresses_max: usize,
}

/// The server.
pub struct PkiServer {
    service: PkiService,
    config: ServeConfig,
    tls: TlsServer,
    refusals: Mutex<Refusals>,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_per_address_max: 256,
            handshake_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(60),
            head_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            refusals_per_minute_max: 60,
            refused_addresses_max: 4096,
        }
    }
}

impl PkiServer {
    /// A server of `authority`'s certificates. Fails when the server certificate cannot be used.
    ///
    /// A client need not show a certificate; one that does must show a good one of our CA. TLS 1.2 is spoken too, for old
    /// stock edges.
    pub fn new(
        authority: Arc<Authority>,
        pki: PkiConfig,
        config: ServeConfig,
    ) -> Result<Arc<Self>, TlsError> {
        let tls = authority.enrolment_tls(TlsVersions::From12)?;
        Ok(Arc::new(Self {
            service: PkiService::new(authority, pki),
            tls,
            refusals: Mutex::new(Refusals::new(MINUTE, config.refused_addresses_max)),
            connections: Mutex::default(),
            config,
        }))
    }

    /// Serves until told to stop, then waits for the requests under way.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = Place::take(&self, peer.ip()) else {
                        tracing::debug!(%peer, "too many connections for certificates");
                        continue;
                    };
                    let (server, shutdown) = (self.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        let _place = place;
                        let whole = server.connection(stream, peer, shutdown);
                        if timeout(server.config.connection_timeout, whole).await.is_err() {
                            tracing::debug!(%peer, "closed a connection that took too long");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a peer that left early: neither ends the server.
                    tracing::warn!(%error, "cannot accept a connection for certificates");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn connection(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: CancellationToken) {
        let tls = TlsAcceptor::from(self.tls.config());
        let stream = match timeout(self.config.handshake_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                if self.refused(peer.ip()) == 1 {
                    tracing::info!(%peer, %error, "TLS handshake for certificates failed");
                }
                return;
            }
            Err(_) => return,
        };
        let client = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.clone().into_owned());
        let service = service_fn(|request| {
            let client = client.as_ref();
            async move { Ok::<_, Infallible>(self.answer(request, client, peer).await.map(Full::new)) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.config.read_timeout)
            .max_buf_size(self.config.head_bytes_max.max(HYPER_BUFFER_MIN))
            .max_headers(HEADERS_MAX);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => return,
            () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        client: Option<&CertificateDer<'_>>,
        peer: SocketAddr,
    ) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        let request = PkiRequest {
            method: &head.method,
            path: head.uri.path(),
            headers: &head.headers,
            client,
            now: SystemTime::now(),
        };
        // Only who may ask gets memory for a body.
        let body = if self.service.wants_body(request) {
            let body = Limited::new(body, self.config.body_bytes_max).collect();
            match timeout(self.config.read_timeout, body).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(_)) => {
                    return close(text(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "the body is too large or broken off",
                    ));
                }
                Err(_) => return close(text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
            }
        } else {
            Bytes::new()
        };
        let response = self.service.respond(request, &body).await;
        if !matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return response;
        }
        let count = self.refused(peer.ip());
        if count == 1 {
            let why = String::from_utf8_lossy(response.body());
            tracing::warn!(%peer, %why, "refused a certificate; further refusals of this address within a minute are not logged");
        }
        if count > self.config.refusals_per_minute_max {
            let mut response = text(StatusCode::TOO_MANY_REQUESTS, "too many refused requests");
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("60"));
            return close(response);
        }
        response
    }

    fn refused(&self, peer: IpAddr) -> u32 {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.count(peer, Instant::now())
    }
}

impl std::fmt::Debug for PkiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PkiServer").field("config", &self.config).finish()
    }
}

/// A connection's place among those allowed.
struct Place {
    server: Arc<PkiServer>,
    peer: IpAddr,
}

impl Place {
    fn take(server: &Arc<PkiServer>, peer: IpAddr) -> Option<Self> {
        let mut connections = server.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let own = connections.get(&peer).copied().unwrap_or(0);
        let all: usize = connections.values().sum();
        if all >= server.config.connections_max || own >= server.config.connections_per_address_max {
            return None;
        }
        connections.insert(peer, own + 1);
        Some(Self {
            server: server.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self
            .server
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = connections.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.peer);
            }
        }
    }
}

fn close(mut response: Response<Bytes>) -> Response<Bytes> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

const MINUTE: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEADERS_MAX: usize = 64;

/// hyper refuses a smaller one.
const HYPER_BUFFER_MIN: usize = 8192;
