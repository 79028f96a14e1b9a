//! The journal goes to the cloud: leases and status first, one message a key, over as many connections as it takes.
//!
//! An entry leaves the journal only when the cloud has settled it and no newer one has taken its place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hub_core::handle::CallError;
use hub_core::message::{Message, Operation};
use hub_core::session::{Delivery, Outgoing};
use hub_core::store::{JournalEntry, JournalId};
use hub_core::transport::Capabilities;

use crate::handle::Shared;
use crate::link::Connections;

/// Runs for ever.
pub(crate) async fn run(shared: &Shared) {
    let mut connection = 0;
    loop {
        let Connections {
            attached, current, ..
        } = shared.board.attached(connection + 1).await;
        connection = attached;
        tokio::select! {
            () = shared.board.gone(attached) => {}
            () = replay(shared, current.unwrap_or_default()) => {}
        }
    }
}

/// Offers what the journal holds on one connection, until it is gone. What the session has taken it keeps beyond that.
async fn replay(shared: &Shared, capabilities: Capabilities) {
    let journal = &shared.journal;
    let mut changed = journal.changed();
    // What the session was given on this connection. On the next it is given again, and knows it.
    let mut offered = HashMap::new();
    let mut unanswered: FuturesUnordered<BoxFuture<'_, (JournalEntry, bool)>> = FuturesUnordered::new();
    loop {
        settle(shared, &mut offered).await;
        changed.mark_unchanged();
        let mut full = false;
        for entry in journal.first(shared.config.replay_window) {
            let key = &entry.draft.key;
            if offered.get(key) == Some(&entry.id) {
                continue;
            }
            let message = match entry.message() {
                Ok(message) => message,
                Err(error) => {
                    tracing::error!(%key, %error, "a report in the journal cannot be read and is given up");
                    remove(shared, entry.id).await;
                    continue;
                }
            };
            if is_answered(&message, capabilities) {
                if !offer(shared, &entry, message).await {
                    full = true;
                    break;
                }
            } else {
                let session = shared.session.clone();
                let lane = entry.draft.lane;
                let entry = entry.clone();
                // Nobody will answer: it is settled when it was sent, which is when the call was not refused.
                unanswered.push(Box::pin(async move {
                    let end = session.call(message, lane, UNANSWERED_WITHIN).await;
                    (entry, matches!(end, Ok(_) | Err(CallError::TimedOut)))
                }));
            }
            offered.insert(key.clone(), entry.id);
        }
        let depth = journal.depth();
        shared
            .board
            .metrics
            .journal_entries
            .set(i64::try_from(depth.entries).unwrap_or(i64::MAX));
        shared
            .board
            .metrics
            .journal_bytes
            .set(i64::try_from(depth.bytes).unwrap_or(i64::MAX));
        tokio::select! {
            _ = changed.changed() => {}
            () = shared.board.delivery.notified() => {}
            Some((entry, sent)) = unanswered.next() => {
                if sent {
                    delivered(shared, &mut offered, &entry.draft.key, entry.id).await;
                } else {
                    // There was no room for it. (Without a link this function ends.)
                    offered.remove(&entry.draft.key);
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
            () = tokio::time::sleep(FULL_PAUSE), if full => {}
        }
    }
}

/// Hands an entry to the session. False when it has no room.
async fn offer(shared: &Shared, entry: &JournalEntry, message: Message) -> bool {
    let outgoing = Outgoing {
        key: session_key(&entry.draft.key),
        version: Some(entry.id.0),
        lane: entry.draft.lane,
        delivery: Delivery::Acked,
        message,
        previous: None,
    };
    shared.session.send(outgoing).await.is_ok()
}

async fn settle(shared: &Shared, offered: &mut HashMap<Arc<str>, JournalId>) {
    for (key, version) in shared.board.take_delivered() {
        if let Some(key) = key.strip_prefix(PREFIX) {
            delivered(shared, offered, key, JournalId(version)).await;
        }
    }
}

async fn delivered(shared: &Shared, offered: &mut HashMap<Arc<str>, JournalId>, key: &str, id: JournalId) {
    if offered.get(key) == Some(&id) {
        offered.remove(key);
    }
    remove(shared, id).await;
    shared.board.metrics.journal_delivered.inc();
}

async fn remove(shared: &Shared, id: JournalId) {
    if let Err(error) = shared.journal.remove(id).await {
        // It is offered again after the next start; the cloud knows it by its id.
        tracing::warn!(%error, "a delivered report stays in the journal");
    }
}

/// Whether the cloud answers this message, so that it is known when it arrived. Ours acknowledges everything; a stock one says
/// nothing to events, to volumes that are attached or detached, and to what goes to its rule engine (tunnel specification §6.3,
/// weak spot L12).
fn is_answered(message: &Message, capabilities: Capabilities) -> bool {
    if capabilities.ack {
        return true;
    }
    let route = &message.route;
    let kind = route.resource.parts().map_or("", |parts| parts.kind);
    !(kind == "event"
        || kind == "volumeattachment" && route.operation != Operation::Query
        || route.operation == Operation::Upload
        || route.resource.as_str().starts_with("membership/"))
}

fn session_key(key: &str) -> Arc<str> {
    format!("{PREFIX}{key}").into()
}

/// Keeps the journal's keys apart from others in the session.
pub(crate) const PREFIX: &str = "journal/";
/// A message that nobody answers is sent within this time, or was not.
const UNANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// When to look again whether the session has room.
const FULL_PAUSE: Duration = Duration::from_secs(1);
