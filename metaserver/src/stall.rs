//! A connection that cuts off clients who say nothing or do not read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Sleep, sleep};

/// Reads and writes with patience: the first byte must come within one time, and nothing may lie unread for another.
pub(crate) struct Patient<T> {
    inner: T,
    first_byte: Option<Pin<Box<Sleep>>>,
    stall_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    on_stall: Box<dyn Fn() + Send>,
}

impl<T> Patient<T> {
    pub(crate) fn new(
        inner: T,
        head_timeout: Duration,
        stall_timeout: Duration,
        on_stall: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            inner,
            first_byte: Some(Box::pin(sleep(head_timeout))),
            stall_timeout,
            stalled: None,
            on_stall: Box::new(on_stall),
        }
    }

    /// Ends the wait for room when a write went through; when it did not, lets it last for the stall timeout only.
    fn patience<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.stall_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if stalled.as_mut().poll(cx).is_ready() {
            (self.on_stall)();
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read",
            )));
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.first_byte = None;
        } else if let Some(first_byte) = &mut self.first_byte
            && first_byte.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client says nothing",
            )));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.patience(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.patience(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.patience(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const STALL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_cut_off() {
        let (_client, server) = duplex(64);
        let mut server = Patient::new(server, HEAD, STALL, || ());
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_spoken_may_be_silent_for_long() {
        let (mut client, server) = duplex(64);
        let mut server = Patient::new(server, HEAD, STALL, || ());
        client.write_u8(1).await.unwrap();
        server.read_u8().await.unwrap();
        assert!(tokio::time::timeout(HEAD * 10, server.read_u8()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off_and_counted() {
        let (_client, server) = duplex(64);
        let stalls = Arc::new(AtomicUsize::new(0));
        let counter = stalls.clone();
        let mut server = Patient::new(server, HEAD, STALL, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let error = server.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(
            (error.kind(), stalls.load(Ordering::Relaxed)),
            (io::ErrorKind::TimedOut, 1)
        );
    }
}
