//! A WebSocket as a Go server speaks it, on the level of bytes: gorilla/websocket 1.5.0 behind `net/http`.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a client sent.
#[derive(Debug)]
pub enum Frame {
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Close,
}

/// Reads the head of an HTTP request: its first line, and the headers as they are spelled.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<(String, String)>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    Ok((first, lines.filter(|line| !line.is_empty()).map(header).collect()))
}

/// Reads one message, or one control frame.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut message = Vec::new();
    loop {
        let head = [stream.read_u8().await?, stream.read_u8().await?];
        assert!(head[1] & 0x80 != 0, "clients mask what they send");
        let length = match head[1] & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await?;
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        match head[0] & 0x0f {
            8 => return Ok(Frame::Close),
            9 => return Ok(Frame::Ping(payload)),
            10 => {}
            opcode => {
                assert!(
                    opcode == 0 || message.is_empty(),
                    "a message begins inside another"
                );
                assert_ne!(opcode, 2, "a stock peer gets text");
                message.extend(payload);
                if head[0] & 0x80 != 0 {
                    return Ok(Frame::Text(message));
                }
            }
        }
    }
}

/// The frames in which a Go server sends a document: its buffer holds 4082 bytes of payload, and what is written in one piece that is
/// larger than twice the buffer goes out by itself, before an empty last frame.
pub fn frames(document: &Value) -> Vec<u8> {
    let mut text = go_json(document);
    text.push('\n');
    let bytes = text.as_bytes();
    let mut wire = Vec::with_capacity(bytes.len() + 32);
    if bytes.len() > 2 * (BUFFER + 14) {
        frame(&mut wire, 0x01, bytes);
        frame(&mut wire, 0x80, b"");
        return wire;
    }
    let pieces = bytes.len().div_ceil(BUFFER);
    for (n, piece) in bytes.chunks(BUFFER).enumerate() {
        let (first, last) = (n == 0, n + 1 == pieces);
        frame(&mut wire, u8::from(first) | if last { 0x80 } else { 0 }, piece);
    }
    wire
}

pub fn pong(payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    frame(&mut wire, 0x8a, payload);
    wire
}

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// JSON with the escapes of Go's encoder. These characters occur in strings only.
pub fn go_json(document: &Value) -> String {
    let text = document.to_string();
    let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")];
    escapes
        .iter()
        .fold(text, |text, (plain, escaped)| text.replace(*plain, escaped))
}

fn frame(wire: &mut Vec<u8>, first: u8, payload: &[u8]) {
    wire.push(first);
    match payload.len() {
        short @ 0..126 => wire.push(short as u8),
        medium @ 126..=0xffff => {
            wire.push(126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(payload);
}

/// Of 4096 bytes, 14 are for a frame's head.
const BUFFER: usize = 4082;
