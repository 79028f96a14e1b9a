//! The SQLite file of [`FileRecords`](super::FileRecords).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use rusqlite::{Connection, Row, params};

use super::pending::{Change, Pending};
use super::{Recorded, SyncRecord};

/// The file, held open by one thread.
pub(super) struct Table(Connection);

impl Table {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Another process holds the file for as long as it lives: waiting longer helps nobody.
        connection.busy_timeout(Duration::from_millis(500))?;
        // What is committed survives a loss of power: WAL with a sync at every commit.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// Writes all that waits, or nothing of it.
    pub(super) fn write(&mut self, pending: &Pending) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut forget_node = transaction.prepare("DELETE FROM records WHERE node = ?1")?;
            let mut intend = transaction.prepare(
                "INSERT OR IGNORE INTO records (node, grp, version, resource, namespace, name, uid, kind, acked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL)",
            )?;
            let mut put = transaction.prepare(
                "INSERT OR REPLACE INTO records (node, grp, version, resource, namespace, name, uid, kind, acked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let mut forget = transaction.prepare(
                "DELETE FROM records WHERE node = ?1 AND grp = ?2 AND version = ?3 AND resource = ?4
                 AND namespace = ?5 AND name = ?6 AND uid = ?7",
            )?;
            for node in &pending.nodes {
                forget_node.execute([node.as_str()])?;
            }
            for ((node, object), entry) in &pending.entries {
                let Recorded { key, uid, kind } = object;
                let namespace = key.namespace.as_deref().unwrap_or_default();
                let (resource, node) = (&key.resource, node.as_str());
                let (group, version, plural) = (&*resource.group, &*resource.version, &*resource.resource);
                let (name, uid, kind) = (&*key.name, &**uid, &**kind);
                let acked = match &entry.change {
                    Change::Intend => {
                        intend.execute(params![node, group, version, plural, namespace, name, uid, kind])?;
                        continue;
                    }
                    Change::Forget => {
                        forget.execute(params![node, group, version, plural, namespace, name, uid])?;
                        continue;
                    }
                    Change::Renew => None,
                    Change::Acked(acked) => Some(acked.as_str()),
                };
                put.execute(params![
                    node, group, version, plural, namespace, name, uid, kind, acked
                ])?;
            }
        }
        transaction.commit()
    }

    /// The records of a node.
    pub(super) fn of(&self, node: &NodeId) -> rusqlite::Result<Vec<SyncRecord>> {
        let mut statement = self.0.prepare(
            "SELECT grp, version, resource, namespace, name, uid, kind, acked FROM records WHERE node = ?1",
        )?;
        let rows = statement.query_map([node.as_str()], record)?;
        rows.collect()
    }

    /// The nodes that have records. What is no name of a node is stepped over.
    pub(super) fn nodes(&self) -> rusqlite::Result<BTreeSet<NodeId>> {
        let mut statement = self.0.prepare("SELECT DISTINCT node FROM records")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        let nodes = names.filter_map(|name| name.map(|name: String| NodeId::new(&name).ok()).transpose());
        nodes.collect()
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<SyncRecord> {
    let text = |index| row.get::<_, String>(index);
    let namespace = text(3)?;
    let namespace = (!namespace.is_empty()).then_some(namespace);
    let resource = GroupVersionResource::new(text(0)?, text(1)?, text(2)?);
    Ok(SyncRecord {
        object: Recorded {
            key: ObjectKey::new(resource, namespace.as_deref(), &text(4)?),
            uid: text(5)?.into(),
            kind: text(6)?.into(),
        },
        version: row.get::<_, Option<String>>(7)?.map(Into::into),
    })
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS records (
    node TEXT NOT NULL, grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
    name TEXT NOT NULL, uid TEXT NOT NULL, kind TEXT NOT NULL, acked TEXT,
    PRIMARY KEY (node, grp, version, resource, namespace, name, uid)
) WITHOUT ROWID;
";
