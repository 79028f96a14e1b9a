//! The body of an answer: slices that other answers share, or a stream that goes on for as long as the client listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
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

    /// Takes pieces off the front, put together up to so many bytes; one that is larger comes alone, as it is.
    fn front(&mut self, bytes: usize) -> Self {
        let mut joined = BytesMut::with_capacity(bytes);
        while let Some(piece) = self
            .pieces
            .pop_front_if(|piece| joined.len() + piece.len() <= bytes)
        {
            joined.extend_from_slice(&piece);
        }
        let piece = if joined.is_empty() {
            self.pieces.pop_front().unwrap_or_default()
        } else {
            joined.freeze()
        };
        self.remaining -= piece.len();
        piece.into()
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
            // A system call for each of a thousand objects would cost more than to copy them.
            Kind::Whole(Some(slices)) if slices.pieces.len() > 1 && slices.remaining > FRAME_BYTES => {
                Poll::Ready(Some(Ok(Frame::data(slices.front(FRAME_BYTES)))))
            }
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

/// How much of a long answer is put together for one write.
const FRAME_BYTES: usize = 64 << 10;

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
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

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

    #[tokio::test]
    async fn a_long_answer_comes_in_frames_of_many_pieces_and_its_size_is_known_all_along() {
        let mut slices = Slices::default();
        for n in 0..10_000 {
            slices.push(format!("piece {n},"));
        }
        slices.push(vec![b'x'; 2 * FRAME_BYTES]);
        slices.push("end");
        let (text, mut frames, mut read) = (slices.clone().copy_to_bytes(slices.remaining), 0, Vec::new());
        let mut body = Body::whole(slices);
        while let Some(frame) = body.frame().await {
            let mut frame = frame.unwrap().into_data().unwrap();
            read.extend_from_slice(&frame.copy_to_bytes(frame.remaining()));
            frames += 1;
            assert_eq!(body.size_hint().exact(), Some((text.len() - read.len()) as u64));
        }
        assert_eq!(read, text);
        assert!(body.is_end_stream() && frames < 10, "{frames}");
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
