//! Lets Go's mappers in, which put the path of our socket where HTTP/2 wants the name of a host.
//!
//! grpc-go makes the `:authority` of a request from what it was told to dial, such as `%2Fetc%2Fkubeedge%2Fdmi.sock`. That is no host, and the
//! h2 crate ends such a request before anybody could look at it. So the header is given another name on its way in. HPACK counts
//! names and values of what both ends remember, so it is one of the same length, and one that nobody reads: `set-cookie`. The value
//! stays as it is, compressed or not.
//!
//! Only a last pseudo-header can become an ordinary one. With Go it is the last; where another follows, as with hyper, it stays.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream from a client that speaks HTTP/2.
pub(crate) struct AnyAuthority<S> {
    inner: S,
    input: BytesMut,
    output: BytesMut,
    /// Bytes that pass as they are: the preface, and frames without headers.
    pass: usize,
}

impl<S> AnyAuthority<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            input: BytesMut::new(),
            output: BytesMut::new(),
            pass: PREFACE,
        }
    }

    /// Moves all that can be moved from the input to the output.
    fn sift(&mut self) {
        while !self.input.is_empty() {
            if self.pass > 0 {
                let passed = self.pass.min(self.input.len());
                self.output.unsplit(self.input.split_to(passed));
                self.pass -= passed;
                continue;
            }
            let Some(head) = self.input.first_chunk::<FRAME_HEAD>() else {
                return;
            };
            let [high, middle, low, kind, flags, ..] = *head;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if kind != HEADERS || length > HEADERS_MAX {
                self.pass = FRAME_HEAD + length;
                continue;
            }
            if self.input.len() < FRAME_HEAD + length {
                return;
            }
            let mut frame = self.input.split_to(FRAME_HEAD + length);
            if let Some(at) = renamable(&frame[FRAME_HEAD..], flags) {
                frame[FRAME_HEAD + at] = LITERAL | SET_COOKIE;
            }
            self.output.unsplit(frame);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.output.is_empty() {
            let mut space = [0; CHUNK];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // Half a frame is what the peer left.
                std::mem::swap(&mut this.output, &mut this.input);
                break;
            }
            this.input.extend_from_slice(read.filled());
            this.sift();
        }
        let given = this.output.len().min(out.remaining());
        out.put_slice(&this.output[..given]);
        this.output.advance(given);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where in the payload of a HEADERS frame (RFC 9113, 6.2) a last pseudo-header `:authority` begins that is to be remembered. None
/// too where the payload cannot be read: that is for others to say.
fn renamable(payload: &[u8], flags: u8) -> Option<usize> {
    if flags & END_HEADERS == 0 {
        return None;
    }
    let padded = flags & PADDED != 0;
    let mut at = usize::from(padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let padding = if padded { usize::from(*payload.first()?) } else { 0 };
    let block = payload.get(..payload.len().checked_sub(padding)?)?;
    let mut found = None;
    while at < block.len() {
        let begin = at;
        // RFC 7541, 6.
        let (prefix, has_value) = match block[at] {
            first if first & 0x80 != 0 => (7, false),
            first if first & 0x40 != 0 => (6, true),
            first if first & 0x20 != 0 => (5, false),
            _ => (4, true),
        };
        let is_resize = prefix == 5;
        let name = integer(block, &mut at, prefix)?;
        if has_value {
            if name == 0 {
                skip(block, &mut at)?;
            }
            skip(block, &mut at)?;
        }
        match name {
            _ if is_resize => {}
            AUTHORITY if block[begin] == LITERAL | AUTHORITY as u8 => found = Some(begin),
            // Another pseudo-header.
            1..=14 => found = None,
            _ => {}
        }
    }
    found
}

/// An integer with a prefix of some bits (RFC 7541, 5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let full = (1 << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & full;
    *at += 1;
    if value < full {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string, which may be compressed.
fn skip(block: &[u8], at: &mut usize) -> Option<()> {
    let length = integer(block, at, 7)?;
    *at = at.checked_add(length).filter(|end| *end <= block.len())?;
    Some(())
}

/// `PRI * HTTP/2.0…`
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that a client may send before it was allowed more, which it is not.
const HEADERS_MAX: usize = 16_384;
/// A value that both ends remember, with a name of the static table. Such an `:authority` is one byte, its name's index in it.
const LITERAL: u8 = 0x40;
/// `:authority`, ten letters.
const AUTHORITY: usize = 1;
/// `set-cookie`, ten letters.
const SET_COOKIE: u8 = 55;
const CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The header block of a request: `:method POST`, `:scheme http`, a `:path`, and then what is given.
    fn block(rest: &[u8]) -> Vec<u8> {
        [&[0x83, 0x86, 0x44, 2, b'/', b'a'], rest].concat()
    }

    fn frame(payload: &[u8], flags: u8) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[HEADERS, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn a_last_authority_gets_another_name_and_no_other_one() {
        let go = block(&[0x41, 3, b'%', b'2', b'F', 0x5f, 1, b'x']);
        assert_eq!(renamable(&go, 4), Some(6));
        let compressed = block(&[0x41, 0x83, 1, 2, 3]);
        assert_eq!(renamable(&compressed, 4), Some(6));
        let padded = [&[2, 0, 0, 0, 0, 0][..], &go, &[0, 0]].concat();
        assert_eq!(renamable(&padded, 4 | PADDED | PRIORITY), Some(12));
        let hyper = [0x83, 0x86, 0x41, 1, b'h', 0x44, 1, b'/'];
        assert_eq!(renamable(&hyper, 4), None, "a path follows");
        assert_eq!(
            renamable(&block(&[0xbe]), 4),
            None,
            "what is remembered has its name already"
        );
        for cut in 0..go.len() {
            renamable(&go[..cut], 4);
            renamable(&go[..cut], 4 | PADDED | PRIORITY);
        }
        assert_eq!(
            renamable(&block(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), 4),
            None
        );
    }

    #[tokio::test]
    async fn all_else_passes_as_it_is_however_it_is_cut() {
        let go = block(&[0x41, 1, b'%']);
        let mut renamed = go.clone();
        renamed[6] = 0x77;
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
        let said = [
            &[b'P'; PREFACE][..],
            &settings,
            &frame(&go, 4),
            &settings,
            &[0, 0, 9, HEADERS],
        ]
        .concat();
        let wanted = [
            &[b'P'; PREFACE][..],
            &settings,
            &frame(&renamed, 4),
            &settings,
            &[0, 0, 9, HEADERS],
        ]
        .concat();
        for size in [1, 2, 7, 1000] {
            let (mut client, server) = tokio::io::duplex(size);
            let said = said.clone();
            tokio::spawn(async move { client.write_all(&said).await.unwrap() });
            let mut heard = Vec::new();
            AnyAuthority::new(server).read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, wanted, "{size}");
        }
    }
}
