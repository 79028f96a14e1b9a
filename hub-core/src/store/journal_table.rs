//! The order of a journal, and what gives way when it is full. A plain value.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Draft, JournalDepth, JournalEntry, JournalId, JournalLimits};
use crate::session::Lane;

/// The place of an entry: its lane, then the id of the first entry in its slot.
type Place = (Lane, JournalId);

/// What a journal holds, in the order in which it goes to the cloud.
#[derive(Debug, Clone)]
pub struct JournalTable {
    limits: JournalLimits,
    entries: BTreeMap<Place, JournalEntry>,
    keys: HashMap<Arc<str>, Place>,
    ids: HashMap<JournalId, Place>,
    next: u64,
    bytes: usize,
    dropped: u64,
}

/// What an append did, for the disk behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The new entry.
    pub id: JournalId,
    /// Where it stands among those of its lane: the id of the first entry in its slot.
    pub place: JournalId,
    /// The entry that it replaced, and those that made room.
    pub gone: Vec<JournalId>,
}

impl JournalTable {
    /// An empty table.
    pub fn new(limits: JournalLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            keys: HashMap::new(),
            ids: HashMap::new(),
            next: 1,
            bytes: 0,
            dropped: 0,
        }
    }

    /// Puts back an entry read from a disk, whatever the limits.
    pub fn restore(&mut self, entry: JournalEntry, place: JournalId) {
        self.next = self.next.max(entry.id.0.saturating_add(1));
        self.insert(entry, place);
    }

    /// Adds an entry, or gives it back when there is no room.
    pub fn append(&mut self, draft: Draft) -> Result<Appended, Box<Draft>> {
        let Some(victims) = self.victims(&draft) else {
            return Err(Box::new(draft));
        };
        let id = JournalId(self.next);
        self.next += 1;
        let mut gone = Vec::new();
        let mut place = id;
        let mut draft = draft;
        if let Some(&(lane, old_place)) = self.keys.get(&draft.key) {
            // The slot keeps its place, or improves it.
            draft.lane = draft.lane.min(lane);
            place = old_place;
            gone.extend(self.take((lane, old_place)));
        }
        for victim in victims {
            self.dropped += 1;
            gone.extend(self.take(victim));
        }
        self.insert(JournalEntry { id, draft }, place);
        Ok(Appended { id, place, gone })
    }

    /// Takes an entry out, if it is still there.
    pub fn remove(&mut self, id: JournalId) -> bool {
        match self.ids.get(&id) {
            Some(&place) => self.take(place).is_some(),
            None => false,
        }
    }

    /// The first entries.
    pub fn first(&self, max: usize) -> Vec<JournalEntry> {
        self.entries.values().take(max).cloned().collect()
    }

    /// All entries in order, each with the id of the first entry in its slot.
    pub fn places(&self) -> impl Iterator<Item = (&JournalEntry, JournalId)> {
        self.entries.iter().map(|((_, place), entry)| (entry, *place))
    }

    /// The entry with this id.
    pub fn get(&self, id: JournalId) -> Option<&JournalEntry> {
        self.entries.get(self.ids.get(&id)?)
    }

    /// What it holds.
    pub fn depth(&self) -> JournalDepth {
        JournalDepth {
            entries: self.entries.len(),
            bytes: self.bytes,
            dropped: self.dropped,
        }
    }

    /// The bulk entries that must go for `draft` to fit, oldest first. None when that would not help either.
    fn victims(&self, draft: &Draft) -> Option<Vec<Place>> {
        let replaced = self.keys.get(&draft.key);
        let freed = replaced.and_then(|place| self.entries.get(place));
        let mut entries = self.entries.len() + 1 - usize::from(freed.is_some());
        let mut bytes = self.bytes + size(draft) - freed.map_or(0, |entry| size(&entry.draft));
        let mut victims = Vec::new();
        let bulk = (Lane::Bulk, JournalId(0))..;
        let mut candidates = self
            .entries
            .range(bulk)
            .filter(|(place, _)| Some(*place) != replaced);
        while entries > self.limits.entries_max || bytes > self.limits.bytes_max {
            let (place, entry) = candidates.next()?;
            entries -= 1;
            bytes -= size(&entry.draft);
            victims.push(*place);
        }
        Some(victims)
    }

    fn insert(&mut self, entry: JournalEntry, place: JournalId) {
        let place = (entry.draft.lane, place);
        self.bytes += size(&entry.draft);
        self.keys.insert(entry.draft.key.clone(), place);
        self.ids.insert(entry.id, place);
        self.entries.insert(place, entry);
    }

    fn take(&mut self, place: Place) -> Option<JournalId> {
        let entry = self.entries.remove(&place)?;
        self.bytes -= size(&entry.draft);
        self.keys.remove(&entry.draft.key);
        self.ids.remove(&entry.id);
        Some(entry.id)
    }
}

fn size(draft: &Draft) -> usize {
    draft.frame.len() + draft.key.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn draft(key: &str, lane: Lane, size: usize) -> Draft {
        Draft {
            key: key.into(),
            lane,
            frame: Bytes::from(vec![b'x'; size]),
            created_ms: 0,
        }
    }

    fn keys(table: &JournalTable) -> Vec<String> {
        table
            .first(99)
            .iter()
            .map(|entry| entry.draft.key.to_string())
            .collect()
    }

    #[test]
    fn urgent_entries_come_first_and_a_replacement_keeps_or_improves_its_place() {
        let mut table = JournalTable::new(JournalLimits::default());
        let a = table.append(draft("a", Lane::Rest, 1)).unwrap();
        table.append(draft("b", Lane::Rest, 1)).unwrap();
        table.append(draft("c", Lane::Urgent, 1)).unwrap();
        assert_eq!(keys(&table), ["c", "a", "b"]);
        let newer = table.append(draft("a", Lane::Rest, 2)).unwrap();
        assert_eq!(keys(&table), ["c", "a", "b"]);
        assert_eq!(newer.gone, [a.id]);
        assert!(!table.remove(a.id), "it was replaced meanwhile");
        table.append(draft("b", Lane::Urgent, 1)).unwrap();
        assert_eq!(keys(&table), ["b", "c", "a"], "its slot is older than that of c");
        table.append(draft("b", Lane::Bulk, 1)).unwrap();
        assert_eq!(keys(&table), ["b", "c", "a"]);
        assert!(table.remove(newer.id));
        assert_eq!(keys(&table), ["b", "c"]);
    }

    #[test]
    fn a_full_journal_drops_the_oldest_bulk_and_gives_anything_else_back() {
        let mut table = JournalTable::new(JournalLimits {
            entries_max: 3,
            bytes_max: 100,
        });
        for key in ["e1", "e2"] {
            table.append(draft(key, Lane::Bulk, 30)).unwrap();
        }
        table.append(draft("a", Lane::Own, 30)).unwrap();
        table.append(draft("b", Lane::Own, 30)).unwrap();
        assert_eq!(keys(&table), ["a", "b", "e2"]);
        table.append(draft("c", Lane::Rest, 30)).unwrap();
        assert_eq!(table.depth().dropped, 2);
        let back = table.append(draft("d", Lane::Urgent, 1)).unwrap_err();
        assert_eq!(&*back.key, "d");
        assert_eq!(keys(&table), ["a", "b", "c"]);
        assert!(table.append(draft("a", Lane::Own, 1000)).is_err());
        table.append(draft("a", Lane::Own, 2)).unwrap();
    }

    proptest! {
        #[test]
        fn counts_and_indexes_agree_whatever_comes(
            steps in prop::collection::vec((0u8..6, 0usize..4, 0usize..40, 0u64..30), 0..80),
        ) {
            let limits = JournalLimits { entries_max: 4, bytes_max: 80 };
            let mut table = JournalTable::new(limits);
            for (key, lane, size, removed) in steps {
                let lane = [Lane::Urgent, Lane::Own, Lane::Rest, Lane::Bulk][lane];
                let key = key.to_string();
                if let Ok(appended) = table.append(draft(&key, lane, size)) {
                    prop_assert_eq!(&*table.get(appended.id).unwrap().draft.key, key.as_str());
                    prop_assert!(appended.gone.iter().all(|id| table.get(*id).is_none()));
                }
                table.remove(JournalId(removed));
                let depth = table.depth();
                prop_assert!(depth.entries <= limits.entries_max && depth.bytes <= limits.bytes_max);
                prop_assert_eq!(depth.bytes, table.first(99).iter().map(|e| super::size(&e.draft)).sum::<usize>());
                prop_assert_eq!((table.keys.len(), table.ids.len()), (depth.entries, depth.entries));
            }
        }
    }
}
