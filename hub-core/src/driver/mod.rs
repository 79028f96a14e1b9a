//! The one task that owns a session: it moves frames, runs handlers beside itself, and keeps the deadlines.
//!
//! The loop transmits what is due, waits for one of a finished handler, a command, a frame or a deadline, and applies it
//! without awaiting. Handlers run beside the loop and come back as an action, so a slow disk never delays a keepalive. While
//! handlers are at their limit a bounded number of messages waits for them, so that pings are answered and acknowledgements are
//! heard; when that is full too the socket is not read: that is the back-pressure.
//!
//! The session outlives its connections: [`SessionHandle::attach`] may hand in the next connection before the last one is gone.

mod handling;
mod link;
mod observer;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::handle::{Command, SessionHandle};
use crate::message::{Content, MessageId};
use crate::node::NodeId;
use crate::service::{Handler, Outcome, Reply};
use crate::session::{CallEnd, CallId, Condition, Depth, Event, Session, SessionConfig};
use crate::transport::{Capabilities, CloseReason, Inbound, Received, Transport, TransportError};

use handling::Handling;
use link::{Link, say_goodbye};
pub use observer::{DetachReason, Notice, Observer};

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
    observer: Arc<dyn Observer>,
    commands: mpsc::Receiver<Box<Command>>,
    link: Option<Link>,
    /// The number of the newest connection, where they are numbered.
    newest: u64,
    /// The last connection of a stopped session, and what its peer should hear.
    farewell: Option<(Box<dyn Transport>, CloseReason)>,
    handling: Handling,
    calls: HashMap<CallId, oneshot::Sender<CallEnd>>,
    /// What the observer knows: queued, in flight, resent.
    told: (u32, u32, u32),
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
            observer,
            commands,
            link: None,
            newest: 0,
            farewell: None,
            handling: Handling::new(handler),
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

    fn poll_action(&mut self, cx: &mut Context<'_>, sleep: Option<Pin<&mut Sleep>>) -> Poll<Action> {
        if let Poll::Ready((id, outcome)) = self.handling.poll(cx) {
            return Poll::Ready(Action::Handled(id, outcome));
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            // Without a handle nobody can attach again; with a connection the peer still can speak.
            if command.is_some() || self.link.is_none() {
                return Poll::Ready(Action::Command(command));
            }
        }
        let reads = self.handling.has_room(&self.config.session);
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
                let peer = self.peer_capabilities();
                self.handling.next(&self.node, peer);
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
                Event::Inbound(message) => {
                    let peer = self.peer_capabilities();
                    self.handling
                        .take(message, &self.config.session, &self.node, peer);
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

    fn peer_capabilities(&self) -> Capabilities {
        let link = self.link.as_ref();
        link.map_or(Capabilities::NONE, |link| link.capabilities)
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

/// The target of what is told of each message on its way: `RUST_LOG=info,way=debug`.
const WAY: &str = "way";
