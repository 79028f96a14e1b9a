//! The cloud's end of a TLS connection, without buffers while idle.
//!
//! rustls' buffered connections keep a receive buffer of 4 KiB for life, 40 MB for 10,000 silent edges. So the server's end
//! uses rustls' unbuffered interface: records are decrypted where they were read, on the stack, and only what is left over is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// A server's TLS over TCP, its handshake done.
pub(in crate::transport) struct ServerStream {
    tcp: TcpStream,
    tls: UnbufferedServerConnection,
    /// The start of a record whose rest has not come.
    incoming: Vec<u8>,
    /// Decrypted and not yet read.
    plain: BytesMut,
    /// Encrypted and not yet sent.
    outgoing: BytesMut,
    /// The peer will send nothing more.
    ended: bool,
    /// We will send nothing more.
    closed: bool,
}

impl ServerStream {
    /// The server's handshake.
    pub(in crate::transport) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut this = Self {
            tcp,
            tls: UnbufferedServerConnection::new(config).map_err(invalid)?,
            incoming: Vec::new(),
            plain: BytesMut::new(),
            outgoing: BytesMut::new(),
            ended: false,
            closed: false,
        };
        while this.tls.is_handshaking() {
            let mut bytes = std::mem::take(&mut this.incoming);
            if bytes.len() >= HANDSHAKE_BYTES_MAX {
                return Err(invalid(rustls::Error::HandshakeNotComplete));
            }
            if this.tcp.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let processed = this.process(&mut bytes, None);
            // Also after a failure: the alert tells the peer why.
            let sent = std::future::poll_fn(|cx| this.poll_send(cx)).await;
            if processed.is_err() {
                this.linger().await;
            }
            processed?;
            sent?;
        }
        Ok(this)
    }

    /// Takes what is still coming, so that the alert is not lost in a reset: the client speaks on until it has read it.
    async fn linger(&mut self) {
        let drained = async {
            self.tcp.shutdown().await?;
            tokio::io::copy(
                &mut (&mut self.tcp).take(HANDSHAKE_BYTES_MAX as u64),
                &mut tokio::io::sink(),
            )
            .await
        };
        let _ = tokio::time::timeout(LINGER, drained).await;
    }

    /// The client's certificates, leaf first.
    pub(in crate::transport) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// Decrypts the records in `bytes`, keeps an unfinished one, and encrypts `plain` behind what rustls itself has to say.
    fn process(&mut self, bytes: &mut [u8], plain: Option<Write<'_>>) -> io::Result<()> {
        let mut at = 0;
        let result = loop {
            let UnbufferedStatus {
                mut discard, state, ..
            } = self.tls.process_tls_records(&mut bytes[at..]);
            let again = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        Some(Ok(record)) => {
                            discard += record.discard;
                            self.plain.extend_from_slice(record.payload);
                        }
                        Some(Err(error)) => break Err(error),
                        None => break Ok(true),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, CONTROL_ROOM, |out| {
                        data.encode(out).map_err(TooSmall::from)
                    });
                    Ok(true)
                }
                // What is encoded is queued, and stays in order.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(true)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match plain {
                        Some(Write::Data(plain)) => {
                            let room = plain.len() + CONTROL_ROOM;
                            append(&mut self.outgoing, room, |out| {
                                traffic.encrypt(plain, out).map_err(TooSmall::from)
                            });
                        }
                        Some(Write::CloseNotify) => append(&mut self.outgoing, CONTROL_ROOM, |out| {
                            traffic.queue_close_notify(out).map_err(TooSmall::from)
                        }),
                        None => {}
                    }
                    Ok(false)
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    Ok(true)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(false),
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    Ok(false)
                }
                // Early data, which we do not offer.
                Ok(_) => Err(rustls::Error::HandshakeNotComplete),
                Err(error) => Err(error),
            };
            at += discard;
            match again {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = result {
            if let Ok(ConnectionState::EncodeTlsData(mut alert)) = self.tls.process_tls_records(&mut []).state
            {
                append(&mut self.outgoing, CONTROL_ROOM, |out| {
                    alert.encode(out).map_err(TooSmall::from)
                });
            }
            return Err(invalid(error));
        }
        self.incoming = bytes[at..].to_vec();
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let n = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.outgoing))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(n);
        }
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Reads and decrypts once.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stack = [0; STACK_BYTES];
        let mut heap = Vec::new();
        let kept = self.incoming.len();
        let bytes = if kept == 0 {
            &mut stack[..]
        } else {
            // The rest of a longer record: read as much as one may still have.
            heap.reserve_exact(kept + RECORD_BYTES);
            heap.extend_from_slice(&self.incoming);
            heap.resize(kept + RECORD_BYTES, 0);
            &mut heap[..]
        };
        let mut read = ReadBuf::new(&mut bytes[kept..]);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
        let n = read.filled().len();
        if n == 0 {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let processed = self.process(&mut bytes[..kept + n], None);
        // Alerts, and answers to key updates. They also leave with the next write.
        let _ = self.poll_send(cx);
        Poll::Ready(processed)
    }

    fn encrypt(&mut self, plain: Write<'_>) -> io::Result<()> {
        let mut incoming = std::mem::take(&mut self.incoming);
        self.process(&mut incoming, Some(plain))
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.plain.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx))?;
        }
        let n = self.plain.len().min(buf.remaining());
        buf.put_slice(&self.plain[..n]);
        self.plain.advance(n);
        if self.plain.is_empty() {
            self.plain = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Nothing is encrypted before all that was is gone, so at most one piece waits.
        ready!(self.poll_send(cx))?;
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = buf.len().min(WRITE_BYTES);
        self.encrypt(Write::Data(&buf[..n]))?;
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            self.encrypt(Write::CloseNotify)?;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// How much room is needed; `None` for failures that more room does not mend.
struct TooSmall(Option<usize>);

impl From<EncodeError> for TooSmall {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self(Some(size.required_size)),
            EncodeError::AlreadyEncoded => Self(None),
        }
    }
}

impl From<EncryptError> for TooSmall {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self(Some(size.required_size)),
            EncryptError::EncryptExhausted => Self(None),
        }
    }
}

fn append(out: &mut BytesMut, mut room: usize, mut encode: impl FnMut(&mut [u8]) -> Result<usize, TooSmall>) {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match encode(&mut out[start..]) {
            Ok(n) => return out.truncate(start + n),
            Err(TooSmall(Some(required))) if required > room => room = required,
            // rustls has ended the connection, which the next call tells.
            Err(_) => return out.truncate(start),
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Most records of a tunnel are shorter.
const STACK_BYTES: usize = 4 << 10;
/// The longest record, and its header.
const RECORD_BYTES: usize = (16 << 10) + 256 + 5;
/// How much is encrypted at once: four records.
const WRITE_BYTES: usize = 64 << 10;
/// Room for the headers and tags of these, or for an alert.
const CONTROL_ROOM: usize = 256;
/// No handshake that we know comes near.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;
/// How long a client that fails may take to hear it.
const LINGER: Duration = Duration::from_secs(1);
