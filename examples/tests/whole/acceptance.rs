//! The acceptance list names only tests that there are, and leaves nothing out.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all functions in a folder's sources.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
                Some(rest[..end].to_owned())
            });
            found.extend(names);
        }
    }
}

#[test]
fn every_case_has_its_tests_or_a_sentence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    for room in ["hub-core", "cloudhub", "edgehub", "metaserver", "examples"] {
        for part in ["src", "tests"] {
            let folder = root.join(room).join(part);
            if folder.is_dir() {
                functions(&folder, &mut tests);
            }
        }
    }
    let page = include_str!("../../../docs/acceptance.md");
    let mut rows = page.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let id = cells.next()?;
        let held_by = cells.nth(1)?;
        let is_case = id.len() == 3 && id[1..].parse::<u8>().is_ok();
        is_case.then_some((id, held_by))
    });
    let wanted = [("T", 30), ("K", 27), ("C", 12)];
    for (list, count) in wanted {
        for number in 1..=count {
            let (id, held_by) = rows.next().unwrap();
            assert_eq!(id, format!("{list}{number:02}"));
            assert!(!held_by.is_empty(), "{id}");
            for name in held_by.split('`').skip(1).step_by(2) {
                assert!(tests.contains(name), "{id}: there is no test {name}");
            }
        }
    }
    assert_eq!(rows.next(), None);
}
