//! The one stream of a connection, as a byte stream in both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use quinn::{Connection, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both halves of the stream, and the connection that lives as long as they.
pub(super) struct QuicStream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// Resolves when the peer has everything.
    finished: Option<BoxFuture<'static, ()>>,
}

impl QuicStream {
    pub(super) fn new(connection: Connection, (send, receive): (SendStream, RecvStream)) -> Self {
        Self {
            connection,
            send,
            receive,
            finished: None,
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    /// Done when the peer has acknowledged all: closing the connection earlier would lose what is on its way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let finished = this.finished.get_or_insert_with(|| {
            // It is finished already when the peer stopped it.
            let _ = this.send.finish();
            let stopped = this.send.stopped();
            Box::pin(async move {
                let _ = stopped.await;
            })
        });
        std::task::ready!(finished.as_mut().poll(cx));
        this.connection.close(0u8.into(), b"");
        Poll::Ready(Ok(()))
    }
}
