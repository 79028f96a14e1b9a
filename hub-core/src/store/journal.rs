//! What must still reach the cloud.
//!
//! A [`Journal`] keeps messages over outages and restarts. There is one slot a key: a newer message takes the place of the older.
//! [`MemoryJournal`] keeps them in memory; EdgeHub's store keeps the same [`JournalTable`] with a disk behind it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::journal_table::JournalTable;
use crate::codec::{Codec, CodecLimits, DecodeError, EncodeError};
use crate::message::Message;
use crate::session::Lane;
use crate::transport::Capabilities;

/// Names an entry. Never given twice in the life of a journal's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(pub u64);

/// A message to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it is about. A newer entry with the same key replaces the older one.
    pub key: Arc<str>,
    /// Which lane it goes in.
    pub lane: Lane,
    /// The message, in KubeEdge's JSON: it must be readable after any update of the program.
    pub frame: Bytes,
    /// Unix time in milliseconds. For people, and for those who give up on old entries.
    pub created_ms: i64,
}

impl Draft {
    /// Encodes a message to be kept.
    pub fn new(
        key: impl Into<Arc<str>>,
        lane: Lane,
        message: &Message,
        created_ms: i64,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            key: key.into(),
            lane,
            frame: codec().encode(message, None)?,
            created_ms,
        })
    }
}

/// A message that is kept until [`Journal::remove`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its name. An entry that replaces another has a new one.
    pub id: JournalId,
    /// What is kept.
    pub draft: Draft,
}

impl JournalEntry {
    /// The message. Fails on entries that this program cannot read any more; give those up.
    pub fn message(&self) -> Result<Message, DecodeError> {
        match codec().decode(self.draft.frame.clone())? {
            crate::transport::Received::Whole(message) => Ok(message),
            _ => Err(DecodeError::Binary("a difference without its base")),
        }
    }
}

/// What a journal may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalLimits {
    /// Entries.
    pub entries_max: usize,
    /// Bytes of their messages and keys.
    pub bytes_max: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            bytes_max: 16 << 20,
        }
    }
}

/// What a journal holds, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalDepth {
    /// Entries.
    pub entries: usize,
    /// Bytes of their messages and keys.
    pub bytes: usize,
    /// Entries of the bulk lane that had to make room since the start.
    pub dropped: u64,
}

/// The message is not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// There is no room, and nothing of the bulk lane could make some. Here it is back; our move: slow down.
    #[error("the journal is full")]
    Full(Box<Draft>),
    /// The disk refused.
    #[error("the journal could not write: {0}")]
    Disk(String),
    /// The journal is shutting down.
    #[error("the journal is closed")]
    Closed,
}

/// Messages for the cloud, kept until it has them.
pub trait Journal: Send + Sync + 'static {
    /// Keeps a message; resolves once it is durable.
    fn append(&self, draft: Draft) -> BoxFuture<'static, Result<JournalId, JournalError>>;

    /// The first entries, urgent lanes first, then by age of their slots. They stay until removed.
    fn first(&self, max: usize) -> Vec<JournalEntry>;

    /// Forgets an entry that has been delivered; resolves once that is durable. False when it was replaced or dropped meanwhile.
    fn remove(&self, id: JournalId) -> BoxFuture<'static, Result<bool, JournalError>>;

    /// What it holds.
    fn depth(&self) -> JournalDepth;

    /// Changes whenever an entry comes or goes.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// A journal in memory, for tests and for nodes without a disk. Cheap to clone; all clones are the same journal.
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    table: Arc<RwLock<JournalTable>>,
    changed: watch::Sender<u64>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new(limits: JournalLimits) -> Self {
        Self::restore(JournalTable::new(limits))
    }

    /// A journal that goes on with what a table holds.
    pub fn restore(table: JournalTable) -> Self {
        Self {
            table: Arc::new(RwLock::new(table)),
            changed: watch::channel(0).0,
        }
    }

    /// [`append`](Journal::append) without a future.
    pub fn append_now(&self, draft: Draft) -> Result<JournalId, JournalError> {
        let appended = self.change(|table| table.append(draft));
        appended.map(|outcome| outcome.id).map_err(JournalError::Full)
    }

    /// [`remove`](Journal::remove) without a future.
    pub fn remove_now(&self, id: JournalId) -> bool {
        self.change(|table| table.remove(id))
    }

    /// A copy of what it holds; the messages are shared.
    pub fn table(&self) -> JournalTable {
        self.read().clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, JournalTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut JournalTable) -> T) -> T {
        let result = change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|generation| *generation += 1);
        result
    }
}

impl Journal for MemoryJournal {
    fn append(&self, draft: Draft) -> BoxFuture<'static, Result<JournalId, JournalError>> {
        futures::future::ready(self.append_now(draft)).boxed()
    }

    fn first(&self, max: usize) -> Vec<JournalEntry> {
        self.read().first(max)
    }

    fn remove(&self, id: JournalId) -> BoxFuture<'static, Result<bool, JournalError>> {
        futures::future::ready(Ok(self.remove_now(id))).boxed()
    }

    fn depth(&self) -> JournalDepth {
        self.read().depth()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn codec() -> Codec {
    Codec::new(Capabilities::NONE, CodecLimits::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Route};

    #[tokio::test]
    async fn a_message_comes_out_as_it_went_in() {
        let mut message = Message::new(
            Route::new("edged", "meta", "update".into(), "default/podstatus/web"),
            Content::from_json(Bytes::from_static(br#"{"phase":"Running"}"#)),
        );
        message.header.id = crate::message::MessageId::random();
        let journal = MemoryJournal::new(JournalLimits::default());
        let changed = journal.changed();
        let draft = Draft::new("podstatus/web", Lane::Own, &message, 1).unwrap();
        let id = journal.append(draft).await.unwrap();
        assert!(changed.has_changed().unwrap());
        let first = journal.first(9);
        assert_eq!((first.len(), first[0].id), (1, id));
        assert_eq!(first[0].message().unwrap(), message);
        assert!(journal.remove(id).await.unwrap());
        assert!(!journal.remove(id).await.unwrap());
        assert_eq!(journal.depth(), JournalDepth::default());
    }

    #[test]
    fn an_unreadable_entry_is_an_error_and_no_panic() {
        let draft = Draft {
            key: "k".into(),
            lane: Lane::Own,
            frame: Bytes::from_static(b"{"),
            created_ms: 0,
        };
        let entry = JournalEntry {
            id: JournalId(1),
            draft,
        };
        assert!(entry.message().is_err());
    }
}
