//! Is the cloud there, and since when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hub_core::driver::{DetachReason, Notice, Observer};
use hub_core::message::{Content, Message};
use hub_core::store::ObjectStore;
use hub_core::transport::{Capabilities, CloseReason};
use tokio::sync::{Notify, watch};

use crate::apply;
use crate::metrics::Metrics;
use crate::{object_response, replay};

/// The state of the link to the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The cloud is there.
    Up {
        /// Since when.
        since: Instant,
        /// What both ends can do; nothing, with a stock cloud.
        capabilities: Capabilities,
        /// `websocket`, `quic` or `memory`.
        transport: &'static str,
        /// Where the cloud is, where it has an address.
        address: Option<SocketAddr>,
    },
    /// The cloud is not there.
    Down {
        /// Since when.
        since: Instant,
        /// Why, for people.
        reason: Arc<str>,
    },
}

impl Link {
    /// Whether the cloud is there.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// What happened to the connections so far. A connection is known by its number, so that the end of an old one is never
/// taken for the end of a new one (weak spot C4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Connections {
    /// How many were attached.
    pub(crate) attached: u64,
    /// What the newest and its peer can do, while it lives.
    pub(crate) current: Option<Capabilities>,
    /// Whether the cloud ended the last one because it stops: another instance may be there.
    pub(crate) sent_away: bool,
}

/// Where the driver's notices are pinned up for everybody else.
pub(crate) struct Board {
    store: Arc<dyn ObjectStore>,
    link: watch::Sender<Link>,
    /// The same for those who only ask whether.
    up: watch::Sender<bool>,
    connections: watch::Sender<Connections>,
    /// Since when the cluster behind the cloud is silent, as the cloud says.
    source: watch::Sender<Option<Instant>>,
    /// A new connection is being made while the old one lives: its end is no end of the link.
    replacing: AtomicBool,
    delivered: Mutex<Vec<(Arc<str>, u64)>>,
    pub(crate) delivery: Notify,
    /// The newest connection on which the cloud said anything.
    heard: AtomicU64,
    /// A call got no answer in time.
    pub(crate) unanswered: Notify,
    pub(crate) metrics: Metrics,
}

impl Board {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, metrics: Metrics) -> Self {
        let link = Link::Down {
            since: Instant::now(),
            reason: "not connected yet".into(),
        };
        Self {
            store,
            link: watch::channel(link).0,
            up: watch::channel(false).0,
            connections: watch::channel(Connections::default()).0,
            source: watch::channel(None).0,
            replacing: AtomicBool::new(false),
            delivered: Mutex::default(),
            delivery: Notify::new(),
            heard: AtomicU64::new(0),
            unanswered: Notify::new(),
            metrics,
        }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(crate) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(crate) fn source(&self) -> watch::Receiver<Option<Instant>> {
        self.source.subscribe()
    }

    /// The cloud says since when its cluster is silent, or that it is there.
    pub(crate) fn source_is(&self, silent: Option<Instant>) {
        if silent.is_some() != self.source.borrow().is_some() {
            match silent {
                Some(_) => tracing::warn!(
                    "the cluster behind the cloud is silent; the node goes on with what it holds"
                ),
                None => tracing::info!("the cluster behind the cloud is there again"),
            }
        }
        self.source.send_replace(silent);
    }

    pub(crate) fn connections(&self) -> watch::Receiver<Connections> {
        self.connections.subscribe()
    }

    /// Resolves once the connection with this number, or a newer one, is attached.
    pub(crate) async fn attached(&self, number: u64) -> Connections {
        let mut connections = self.connections();
        wait(&mut connections, |c| c.attached >= number && c.current.is_some()).await
    }

    /// Resolves once the connection with this number is gone, by itself or for a newer one.
    pub(crate) async fn gone(&self, number: u64) {
        let mut connections = self.connections();
        wait(&mut connections, |c| {
            c.attached > number || (c.attached == number && c.current.is_none())
        })
        .await;
    }

    /// From now on the end of the connection is no end of the link, until [`replaced`](Self::replaced).
    pub(crate) fn replacing(&self) {
        self.replacing.store(true, Ordering::SeqCst);
    }

    /// The new connection is there, or will not come.
    pub(crate) fn replaced(&self) {
        self.replacing.store(false, Ordering::SeqCst);
        if self.connections.borrow().current.is_none() {
            self.down("the new connection did not come, and the old one ended meanwhile");
        }
    }

    /// Why the link is down; for somebody who knows better than the driver.
    pub(crate) fn down(&self, reason: &str) {
        self.metrics.up.set(0);
        self.up.send_replace(false);
        self.link.send_modify(|link| match link {
            Link::Down { reason: told, .. } => *told = reason.into(),
            up => {
                *up = Link::Down {
                    since: Instant::now(),
                    reason: reason.into(),
                }
            }
        });
    }

    /// The cloud said something on the connection of this moment.
    pub(crate) fn heard(&self) {
        self.heard
            .fetch_max(self.connections.borrow().attached, Ordering::Relaxed);
    }

    /// Whether the cloud said anything on the connection with this number, or on a newer one.
    pub(crate) fn was_heard(&self, number: u64) -> bool {
        self.heard.load(Ordering::Relaxed) >= number
    }

    /// The journal's keys, with their versions, that the cloud has settled since the last time.
    pub(crate) fn take_delivered(&self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut self.delivered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Board {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            // The journal and the calls have numbers of their own.
            Notice::Depth { .. } => {}
            Notice::Attached(peer) => {
                self.metrics.connections.inc();
                // Another cloud may have another way to the cluster. This one says so if it has none.
                self.source.send_replace(None);
                self.metrics.up.set(1);
                self.up.send_replace(true);
                self.connections.send_modify(|c| {
                    c.attached += 1;
                    c.current = Some(peer.capabilities);
                    c.sent_away = false;
                });
                tracing::info!(
                    transport = peer.transport,
                    address = peer.address.map(tracing::field::display),
                    capabilities = %peer.capabilities,
                    "connected to the cloud"
                );
                self.link.send_replace(Link::Up {
                    since: Instant::now(),
                    capabilities: peer.capabilities,
                    transport: peer.transport,
                    address: peer.address,
                });
            }
            Notice::Detached(reason) => {
                self.connections.send_modify(|c| {
                    c.current = None;
                    c.sent_away = matches!(reason, DetachReason::Closed(CloseReason::Shutdown));
                });
                if matches!(reason, DetachReason::Superseded) || self.replacing.load(Ordering::SeqCst) {
                    tracing::debug!(%reason, "the old connection is gone");
                    return;
                }
                match reason {
                    DetachReason::Stopped(_) => tracing::info!("disconnected from the cloud"),
                    DetachReason::Closed(CloseReason::Shutdown) => {
                        tracing::info!("this instance of the cloud stops; looking for another");
                    }
                    DetachReason::Closed(CloseReason::Superseded) => tracing::warn!(
                        "another connection of this node took over; if it is not this program's, two machines use one node name"
                    ),
                    _ => {
                        tracing::warn!(%reason, "the link to the cloud is down; the node goes on with what it holds")
                    }
                }
                self.down(&reason.to_string());
            }
            Notice::Delivered(key, version) => {
                if let Some(version) = version {
                    self.delivered
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((key, version));
                    self.delivery.notify_one();
                }
            }
            Notice::Expired(key) => tracing::debug!(%key, "a message was not delivered in time"),
            Notice::Refused(key, reason) => {
                tracing::warn!(%key, %reason, "the cloud refuses a report; it will be offered again");
            }
            Notice::Overflow(outgoing) => tracing::debug!(key = %outgoing.key, "the outbox is full"),
        }
    }

    fn answered(&self, key: &Arc<str>, answer: &Content) {
        let Some(key) = key.strip_prefix(replay::PREFIX) else {
            return;
        };
        if let Some(denied) = object_response::denial(answer) {
            self.metrics.journal_denied.inc();
            tracing::warn!(key, %denied, "the cloud denies a report for good; it is lost");
        }
    }

    fn held(&self, message: &Message) -> Option<Bytes> {
        apply::held(&*self.store, message)
    }
}

async fn wait(
    connections: &mut watch::Receiver<Connections>,
    until: impl FnMut(&Connections) -> bool,
) -> Connections {
    let found = connections.wait_for(until).await.map(|found| *found);
    match found {
        Ok(found) => found,
        // The board is gone, and its hub with it: nobody needs an answer.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;
    use hub_core::store::{MemoryStore, StoreLimits};
    use hub_core::transport::{Peer, TransportError};

    use super::*;

    fn board() -> Board {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        Board::new(Arc::new(store), Metrics::default())
    }

    fn attach(board: &Board) {
        let peer = Peer {
            version: None,
            address: None,
            common_name: None,
            fingerprint: None,
            capabilities: Capabilities::ALL,
            transport: "memory",
        };
        board.notice(Notice::Attached(&peer));
    }

    fn end(board: &Board) {
        board.notice(Notice::Detached(&DetachReason::Closed(CloseReason::Superseded)));
    }

    #[test]
    fn the_end_of_the_old_connection_is_no_end_of_the_link_while_the_new_one_is_made() {
        let board = board();
        attach(&board);
        board.replacing();
        end(&board);
        assert!(board.link().borrow().is_up());
        attach(&board);
        board.replaced();
        assert!(board.link().borrow().is_up() && *board.up().borrow());
        end(&board);
        assert!(!board.link().borrow().is_up() && !*board.up().borrow());
    }

    #[test]
    fn a_new_connection_that_does_not_come_leaves_the_link_as_the_old_one_is() {
        let board = board();
        attach(&board);
        board.replacing();
        board.replaced();
        assert!(board.link().borrow().is_up());
        board.replacing();
        end(&board);
        board.replaced();
        assert!(!board.link().borrow().is_up());
    }

    #[tokio::test]
    async fn a_connection_s_end_is_known_by_its_number() {
        let board = board();
        attach(&board);
        attach(&board);
        board.gone(1).await;
        assert!(futures::FutureExt::now_or_never(board.gone(2)).is_none());
        board.notice(Notice::Detached(&DetachReason::Transport(
            TransportError::Timeout("frame"),
        )));
        board.gone(2).await;
    }
}
