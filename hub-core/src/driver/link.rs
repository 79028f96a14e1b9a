//! The attached connection: what goes out on it, and its end.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::{Sink, SinkExt, Stream};

use super::{Action, DetachReason, Driver, Notice, WAY};
use crate::clock::{Clock, SystemClock};
use crate::message::Message;
use crate::node::NodeId;
use crate::transport::{Capabilities, CloseReason, Outbound, Transport, TransportError};

/// The attached connection.
pub(super) struct Link {
    pub(super) transport: Box<dyn Transport>,
    pub(super) capabilities: Capabilities,
    /// A frame that the transport had no room for yet. Boxed: most links have none.
    pub(super) waiting: Option<Box<Outbound>>,
    /// Whether fed frames wait for a flush.
    dirty: bool,
    /// Since when the peer takes nothing, and how many bytes had been sent then.
    pub(super) stuck: Option<(Instant, u64)>,
}

impl Link {
    /// Whether the peer took not a byte for this long. One that is slow is not stuck: its time begins anew.
    pub(super) fn is_stuck_for(&mut self, deadline: Duration, now: Instant) -> bool {
        let sent = self.transport.bytes().1;
        match &mut self.stuck {
            Some((since, then)) if now >= *since + deadline => {
                let stuck = sent == *then;
                (*since, *then) = (now, sent);
                stuck
            }
            _ => false,
        }
    }

    /// Flushes, or waits for room. Ready when there is something to do again, or when the link failed.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        let mut transport = Pin::new(&mut *self.transport);
        if self.dirty {
            match transport.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Action::WriteFailed(error)),
                Poll::Pending => {
                    self.stuck
                        .get_or_insert_with(|| (Instant::now(), transport.bytes().1));
                    return Poll::Pending;
                }
            }
        }
        if self.waiting.is_some() {
            return match transport.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Action::Writable),
                Poll::Ready(Err(error)) => Poll::Ready(Action::WriteFailed(error)),
                Poll::Pending => {
                    self.stuck
                        .get_or_insert_with(|| (Instant::now(), transport.bytes().1));
                    Poll::Pending
                }
            };
        }
        self.stuck = None;
        Poll::Pending
    }
}

impl Driver {
    /// Feeds the transport with what is due, as far as it has room.
    pub(super) fn transmit(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        let mut cx = Context::from_waker(Waker::noop());
        let mut failed = None;
        loop {
            let waiting = link.waiting.take().map(|frame| *frame);
            let Some(frame) = waiting.or_else(|| self.session.poll_transmit(now)) else {
                break;
            };
            // The real waker is registered in `poll_action`, which comes next.
            match Pin::new(&mut link.transport).poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {
                    let ids = match &frame {
                        Outbound::Message { message, base } => {
                            tell_sent(&self.node, message, base.is_some());
                            Some((message.header.id.clone(), message.header.parent_id.clone()))
                        }
                        _ => None,
                    };
                    match (Pin::new(&mut link.transport).start_send(frame), ids) {
                        (Ok(()), _) => link.dirty = true,
                        (Err(TransportError::Encode(error)), Some((id, answers))) => {
                            tracing::error!(node = %self.node, %id, %error, "a message cannot be sent and is given up");
                            self.session.give_up(&id, answers, &error.to_string(), now);
                        }
                        (Err(error), _) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                Poll::Ready(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                Poll::Pending => {
                    link.waiting = Some(Box::new(frame));
                    break;
                }
            }
        }
        if let Some(error) = failed {
            self.read_rest(now);
            self.detach(DetachReason::Transport(error), now);
        }
    }

    /// Reads what the peer sent before it went away: acknowledgements, or why it went.
    pub(super) fn read_rest(&mut self, now: Instant) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..self.config.session.handling_max {
            let Some(link) = &mut self.link else { return };
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut link.transport).poll_next(&mut cx) else {
                return;
            };
            self.inbound(frame, now);
        }
    }

    pub(super) fn attach(&mut self, transport: Box<dyn Transport>, now: Instant) {
        self.detach(DetachReason::Superseded, now);
        let capabilities = transport.peer().capabilities;
        self.session.attach(capabilities, SystemClock.unix_ms(), now);
        self.observer.notice(Notice::Attached(transport.peer()));
        self.link = Some(Link {
            transport,
            capabilities,
            waiting: None,
            dirty: false,
            stuck: None,
        });
    }

    pub(super) fn detach(&mut self, reason: DetachReason, now: Instant) {
        if let Some((transport, told)) = self.cut(reason, now) {
            tokio::spawn(say_goodbye(transport, told));
        }
    }

    /// Lets the connection go; it is returned where the peer should hear why.
    pub(super) fn cut(
        &mut self,
        reason: DetachReason,
        now: Instant,
    ) -> Option<(Box<dyn Transport>, CloseReason)> {
        let link = self.link.take()?;
        self.tell_depth(self.session.depth());
        self.session.detach(now);
        self.told.2 = 0;
        self.observer.notice(Notice::Detached(&reason));
        let told = match reason {
            DetachReason::Superseded => CloseReason::Superseded,
            DetachReason::Stopped(reason) => reason,
            DetachReason::Silence => CloseReason::Silence,
            DetachReason::Transport(error @ (TransportError::Protocol(_) | TransportError::Decode(_))) => {
                CloseReason::Protocol(error.to_string())
            }
            _ => return None,
        };
        Some((link.transport, told))
    }
}

/// A message on its way: its id is known at both ends, and the version of its object from the cluster on.
fn tell_sent(node: &NodeId, message: &Message, is_difference: bool) {
    let (route, header) = (&message.route, &message.header);
    if let Some(answers) = &header.parent_id {
        tracing::debug!(target: WAY, %node, id = %answers, operation = route.operation.as_str(), "answered");
        return;
    }
    let version = header.resource_version.as_ref().map(tracing::field::display);
    tracing::debug!(target: WAY, %node, id = %header.id, operation = route.operation.as_str(), resource = %route.resource, version, difference = is_difference, "sent");
}

/// Tells the peer why, if it still listens, and cuts the connection.
pub(super) async fn say_goodbye(mut transport: Box<dyn Transport>, reason: CloseReason) {
    let _ = tokio::time::timeout(GOODBYE, async {
        let _ = transport.send(Outbound::Close(reason)).await;
        let _ = transport.close().await;
    })
    .await;
}

/// How long a peer may take to hear why its connection ends.
const GOODBYE: Duration = Duration::from_secs(2);
