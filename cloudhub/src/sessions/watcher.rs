//! What a session's driver tells, put into the table, the numbers and the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hub_core::driver::{DetachReason, Notice, Observer};
use hub_core::message::Operation;
use hub_core::node::NodeId;
use hub_core::object::ResourceVersion;
use hub_core::session::Lane;
use hub_core::transport::TransportError;

use super::{HubEvent, SessionId, Sessions, rand_seed};

/// Hears what one session's driver has to say.
pub(super) struct Watcher {
    node: NodeId,
    session: SessionId,
    sessions: Arc<Sessions>,
    /// Whether account is kept of what it acknowledges.
    is_stock: AtomicBool,
}

impl Watcher {
    pub(super) fn new(node: NodeId, session: SessionId, sessions: Arc<Sessions>) -> Self {
        Self {
            node,
            session,
            sessions,
            is_stock: AtomicBool::new(false),
        }
    }
}

impl Observer for Watcher {
    fn acknowledged(&self, key: &Arc<str>, operation: &Operation, version: Option<&ResourceVersion>) {
        if self.is_stock.load(Ordering::Relaxed) {
            let account = &self.sessions.account;
            account.acknowledged(&self.node, self.session, key, operation, version);
        }
    }

    fn took(&self, lane: Lane, took: Duration) {
        self.sessions.metrics.took(lane, took);
    }

    fn notice(&self, notice: Notice<'_>) {
        let (node, sessions) = (&self.node, &self.sessions);
        match notice {
            Notice::Attached(peer) => {
                self.is_stock.store(!peer.capabilities.resume, Ordering::Relaxed);
                let duplicate = {
                    let mut table = sessions.table();
                    if let Some(instance) = &sessions.config.instance {
                        let mark = format!("{instance}/{:x}", rand_seed());
                        table.mark(node, self.session, mark.into());
                    }
                    table.attached(node, self.session, peer)
                };
                if let Some(duplicate) = duplicate {
                    sessions.metrics.duplicates.inc();
                    if duplicate.first {
                        let [one, other] = duplicate.holders.map(|(address, print)| holder(address, print));
                        tracing::warn!(%node, one, other, "two living machines take turns under one node name; give each its own name and certificate");
                    }
                    let _ = sessions.events.send(HubEvent::Duplicate(node.clone()));
                }
                sessions.count();
                tracing::info!(%node, transport = peer.transport, address = ?peer.address, capabilities = %peer.capabilities, version = peer.version.as_deref(), "node connected");
                let _ = sessions.events.send(HubEvent::Connected(node.clone()));
            }
            Notice::Depth {
                queued,
                in_flight,
                resent,
            } => {
                sessions.metrics.resent.inc_by(resent.into());
                sessions.metrics.queued.inc_by(queued);
                sessions.metrics.in_flight.inc_by(in_flight);
            }
            // Its successor is announced next.
            Notice::Detached(DetachReason::Superseded) => sessions.metrics.detached("superseded"),
            Notice::Detached(reason) => {
                sessions.metrics.detached(match reason {
                    DetachReason::Transport(TransportError::Link(_)) => "link",
                    DetachReason::Transport(_) => "protocol",
                    DetachReason::Closed(_) => "closed",
                    DetachReason::Silence => "silence",
                    DetachReason::WriteDeadline => "write_deadline",
                    DetachReason::Superseded => "superseded",
                    DetachReason::Stopped(_) => "stopped",
                });
                if let DetachReason::Transport(
                    error @ (TransportError::Protocol(_) | TransportError::Decode(_)),
                ) = reason
                    && sessions.complaints.is_new(node.as_str(), "protocol")
                {
                    tracing::warn!(%node, %error, "connection closed: the node sends what no node may send");
                }
                tracing::info!(%node, %reason, "node disconnected");
                let mut table = sessions.table();
                table.trouble(node, self.session, &reason.to_string());
                drop(table);
                if sessions.table().detached(node, self.session, Instant::now()) {
                    sessions.count();
                    let _ = sessions.events.send(HubEvent::Disconnected(node.clone()));
                }
                if sessions.is_shared() && self.is_stock.load(Ordering::Relaxed) {
                    sessions.finish(node, self.session);
                }
            }
            Notice::Refused(key, reason) => {
                sessions.metrics.refused.inc();
                let mut table = sessions.table();
                table.trouble(node, self.session, &format!("refuses {key}: {reason}"));
                drop(table);
                if sessions.complaints.is_new(node.as_str(), "refused") {
                    tracing::warn!(%node, %key, reason, "the node refuses an object; it is tried again");
                }
            }
            Notice::Delivered(..) | Notice::Expired(_) | Notice::Overflow(_) => {}
        }
    }
}

fn holder(address: Option<SocketAddr>, fingerprint: Option<[u8; 32]>) -> String {
    let address = address.map_or_else(|| "unknown address".to_owned(), |address| address.to_string());
    let print = fingerprint.map(|bytes| {
        bytes[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    });
    format!("{address} (certificate {}…)", print.as_deref().unwrap_or("none"))
}
