//! What a watch at the API server has shown: the objects, and the last changes for those who read along.
//!
//! One writer, the watch; many readers, each with a position. A reader that falls behind what is kept takes the objects anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use hub_core::api::Status;
use hub_core::object::{Object, ObjectKey, ResourceVersion};

/// See the [module](self).
pub(super) struct Collection {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    history_max: usize,
    history_bytes_max: usize,
}

struct State {
    phase: Phase,
    objects: BTreeMap<ObjectKey, Object>,
    changes: VecDeque<Change>,
    /// The position of the first change that is kept.
    first: u64,
    /// Bytes of the objects, and of those that only the changes still have.
    bytes: Held,
    /// The newest version seen; 0 where versions are no numbers.
    newest: u64,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Objects that are there.
    pub(super) objects: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Bytes of what they were before, kept for readers that have not seen it.
    pub(super) history_bytes: usize,
}

#[derive(Clone)]
enum Phase {
    /// Not all objects are known yet.
    Loading,
    Known,
    /// The API server will not have it.
    Refused(Status),
}

/// One object changed.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// What it was before, if it was.
    pub(super) before: Option<Object>,
    /// What it is; what is gone has here its last state, with the version of its end.
    pub(super) after: Object,
    pub(super) is_gone: bool,
}

impl Change {
    /// Bytes that nothing but this change keeps: what an object became is the next change's, or held anyhow.
    fn former_bytes(&self) -> usize {
        let last = if self.is_gone { self.after.body.len() } else { 0 };
        last + self.before.as_ref().map_or(0, |before| before.body.len())
    }
}

/// What a reader gets.
pub(super) enum Reading {
    /// Nothing yet; the position at which to wait.
    Nothing,
    /// Everything there is, the position after it, and the newest version that the watch has shown.
    All {
        objects: Vec<Object>,
        at: u64,
        as_of: u64,
    },
    /// What changed, and the position after it.
    Changes(Vec<Change>, u64),
    Refused(Status),
}

impl Collection {
    /// Keeps so many changes, and as many as fit into so many bytes of former states. The newest is always kept.
    pub(super) fn new(history_max: usize, history_bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Loading,
                objects: BTreeMap::new(),
                changes: VecDeque::new(),
                first: 0,
                bytes: Held::default(),
                newest: 0,
            }),
            changed: watch::Sender::new(0),
            history_max: history_max.max(1),
            history_bytes_max,
        }
    }

    // --- the writer

    /// An object is there, or is this now. One that is known in this version changes nothing.
    pub(super) fn put(&self, object: Object) {
        self.change(|state| state.put(object));
    }

    /// An object is gone.
    pub(super) fn remove(&self, last: Object) {
        self.change(|state| state.remove(last));
    }

    /// These are all objects there are: what is not among them is gone since `version` at the latest.
    pub(super) fn replace(&self, objects: BTreeMap<ObjectKey, Object>, version: &str) {
        self.change(|state| {
            state.saw(&version.into());
            let gone: Vec<_> = state
                .objects
                .iter()
                .filter(|(key, _)| !objects.contains_key(*key))
                .map(|(_, object)| object.clone())
                .collect();
            for object in gone {
                state.remove(Object {
                    version: version.into(),
                    ..object
                });
            }
            if matches!(state.phase, Phase::Known) {
                for object in objects.into_values() {
                    state.put(object);
                }
            } else {
                state.bytes.bytes = objects.values().map(|object| object.body.len()).sum();
                state.objects = objects;
                state.phase = Phase::Known;
            }
        });
    }

    pub(super) fn refuse(&self, status: Status) {
        self.change(|state| state.phase = Phase::Refused(status));
    }

    /// The object as it is held, if that is the version: equal bytes need to be held only once.
    pub(super) fn same(&self, object: &Object) -> Option<Object> {
        let state = self.lock();
        let held = state.objects.get(&object.key)?;
        (held.version == object.version && held.uid == object.uid).then(|| held.clone())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        while state.changes.len() > self.history_max
            || (state.changes.len() > 1 && state.bytes.history_bytes > self.history_bytes_max)
        {
            if let Some(change) = state.changes.pop_front() {
                state.bytes.history_bytes -= change.former_bytes();
            }
            state.first += 1;
        }
        let end = state.end();
        drop(state);
        self.changed.send_replace(end);
    }

    // --- readers

    /// What came after a position; everything for a new reader, and for one that is too far behind.
    pub(super) fn read(&self, at: Option<u64>, max: usize) -> Reading {
        let state = self.lock();
        match &state.phase {
            Phase::Loading => return Reading::Nothing,
            Phase::Refused(status) => return Reading::Refused(status.clone()),
            Phase::Known => {}
        }
        let kept = at.and_then(|at| at.checked_sub(state.first));
        let Some(skip) = kept.and_then(|skip| usize::try_from(skip).ok()) else {
            return Reading::All {
                objects: state.objects.values().cloned().collect(),
                at: state.end(),
                as_of: state.newest,
            };
        };
        let changes: Vec<_> = state.changes.iter().skip(skip).take(max).cloned().collect();
        if changes.is_empty() {
            return Reading::Nothing;
        }
        let after = state.first + (skip + changes.len()) as u64;
        Reading::Changes(changes, after)
    }

    /// Is told of every change from now on.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self.lock().phase, Phase::Known)
    }

    pub(super) fn held(&self) -> Held {
        let state = self.lock();
        Held {
            objects: state.objects.len(),
            ..state.bytes
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn saw(&mut self, version: &ResourceVersion) {
        self.newest = self.newest.max(version.number().unwrap_or(0));
    }

    fn put(&mut self, object: Object) {
        self.saw(&object.version);
        let before = self.objects.insert(object.key.clone(), object.clone());
        self.bytes.bytes += object.body.len();
        self.bytes.bytes -= before.as_ref().map_or(0, |before| before.body.len());
        if before
            .as_ref()
            .is_some_and(|before| before.version == object.version && before.uid == object.uid)
        {
            return;
        }
        self.tell(Change {
            before,
            after: object,
            is_gone: false,
        });
    }

    fn remove(&mut self, last: Object) {
        self.saw(&last.version);
        if let Some(before) = self.objects.remove(&last.key) {
            self.bytes.bytes -= before.body.len();
            self.tell(Change {
                before: Some(before),
                after: last,
                is_gone: true,
            });
        }
    }

    fn tell(&mut self, change: Change) {
        self.bytes.history_bytes += change.former_bytes();
        self.changes.push_back(change);
    }

    fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }
}

/// Readers hold the collection, whoever else does.
pub(super) type Shared = Arc<Collection>;

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;

    use super::*;

    fn object(name: &str, version: &str) -> Object {
        Object {
            key: ObjectKey::new(GroupVersionResource::core("configmaps"), Some("d"), name),
            uid: name.into(),
            version: version.into(),
            body: bytes::Bytes::copy_from_slice(version.as_bytes()),
        }
    }

    fn objects(all: &[(&str, &str)]) -> BTreeMap<ObjectKey, Object> {
        let all = all.iter().map(|(name, version)| object(name, version));
        all.map(|object| (object.key.clone(), object)).collect()
    }

    fn changes(reading: Reading) -> (Vec<String>, u64) {
        let Reading::Changes(changes, at) = reading else {
            panic!("no changes")
        };
        let shown = changes.iter().map(|change| {
            let sign = if change.is_gone { '-' } else { '+' };
            format!("{sign}{}@{}", change.after.key.name, change.after.version)
        });
        (shown.collect(), at)
    }

    #[test]
    fn a_new_list_is_told_as_what_changed() {
        let collection = Collection::new(10, 1 << 20);
        assert!(matches!(collection.read(None, 9), Reading::Nothing));
        collection.replace(objects(&[("a", "1"), ("b", "2"), ("c", "3")]), "3");
        let Reading::All {
            objects: all,
            at,
            as_of,
        } = collection.read(None, 9)
        else {
            panic!()
        };
        assert_eq!((all.len(), as_of), (3, 3));
        assert!(matches!(collection.read(Some(at), 9), Reading::Nothing));
        collection.replace(objects(&[("a", "1"), ("c", "7"), ("d", "8")]), "9");
        let (told, at) = changes(collection.read(Some(at), 9));
        assert_eq!(told, ["-b@9", "+c@7", "+d@8"]);
        collection.put(object("a", "1"));
        collection.remove(object("x", "9"));
        assert!(
            matches!(collection.read(Some(at), 9), Reading::Nothing),
            "nothing new"
        );
    }

    #[test]
    fn a_slow_reader_begins_again() {
        let collection = Collection::new(2, 1 << 20);
        collection.replace(objects(&[]), "1");
        for version in ["2", "3", "4"] {
            collection.put(object("a", version));
        }
        collection.remove(object("a", "7"));
        let anew = collection.read(Some(0), 9);
        assert!(matches!(anew, Reading::All { objects, at: 4, as_of: 7 } if objects.is_empty()));
        assert_eq!(changes(collection.read(Some(2), 1)), (vec!["+a@4".into()], 3));
    }

    #[test]
    fn large_objects_that_change_all_the_time_are_not_kept_in_all_their_states() {
        let large = |version: usize| Object {
            body: vec![b'x'; 1000].into(),
            ..object("a", &version.to_string())
        };
        let collection = Collection::new(1000, 4000);
        collection.replace(objects(&[]), "1");
        for version in 2..500 {
            collection.put(large(version));
            let held = collection.held();
            assert_eq!((held.objects, held.bytes), (1, 1000));
            assert!(held.history_bytes <= 4000, "{held:?}");
        }
        assert_eq!(collection.held().history_bytes, 4000);
        assert_eq!(changes(collection.read(Some(497), 9)).0, ["+a@499"]);
        assert!(
            matches!(collection.read(Some(400), 9), Reading::All { .. }),
            "who is that slow begins again"
        );
        collection.remove(large(500));
        collection.put(large(501));
        let list = BTreeMap::from([("b", "502"), ("c", "503")].map(|(name, version)| {
            let object = object(name, version);
            (object.key.clone(), object)
        }));
        collection.replace(list, "504");
        let held = collection.held();
        assert_eq!((held.objects, held.bytes), (2, 6));
        assert!(held.history_bytes <= 4000, "{held:?}");
    }

    #[test]
    fn the_newest_change_is_kept_however_large_it_is() {
        let collection = Collection::new(10, 0);
        collection.replace(objects(&[("a", "1")]), "1");
        collection.put(object("a", "2"));
        collection.put(object("a", "3"));
        assert_eq!(changes(collection.read(Some(1), 9)).0, ["+a@3"]);
        assert!(matches!(collection.read(Some(0), 9), Reading::All { .. }));
    }

    #[test]
    fn a_refusal_is_what_everybody_reads() {
        let collection = Collection::new(2, 1 << 20);
        collection.refuse(Status::failure(hub_core::api::Reason::Forbidden, "no"));
        assert!(matches!(collection.read(None, 9), Reading::Refused(status) if status.code == 403));
    }
}
