//! What happens to a file that cannot be trusted: it is set aside, and what must not be lost is saved from it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hub_core::node::NodeId;
use hub_core::object::Revision;
use hub_core::scope::Scope;
use hub_core::store::{Coverage, JournalLimits, JournalTable};
use rusqlite::Connection;

use super::identity::{BLOCK, Identity};
use super::journal;
use super::objects::Rows;

/// What could still be read. Objects are not among it: the cloud has them, and a wrong one is worse than none.
#[derive(Debug)]
pub(super) struct Saved {
    /// All as merely wanted.
    pub(super) scopes: Vec<(Scope, Coverage)>,
    pub(super) journal: JournalTable,
    pub(super) node: Option<NodeId>,
    /// Revisions begin after this.
    pub(super) revision: Revision,
    /// Where the damaged file is now.
    pub(super) aside: PathBuf,
}

/// Renames the file, and what SQLite keeps beside it, to `<name>.damaged-<ms>`, and reads from it what it can.
pub(super) fn set_aside(
    path: &Path,
    unix_ms: u64,
    damaged_max: usize,
    limits: JournalLimits,
) -> std::io::Result<Saved> {
    let aside = with_suffix(path, &format!("{MARK}{unix_ms}"));
    for beside in BESIDE {
        match std::fs::rename(with_suffix(path, beside), with_suffix(&aside, beside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let saved = save(&aside, limits);
    tracing::error!(
        path = %path.display(),
        aside = %aside.display(),
        scopes = saved.scopes.len(),
        unsent = saved.journal.depth().entries,
        "the store was damaged and is set aside; an empty one begins, and the cloud will fill it again"
    );
    forget_oldest(path, damaged_max);
    Ok(saved)
}

fn save(aside: &Path, limits: JournalLimits) -> Saved {
    let mut saved = Saved {
        scopes: Vec::new(),
        journal: JournalTable::new(limits),
        node: None,
        revision: Revision(0),
        aside: aside.into(),
    };
    let Ok(connection) = Connection::open(aside) else {
        return saved;
    };
    // In this mode SQLite reads a truncated file as far as it goes, and refuses it in any other.
    let _ = connection.pragma_update(None, "writable_schema", "ON");
    // Each of these may fail half-way; what came before is good, each row has its checksum.
    let _ = Rows::new(0).load_scopes(&connection, &mut saved.scopes);
    for (_, coverage) in &mut saved.scopes {
        *coverage = Coverage::Loading;
    }
    let _ = journal::load(&connection, &mut saved.journal);
    if let Ok(Some(identity)) = Identity::load(&connection) {
        saved.revision = Revision(identity.reserved.0.saturating_add(BLOCK));
        saved.node = identity.node;
    }
    saved
}

/// Keeps the newest damaged files only.
fn forget_oldest(path: &Path, damaged_max: usize) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let prefix = format!("{}{MARK}", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut times: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .strip_prefix(&prefix)?
                .parse()
                .ok()
        })
        .collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    for time in times.into_iter().skip(damaged_max) {
        let aside = with_suffix(path, &format!("{MARK}{time}"));
        for beside in BESIDE {
            let _ = std::fs::remove_file(with_suffix(&aside, beside));
        }
    }
}

/// The path with something appended to its last name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

const MARK: &str = ".damaged-";
/// SQLite's own files, the main one last: if we stop in between, the rest is found again beside the main one.
const BESIDE: [&str; 4] = ["-wal", "-shm", "-journal", ""];
