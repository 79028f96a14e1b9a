//! Rows of the journal.

use hub_core::session::Lane;
use hub_core::store::{Appended, Draft, JournalEntry, JournalId, JournalTable};
use rusqlite::{Connection, Row, params};

use super::row::{RowError, Sum};

pub(super) const SCHEMA: &str = "
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY, place INTEGER NOT NULL, lane INTEGER NOT NULL, key TEXT NOT NULL,
        created_ms INTEGER NOT NULL, frame BLOB NOT NULL, sum INTEGER NOT NULL
    );
";

/// Reads the journal. All sound rows are in `table` even if others are damaged.
pub(super) fn load(connection: &Connection, table: &mut JournalTable) -> Result<(), RowError> {
    let mut statement =
        connection.prepare("SELECT id, place, lane, key, created_ms, frame, sum FROM journal ORDER BY id")?;
    let mut damaged = Ok(());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok((entry, place)) => table.restore(entry, place),
            Err(error) => damaged = Err(error),
        }
    }
    damaged
}

/// Writes an entry that `appended` names, and takes away what it replaced.
pub(super) fn append(
    connection: &Connection,
    entry: &JournalEntry,
    appended: &Appended,
) -> rusqlite::Result<()> {
    for gone in &appended.gone {
        remove(connection, *gone)?;
    }
    insert(connection, entry, appended.place)
}

/// Writes an entry.
pub(super) fn insert(
    connection: &Connection,
    entry: &JournalEntry,
    place: JournalId,
) -> rusqlite::Result<()> {
    let draft = &entry.draft;
    let lane = LANES
        .iter()
        .position(|lane| *lane == draft.lane)
        .unwrap_or_default() as i64;
    let (id, place) = (entry.id.0.cast_signed(), place.0.cast_signed());
    let sum = sum(id, place, lane, &draft.key, draft.created_ms, &draft.frame);
    connection.execute(
        "INSERT INTO journal (id, place, lane, key, created_ms, frame, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![id, place, lane, draft.key, draft.created_ms, &draft.frame[..], sum],
    )?;
    Ok(())
}

/// Takes an entry away.
pub(super) fn remove(connection: &Connection, id: JournalId) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM journal WHERE id = ?1", [id.0.cast_signed()])
        .map(drop)
}

fn read(row: &Row<'_>) -> Result<(JournalEntry, JournalId), RowError> {
    let (id, place, lane): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (key, created_ms, frame): (String, i64, Vec<u8>) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let known = usize::try_from(lane).ok().and_then(|lane| LANES.get(lane));
    let Some(&known) = known.filter(|_| row.get(6) == Ok(sum(id, place, lane, &key, created_ms, &frame)))
    else {
        return Err(RowError::Damaged("journal"));
    };
    let draft = Draft {
        key: key.into(),
        lane: known,
        frame: frame.into(),
        created_ms,
    };
    let entry = JournalEntry {
        id: JournalId(id.cast_unsigned()),
        draft,
    };
    Ok((entry, JournalId(place.cast_unsigned())))
}

fn sum(id: i64, place: i64, lane: i64, key: &str, created_ms: i64, frame: &[u8]) -> i64 {
    let sum = Sum::default().number(id).number(place).number(lane);
    sum.text(key).number(created_ms).bytes(frame).finish()
}

/// Their numbers on the disk are their places here.
const LANES: [Lane; 4] = [Lane::Urgent, Lane::Own, Lane::Rest, Lane::Bulk];
