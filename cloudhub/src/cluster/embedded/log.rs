//! The disk behind the cluster: one SQLite file, read once at start and then only written.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::store::Change;
use rusqlite::{Connection, params};

/// The file, held open by the writer alone.
pub(super) struct Log {
    connection: Connection,
}

/// What the file held.
pub(super) struct Contents {
    pub(super) objects: Vec<Object>,
    /// 0 for a new file.
    pub(super) revision: u64,
    /// Since this revision the file says what has become of each collection.
    pub(super) begin: u64,
    /// The last deletions of collections since then.
    pub(super) deletions: Vec<(GroupVersionResource, Revision)>,
    /// The key of service account tokens; none in a new file, and in one from before there were tokens.
    pub(super) token_key: Option<Vec<u8>>,
}

impl Log {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> rusqlite::Result<(Self, Contents)> {
        // Secrets and the key of tokens are in it. What SQLite keeps beside a file gets the file's mode.
        hub_core::credentials::make_private(path);
        let connection = Connection::open(path)?;
        // Another process holds the file for as long as it lives: waiting longer helps nobody.
        connection.busy_timeout(std::time::Duration::from_millis(500))?;
        // A committed transaction survives power loss: WAL with a sync at every commit.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.execute_batch(SCHEMA)?;
        let number_of = |name: &str| -> rusqlite::Result<i64> {
            let mut found = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
            let mut rows = found.query([name])?;
            rows.next()?.map_or(Ok(0), |row| row.get(0))
        };
        let revision = number_of("revision")?;
        let mut deletions = deletions(&connection)?;
        if number_of("noted")? != revision || deletions.len() > COLLECTIONS_MAX {
            // A program that notes no deletions has written since, or there are too many kinds: whoever watched lists again.
            deletions.clear();
            connection.execute_batch("BEGIN; DELETE FROM deletions; INSERT OR REPLACE INTO meta (name, value)
                SELECT name, (SELECT value FROM meta WHERE name = 'revision') FROM (SELECT 'noted' AS name UNION SELECT 'begin'); COMMIT")?;
        }
        let begin = number_of("begin")?;
        let objects = {
            let mut statement = connection.prepare(
                "SELECT grp, version, resource, namespace, name, uid, revision, body FROM objects",
            )?;
            let rows = statement.query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                let namespace = text(3)?;
                let namespace = (!namespace.is_empty()).then_some(namespace);
                let resource = GroupVersionResource::new(text(0)?, text(1)?, text(2)?);
                Ok(Object {
                    key: ObjectKey::new(resource, namespace.as_deref(), &text(4)?),
                    uid: text(5)?.into(),
                    version: row.get::<_, i64>(6)?.to_string().into(),
                    body: Bytes::from(row.get::<_, Vec<u8>>(7)?),
                })
            })?;
            rows.collect::<Result<_, _>>()?
        };
        let token_key = connection.query_row("SELECT value FROM keys WHERE name = 'tokens'", [], |row| {
            row.get(0)
        });
        let token_key = match token_key {
            Err(rusqlite::Error::QueryReturnedNoRows) => None,
            other => Some(other?),
        };
        let contents = Contents {
            objects,
            revision: u64::try_from(revision).unwrap_or_default(),
            begin: u64::try_from(begin).unwrap_or_default(),
            deletions,
            token_key,
        };
        Ok((Self { connection }, contents))
    }

    /// Keeps the key of service account tokens.
    pub(super) fn keep_token_key(&mut self, key: &[u8]) -> rusqlite::Result<()> {
        self.connection
            .execute(
                "INSERT INTO keys (name, value) VALUES ('tokens', ?1)",
                params![key],
            )
            .map(drop)
    }

    /// Writes something that means nothing: whether that fails tells of the disk.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let next = "INSERT INTO meta (name, value) VALUES ('probe', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1";
        self.connection.execute(next, []).map(drop)
    }

    /// Makes changes durable, all or none. When this returns they survive a loss of power.
    pub(super) fn append<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        revision: u64,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut deletions: HashMap<&GroupVersionResource, u64> = HashMap::new();
        {
            let mut put = transaction.prepare(
                "INSERT OR REPLACE INTO objects (grp, version, resource, namespace, name, uid, revision, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut delete = transaction.prepare(
                "DELETE FROM objects WHERE grp = ?1 AND version = ?2 AND resource = ?3 AND namespace = ?4 AND name = ?5",
            )?;
            for change in changes {
                match change {
                    Change::Put(object) | Change::Refresh(object) => {
                        let ObjectKey {
                            resource,
                            namespace,
                            name,
                        } = &object.key;
                        put.execute(params![
                            &*resource.group,
                            &*resource.version,
                            &*resource.resource,
                            namespace.as_deref().unwrap_or_default(),
                            &**name,
                            &*object.uid,
                            number(object.version.number().unwrap_or_default()),
                            &object.body[..],
                        ])?;
                    }
                    Change::Delete { key, version, .. } => {
                        let at = version.as_ref().and_then(|version| version.number());
                        deletions.insert(&key.resource, at.unwrap_or(revision));
                        let ObjectKey {
                            resource,
                            namespace,
                            name,
                        } = key;
                        delete.execute(params![
                            &*resource.group,
                            &*resource.version,
                            &*resource.resource,
                            namespace.as_deref().unwrap_or_default(),
                            &**name,
                        ])?;
                    }
                    // A cluster holds everything; it has no scopes.
                    Change::Want(_) | Change::Complete(_) | Change::Drop(_) => {}
                }
            }
            for (resource, at) in deletions {
                transaction.execute(
                    "INSERT OR REPLACE INTO deletions (grp, version, resource, revision) VALUES (?1, ?2, ?3, ?4)",
                    params![&*resource.group, &*resource.version, &*resource.resource, number(at)],
                )?;
            }
            transaction.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES ('revision', ?1), ('noted', ?1)",
                params![number(revision)],
            )?;
        }
        transaction.commit()
    }
}

/// The last deletion of each collection.
fn deletions(connection: &Connection) -> rusqlite::Result<Vec<(GroupVersionResource, Revision)>> {
    let mut statement = connection.prepare("SELECT grp, version, resource, revision FROM deletions")?;
    let rows = statement.query_map([], |row| {
        let text = |index| row.get::<_, String>(index);
        let resource = GroupVersionResource::new(text(0)?, text(1)?, text(2)?);
        let revision = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
        Ok((resource, Revision(revision)))
    })?;
    rows.collect()
}

/// SQLite has signed numbers. At a million changes a second the limit is reached after 292,000 years.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Collections whose last deletion is remembered over a restart.
const COLLECTIONS_MAX: usize = 4096;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions (
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (grp, version, resource)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    uid TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (grp, version, resource, namespace, name)
);
";
