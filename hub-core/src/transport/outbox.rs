//! Bytes that wait to be written.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Frames on their way out: small ones side by side, so that many leave in one write; large ones as the shared bytes they are, so
/// that one content sent to a thousand peers exists once. Holds no memory while empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    whole: VecDeque<Chunk>,
    /// Begins where a frame begins.
    tail: BytesMut,
    len: usize,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    begins: Begins,
}

/// What a chunk begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Frame,
    /// The payload whose head is in the chunk before.
    Payload,
    /// A frame that was laid before others.
    Interposed,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends a copy.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.tail.put_slice(bytes);
    }

    /// Appends a copy and hands it out to be changed.
    pub(super) fn put_mut(&mut self, bytes: &[u8]) -> &mut [u8] {
        let start = self.tail.len();
        self.put(bytes);
        &mut self.tail[start..]
    }

    /// Appends shared bytes; small ones are copied.
    pub(super) fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.put(&bytes);
        }
        self.end_tail(1);
        self.len += bytes.len();
        self.push(bytes, Begins::Payload);
    }

    /// A frame ends here, and another one may be laid behind it.
    pub(super) fn end_frame(&mut self) {
        self.end_tail(SHARE_MIN);
    }

    /// Lays a small frame before the next one that has not begun, so that it does not wait for all that waits. False where there is no
    /// such place, or where another one was laid so and waits still.
    pub(super) fn interpose(&mut self, frame: Self) -> bool {
        let waits = |chunk: &Chunk| chunk.begins == Begins::Interposed;
        if self.whole.is_empty() || self.whole.iter().any(waits) {
            return false;
        }
        // The first chunk may have left in part.
        let behind = self
            .whole
            .iter()
            .skip(1)
            .position(|chunk| chunk.begins == Begins::Frame);
        let place = behind.map_or(self.whole.len(), |behind| behind + 1);
        self.len += frame.len;
        let chunk = Chunk {
            bytes: frame.tail.freeze(),
            begins: Begins::Interposed,
        };
        self.whole.insert(place, chunk);
        true
    }

    fn end_tail(&mut self, min: usize) {
        if self.tail.len() >= min {
            let tail = std::mem::take(&mut self.tail).freeze();
            self.push(tail, Begins::Frame);
        }
    }

    fn push(&mut self, bytes: Bytes, begins: Begins) {
        self.whole.push_back(Chunk { bytes, begins });
    }

    /// Writes until empty, and says how much was written by adding to `written`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        while self.len > 0 {
            let next = self
                .whole
                .front()
                .map_or(&self.tail[..], |whole| &whole.bytes[..]);
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, next))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(n);
            *written += n as u64;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, n: usize) {
        self.len -= n;
        if self.len == 0 {
            *self = Self::default();
        } else if let Some(front) = self.whole.front_mut() {
            front.bytes.advance(n);
            if front.bytes.is_empty() {
                self.whole.pop_front();
            }
        } else {
            self.tail.advance(n);
        }
    }
}

/// From this size on sharing is cheaper than a copy and a fuller write: the length of a TLS record.
const SHARE_MIN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(out: &mut Outbox) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(out.poll_write(&mut bytes, &mut cx, &mut 0).is_ready());
        bytes
    }

    fn small(text: &[u8]) -> Outbox {
        let mut out = Outbox::default();
        out.put(text);
        out
    }

    #[test]
    fn what_is_interposed_comes_before_the_next_frame_and_never_within_one() {
        let payload = vec![b'x'; SHARE_MIN];
        let mut out = Outbox::default();
        for _ in 0..3 {
            out.put(b"head");
            out.share(payload.clone().into());
        }
        // The first frame is on its way.
        out.advance(2);
        assert!(out.interpose(small(b"pong")));
        assert!(!out.interpose(small(b"more")), "one at a time");
        let frame = [b"head", &payload[..]].concat();
        let expected = [&frame[2..], b"pong", &frame, &frame].concat();
        assert_eq!(out.len(), expected.len());
        assert_eq!(bytes_of(&mut out), expected);
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn where_everything_is_small_or_under_way_what_is_interposed_comes_last() {
        let mut out = small(b"frame");
        assert!(!out.interpose(small(b"pong")));
        let payload = vec![b'x'; SHARE_MIN];
        out.share(payload.clone().into());
        assert!(out.interpose(small(b"pong")));
        out.put(b"next");
        assert_eq!(
            bytes_of(&mut out),
            [b"frame", &payload[..], b"pong", b"next"].concat()
        );
    }
}
