//! Crashes: what was reported as durable is there afterwards, and revisions only grow.
//!
//! Two kinds, both over a real file system:
//!
//! * **Kill**: a child process that reports each acknowledged change is killed with SIGKILL at a random moment. This proves the order
//!   "disk, then report" as far as the kernel's page cache can show it; what the kernel had, it keeps.
//! * **Power cut**: the files are copied at every report. Between two reports the store first writes its log and flushes it, and
//!   then, now and then, moves the log into the main file and flushes that. A disk that loses power in the first part keeps any
//!   mixture of old, new and torn sectors of the log; in the second, of the main file. Such mixtures are made from the copies, by
//!   seed, and opened. This covers lost, torn and reordered sector writes on a disk that is honest about flushes. It covers neither
//!   a disk that lies about them, nor directory entries, nor a kernel that ignores a failed flush.
//!
//! `EDGE_STORE_CUTS` and `EDGE_STORE_KILLS` set how many of each are made.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use edgehub::store::{EdgeStore, EdgeStoreConfig};
use hub_core::message::{Content, Message, Route};
use hub_core::object::ObjectKey;
use hub_core::random::Random;
use hub_core::session::Lane;
use hub_core::store::{Change, Draft, Journal, ObjectStore};
use hub_core::testing::child::{Doomed, other_half};
use hub_core::testing::store::{config_map, config_maps};
use tempfile::TempDir;

#[test]
fn what_a_killed_store_reported_is_there_afterwards() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("edge.db");
    let mut random = Random::new(7);
    // What was reported, over all lives of the store.
    let mut reported: BTreeMap<String, u64> = BTreeMap::new();
    let (mut acks, mut newest) = (0, 0);
    for round in 1..=number("EDGE_STORE_KILLS", 25) {
        let mut child = Doomed::start(
            other_half("the_child_writes_until_it_is_killed")
                .env("EDGE_STORE_PATH", &path)
                .env("EDGE_STORE_ROUND", round.to_string()),
        );
        let patience = random.below(120);
        let mut seen = 0;
        // Reports of one group come in any order.
        let before = newest;
        let mut take = |line: &str| {
            let mut words = line.split(' ');
            if words.next() == Some("ack") {
                let (name, version, revision) = (words.next(), words.next(), words.next());
                let (Some(name), Some(Ok(version)), Some(Ok(revision))) = (
                    name,
                    version.map(str::parse::<u64>),
                    revision.map(str::parse::<u64>),
                ) else {
                    return 0; // The kill cut the line.
                };
                reported.insert(name.into(), version);
                assert!(
                    name.starts_with('j') || revision > before,
                    "round {round}: {revision} after {before}"
                );
                newest = newest.max(revision);
                return 1;
            }
            0
        };
        while seen < patience {
            seen += take(&child.line());
        }
        // Not at the report itself, but somewhere in the work that follows it.
        std::thread::sleep(std::time::Duration::from_micros(random.below(3000)));
        // What it had reported before it died, and we had not read.
        for line in child.kill() {
            seen += take(&line);
        }
        acks += seen;

        let store = EdgeStore::open_with(&path, config()).unwrap();
        assert!(store.revision().0 > newest, "round {round}: revisions only grow");
        let unsent: Vec<_> = store
            .first(usize::MAX)
            .into_iter()
            .map(|entry| entry.draft.key)
            .collect();
        for (name, version) in &reported {
            if name.starts_with('j') {
                assert!(
                    unsent.iter().any(|key| **key == *name),
                    "round {round}: {name} is lost"
                );
            } else {
                let held = store.get(&key(name)).map(|stored| stored.object.version.number());
                assert!(
                    held.flatten() >= Some(*version),
                    "round {round}: {name}@{version} is lost, {held:?}"
                );
            }
        }
    }
    assert!(acks > 100);
}

#[test]
#[ignore = "the other half of the test above, run by it in a process of its own"]
fn the_child_writes_until_it_is_killed() {
    let round = number("EDGE_STORE_ROUND", 0);
    let store = EdgeStore::open_with(std::env::var("EDGE_STORE_PATH").unwrap(), config()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        async move {
            let mut random = Random::new(round * 4 + writer);
            for step in 1u64.. {
                let version = round * 1_000_000 + step;
                if step % 16 == 0 {
                    let name = format!("j{round}-{writer}-{}", step % 5);
                    store.append(draft(&name)).await.unwrap();
                    println!("ack {name} {version} 0");
                } else {
                    let name = format!("w{writer}-{}", random.below(8));
                    let revision = store
                        .apply(vec![put(&name, version, random.below(9000))])
                        .await
                        .unwrap();
                    println!("ack {name} {version} {revision}");
                }
            }
        }
    });
    runtime.block_on(futures::future::join_all(writers));
}

/// What the store must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    objects: BTreeMap<String, u64>,
    unsent: Vec<String>,
}

#[tokio::test]
async fn what_was_reported_survives_a_power_cut_at_any_instant() {
    const CUTS_PER_REPORT: u64 = 5;
    let cuts = number("EDGE_STORE_CUTS", 1000);
    let (live, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = live.path().join("edge.db");
    let store = EdgeStore::open_with(&path, config()).unwrap();
    let mut random = Random::new(number("EDGE_STORE_SEED", 1));
    let mut state = State::default();
    store.apply(vec![put("first", 1, 100)]).await.unwrap();
    state.objects.insert("first".into(), 1);
    let mut files = read(&path);
    let (mut done, mut moved) = (0, 0);
    for version in 2u64.. {
        let before = (state.clone(), files, store.revision());
        step(&store, &mut state, version, &mut random).await;
        files = read(&path);
        let [(old_log, old_main), (new_log, new_main)] = [&before.1, &files];
        for _ in 0..CUTS_PER_REPORT {
            let seed = random.number();
            let mut dice = Random::new(seed);
            let checkpoint = old_main != new_main && dice.below(2) == 0;
            let (log, main) = match checkpoint {
                // The log is flushed; the main file was being written.
                true => (new_log.clone(), mixture(old_main, new_main, &mut dice)),
                // The log was being written.
                false => (log_mixture(old_log, new_log, &mut dice), old_main.clone()),
            };
            let cut = copy.path().join(format!("{done}.db"));
            fs::write(&cut, main).unwrap();
            fs::write(log_of(&cut), log).unwrap();
            let after = EdgeStore::open_with(&cut, config()).unwrap();
            let found = observe(&after);
            let good = found == state || (!checkpoint && found == before.0);
            assert!(
                good,
                "cut {done}, seed {seed}: {found:?} is neither {:?} nor {state:?}",
                before.0
            );
            assert!(
                after.revision() > before.2,
                "cut {done}, seed {seed}: revisions only grow"
            );
            drop(after);
            fs::remove_file(&cut).unwrap();
            done += 1;
            moved += u64::from(checkpoint);
        }
        if done >= cuts {
            break;
        }
    }
    assert!(
        moved > cuts / 50,
        "only {moved} of {done} cuts fell into a checkpoint"
    );
    assert_eq!(
        fs::read_dir(copy.path()).unwrap().count(),
        0,
        "no file was found damaged"
    );
}

/// One reported change of a random kind.
async fn step(store: &EdgeStore, state: &mut State, version: u64, random: &mut Random) {
    let name = format!("c{}", random.below(30));
    match random.below(10) {
        0 => {
            store.append(draft(&name)).await.unwrap();
            if !state.unsent.contains(&name) {
                state.unsent.push(name);
            }
        }
        1 if !state.unsent.is_empty() => {
            let first = store.first(1).remove(0);
            assert!(store.remove(first.id).await.unwrap());
            state.unsent.remove(0);
        }
        2 => {
            let delete = Change::Delete {
                key: key(&name),
                uid: None,
                version: None,
            };
            store.apply(vec![delete]).await.unwrap();
            state.objects.remove(&name);
        }
        3 => {
            let batch = (0..8).map(|n| put(&format!("b{n}"), version, random.below(4000)));
            store.apply(batch.collect()).await.unwrap();
            state.objects.extend((0..8).map(|n| (format!("b{n}"), version)));
        }
        _ => {
            store
                .apply(vec![put(&name, version, random.below(9000))])
                .await
                .unwrap();
            state.objects.insert(name, version);
        }
    }
}

fn observe(store: &EdgeStore) -> State {
    let version = |held: &edgehub::store::Held| held.version.number().unwrap();
    State {
        objects: store
            .held()
            .iter()
            .map(|held| (held.key.name.to_string(), version(held)))
            .collect(),
        unsent: store
            .first(usize::MAX)
            .iter()
            .map(|entry| entry.draft.key.to_string())
            .collect(),
    }
}

/// The log and the main file.
fn read(path: &Path) -> (Vec<u8>, Vec<u8>) {
    (fs::read(log_of(path)).unwrap(), fs::read(path).unwrap())
}

fn log_of(path: &Path) -> std::path::PathBuf {
    path.with_extension("db-wal")
}

/// As [`mixture`], for the log: SQLite flushes a new header before it overwrites what the old one described.
fn log_mixture(old: &[u8], new: &[u8], dice: &mut Random) -> Vec<u8> {
    const HEADER: usize = 32;
    if old[..HEADER] == new[..HEADER] {
        return mixture(old, new, dice);
    }
    if dice.below(3) == 0 {
        let mut mixed = old.to_vec();
        let torn = dice.below(HEADER as u64 + 1) as usize;
        mixed[..torn].copy_from_slice(&new[..torn]);
        return mixed;
    }
    let mut mixed = mixture(old, new, dice);
    mixed[..HEADER].copy_from_slice(&new[..HEADER]);
    mixed
}

/// What a disk may hold when the power fails while `old` becomes `new`: of each sector the old, the new, or something between.
fn mixture(old: &[u8], new: &[u8], dice: &mut Random) -> Vec<u8> {
    const SECTOR: usize = 512;
    let changed = old.len().max(new.len());
    let length = match dice.below(3) {
        0 if old.len() < new.len() => old.len() + dice.below((new.len() - old.len()) as u64) as usize,
        _ => changed,
    };
    // Mostly lost, evenly mixed, mostly there; or all up to a point.
    let (kept_of_8, until) = match dice.below(4) {
        3 => (8, dice.below(changed as u64 + 1) as usize),
        n => (1 + 3 * n, changed),
    };
    let mut mixed = vec![0; length];
    for (n, sector) in mixed.chunks_mut(SECTOR).enumerate() {
        let start = n * SECTOR;
        let from = |file: &[u8], sector: &mut [u8]| {
            let end = file.len().min(start + sector.len());
            if start < end {
                sector[..end - start].copy_from_slice(&file[start..end]);
            }
        };
        from(old, sector);
        if start >= until || dice.below(8) >= kept_of_8 {
            continue;
        }
        let torn = dice.below(16) == 0;
        let mut written = sector.to_vec();
        from(new, &mut written);
        if written == *sector {
            continue;
        }
        let whole = sector.len();
        let upto = if torn {
            dice.below(whole as u64) as usize
        } else {
            whole
        };
        sector[..upto].copy_from_slice(&written[..upto]);
        if torn && dice.below(2) == 0 {
            // Garbage, but only where it was writing: SQLite, as every database, counts on that ("powersafe overwrite").
            for at in upto..whole {
                if sector[at] != written[at] {
                    sector[at] = dice.number() as u8;
                }
            }
        }
    }
    mixed
}

/// Few pages in the log, so that every run sees many checkpoints and restarts of the log.
fn config() -> EdgeStoreConfig {
    EdgeStoreConfig {
        checkpoint_pages: 12,
        ..EdgeStoreConfig::default()
    }
}

fn put(name: &str, version: u64, size: u64) -> Change {
    // Hardly compressible, so that sizes on the disk vary.
    let mut random = Random::new(version);
    let data: String = (0..size)
        .map(|_| char::from(b'a' + random.below(26) as u8))
        .collect();
    Change::Put(config_map(name, name, &version.to_string(), &data))
}

fn draft(key: &str) -> Draft {
    let route = Route::new("edged", "meta", "update".into(), "shop/podstatus/web");
    Draft::new(key, Lane::Own, &Message::new(route, Content::string(key)), 0).unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(config_maps(), Some("shop"), name)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
