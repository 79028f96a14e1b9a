//! The edge's end.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::WebSocketConfig;
use super::frame::{Role, WebSocketFraming};
use super::head::{RequestHead, ResponseHead};
use crate::codec::Codec;
use crate::random::Random;
use crate::transport::framed::{Established, Framed};
use crate::transport::tls::stream_error;
use crate::transport::{
    ConnectRequest, Dialer, Endpoint, Peer, PeerIdentity, Rejection, TlsClient, Transport, TransportError,
};

/// Dials a CloudHub, ours or a stock one.
#[derive(Debug, Clone)]
pub struct WebSocketDialer {
    tls: TlsClient,
    config: WebSocketConfig,
}

impl WebSocketDialer {
    /// Dials with what `tls` holds at that moment.
    pub fn new(tls: TlsClient, config: WebSocketConfig) -> Self {
        Self { tls, config }
    }
}

impl Dialer for WebSocketDialer {
    fn dial(
        &self,
        endpoint: &Endpoint,
        request: ConnectRequest,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        dial(self.tls.clone(), self.config, endpoint.clone(), request).boxed()
    }

    fn transport(&self) -> &'static str {
        super::NAME
    }
}

async fn dial(
    tls: TlsClient,
    config: WebSocketConfig,
    endpoint: Endpoint,
    request: ConnectRequest,
) -> Result<Box<dyn Transport>, TransportError> {
    let name = ServerName::try_from(endpoint.host.to_string())
        .map_err(|_| TransportError::Tls(format!("{} is no name of a server", endpoint.host)))?;
    let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let address = stream.peer_addr().ok();
    let mut stream = TlsConnector::from(tls.config())
        .connect(name, stream)
        .await
        .map_err(stream_error)?;
    let identity = PeerIdentity::of_chain(stream.get_ref().1.peer_certificates())
        .map_err(|error| TransportError::Tls(error.to_string()))?;

    let key = generate_key();
    let head = RequestHead::write(&request, &endpoint, &key);
    stream.write_all(head.as_bytes()).await.map_err(stream_error)?;
    stream.flush().await.map_err(stream_error)?;

    let (answer, size, bytes) = read_head(&mut stream, config.head_bytes_max).await?;
    if answer.code != 101 {
        return Err(refused(&mut stream, &answer, &bytes[size..]).await);
    }
    if !answer.opens(&key) {
        return Err(TransportError::Protocol(
            "the server did not accept our key".to_owned(),
        ));
    }
    let capabilities = answer.capabilities.common(request.capabilities);
    let peer = Peer {
        address,
        common_name: identity.as_ref().and_then(|id| id.common_name.clone()),
        fingerprint: identity.map(|id| id.fingerprint),
        capabilities,
        transport: super::NAME,
        version: None,
    };
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let framing = WebSocketFraming::new(Role::Client(Random::new(seed)), config.limits.message_max);
    let established = Established {
        codec: Codec::new(capabilities, config.limits),
        peer,
        rest: Bytes::copy_from_slice(&bytes[size..]),
        bytes: (size as u64, head.len() as u64),
        queue_bytes_max: config.queue_bytes_max,
    };
    Ok(Box::new(Framed::new(stream, framing, established)))
}

async fn read_head(
    stream: &mut TlsStream<TcpStream>,
    max: usize,
) -> Result<(ResponseHead, usize, Vec<u8>), TransportError> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        match ResponseHead::parse(&bytes) {
            Ok(Some((head, size))) => return Ok((head, size, bytes)),
            Ok(None) if bytes.len() < max => {}
            Ok(None) => {
                return Err(TransportError::Protocol(
                    "the answer's head is too long".to_owned(),
                ));
            }
            Err(error) => return Err(TransportError::Protocol(format!("not an HTTP answer: {error}"))),
        }
        let room = (max - bytes.len()) as u64;
        if (&mut *stream)
            .take(room)
            .read_buf(&mut bytes)
            .await
            .map_err(stream_error)?
            == 0
        {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Reads the text of a refusal, as far as it is worth it.
async fn refused(stream: &mut TlsStream<TcpStream>, head: &ResponseHead, begun: &[u8]) -> TransportError {
    let length = head
        .content_length
        .unwrap_or(REASON_BYTES_MAX)
        .min(REASON_BYTES_MAX);
    let mut text = begun[..begun.len().min(length)].to_vec();
    let room = (length - text.len()) as u64;
    // A cut answer is still an answer.
    let _ = stream.take(room).read_to_end(&mut text).await;
    TransportError::Refused(Rejection {
        code: head.code,
        reason: String::from_utf8_lossy(&text).trim().to_owned(),
        retry_after_seconds: head.retry_after_seconds,
    })
}

/// How much of a refusal's text is kept.
const REASON_BYTES_MAX: usize = 1 << 10;
