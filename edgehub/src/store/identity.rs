//! Whose store this is, and how far its revisions have come: one row.

use std::sync::Arc;

use hub_core::node::NodeId;
use hub_core::object::Revision;
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{RowError, Sum};

pub(super) const SCHEMA: &str = "
    CREATE TABLE identity (
        id INTEGER PRIMARY KEY, instance TEXT NOT NULL, node TEXT, reserved INTEGER NOT NULL, clean INTEGER NOT NULL,
        sum INTEGER NOT NULL
    );
";

/// Revisions are reserved on the disk in blocks of this size, so that a change does not cost a second page.
pub(super) const BLOCK: u64 = 10_000;

/// The store cannot be that node's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IdentityError {
    /// It is another one's. The operator's move: give each node its own file, or remove this one.
    #[error("the store belongs to node {held}, not to {asked}; give each node its own file")]
    OtherNode {
        /// Whose it is.
        held: NodeId,
        /// Who asked.
        asked: NodeId,
    },
    /// The disk refused.
    #[error("the store could not write: {0}")]
    Disk(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// The one row.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) instance: Arc<str>,
    pub(super) node: Option<NodeId>,
    /// No revision above this was ever given out.
    pub(super) reserved: Revision,
    /// Whether the store was closed, so that `reserved` is exact.
    pub(super) clean: bool,
}

impl Identity {
    /// That of a store which begins now. Old clients' revisions lie before it: nobody makes a thousand changes each millisecond.
    pub(super) fn begin(unix_ms: u64) -> Self {
        Self {
            instance: hub_core::message::MessageId::random().to_string().into(),
            node: None,
            reserved: Revision(unix_ms << 10),
            clean: true,
        }
    }

    /// The first revision of a new run. After an unclean stop even the last reservation may be lost on a dishonest disk.
    pub(super) fn resume(&self) -> Revision {
        match self.clean {
            true => self.reserved,
            false => Revision(self.reserved.0.saturating_add(BLOCK)),
        }
    }

    /// The same, running, with a block reserved after a revision.
    pub(super) fn reserve(&self, revision: Revision) -> Self {
        Self {
            reserved: Revision(revision.0.saturating_add(BLOCK)),
            clean: false,
            ..self.clone()
        }
    }

    pub(super) fn load(connection: &Connection) -> Result<Option<Self>, RowError> {
        let read = |row: &rusqlite::Row<'_>| {
            let (instance, node): (Arc<str>, Option<String>) = (row.get(0)?, row.get(1)?);
            let (reserved, clean): (i64, bool) = (row.get(2)?, row.get(3)?);
            let node = node.and_then(|node| NodeId::new(&node).ok());
            let identity = Self {
                instance,
                node,
                reserved: Revision(reserved.cast_unsigned()),
                clean,
            };
            Ok((identity, row.get::<_, i64>(4)?))
        };
        let found = connection.query_row(
            "SELECT instance, node, reserved, clean, sum FROM identity",
            [],
            read,
        );
        match found.optional()? {
            None => Ok(None),
            Some((identity, sum)) if identity.sum() == sum => Ok(Some(identity)),
            Some(_) => Err(RowError::Damaged("identity")),
        }
    }

    pub(super) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let node = self.node.as_ref().map(NodeId::as_str);
        connection.execute(
            "INSERT OR REPLACE INTO identity (id, instance, node, reserved, clean, sum) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![self.instance, node, self.reserved.0.cast_signed(), self.clean, self.sum()],
        )?;
        Ok(())
    }

    fn sum(&self) -> i64 {
        let node = self.node.as_ref().map_or("", NodeId::as_str);
        let sum = Sum::default().text(&self.instance).text(node);
        sum.number(self.reserved.0.cast_signed())
            .number(self.clean.into())
            .finish()
    }
}
