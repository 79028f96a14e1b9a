//! The body of an answer: slices that other answers share, or a stream that goes on for as long as the client listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::Stream;
use http_body::{Frame, SizeHint};

/// Bytes in pieces, written to a socket without being put together first. Stored objects are among the pieces as they are.
#[derive(Debug, Default, Clone)]
pub struct Slices {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Slices {
    /// Appends a piece.
    pub(crate) fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Appends the pieces of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.remaining += other.remaining;
        self.pieces.append(&mut other.pieces);
    }
}

impl From<Bytes> for Slices {
    fn from(piece: Bytes) -> Self {
        let mut slices = Self::default();
        slices.push(piece);
        slices
    }
}

impl Buf for Slices {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in to.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        while count > 0 {
            let Some(front) = self.pieces.front_mut() else {
                return;
            };
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

/// The body of an answer.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Slices>),
    Stream(Pin<Box<dyn Stream<Item = Slices> + Send>>),
}

impl Body {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// All of it.
    pub(crate) fn whole(slices: impl Into<Slices>) -> Self {
        Self(Kind::Whole(Some(slices.into())))
    }

    /// All of it, taken out, where it is more than so many bytes and no stream.
    pub(crate) fn take_over(&mut self, bytes: usize) -> Option<Slices> {
        match &mut self.0 {
            Kind::Whole(slices) if slices.as_ref().is_some_and(|slices| slices.remaining > bytes) => {
                slices.take()
            }
            _ => None,
        }
    }

    /// As it comes. Nothing is taken out of the stream before the client has room for it.
    pub(crate) fn stream(stream: impl Stream<Item = Slices> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }
}

impl http_body::Body for Body {
    type Data = Slices;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Slices>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole(slices) => Poll::Ready(slices.take().map(|slices| Ok(Frame::data(slices)))),
            Kind::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|slices| Ok(Frame::data(slices)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(slices) => SizeHint::with_exact(slices.as_ref().map_or(0, Buf::remaining) as u64),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(slices) => slices.fmt(f),
            Kind::Stream(_) => f.write_str("Stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_as_one_text_in_any_steps() {
        for step in 1..9 {
            let mut slices = Slices::default();
            for piece in ["abc", "", "d", "efgh"] {
                slices.push(piece);
            }
            let mut read = Vec::new();
            while slices.has_remaining() {
                let take = step.min(slices.remaining());
                read.extend_from_slice(&slices.copy_to_bytes(take));
            }
            assert_eq!(read, b"abcdefgh");
        }
    }

    #[test]
    fn many_pieces_go_into_one_write() {
        let mut slices = Slices::default();
        (0..5).for_each(|_| slices.push("ab"));
        let mut to = [IoSlice::new(&[]); 3];
        assert_eq!(slices.chunks_vectored(&mut to), 3);
        slices.advance(3);
        assert_eq!(slices.chunk(), b"b");
    }
}
