//! The wire of a Go edge, by hand: TLS without ALPN, an upgrade as gorilla/websocket writes it, frames as its 4096-byte buffer cuts them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hub_core::transport::{Identity, provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The payload of gorilla's write buffer (`newConn`, `defaultWriteBufferSize`): a client flushes a fragment when it is full.
const BUFFER: usize = 4096;

/// How a document is cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Fragments of 4096 bytes.
    Go,
    /// The whole, then an empty final fragment.
    EmptyEnd,
    /// One byte each, a ping between any two.
    Bytes,
}

/// The headers of a Go edge in their order (capture `01-first-join`).
pub(crate) fn upgrade(address: SocketAddr, node: &str) -> String {
    format!(
        "GET /e632aba927ea4ac2b575ec1603d56f10/{node}/events HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Connection: Upgrade\r\nConnectionuse: msg\r\nNode_id: {node}\r\nProject_id: e632aba927ea4ac2b575ec1603d56f10\r\n\
         Sec-WebSocket-Key: 8dfx3I75hVtvTMIExk2ZMA==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
    )
}

/// What the server answered to an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Its headers, as they came.
    pub(crate) head: String,
    /// What was negotiated in TLS.
    pub(crate) alpn: Option<Vec<u8>>,
}

/// Connects and asks for the upgrade with this head, whatever it says.
pub(crate) async fn dial(
    address: SocketAddr,
    ca: &CertificateDer<'static>,
    identity: Identity,
    head: &str,
) -> io::Result<(Answer, Reader, Writer)> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)
        .unwrap();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::from(address.ip());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let (read, write) = tokio::io::split(stream);
    let (mut reader, mut writer) = (Reader(BufReader::new(read)), Writer { half: write, mask: 1 });
    writer.raw(head.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.0.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((Answer { code, head, alpn }, reader, writer))
}

pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Reader(BufReader<ReadHalf<TlsStream<TcpStream>>>);

impl Reader {
    /// The next frame. A server masks nothing and sets no reserved bit, as nothing was negotiated.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        let [first, second] = [self.0.read_u8().await?, self.0.read_u8().await?];
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert_eq!(second & 0x80, 0, "a masked frame");
        let length = match second {
            126 => u64::from(self.0.read_u16().await?),
            127 => self.0.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame {
            fin: first & 0x80 != 0,
            opcode: first & 0x0f,
            payload,
        })
    }

    /// What comes until the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
        rest
    }
}

pub(crate) struct Writer {
    half: WriteHalf<TlsStream<TcpStream>>,
    mask: u32,
}

impl Writer {
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.half.write_all(bytes).await?;
        self.half.flush().await
    }

    /// One frame, masked.
    pub(crate) async fn frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let frame = self.masked(fin, opcode, payload);
        self.raw(&frame).await
    }

    /// The beginning of a frame whose rest never comes.
    pub(crate) async fn half_frame(&mut self, payload: &[u8]) -> io::Result<()> {
        let frame = self.masked(true, TEXT, payload);
        self.raw(&frame[..frame.len() / 2]).await
    }

    /// A document, in fragments.
    pub(crate) async fn document(&mut self, opcode: u8, document: &[u8], cut: Cut) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(document.len() + 64);
        match cut {
            Cut::Go => {
                let count = document.len().div_ceil(BUFFER).max(1);
                let mut chunks = document.chunks(BUFFER);
                for i in 0..count {
                    let opcode = if i == 0 { opcode } else { CONTINUATION };
                    bytes.extend(self.masked(i + 1 == count, opcode, chunks.next().unwrap_or_default()));
                }
            }
            Cut::EmptyEnd => {
                bytes.extend(self.masked(false, opcode, document));
                bytes.extend(self.masked(true, CONTINUATION, &[]));
            }
            Cut::Bytes => {
                for (i, byte) in document.iter().enumerate() {
                    let opcode = if i == 0 { opcode } else { CONTINUATION };
                    bytes.extend(self.masked(i + 1 == document.len(), opcode, &[*byte]));
                    bytes.extend(self.masked(true, PING, b"between"));
                }
            }
        }
        self.raw(&bytes).await
    }

    fn masked(&mut self, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        self.mask = self.mask.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        let mask = self.mask.to_be_bytes();
        let mut frame = vec![opcode | if fin { 0x80 } else { 0 }];
        match payload.len() {
            n @ 0..126 => frame.push(0x80 | n as u8),
            n @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(0x80 | 127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }
}
