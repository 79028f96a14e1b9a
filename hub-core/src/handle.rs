//! What everybody but the driver holds of a session: a cheap handle.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tower::Service;

use crate::message::Message;
use crate::session::{CallEnd, Condition, Depth, Full, Lane, Outgoing};
use crate::transport::{CloseReason, Transport};

/// Speaks to one session. Cloning is cheap; the driver ends when the last handle is gone and nothing is attached.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    commands: mpsc::Sender<Box<Command>>,
}

/// What a handle asks of the driver. Boxed in the channel, so that an idle session does not pay for the largest command.
pub(crate) enum Command {
    Attach(Box<dyn Transport>, Option<u64>),
    Batch(Batch, oneshot::Sender<Vec<Outgoing>>),
    Inspect(oneshot::Sender<Condition>),
    Send(Box<Outgoing>, Option<oneshot::Sender<Result<(), Full>>>),
    Call(Message, Lane, Duration, oneshot::Sender<CallEnd>),
    Cancel(Arc<str>),
    AssumeHeld(Arc<str>, Option<u64>, Bytes),
    HangUp(CloseReason),
    Stop(CloseReason),
}

/// Several things for a session to do in one go, in this order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keys to take back and to forget: see [`Session::cancel`](crate::session::Session::cancel).
    pub cancel: Vec<Arc<str>>,
    /// What the peer is known to hold.
    pub held: Vec<(Arc<str>, Option<u64>, Bytes)>,
    /// What to queue.
    pub send: Vec<Outgoing>,
}

/// The message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Here it is back: slow down and try again.
    #[error(transparent)]
    Full(#[from] Full),
    /// The session is over.
    #[error("the session is over")]
    Over,
}

/// A call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There was no link, or no room for another call; nothing was sent.
    #[error("not sent: there is no link, or too many calls are waiting")]
    NotSent,
    /// No answer in time. What was asked may have happened.
    #[error("no answer in time")]
    TimedOut,
    /// The session is over.
    #[error("the session is over")]
    Over,
}

impl SessionHandle {
    /// A handle and the driver's end of it; `commands_max` commands may wait.
    pub(crate) fn new(commands_max: usize) -> (Self, mpsc::Receiver<Box<Command>>) {
        let (commands, receiver) = mpsc::channel(commands_max);
        (Self { commands }, receiver)
    }

    /// Hands a fresh connection to the session; an older one is closed as superseded, without a gap.
    pub async fn attach(&self, transport: Box<dyn Transport>) -> Result<(), SendError> {
        self.command(Command::Attach(transport, None)).await
    }

    /// The same where several tasks may hand in connections at once: one with a lower number than the session has seen
    /// comes too late, and is closed as superseded itself.
    pub async fn attach_numbered(&self, transport: Box<dyn Transport>, number: u64) -> Result<(), SendError> {
        self.command(Command::Attach(transport, Some(number))).await
    }

    /// Does all of a batch, and gives back, in their order, the messages that the outbox had no room for.
    pub async fn batch(&self, batch: Batch) -> Result<Vec<Outgoing>, SendError> {
        let (answer, left) = oneshot::channel();
        self.command(Command::Batch(batch, answer)).await?;
        left.await.map_err(|_| SendError::Over)
    }

    /// What the session holds at the moment. None when it is over.
    pub async fn depth(&self) -> Option<Depth> {
        Some(self.condition().await?.depth)
    }

    /// How the session is doing at the moment. None when it is over.
    pub async fn condition(&self) -> Option<Condition> {
        let (answer, condition) = oneshot::channel();
        self.command(Command::Inspect(answer)).await.ok()?;
        condition.await.ok()
    }

    async fn command(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .send(Box::new(command))
            .await
            .map_err(|_| SendError::Over)
    }

    /// Queues a message and waits until the outbox has taken it, or gives it back.
    pub async fn send(&self, outgoing: Outgoing) -> Result<(), SendError> {
        let (answer, taken) = oneshot::channel();
        let command = Box::new(Command::Send(Box::new(outgoing), Some(answer)));
        self.commands.send(command).await.map_err(|_| SendError::Over)?;
        Ok(taken.await.map_err(|_| SendError::Over)??)
    }

    /// Queues a message without waiting. When the outbox turns out to be full, the observer is told and gets the message.
    pub fn push(&self, outgoing: Outgoing) -> Result<(), SendError> {
        match self
            .commands
            .try_send(Box::new(Command::Send(Box::new(outgoing), None)))
        {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::Over),
            Err(mpsc::error::TrySendError::Full(command)) => match *command {
                Command::Send(outgoing, _) => Err(SendError::Full(Full(outgoing))),
                _ => Err(SendError::Over),
            },
        }
    }

    /// Asks, and waits for the answer, which may be an `error` message.
    pub async fn call(&self, message: Message, lane: Lane, within: Duration) -> Result<Message, CallError> {
        let (answer, end) = oneshot::channel();
        let command = Box::new(Command::Call(message, lane, within, answer));
        self.commands.send(command).await.map_err(|_| CallError::Over)?;
        match end.await {
            Ok(CallEnd::Answered(message)) => Ok(message),
            Ok(CallEnd::TimedOut) => Err(CallError::TimedOut),
            Ok(CallEnd::NotSent) => Err(CallError::NotSent),
            Err(_) => Err(CallError::Over),
        }
    }

    /// Takes back what waits under a key.
    pub async fn cancel(&self, key: Arc<str>) {
        let _ = self.commands.send(Box::new(Command::Cancel(key))).await;
    }

    /// The peer is known to hold this content; the next version may travel as a difference.
    pub async fn assume_held(&self, key: Arc<str>, version: Option<u64>, content: Bytes) {
        let _ = self
            .commands
            .send(Box::new(Command::AssumeHeld(key, version, content)))
            .await;
    }

    /// Ends the connection of this moment, if there is one; the session goes on and waits for the next.
    pub async fn hang_up(&self, reason: CloseReason) {
        let _ = self.commands.send(Box::new(Command::HangUp(reason))).await;
    }

    /// Ends the session: the peer is told why, the driver returns.
    pub async fn stop(&self, reason: CloseReason) {
        let _ = self.commands.send(Box::new(Command::Stop(reason))).await;
    }

    /// Whether the driver is gone.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Whether both are handles of one session.
    pub fn is_same(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }
}

/// A call as a service, for tower layers: a plain request with a time to wait.
impl Service<(Message, Lane, Duration)> for SessionHandle {
    type Response = Message;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Message, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(if self.is_over() {
            Err(CallError::Over)
        } else {
            Ok(())
        })
    }

    fn call(&mut self, (message, lane, within): (Message, Lane, Duration)) -> Self::Future {
        let handle = self.clone();
        Box::pin(async move { SessionHandle::call(&handle, message, lane, within).await })
    }
}
