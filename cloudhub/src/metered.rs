//! Counts what crosses a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Sink, Stream};

use hub_core::transport::{Inbound, Outbound, Peer, Transport, TransportError};

use crate::metrics::HubMetrics;

/// A transport with a counter at it.
pub(crate) struct Metered {
    inner: Box<dyn Transport>,
    metrics: Arc<HubMetrics>,
    counted: (u64, u64),
}

impl Metered {
    pub(crate) fn new(inner: Box<dyn Transport>, metrics: Arc<HubMetrics>) -> Self {
        Self {
            inner,
            metrics,
            counted: (0, 0),
        }
    }

    fn count(&mut self) {
        let (read, written) = self.inner.bytes();
        self.metrics.bytes_in.inc_by(read.saturating_sub(self.counted.0));
        self.metrics
            .bytes_out
            .inc_by(written.saturating_sub(self.counted.1));
        self.counted = (read, written);
    }
}

impl Stream for Metered {
    type Item = Result<Inbound, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = Pin::new(&mut self.inner).poll_next(cx);
        if let Poll::Ready(frame) = &frame {
            self.count();
            if matches!(frame, Some(Ok(Inbound::Message(_)))) {
                self.metrics.messages_in.inc();
            }
        }
        frame
    }
}

impl Sink<Outbound> for Metered {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outbound) -> Result<(), TransportError> {
        if matches!(frame, Outbound::Message { .. }) {
            self.metrics.messages_out.inc();
        }
        Pin::new(&mut self.inner).start_send(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.count();
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Transport for Metered {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn bytes(&self) -> (u64, u64) {
        self.inner.bytes()
    }
}
