//! A byte stream, a framing and a codec make a transport.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Frame, Framing};
use super::outbox::Outbox;
use super::tls::stream_error;
use super::{CloseReason, Inbound, Outbound, Peer, Transport, TransportError};
use crate::codec::Codec;

/// One connection. While idle it holds no buffers: reads go through the stack, and both directions free what they used.
pub(super) struct Framed<S, F> {
    stream: S,
    framing: F,
    codec: Codec,
    peer: Peer,
    /// Bytes that came together with a frame and belong to the next ones.
    rest: Bytes,
    out: Outbox,
    /// Above this the sink is not ready.
    queue_bytes_max: usize,
    received: u64,
    sent: u64,
    reading: Reading,
    /// A close frame is queued: nothing may follow it.
    closing: bool,
    /// The reader queued a frame of its own (a pong, a close) that is to leave without a flush by the sink's user.
    answering: bool,
    /// The latest pong that found no place; older ones need no answer (RFC 6455, section 5.5.3).
    pong: Option<Bytes>,
    /// Who waits in the sink, in case reader and writer are two tasks: the stream remembers one waker for writing only.
    writer: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// The peer closed in good order; the stream is at its end.
    Closed,
    /// An error was told; the stream is at its end.
    Failed,
}

/// What the handshake knows when the frames begin.
pub(super) struct Established {
    /// The agreed wire format.
    pub(super) codec: Codec,
    /// Who is there, with the agreed capabilities.
    pub(super) peer: Peer,
    /// Bytes that came behind the handshake.
    pub(super) rest: Bytes,
    /// Bytes received and sent so far; the received ones without `rest`.
    pub(super) bytes: (u64, u64),
    /// How many bytes may wait to be sent before the sink is not ready. One message may exceed it.
    pub(super) queue_bytes_max: usize,
}

impl<S, F> Framed<S, F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Framing,
{
    pub(super) fn new(stream: S, framing: F, established: Established) -> Self {
        let (received, sent) = established.bytes;
        Self {
            stream,
            framing,
            codec: established.codec,
            peer: established.peer,
            received: received + established.rest.len() as u64,
            rest: established.rest,
            out: Outbox::default(),
            queue_bytes_max: established.queue_bytes_max,
            sent,
            reading: Reading::Open,
            closing: false,
            answering: false,
            pong: None,
            writer: None,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Inbound, TransportError>> {
        loop {
            let mut rest = std::mem::take(&mut self.rest);
            let mut input = &rest[..];
            let frame = self.framing.read(&mut input)?;
            rest.advance(rest.len() - input.len());
            if !rest.is_empty() {
                self.rest = rest;
            }
            if let Some(frame) = frame {
                return Poll::Ready(self.receive(frame));
            }

            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).map_err(stream_error)?;
            let mut input = read.filled();
            if input.is_empty() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            self.received += input.len() as u64;
            let frame = self.framing.read(&mut input)?;
            if !input.is_empty() {
                self.rest = Bytes::copy_from_slice(input);
            }
            if let Some(frame) = frame {
                return Poll::Ready(self.receive(frame));
            }
        }
    }

    fn receive(&mut self, frame: Frame) -> Result<Inbound, TransportError> {
        match frame {
            Frame::Message(bytes) => Ok(Inbound::Message(self.codec.decode(bytes)?)),
            Frame::Ping(content) => {
                self.pong = Some(content);
                self.answer();
                Ok(Inbound::Alive)
            }
            Frame::Pong(_) | Frame::Piece => Ok(Inbound::Alive),
            Frame::Close(reason) => {
                self.reading = Reading::Closed;
                if !self.closing {
                    let echo = reason.as_ref().map(|(code, _)| (*code, String::new()));
                    self.queue(Frame::Close(echo));
                    self.closing = true;
                    self.answering = true;
                }
                Ok(Inbound::Closed(CloseReason::from_wire(reason)))
            }
        }
    }

    /// Queues the pong that is owed: before what waits, where that is much, as a peer on a slow link counts the seconds. One at a time,
    /// so that nothing grows when the peer does not read.
    fn answer(&mut self) {
        let Some(content) = self.pong.take().filter(|_| !self.closing) else {
            return;
        };
        if self.out.len() < self.queue_bytes_max {
            self.queue(Frame::Pong(content));
        } else {
            let mut pong = Outbox::default();
            self.framing
                .write(Frame::Pong(content.clone()), self.codec.is_text(), &mut pong);
            if !self.out.interpose(pong) {
                self.pong = Some(content);
                return;
            }
        }
        self.answering = true;
    }

    fn queue(&mut self, frame: Frame) {
        let text = self.codec.is_text();
        self.framing.write(frame, text, &mut self.out);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        loop {
            ready!(self.out.poll_write(&mut self.stream, cx, &mut self.sent)).map_err(stream_error)?;
            if self.pong.is_none() {
                return Poll::Ready(Ok(()));
            }
            self.answer();
        }
    }

    fn poll_flush_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.poll_write(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(stream_error)?;
        self.answering = false;
        Poll::Ready(Ok(()))
    }

    /// Lets the reader's own frames leave. Never waits, never fails: a broken link shows when reading.
    fn send_answers(&mut self, cx: &mut Context<'_>) {
        if !self.answering {
            return;
        }
        let _ = self.poll_flush_stream(cx);
        // The stream may now wake only us when it can be written again, so pass it on.
        if let Some(writer) = self.writer.take_if(|writer| !writer.will_wake(cx.waker())) {
            writer.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        self.writer = Some(cx.waker().clone());
    }
}

impl<S, F> Stream for Framed<S, F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Framing,
{
    type Item = Result<Inbound, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.send_answers(cx);
        if this.reading != Reading::Open {
            return Poll::Ready(None);
        }
        let item = ready!(this.poll_read(cx));
        if item.is_err() {
            this.reading = Reading::Failed;
        }
        this.send_answers(cx);
        Poll::Ready(Some(item))
    }
}

impl<S, F> Sink<Outbound> for Framed<S, F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Framing,
{
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.out.len() >= self.queue_bytes_max {
            let written = self.poll_write(cx);
            // Part of it may have left.
            if written.is_pending() && self.out.len() >= self.queue_bytes_max {
                self.wait(cx);
            } else if let Poll::Ready(Err(error)) = written {
                return Poll::Ready(Err(error));
            }
            if self.out.len() >= self.queue_bytes_max {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outbound) -> Result<(), TransportError> {
        if self.closing {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        match frame {
            Outbound::Message { message, base } => {
                let bytes = self.codec.encode(&message, base.as_ref())?;
                self.queue(Frame::Message(bytes));
            }
            Outbound::Ping => self.queue(Frame::Ping(Bytes::new())),
            Outbound::Close(reason) => {
                self.queue(Frame::Close(Some(reason.to_wire())));
                self.closing = true;
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let flushed = self.poll_flush_stream(cx);
        if flushed.is_pending() {
            self.wait(cx);
        }
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.closing = true;
        Pin::new(&mut self.stream).poll_shutdown(cx).map_err(stream_error)
    }
}

impl<S, F> Transport for Framed<S, F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Framing,
{
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }
}

/// How much is read at once: the length of a TLS record.
const READ_BYTES: usize = 16 << 10;
