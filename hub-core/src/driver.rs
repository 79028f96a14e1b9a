//! The one task that owns a session: it moves frames, runs handlers beside itself, and keeps the deadlines.
//!
//! The loop transmits what is due, waits for one of a finished handler, a command, a frame or a deadline, and applies it
//! without awaiting. Handlers run beside the loop and come back as an action, so a slow disk never delays a keepalive. While
//! handlers are at their limit a bounded number of messages waits for them, so that pings are answered and acknowledgements are
//! heard; when that is full too the socket is not read: that is the back-pressure.
//!
//! The session outlives its connections: [`SessionHandle::attach`] may hand in the next connection before the last one is gone.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Sink, SinkExt, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tower::ServiceExt;
use tracing::Instrument;

use crate::clock::{Clock, SystemClock};
use crate::handle::{Command, SessionHandle};
use crate::message::{Content, Message, MessageId, Operation};
use crate::node::NodeId;
use crate::object::ResourceVersion;
use crate::service::{Handler, Outcome, Reply, Request};
use crate::session::{CallEnd, CallId, Condition, Depth, Event, Lane, Outgoing, Session, SessionConfig};
use crate::transport::{
    Capabilities, CloseReason, Inbound, Outbound, Peer, Received, Transport, TransportError,
};

/// What the owner of a session learns from its driver. Called from the driver's task: must return at once.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn notice(&self, notice: Notice<'_>);

    /// The peer acknowledged a message under this key; [`Notice::Delivered`] follows. For those who keep account of what each
    /// peer holds: `version` is that of the object in the message.
    fn acknowledged(&self, key: &Arc<str>, operation: &Operation, version: Option<&ResourceVersion>) {
        let _ = (key, operation, version);
    }

    /// The peer acknowledged a message under this key, and this is what it said; [`Notice::Delivered`] follows.
    fn answered(&self, key: &Arc<str>, answer: &Content) {
        let _ = (key, answer);
    }

    /// The peer acknowledged a message of this lane, which it had lacked for this long; [`Notice::Delivered`] follows.
    fn took(&self, lane: Lane, took: Duration) {
        let _ = (lane, took);
    }

    /// The content that this end holds of the object a message is about, exactly as the peer sent it, so that a difference
    /// can be applied.
    fn held(&self, message: &Message) -> Option<Bytes> {
        let _ = message;
        None
    }
}

/// What happened in a session.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A connection is attached.
    Attached(&'a Peer),
    /// The connection is gone.
    Detached(&'a DetachReason),
    /// The peer settled this key at this version.
    Delivered(Arc<str>, Option<u64>),
    /// A message was given up: its time was over.
    Expired(Arc<str>),
    /// The peer refuses a message; it will be tried again.
    Refused(Arc<str>, String),
    /// What waits and what is unacknowledged changed by this much. All changes of a session sum up to nothing at its end.
    Depth {
        /// Messages waiting to be sent.
        queued: i64,
        /// Messages sent and not yet acknowledged.
        in_flight: i64,
        /// Sends again of what was not acknowledged in time.
        resent: u32,
    },
    /// The outbox is full: here is a message that was [pushed](SessionHandle::push).
    Overflow(Box<Outgoing>),
}

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum DetachReason {
    /// The link failed, or the peer broke the protocol.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer closed it.
    #[error("closed by the peer: {0:?}")]
    Closed(CloseReason),
    /// Nothing was heard for too long.
    #[error("nothing heard for too long")]
    Silence,
    /// The peer does not take what we send.
    #[error("the peer takes nothing any more")]
    WriteDeadline,
    /// A newer connection took over.
    #[error("a newer connection took over")]
    Superseded,
    /// This end ended it.
    #[error("stopped: {0:?}")]
    Stopped(CloseReason),
}

/// The limits of a driver, beside those of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverConfig {
    /// The session's limits.
    pub session: Arc<SessionConfig>,
    /// How long the peer may take nothing while we have something to send (KubeEdge `writeDeadline`).
    pub write_deadline: Duration,
    /// Commands that may wait for the driver.
    pub commands_max: usize,
}

impl DriverConfig {
    /// With KubeEdge's write deadline of 15 s.
    pub fn new(session: SessionConfig) -> Self {
        Self {
            session: session.into(),
            write_deadline: Duration::from_secs(15),
            commands_max: 128,
        }
    }
}

/// Owns one session. [`run`](Driver::run) it in a task.
pub struct Driver {
    node: NodeId,
    session: Session,
    config: Arc<DriverConfig>,
    handler: Arc<Handler>,
    observer: Arc<dyn Observer>,
    commands: mpsc::Receiver<Box<Command>>,
    link: Option<Link>,
    /// The number of the newest connection, where they are numbered.
    newest: u64,
    /// The last connection of a stopped session, and what its peer should hear.
    farewell: Option<(Box<dyn Transport>, CloseReason)>,
    handling: FuturesUnordered<BoxFuture<'static, (MessageId, Outcome)>>,
    /// Messages that wait for a handler, and their size.
    unhandled: VecDeque<Message>,
    unhandled_bytes: usize,
    calls: HashMap<CallId, oneshot::Sender<CallEnd>>,
    /// What the observer knows: queued, in flight, resent.
    told: (u32, u32, u32),
}

/// The attached connection.
struct Link {
    transport: Box<dyn Transport>,
    capabilities: Capabilities,
    /// A frame that the transport had no room for yet. Boxed: most links have none.
    waiting: Option<Box<Outbound>>,
    /// Whether fed frames wait for a flush.
    dirty: bool,
    /// Since when the peer takes nothing, and how many bytes had been sent then.
    stuck: Option<(Instant, u64)>,
}

enum Action {
    Command(Option<Box<Command>>),
    Handled(MessageId, Outcome),
    Inbound(Option<Result<Inbound, TransportError>>),
    Writable,
    WriteFailed(TransportError),
    Deadline,
}

impl Driver {
    /// A driver without a connection, and the handle to it. `seed` should be random and its own.
    pub fn new(
        node: NodeId,
        config: Arc<DriverConfig>,
        handler: Arc<Handler>,
        observer: Arc<dyn Observer>,
        seed: u64,
    ) -> (Self, SessionHandle) {
        let (handle, commands) = SessionHandle::new(config.commands_max);
        let driver = Self {
            node,
            session: Session::new(config.session.clone(), seed),
            config,
            handler,
            observer,
            commands,
            link: None,
            newest: 0,
            farewell: None,
            handling: FuturesUnordered::new(),
            unhandled: VecDeque::new(),
            unhandled_bytes: 0,
            calls: HashMap::new(),
            told: (0, 0, 0),
        };
        (driver, handle)
    }

    /// Runs until the session is stopped or, without a connection, its last handle is gone.
    #[expect(
        clippy::manual_async_fn,
        reason = "its future would hold the driver twice, as argument and as local"
    )]
    pub fn run(mut self) -> impl Future<Output = ()> + Send {
        async move { self.drive().await }
    }

    async fn drive(&mut self) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.transmit(now);
            self.deliver_events(now);
            let depth = self.session.depth();
            self.tell_depth(depth);
            // A deadline that moved away is met early and set anew then: cheaper than setting the timer for every frame.
            if let Some(deadline) = self.next_deadline()
                && armed.is_none_or(|armed| deadline < armed)
            {
                sleep.as_mut().reset(deadline.into());
                armed = Some(deadline);
            }
            let action = std::future::poll_fn(|cx| self.poll_action(cx, armed.map(|_| sleep.as_mut()))).await;
            if matches!(action, Action::Deadline) {
                armed = None;
            }
            if self.apply(action).is_break() {
                self.tell_depth(Depth::default());
                if let Some((transport, told)) = self.farewell.take() {
                    // Boxed: it happens once, at the end.
                    Box::pin(say_goodbye(transport, told)).await;
                }
                return;
            }
        }
    }

    fn tell_depth(&mut self, depth: Depth) {
        let now = (depth.queued as u32, depth.in_flight as u32, self.session.resent());
        if now != self.told {
            let change = |now: u32, told: u32| i64::from(now) - i64::from(told);
            let (queued, in_flight) = (change(now.0, self.told.0), change(now.1, self.told.1));
            let resent = now.2.wrapping_sub(self.told.2);
            self.told = now;
            self.observer.notice(Notice::Depth {
                queued,
                in_flight,
                resent,
            });
        }
    }

    /// Feeds the transport with what is due, as far as it has room.
    fn transmit(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        let mut cx = Context::from_waker(std::task::Waker::noop());
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
    fn read_rest(&mut self, now: Instant) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..self.config.session.handling_max {
            let Some(link) = &mut self.link else { return };
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut link.transport).poll_next(&mut cx) else {
                return;
            };
            self.inbound(frame, now);
        }
    }

    fn poll_action(&mut self, cx: &mut Context<'_>, sleep: Option<Pin<&mut Sleep>>) -> Poll<Action> {
        if let Poll::Ready(Some((id, outcome))) = Pin::new(&mut self.handling).poll_next(cx) {
            return Poll::Ready(Action::Handled(id, outcome));
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            // Without a handle nobody can attach again; with a connection the peer still can speak.
            if command.is_some() || self.link.is_none() {
                return Poll::Ready(Action::Command(command));
            }
        }
        let reads = self.has_room();
        if let Some(link) = &mut self.link {
            if let Poll::Ready(action) = link.poll_write(cx) {
                return Poll::Ready(action);
            }
            if reads && let Poll::Ready(frame) = Pin::new(&mut link.transport).poll_next(cx) {
                return Poll::Ready(Action::Inbound(frame));
            }
        }
        match sleep {
            Some(sleep) => sleep.poll(cx).map(|()| Action::Deadline),
            None => Poll::Pending,
        }
    }

    fn apply(&mut self, action: Action) -> std::ops::ControlFlow<()> {
        let now = Instant::now();
        match action {
            Action::Command(Some(command)) => return self.command(*command, now),
            Action::Command(None) => return std::ops::ControlFlow::Break(()),
            Action::Handled(id, outcome) => {
                match outcome {
                    Outcome::Replied(Reply::Done) => self.session.ack(&id, now),
                    Outcome::Replied(Reply::Answer(answer, lane)) => {
                        self.session.reply(&id, answer, lane, now);
                    }
                    Outcome::Failed(reason) => self.session.nack(&id, &reason, now),
                }
                if let Some(message) = self.unhandled.pop_front() {
                    self.unhandled_bytes -= message.content.bytes().len();
                    if self.unhandled.is_empty() {
                        self.unhandled = VecDeque::new();
                    }
                    self.handle(message);
                }
            }
            Action::Inbound(Some(Ok(frame))) => self.inbound(frame, now),
            Action::Inbound(Some(Err(error))) => self.detach(error.into(), now),
            Action::Inbound(None) => {
                self.detach(
                    DetachReason::Closed(CloseReason::Other("end of stream".into())),
                    now,
                );
            }
            Action::Writable => {
                if let Some(link) = &mut self.link {
                    link.stuck = None;
                }
            }
            Action::WriteFailed(error) => {
                self.read_rest(now);
                self.detach(error.into(), now);
            }
            Action::Deadline => {
                self.session.handle_timeout(now);
                let deadline = self.config.write_deadline;
                if self
                    .link
                    .as_mut()
                    .is_some_and(|link| link.is_stuck_for(deadline, now))
                {
                    self.detach(DetachReason::WriteDeadline, now);
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn command(&mut self, command: Command, now: Instant) -> std::ops::ControlFlow<()> {
        match command {
            Command::Attach(transport, Some(number)) if number < self.newest => {
                tokio::spawn(say_goodbye(transport, CloseReason::Superseded));
            }
            Command::Attach(transport, number) => {
                self.newest = number.unwrap_or(self.newest);
                self.attach(transport, now);
            }
            Command::Batch(batch, answer) => {
                for key in &batch.cancel {
                    self.session.cancel(key);
                }
                for (key, version, content) in &batch.held {
                    self.session.assume_held(key, *version, content);
                }
                let mut left = Vec::new();
                for outgoing in batch.send {
                    if let Err(full) = self.session.send(outgoing, now) {
                        left.push(*full.0);
                    }
                }
                let _ = answer.send(left);
            }
            Command::Inspect(answer) => drop(answer.send(self.condition(now))),
            Command::Send(outgoing, answer) => {
                let taken = self.session.send(*outgoing, now);
                match (answer, taken) {
                    (Some(answer), taken) => drop(answer.send(taken)),
                    (None, Err(full)) => self.observer.notice(Notice::Overflow(full.0)),
                    (None, Ok(())) => {}
                }
            }
            Command::Call(message, lane, within, answer) => {
                let id = self.session.call(message, lane, now + within, now);
                self.calls.insert(id, answer);
            }
            Command::Cancel(key) => self.session.cancel(&key),
            Command::AssumeHeld(key, version, content) => self.session.assume_held(&key, version, &content),
            Command::HangUp(reason) => self.detach(DetachReason::Stopped(reason), now),
            Command::Stop(reason) => {
                self.farewell = self.cut(DetachReason::Stopped(reason), now);
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn condition(&self, now: Instant) -> Condition {
        let stuck = self.link.as_ref().and_then(|link| link.stuck);
        Condition {
            stuck: stuck.map(|(since, _)| now.saturating_duration_since(since)),
            ..self.session.condition(now)
        }
    }

    fn attach(&mut self, transport: Box<dyn Transport>, now: Instant) {
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

    fn detach(&mut self, reason: DetachReason, now: Instant) {
        if let Some((transport, told)) = self.cut(reason, now) {
            tokio::spawn(say_goodbye(transport, told));
        }
    }

    /// Lets the connection go; it is returned where the peer should hear why.
    fn cut(&mut self, reason: DetachReason, now: Instant) -> Option<(Box<dyn Transport>, CloseReason)> {
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

    fn inbound(&mut self, frame: Inbound, now: Instant) {
        self.session.heard(now);
        match frame {
            Inbound::Alive => {}
            Inbound::Closed(reason) => self.detach(DetachReason::Closed(reason), now),
            Inbound::Message(Received::Whole(message)) => self.session.handle_message(message, now),
            Inbound::Message(Received::Patched(mut message, patch)) => {
                let content = self.observer.held(&message).ok_or(crate::codec::PatchError::Base);
                match content.and_then(|base| patch.apply(&base)) {
                    Ok(content) => {
                        message.content = Content::from_json(content);
                        self.session.handle_message(message, now);
                    }
                    // The sender gives the whole content when its difference is refused.
                    Err(error) => self.session.refuse(message, &error.to_string(), now),
                }
            }
        }
    }

    fn deliver_events(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Inbound(message) if self.handling.len() < self.config.session.handling_max => {
                    self.handle(message);
                }
                Event::Inbound(message) => {
                    self.unhandled_bytes += message.content.bytes().len();
                    self.unhandled.push_back(message);
                }
                Event::Delivered {
                    key,
                    version,
                    id,
                    answer,
                    operation,
                    resource_version,
                    lane,
                    took,
                } => {
                    tracing::debug!(target: WAY, node = %self.node, %id, %key, version = resource_version.as_ref().map(tracing::field::display), ?took, "acknowledged");
                    self.observer.took(lane, took);
                    self.observer.answered(&key, &answer);
                    self.observer
                        .acknowledged(&key, &operation, resource_version.as_ref());
                    self.observer.notice(Notice::Delivered(key, version));
                }
                Event::Expired { key } => self.observer.notice(Notice::Expired(key)),
                Event::Refused { key, reason } => self.observer.notice(Notice::Refused(key, reason)),
                Event::CallEnded(id, end) => {
                    if let Some(answer) = self.calls.remove(&id) {
                        let _ = answer.send(end);
                        if self.calls.is_empty() {
                            self.calls.shrink_to_fit();
                        }
                    }
                }
                Event::Silent => self.detach(DetachReason::Silence, now),
            }
        }
        // Events may have made frames due: acknowledgements of copies, answers to control messages.
        if self.link.as_ref().is_some_and(|link| link.waiting.is_none()) {
            self.transmit(now);
        }
    }

    /// Whether one more message can be handled, or wait for it.
    fn has_room(&self) -> bool {
        let session = &self.config.session;
        self.handling.len() < session.handling_max
            || (self.unhandled.len() < session.unhandled_max
                && self.unhandled_bytes < session.unhandled_bytes_max)
    }

    fn handle(&mut self, message: Message) {
        debug_assert!(
            message.route.operation != Operation::Keepalive,
            "the session keeps these"
        );
        let id = message.header.id.clone();
        let capabilities = self
            .link
            .as_ref()
            .map_or(Capabilities::NONE, |link| link.capabilities);
        let version = message.header.resource_version.as_ref();
        let span = tracing::debug_span!(target: WAY, "message", node = %self.node, %id, operation = message.route.operation.as_str(), resource = %message.route.resource, version = version.map(tracing::field::display));
        let request = Request {
            node: self.node.clone(),
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
        self.handling.push(Box::pin(tokio::task::coop::unconstrained(
            handled.instrument(span),
        )));
    }

    fn next_deadline(&self) -> Option<Instant> {
        let write = self
            .link
            .as_ref()
            .and_then(|link| link.stuck)
            .map(|(since, _)| since + self.config.write_deadline);
        [self.session.poll_timeout(), write].into_iter().flatten().min()
    }
}

impl Link {
    /// Whether the peer took not a byte for this long. One that is slow is not stuck: its time begins anew.
    fn is_stuck_for(&mut self, deadline: Duration, now: Instant) -> bool {
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
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
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
async fn say_goodbye(mut transport: Box<dyn Transport>, reason: CloseReason) {
    let _ = tokio::time::timeout(GOODBYE, async {
        let _ = transport.send(Outbound::Close(reason)).await;
        let _ = transport.close().await;
    })
    .await;
}

/// The target of what is told of each message on its way: `RUST_LOG=info,way=debug`.
const WAY: &str = "way";
/// How long a peer may take to hear why its connection ends.
const GOODBYE: Duration = Duration::from_secs(2);
