//! How far back the watches of an earlier run may begin, so that a client that was up to date goes on after a restart.
//!
//! The events themselves are not kept. But whoever has seen the last change of a collection has missed nothing, and of each collection
//! the revision of its last change is known: that of its newest object, or that of its last deletion, which is noted here.
//!
//! A watch may go on only where nothing at all can be missing: not after another boot, as a disk may have lied at a power cut
//! (who watched on this machine is gone then too), and not after a run of a program that does not write these notes.

use std::collections::BTreeMap;

use hub_core::object::{GroupVersionResource, Revision};
use hub_core::store::Write;
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{RowError, Sum};

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS deletion (
        api_group TEXT NOT NULL, api_version TEXT NOT NULL, resource TEXT NOT NULL, revision INTEGER NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (api_group, api_version, resource)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS run (
        id INTEGER PRIMARY KEY, boot TEXT NOT NULL, begin INTEGER NOT NULL, reserved INTEGER NOT NULL, sum INTEGER NOT NULL
    );
";

/// The run of this program, one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Which boot of the machine it is; empty where that is not known.
    boot: String,
    /// No watch begins before this.
    pub(super) begin: Revision,
}

/// When each collection was last deleted from.
pub(super) type Deletions = Vec<(GroupVersionResource, Revision)>;

impl Run {
    /// One that knows of nothing before it.
    pub(super) fn begin(revision: Revision) -> Self {
        Self {
            boot: boot(),
            begin: revision,
        }
    }

    /// One that goes on where another stopped, if that is sure. `reserved` is what the identity said, `revision` where this run begins.
    pub(super) fn resume(
        connection: &Connection,
        reserved: Revision,
        revision: Revision,
    ) -> rusqlite::Result<(Self, Deletions)> {
        connection.execute_batch(SCHEMA)?;
        let mut run = Self::begin(revision);
        let known = Self::load(connection).and_then(|last| Ok((last, load(connection)?)));
        match known {
            Ok((Some((last, noted)), deletions))
                if noted == reserved
                    && !last.boot.is_empty()
                    && last.boot == run.boot
                    && deletions.len() <= COLLECTIONS_MAX =>
            {
                run.begin = last.begin;
                Ok((run, deletions))
            }
            Err(RowError::Sqlite(error)) => Err(error),
            Ok(_) | Err(RowError::Damaged(_)) => {
                connection.execute("DELETE FROM deletion", [])?;
                Ok((run, Vec::new()))
            }
        }
    }

    fn load(connection: &Connection) -> Result<Option<(Self, Revision)>, RowError> {
        let read = |row: &rusqlite::Row<'_>| {
            let run = Self {
                boot: row.get(0)?,
                begin: Revision(row.get::<_, i64>(1)?.cast_unsigned()),
            };
            Ok((
                run,
                Revision(row.get::<_, i64>(2)?.cast_unsigned()),
                row.get::<_, i64>(3)?,
            ))
        };
        let found = connection.query_row("SELECT boot, begin, reserved, sum FROM run", [], read);
        match found.optional()? {
            None => Ok(None),
            Some((run, reserved, sum)) if run.sum(reserved) == sum => Ok(Some((run, reserved))),
            Some(_) => Err(RowError::Damaged("run")),
        }
    }

    /// Notes that this run knows of everything up to these revisions. Belongs into every transaction that reserves them.
    pub(super) fn save(&self, connection: &Connection, reserved: Revision) -> rusqlite::Result<()> {
        connection.execute(
            "INSERT OR REPLACE INTO run (id, boot, begin, reserved, sum) VALUES (1, ?1, ?2, ?3, ?4)",
            params![
                self.boot,
                self.begin.0.cast_signed(),
                reserved.0.cast_signed(),
                self.sum(reserved)
            ],
        )?;
        Ok(())
    }

    fn sum(&self, reserved: Revision) -> i64 {
        let sum = Sum::default().text(&self.boot).number(self.begin.0.cast_signed());
        sum.number(reserved.0.cast_signed()).finish()
    }
}

/// Notes the deletions among some changes.
pub(super) fn note(connection: &Connection, writes: &[Write]) -> rusqlite::Result<()> {
    let mut newest = BTreeMap::new();
    for write in writes {
        if let Write::Delete { stored, .. } = write {
            newest.insert(&stored.object.key.resource, stored.revision);
        }
    }
    for (resource, revision) in newest {
        connection.execute(
            "INSERT OR REPLACE INTO deletion (api_group, api_version, resource, revision, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                resource.group,
                resource.version,
                resource.resource,
                revision.0.cast_signed(),
                sum(resource, revision)
            ],
        )?;
    }
    Ok(())
}

fn load(connection: &Connection) -> Result<Deletions, RowError> {
    let mut statement =
        connection.prepare("SELECT api_group, api_version, resource, revision, sum FROM deletion")?;
    let mut rows = statement.query([])?;
    let mut deletions = Vec::new();
    while let Some(row) = rows.next()? {
        let [group, version, resource]: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let resource = GroupVersionResource::new(&*group, &*version, &*resource);
        let revision = Revision(row.get::<_, i64>(3)?.cast_unsigned());
        if sum(&resource, revision) != row.get::<_, i64>(4)? {
            return Err(RowError::Damaged("deletion"));
        }
        deletions.push((resource, revision));
    }
    Ok(deletions)
}

fn sum(resource: &GroupVersionResource, revision: Revision) -> i64 {
    let sum = Sum::default().text(&resource.group).text(&resource.version);
    sum.text(&resource.resource)
        .number(revision.0.cast_signed())
        .finish()
}

/// Linux' name of this boot.
fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

/// Collections of which deletions are remembered over a restart. With more of them, custom kinds that came and went, watches begin anew.
const COLLECTIONS_MAX: usize = 4096;
