//! Messages in the hands of the handler, and those that wait for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tower::ServiceExt;
use tracing::Instrument;

use super::WAY;
use crate::message::{Message, MessageId, Operation};
use crate::node::NodeId;
use crate::service::{Handler, Outcome, Request};
use crate::session::SessionConfig;
use crate::transport::Capabilities;

pub(super) struct Handling {
    handler: Arc<Handler>,
    running: FuturesUnordered<BoxFuture<'static, (MessageId, Outcome)>>,
    /// What waits for a handler, and its size.
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
}

impl Handling {
    pub(super) fn new(handler: Arc<Handler>) -> Self {
        Self {
            handler,
            running: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Whether one more message can be handled, or wait for it.
    pub(super) fn has_room(&self, limits: &SessionConfig) -> bool {
        self.running.len() < limits.handling_max
            || (self.waiting.len() < limits.unhandled_max && self.waiting_bytes < limits.unhandled_bytes_max)
    }

    /// Handles a message, now or after others.
    pub(super) fn take(
        &mut self,
        message: Message,
        limits: &SessionConfig,
        node: &NodeId,
        peer: Capabilities,
    ) {
        if self.running.len() < limits.handling_max {
            return self.begin(message, node, peer);
        }
        self.waiting_bytes += message.content.bytes().len();
        self.waiting.push_back(message);
    }

    /// One is done: the next one that waits has its turn.
    pub(super) fn next(&mut self, node: &NodeId, peer: Capabilities) {
        if let Some(message) = self.waiting.pop_front() {
            self.waiting_bytes -= message.content.bytes().len();
            if self.waiting.is_empty() {
                self.waiting = VecDeque::new();
            }
            self.begin(message, node, peer);
        }
    }

    /// Ready when a message is handled.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(MessageId, Outcome)> {
        match Pin::new(&mut self.running).poll_next(cx) {
            Poll::Ready(Some(handled)) => Poll::Ready(handled),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn begin(&mut self, message: Message, node: &NodeId, capabilities: Capabilities) {
        debug_assert!(
            message.route.operation != Operation::Keepalive,
            "the session keeps these"
        );
        let id = message.header.id.clone();
        let version = message.header.resource_version.as_ref();
        let span = tracing::debug_span!(target: WAY, "message", node = %node, %id, operation = message.route.operation.as_str(), resource = %message.route.resource, version = version.map(tracing::field::display));
        let request = Request {
            node: node.clone(),
            capabilities,
            message,
        };
        let handler = Handler::clone(&self.handler);
        let handled = async move {
            let outcome = match handler.oneshot(request).await {
                Ok(outcome) => outcome,
                Err(never) => match never {},
            };
            (id, outcome)
        };
        // Handlers begin in the order of arrival. One whose first step tokio's budget puts off would begin after its successors.
        self.running.push(Box::pin(tokio::task::coop::unconstrained(
            handled.instrument(span),
        )));
    }
}
