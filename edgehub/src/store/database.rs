//! The SQLite file: how it is opened, checked, read once, written and closed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_core::credentials::make_private;
use hub_core::object::Revision;
use hub_core::store::{Appended, JournalEntry, JournalId, JournalTable, Restored, Write};
use rusqlite::{Connection, ErrorCode};

use super::damage::{self, Saved, with_suffix};
use super::history::{self, Run};
use super::identity::Identity;
use super::objects::{Rows, Undo};
use super::row::{Packer, RowError};
use super::{EdgeStoreConfig, OpenError, identity, journal, objects};

/// The file, and what its one writer remembers of it.
pub(super) struct Database {
    connection: Connection,
    rows: Rows,
    packer: Packer,
    pub(super) identity: Identity,
    run: Run,
}

/// A file, and what was in it.
pub(super) struct Loaded {
    pub(super) database: Database,
    pub(super) restored: Restored,
    pub(super) journal: JournalTable,
    /// What an operator should know of it.
    pub(super) notice: Option<String>,
}

/// A change of the journal to be written.
pub(super) enum JournalWrite {
    Append(JournalEntry, Appended),
    Remove(JournalId),
}

/// Why a file is not open.
enum Refused {
    /// It cannot be trusted.
    Damaged(String),
    Open(OpenError),
}

/// Opens the file; a damaged one is set aside and a fresh one begun.
pub(super) fn open(path: &Path, config: &EdgeStoreConfig) -> Result<Loaded, OpenError> {
    let disk = |reason: String| OpenError::Disk {
        path: path.into(),
        reason,
    };
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    let reason = match load(path, config, unix_ms, None) {
        Ok(loaded) => return Ok(loaded),
        Err(Refused::Open(error)) => return Err(error),
        Err(Refused::Damaged(reason)) => reason,
    };
    tracing::error!(path = %path.display(), reason, "the store is damaged");
    let saved = damage::set_aside(path, unix_ms, config.damaged_max, config.journal);
    let saved = saved.map_err(|error| disk(error.to_string()))?;
    let notice = format!(
        "the store began anew at {unix_ms}: the old one was damaged ({reason}) and is kept as {}; {} messages to the cloud were saved",
        saved.aside.display(),
        saved.journal.depth().entries
    );
    let loaded = load(path, config, unix_ms, Some(saved)).map_err(|refused| match refused {
        Refused::Open(error) => error,
        Refused::Damaged(reason) => disk(reason),
    })?;
    Ok(Loaded {
        notice: Some(notice),
        ..loaded
    })
}

fn load(
    path: &Path,
    config: &EdgeStoreConfig,
    unix_ms: u64,
    saved: Option<Saved>,
) -> Result<Loaded, Refused> {
    let refuse = |error| refused(path, error);
    let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    if length(path.into()) == 0 && length(with_suffix(path, "-wal")) > 0 {
        return Err(Refused::Damaged(
            "the file is empty and its write-ahead log is not".into(),
        ));
    }
    let connection = connect(path, config).map_err(|error| refuse(error.into()))?;
    let found = examine(&connection).map_err(refuse)?;
    if found == Found::Foreign {
        return Err(Refused::Open(OpenError::Disk {
            path: path.into(),
            reason: "it is another program's database".into(),
        }));
    }
    let fresh = found == Found::Nothing;
    let packer = Packer::new(config.compress_min).map_err(|error| {
        Refused::Open(OpenError::Disk {
            path: path.into(),
            reason: error.to_string(),
        })
    })?;
    let mut database = Database {
        connection,
        rows: Rows::new(config.limits.tombstones_max),
        packer,
        identity: Identity::begin(unix_ms),
        run: Run::begin(Revision::default()),
    };
    let mut table = JournalTable::new(config.journal);
    let restored = match fresh {
        true => database
            .begin(saved, &mut table)
            .map_err(|error| refuse(error.into()))?,
        false => database.resume(&mut table).map_err(refuse)?,
    };
    Ok(Loaded {
        database,
        restored,
        journal: table,
        notice: None,
    })
}

impl Database {
    /// Makes the tables, and puts in what was saved from a damaged file.
    fn begin(&mut self, saved: Option<Saved>, table: &mut JournalTable) -> rusqlite::Result<Restored> {
        let transaction = self.connection.unchecked_transaction()?;
        for schema in [
            objects::SCHEMA,
            journal::SCHEMA,
            identity::SCHEMA,
            history::SCHEMA,
        ] {
            transaction.execute_batch(schema)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        let mut scopes = Vec::new();
        if let Some(saved) = saved {
            self.identity.node = saved.node;
            self.identity.reserved = self.identity.reserved.max(saved.revision);
            scopes = saved.scopes;
            let writes = scopes.iter().map(|(scope, coverage)| Write::Scope {
                scope: scope.clone(),
                coverage: Some(*coverage),
            });
            self.rows.write(
                &transaction,
                &mut self.packer,
                &writes.collect::<Vec<_>>(),
                &mut Undo::default(),
            )?;
            *table = saved.journal;
            for (entry, place) in table.places() {
                journal::insert(&transaction, entry, place)?;
            }
        }
        let revision = self.identity.resume();
        self.identity = self.identity.reserve(revision);
        self.run = Run::begin(revision);
        self.save(&transaction, &self.identity)?;
        transaction.commit()?;
        Ok(Restored {
            revision,
            begin: revision,
            deletions: Vec::new(),
            objects: Vec::new(),
            scopes,
            tombstones: Vec::new(),
        })
    }

    /// Reads everything.
    fn resume(&mut self, table: &mut JournalTable) -> Result<Restored, RowError> {
        self.identity = Identity::load(&self.connection)?.ok_or(RowError::Damaged("identity"))?;
        let objects = self.rows.load_objects(&self.connection)?;
        let tombstones = self.rows.load_tombstones(&self.connection)?;
        let mut scopes = Vec::new();
        self.rows.load_scopes(&self.connection, &mut scopes)?;
        journal::load(&self.connection, table)?;
        let newest = objects
            .iter()
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or_default();
        let revision = self.identity.resume().max(newest);
        let transaction = self.connection.unchecked_transaction()?;
        let (run, deletions) = Run::resume(&transaction, self.identity.reserved, revision)?;
        self.run = run;
        self.identity = self.identity.reserve(revision);
        self.save(&transaction, &self.identity)?;
        transaction.commit()?;
        Ok(Restored {
            revision,
            begin: self.run.begin,
            deletions,
            objects,
            scopes,
            tombstones,
        })
    }

    /// Writes a group of changes, all or none. When this returns they are on the disk.
    pub(super) fn write(
        &mut self,
        writes: &[Write],
        revision: Revision,
        journal: &[JournalWrite],
        identity: Identity,
    ) -> rusqlite::Result<()> {
        let mut identity = identity;
        let mut renew = identity.node != self.identity.node;
        if revision > identity.reserved {
            identity = identity.reserve(revision);
            renew = true;
        }
        let mut undo = Undo::default();
        let written = self.transaction(writes, journal, renew.then_some(&identity), &mut undo);
        match written {
            Ok(()) => self.identity = identity,
            Err(_) => self.rows.forget(undo),
        }
        written
    }

    fn transaction(
        &mut self,
        writes: &[Write],
        journal: &[JournalWrite],
        identity: Option<&Identity>,
        undo: &mut Undo,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        self.rows.write(&transaction, &mut self.packer, writes, undo)?;
        history::note(&transaction, writes)?;
        for write in journal {
            match write {
                JournalWrite::Append(entry, appended) => journal::append(&transaction, entry, appended)?,
                JournalWrite::Remove(id) => journal::remove(&transaction, *id)?,
            }
        }
        if let Some(identity) = identity {
            self.save(&transaction, identity)?;
        }
        transaction.commit()
    }

    /// Whether there is room and a disk that takes it: writes something small, and takes it away again.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        transaction.execute_batch("CREATE TABLE probe (bytes BLOB)")?;
        transaction.execute("INSERT INTO probe VALUES (zeroblob(?1))", [PROBE_BYTES])?;
        transaction.execute_batch("DROP TABLE probe")?;
        self.save(&transaction, &self.identity)?;
        transaction.commit()
    }

    fn save(&self, connection: &Connection, identity: &Identity) -> rusqlite::Result<()> {
        identity.save(connection)?;
        self.run.save(connection, identity.reserved)
    }

    /// Notes that the last revision was the last one, and moves the write-ahead log into the file.
    pub(super) fn close(mut self, revision: Revision) {
        self.identity.reserved = revision;
        self.identity.clean = true;
        let saved = self.connection.unchecked_transaction().and_then(|transaction| {
            self.save(&transaction, &self.identity)
                .and_then(|()| transaction.commit())
        });
        if let Err(error) = saved.and_then(|()| self.connection.close().map_err(|(_, error)| error)) {
            tracing::warn!(%error, "the store could not be closed cleanly; nothing is lost");
        }
    }
}

fn connect(path: &Path, config: &EdgeStoreConfig) -> rusqlite::Result<Connection> {
    // Secrets and tokens are in it. What SQLite keeps beside a file gets the file's mode.
    make_private(path);
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    // Alone with the file: no shared memory beside it, and a second process is refused.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", config.checkpoint_pages)?;
    connection.pragma_update(
        None,
        "journal_size_limit",
        4 * i64::from(config.checkpoint_pages) * PAGE_BYTES,
    )?;
    connection.pragma_update(
        None,
        "max_page_count",
        i64::try_from(config.file_bytes_max).map_or(i64::MAX, |bytes| (bytes / PAGE_BYTES).max(1)),
    )?;
    // Everything is read once and then only written: a large page cache would hold nothing of use.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

/// What is in the file, and whether SQLite finds it sound.
fn examine(connection: &Connection) -> Result<Found, RowError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    if count("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(if version == 0 {
            Found::Nothing
        } else {
            Found::Foreign
        });
    }
    if count("SELECT count(*) FROM sqlite_schema WHERE name = 'identity'")? == 0 && application != APPLICATION
    {
        return Ok(Found::Foreign);
    }
    if application != APPLICATION || version != SCHEMA_VERSION {
        return Err(RowError::Damaged("another version of this program"));
    }
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match sound.as_str() {
        "ok" => Ok(Found::Ours),
        _ => Err(RowError::Damaged("the file's structure")),
    }
}

fn refused(path: &Path, error: RowError) -> Refused {
    let RowError::Sqlite(sqlite) = &error else {
        return Refused::Damaged(error.to_string());
    };
    match sqlite.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Refused::Open(OpenError::InUse(path.into()))
        }
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::AuthorizationForStatementDenied
            | ErrorCode::SystemIoFailure,
        ) => Refused::Open(OpenError::Disk {
            path: path.into(),
            reason: sqlite.to_string(),
        }),
        // Corrupt, not a database, a missing table, a column of another type.
        _ => Refused::Damaged(sqlite.to_string()),
    }
}

const PAGE_BYTES: i64 = 4096;
const CACHE_KIB: i64 = 1024;
/// About what a small object takes, its row and the pages around it.
const PROBE_BYTES: i64 = 16 << 10;
/// "edge" in ASCII: SQLite's mark of whose file this is.
const APPLICATION: i64 = 0x6564_6765;
const SCHEMA_VERSION: i64 = 1;
