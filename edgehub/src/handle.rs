//! What everybody but the hub itself holds of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_core::api::Reach;
use hub_core::clock::Clock;
use hub_core::handle::{CallError, SessionHandle};
use hub_core::message::{Message, MessageId};
use hub_core::node::NodeId;
use hub_core::scope::HeldBack;
use hub_core::session::Lane;
use hub_core::store::{Draft, Journal, JournalId, ObjectStore, StoreError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::config::EdgeHubConfig;
use crate::doubt::Doubts;
use crate::error::ReportError;
use crate::link::{Board, Link};

/// Speaks to the cloud through an [`EdgeHub`](crate::EdgeHub). Cheap to clone.
///
/// It is a [`tower::Service`] of API requests, and so goes wherever an [`Upstream`](hub_core::api::Upstream) is wanted.
#[derive(Clone)]
pub struct EdgeHandle {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: EdgeHubConfig,
    pub(crate) board: Arc<Board>,
    pub(crate) session: SessionHandle,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    pub(crate) reconnect: Notify,
    pub(crate) doubts: Arc<Doubts>,
}

impl Shared {
    /// Asks the cloud, and tells the board whether it answers at all.
    pub(crate) async fn call(
        &self,
        message: Message,
        lane: Lane,
        within: Duration,
    ) -> Result<Message, CallError> {
        let answer = self.session.call(message, lane, within).await;
        match &answer {
            Ok(_) => self.board.heard(),
            Err(CallError::TimedOut) => self.board.unanswered.notify_one(),
            Err(_) => {}
        }
        answer
    }
}

/// Something that must reach the cloud, however long that takes.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it is about: a newer report with the same key takes the place of an older one that is still here.
    pub key: Arc<str>,
    /// How urgent it is.
    pub lane: Lane,
    /// The message.
    pub message: Message,
}

impl EdgeHandle {
    /// Who this node is.
    pub fn node(&self) -> &NodeId {
        &self.shared.config.node
    }

    /// Whether the cloud is there, and since when. Follows every change.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.board.link()
    }

    /// The session, for messages of an embedder's own.
    pub fn session(&self) -> &SessionHandle {
        &self.shared.session
    }

    /// Takes a report. Once this resolves it is on the disk and will reach the cloud, over outages and restarts.
    pub async fn report(&self, report: Report) -> Result<JournalId, ReportError> {
        let Report {
            key,
            lane,
            mut message,
        } = report;
        // A copy after a restart is then known by its id.
        if message.header.id == MessageId::NIL {
            message.header.id = MessageId::random();
        }
        let now = self.shared.clock.unix_ms();
        if message.header.timestamp_ms == 0 {
            message.header.timestamp_ms = now;
        }
        let draft = Draft::new(key, lane, &message, now)?;
        let entry = self.shared.journal.append(draft).await?;
        let route = &message.route;
        tracing::debug!(target: "way", node = %self.shared.config.node, id = %message.header.id, operation = route.operation.as_str(), resource = %route.resource, "in the journal");
        Ok(entry)
    }

    /// Makes a new connection beside the one that stands, and drops the old one for it: for those who brought their own dialers
    /// and have renewed what these show. The hub does so by itself with the certificates it got.
    pub fn reconnect(&self) {
        self.shared.reconnect.notify_one();
    }

    /// What the cloud seems to have lost, and this node keeps until that is confirmed. Follows every change.
    pub fn held_back(&self) -> watch::Receiver<Arc<[HeldBack]>> {
        self.shared.doubts.held_back()
    }

    /// Does the deletions that are held back in a scope, by its text, or in all scopes for the empty text. How many there were.
    pub async fn allow_deletions(&self, scope: &str) -> Result<usize, StoreError> {
        let changes = self.shared.doubts.allow(scope);
        let count = changes.len();
        self.shared.store.apply(changes).await?;
        if count > 0 {
            self.shared.doubts.look_again();
        }
        Ok(count)
    }

    /// Ends the hub in good order: the cloud is told, the journal keeps what it did not get.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }
}

impl std::fmt::Debug for EdgeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeHandle")
            .field("node", self.node())
            .field("link", &*self.link().borrow())
            .finish()
    }
}

/// What a metaServer follows to say how fresh its answers are.
impl Reach for EdgeHandle {
    fn connected(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.board.up())
    }

    fn held_back(&self) -> Option<watch::Receiver<Arc<[HeldBack]>>> {
        Some(self.shared.doubts.held_back())
    }

    fn silent_since(&self) -> Option<watch::Receiver<Option<Instant>>> {
        Some(self.shared.board.source())
    }
}
