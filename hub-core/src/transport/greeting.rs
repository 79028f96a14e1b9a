//! The handshake of our own transports, QUIC and memory: one frame there, one frame back.
//!
//! KubeEdge begins a QUIC connection with a message that carries the HTTP headers as JSON (tunnel specification §1.3). So do we, with
//! the path beside them; the answer is a JSON object with a status code.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{Frame, Framing};
use super::framed::{Established, Framed};
use super::length_prefixed::LengthPrefixed;
use super::outbox::Outbox;
use super::tls::stream_error;
use super::{Capabilities, ConnectRequest, Peer, Rejection, Transport, TransportError, Upgrade};
use crate::codec::{Codec, CodecLimits};

/// The limits of a connection of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) codec: CodecLimits,
    pub(super) greeting_bytes_max: usize,
    pub(super) queue_bytes_max: usize,
}

/// A byte stream in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// Asks to be connected, and waits for the answer. `peer` comes without capabilities.
pub(super) async fn greet<S: Duplex>(
    mut stream: S,
    request: &ConnectRequest,
    mut peer: Peer,
    limits: Limits,
) -> Result<Box<dyn Transport>, TransportError> {
    let sent = write(&mut stream, &Request::from(request)).await?;
    let (answer, rest, received) = read::<Answer, _>(&mut stream, limits.greeting_bytes_max).await?;
    if answer.code != ACCEPTED {
        return Err(TransportError::Refused(Rejection {
            code: answer.code,
            reason: answer.reason,
            retry_after_seconds: answer.retry_after_seconds,
        }));
    }
    peer.capabilities = Capabilities::parse(&answer.capabilities).common(request.capabilities);
    Ok(established(stream, peer, rest, (received, sent), limits))
}

/// A peer that greeted us and waits.
pub(super) struct Greeted<S> {
    stream: S,
    request: ConnectRequest,
    peer: Peer,
    rest: Bytes,
    received: u64,
    limits: Limits,
}

impl<S: Duplex> Greeted<S> {
    /// Reads the greeting of a client. `peer` comes without capabilities.
    pub(super) async fn receive(
        mut stream: S,
        mut peer: Peer,
        limits: Limits,
    ) -> Result<Box<dyn Upgrade>, TransportError> {
        let (request, rest, received) = read::<Request, _>(&mut stream, limits.greeting_bytes_max).await?;
        let request = ConnectRequest::from(request);
        peer.capabilities = request.capabilities;
        peer.version.clone_from(&request.version);
        Ok(Box::new(Self {
            stream,
            request,
            peer,
            rest,
            received,
            limits,
        }))
    }
}

impl<S: Duplex> Upgrade for Greeted<S> {
    fn request(&self) -> &ConnectRequest {
        &self.request
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn accept(
        mut self: Box<Self>,
        capabilities: Capabilities,
    ) -> BoxFuture<'static, Result<Box<dyn Transport>, TransportError>> {
        async move {
            let capabilities = capabilities.common(self.request.capabilities);
            let answer = Answer {
                code: ACCEPTED,
                capabilities: capabilities.to_string(),
                ..Answer::default()
            };
            let sent = write(&mut self.stream, &answer).await?;
            let Self {
                stream,
                mut peer,
                rest,
                received,
                limits,
                ..
            } = *self;
            peer.capabilities = capabilities;
            Ok(established(stream, peer, rest, (received, sent), limits))
        }
        .boxed()
    }

    fn reject(mut self: Box<Self>, rejection: Rejection) -> BoxFuture<'static, ()> {
        let answer = Answer {
            code: rejection.code,
            reason: rejection.reason,
            retry_after_seconds: rejection.retry_after_seconds,
            ..Answer::default()
        };
        async move {
            let told = async {
                write(&mut self.stream, &answer).await?;
                self.stream.shutdown().await?;
                Ok::<_, TransportError>(())
            };
            let _ = tokio::time::timeout(LINGER, told).await;
        }
        .boxed()
    }
}

fn established<S: Duplex>(
    stream: S,
    peer: Peer,
    rest: Bytes,
    bytes: (u64, u64),
    limits: Limits,
) -> Box<dyn Transport> {
    let established = Established {
        codec: Codec::new(peer.capabilities, limits.codec),
        peer,
        rest,
        bytes,
        queue_bytes_max: limits.queue_bytes_max,
    };
    Box::new(Framed::new(
        stream,
        LengthPrefixed::new(limits.codec.message_max),
        established,
    ))
}

/// The headers of an upgrade request, spelled as Go does.
#[derive(Debug, Serialize, Deserialize)]
struct Request(BTreeMap<String, Vec<String>>);

impl From<&ConnectRequest> for Request {
    fn from(request: &ConnectRequest) -> Self {
        let entries = [
            (PATH, request.path.to_string()),
            (NODE_ID, request.node_id.to_string()),
            (PROJECT_ID, request.project_id.to_string()),
            (CONNECTION_USE, request.connection_use.to_string()),
            (Capabilities::HEADER, request.offer().unwrap_or_default()),
        ];
        Self(
            entries
                .into_iter()
                .map(|(name, value)| (name.to_owned(), vec![value]))
                .collect(),
        )
    }
}

impl From<Request> for ConnectRequest {
    fn from(request: Request) -> Self {
        let value = |name| {
            request
                .0
                .get(name)
                .and_then(|values| values.first())
                .map_or("", String::as_str)
        };
        Self {
            path: value(PATH).into(),
            node_id: value(NODE_ID).into(),
            project_id: value(PROJECT_ID).into(),
            connection_use: value(CONNECTION_USE).into(),
            capabilities: Capabilities::parse(value(Capabilities::HEADER)),
            version: ConnectRequest::version_in(value(Capabilities::HEADER)),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    /// 101 for yes; otherwise why not.
    code: u16,
    #[serde(default)]
    capabilities: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    retry_after_seconds: Option<u32>,
}

async fn write<S: Duplex>(stream: &mut S, value: &impl Serialize) -> Result<u64, TransportError> {
    let json = serde_json::to_vec(value).map_err(|error| TransportError::Protocol(error.to_string()))?;
    let mut out = Outbox::default();
    LengthPrefixed::new(0).write(Frame::Message(json.into()), false, &mut out);
    let mut sent = 0;
    std::future::poll_fn(|cx| out.poll_write(stream, cx, &mut sent))
        .await
        .map_err(stream_error)?;
    stream.flush().await.map_err(stream_error)?;
    Ok(sent)
}

/// Reads one frame, and hands out the bytes behind it and how many came before those.
async fn read<T, S>(stream: &mut S, max: usize) -> Result<(T, Bytes, u64), TransportError>
where
    T: for<'a> Deserialize<'a>,
    S: Duplex,
{
    let mut framing = LengthPrefixed::new(max);
    let mut received = 0;
    let mut space = vec![0; 1024];
    loop {
        let n = stream.read(&mut space).await.map_err(stream_error)?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut input = &space[..n];
        let frame = framing.read(&mut input)?;
        received += (n - input.len()) as u64;
        match frame {
            None => {}
            Some(Frame::Message(json)) => {
                let value = serde_json::from_slice(&json)
                    .map_err(|error| TransportError::Protocol(format!("malformed greeting: {error}")))?;
                return Ok((value, Bytes::copy_from_slice(input), received));
            }
            Some(_) => return Err(TransportError::Protocol("no greeting came first".to_owned())),
        }
    }
}

const ACCEPTED: u16 = 101;
const PATH: &str = ":path";
const NODE_ID: &str = "Node_id";
const PROJECT_ID: &str = "Project_id";
const CONNECTION_USE: &str = "Connectionuse";
/// How long a refused peer may take to hear it.
const LINGER: Duration = Duration::from_secs(2);
