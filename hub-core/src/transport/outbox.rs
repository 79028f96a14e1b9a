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
    whole: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
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
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail).freeze();
            self.whole.push_back(tail);
        }
        self.len += bytes.len();
        self.whole.push_back(bytes);
    }

    /// Writes until empty, and says how much was written by adding to `written`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        while self.len > 0 {
            let next = self.whole.front().map_or(&self.tail[..], |whole| &whole[..]);
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
            front.advance(n);
            if front.is_empty() {
                self.whole.pop_front();
            }
        } else {
            self.tail.advance(n);
        }
    }
}

/// From this size on sharing is cheaper than a copy and a fuller write: the length of a TLS record.
const SHARE_MIN: usize = 16 << 10;
