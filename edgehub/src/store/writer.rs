//! The one thread that writes: it takes what is waiting, makes it durable in one transaction, shows it, and answers.

use hub_core::node::NodeId;
use hub_core::object::Revision;
use hub_core::store::{
    Change, Draft, Journal, JournalEntry, JournalError, JournalId, JournalTable, MemoryJournal, MemoryStore,
    ObjectStore, StoreError,
};
use tokio::sync::{mpsc, oneshot};

use super::database::{Database, JournalWrite};
use super::identity::{Identity, IdentityError};
use super::trouble::Trouble;

/// What the store's handles ask for.
pub(super) enum Command {
    Apply {
        changes: Vec<Change>,
        reply: oneshot::Sender<Result<Revision, StoreError>>,
    },
    Append {
        draft: Draft,
        reply: oneshot::Sender<Result<JournalId, JournalError>>,
    },
    Remove {
        id: JournalId,
        reply: oneshot::Sender<Result<bool, JournalError>>,
    },
    Bind {
        node: NodeId,
        reply: oneshot::Sender<Result<(), IdentityError>>,
    },
    /// Finds out whether changes could be written, though there are none.
    Probe,
}

/// Who waits for the transaction, and for what.
enum Waiting {
    Apply(oneshot::Sender<Result<Revision, StoreError>>, Revision),
    Append(oneshot::Sender<Result<JournalId, JournalError>>, JournalId),
    Remove(oneshot::Sender<Result<bool, JournalError>>, bool),
    Bind(oneshot::Sender<Result<(), IdentityError>>),
}

pub(super) struct Writer {
    database: Database,
    objects: MemoryStore,
    journal: MemoryJournal,
    /// The journal as it will be when the transaction is done.
    table: JournalTable,
    trouble: Trouble,
    group_max: usize,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        objects: MemoryStore,
        journal: MemoryJournal,
        trouble: Trouble,
        group_max: usize,
    ) -> Self {
        Self {
            table: journal.table(),
            database,
            objects,
            journal,
            trouble,
            group_max: group_max.max(1),
        }
    }

    /// Runs until nobody can ask any more, then closes the file.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        // No pause to gather more: what comes while the disk is busy makes the next group.
        while queue.blocking_recv_many(&mut group, self.group_max) > 0 {
            self.write(group.drain(..));
        }
        self.database.close(self.objects.revision());
    }

    fn write(&mut self, group: impl Iterator<Item = Command>) {
        let mut staged = self.objects.stage();
        let mut identity = self.database.identity.clone();
        let mut journal = Vec::new();
        let mut waiting = Vec::new();
        let mut probe = false;
        for command in group {
            // Whoever does not wait for an answer any more does no harm by its absence.
            match command {
                Command::Apply { changes, reply } => match staged.change(changes) {
                    Ok(revision) => waiting.push(Waiting::Apply(reply, revision)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Append { draft, reply } => match append(&mut self.table, draft) {
                    Ok(write @ JournalWrite::Append(JournalEntry { id, .. }, _)) => {
                        waiting.push(Waiting::Append(reply, id));
                        journal.push(write);
                    }
                    Ok(JournalWrite::Remove(_)) => {}
                    Err(draft) => drop(reply.send(Err(JournalError::Full(draft)))),
                },
                Command::Remove { id, reply } => {
                    let there = self.table.remove(id);
                    waiting.push(Waiting::Remove(reply, there));
                    journal.extend(there.then_some(JournalWrite::Remove(id)));
                }
                Command::Probe => probe = true,
                Command::Bind { node, reply } => match bind(&mut identity, node) {
                    Ok(()) => waiting.push(Waiting::Bind(reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
            }
        }
        let idle = staged.writes().is_empty() && journal.is_empty();
        let idle = idle && identity.node == self.database.identity.node;
        let written = match idle {
            true if probe => self.database.probe(),
            true => Ok(()),
            false => self
                .database
                .write(staged.writes(), staged.revision(), &journal, identity),
        };
        match written {
            Ok(()) => {
                if (probe || !idle) && self.trouble.set(None) {
                    tracing::info!("the store can write again");
                }
                staged.commit();
                self.show(journal);
                waiting.into_iter().for_each(Waiting::done);
            }
            Err(error) => {
                if self.trouble.set(Some(error.to_string())) {
                    tracing::error!(%error, "the store could not write; changes are refused until it can, reads go on");
                } else {
                    tracing::debug!(%error, "the store still cannot write");
                }
                drop(staged);
                self.table = self.journal.table();
                waiting
                    .into_iter()
                    .for_each(|waiting| waiting.failed(&error.to_string()));
            }
        }
    }

    /// Makes the readers' journal what ours is already: the same steps from the same state.
    fn show(&self, journal: Vec<JournalWrite>) {
        for write in journal {
            match write {
                JournalWrite::Append(entry, _) => {
                    let shown = self.journal.append_now(entry.draft);
                    debug_assert_eq!(shown.ok(), Some(entry.id));
                }
                JournalWrite::Remove(id) => {
                    self.journal.remove_now(id);
                }
            }
        }
        debug_assert_eq!(self.journal.depth(), self.table.depth());
    }
}

impl Waiting {
    fn done(self) {
        match self {
            Self::Apply(reply, revision) => drop(reply.send(Ok(revision))),
            Self::Append(reply, id) => drop(reply.send(Ok(id))),
            Self::Remove(reply, there) => drop(reply.send(Ok(there))),
            Self::Bind(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn failed(self, reason: &str) {
        let reason = reason.to_owned();
        match self {
            Self::Apply(reply, _) => drop(reply.send(Err(StoreError::Disk(reason)))),
            Self::Append(reply, _) => drop(reply.send(Err(JournalError::Disk(reason)))),
            Self::Remove(reply, _) => drop(reply.send(Err(JournalError::Disk(reason)))),
            Self::Bind(reply) => drop(reply.send(Err(IdentityError::Disk(reason)))),
        }
    }
}

fn append(table: &mut JournalTable, draft: Draft) -> Result<JournalWrite, Box<Draft>> {
    let appended = table.append(draft.clone())?;
    // The slot may have a better lane than the draft asked for.
    let lane = table
        .get(appended.id)
        .map_or(draft.lane, |entry| entry.draft.lane);
    let entry = JournalEntry {
        id: appended.id,
        draft: Draft { lane, ..draft },
    };
    Ok(JournalWrite::Append(entry, appended))
}

fn bind(identity: &mut Identity, node: NodeId) -> Result<(), IdentityError> {
    match &identity.node {
        Some(held) if *held != node => Err(IdentityError::OtherNode {
            held: held.clone(),
            asked: node,
        }),
        _ => {
            identity.node = Some(node);
            Ok(())
        }
    }
}
