//! A stock edge: what it is known to hold, and what it must still hear of it. A plain value.
//!
//! A stock edge never says what it holds and stores objects by name, whatever their uid. So it is compared by its records, and an
//! object waits until the deletion of its predecessor of the same name is acknowledged: a deletion that is sent again can then
//! never hit the successor.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use hub_core::object::{Object, ObjectKey, ResourceVersion};

use super::dirty::Queue;
use super::granted::Granted;
use super::index::What;
use super::listed::Listed;
use super::models::Models;
use crate::records::{Recorded, SyncRecord};

/// What is known of the object that has a key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    There(Arc<Object>),
    Absent,
    /// Not all of its collection is known.
    Unknown,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// The node's records, from when they are read until they are compared.
    pub(super) recalled: Option<Vec<SyncRecord>>,
    /// Whether they will be read again in a moment.
    pub(super) is_recalled_soon: bool,
    /// How often reading them failed.
    pub(super) failures: u32,
    /// Whether the edge may have lost its database: nothing counts as acknowledged.
    pub(super) doubted: bool,
    /// Whether everything was sent on this very connection.
    pub(super) told_everything: bool,
    /// Until when nobody waits for intentions to be written.
    pub(super) unrecorded_until: Option<Instant>,
    /// When that of the records which the node has no right to any more is to be deleted. None before the comparison.
    pub(super) surplus_at: Option<Instant>,
    /// Records of what the node does not need as far as is known; a watch may still ask for it.
    kept: BTreeMap<ObjectKey, Vec<SyncRecord>>,
    /// What is to be deleted once the deletion of another object of its name is acknowledged.
    next: HashMap<ObjectKey, Vec<Recorded>>,
    /// The watches that wait for what they show first.
    pub(super) granted: Granted,
    /// What its clients were shown.
    pub(super) listed: Listed,
    /// The DeviceModels that devices wait for.
    pub(super) models: Models,
    /// The uids whose deletion was handed to the session and is not acknowledged.
    deleting: HashMap<ObjectKey, Vec<Arc<str>>>,
}

impl Stock {
    /// Queues what the node lacks of what it should hold, and what it holds and does not exist.
    ///
    /// `index` tells the object that now has a key, needed or not, as far as its collection is known. Returns the records of objects
    /// about which it knows nothing.
    pub(super) fn compare(
        &mut self,
        records: Vec<SyncRecord>,
        wanted: &BTreeMap<ObjectKey, Arc<Object>>,
        queue: &mut Queue,
        index: impl Fn(&ObjectKey) -> Now,
    ) -> Vec<Recorded> {
        let had_records = !records.is_empty();
        let mut held: HashMap<ObjectKey, Vec<SyncRecord>> = HashMap::with_capacity(records.len());
        for record in records {
            held.entry(record.object.key.clone()).or_default().push(record);
        }
        let mut unknown = Vec::new();
        // What is gone makes room first.
        let surplus = held
            .extract_if(|key, _| !wanted.contains_key(key))
            .collect::<Vec<_>>();
        for (key, records) in surplus {
            let now = index(&key);
            let stays = |record: &SyncRecord| match &now {
                Now::There(object) => record.object.uid == object.uid,
                Now::Absent => false,
                Now::Unknown => true,
            };
            let (kept, stale): (Vec<_>, Vec<_>) = records.into_iter().partition(stays);
            if matches!(now, Now::Unknown) {
                unknown.extend(kept.iter().map(|record| record.object.clone()));
            }
            if !kept.is_empty() {
                self.kept.insert(key, kept);
            }
            self.delete(stale, queue);
        }
        for (key, object) in wanted {
            let records = held.remove(key).unwrap_or_default();
            if let Some(what) = self.meet(object, records, queue) {
                queue.mark(key.clone(), what, None);
            }
        }
        self.told_everything = !had_records;
        unknown
    }

    /// The node is to get an object that it may have had before: what it must be told. None when it holds it already.
    pub(super) fn wants(
        &mut self,
        key: &ObjectKey,
        object: &Object,
        what: What,
        queue: &mut Queue,
    ) -> Option<What> {
        match self.kept.remove(key) {
            Some(records) => self.meet(object, records, queue),
            None => Some(what),
        }
    }

    fn meet(&mut self, object: &Object, records: Vec<SyncRecord>, queue: &mut Queue) -> Option<What> {
        let (same, others): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.object.uid == object.uid);
        let put = |fresh| What::Put {
            fresh,
            previous: None,
        };
        if !others.is_empty() {
            // Deleting those may take this one along.
            self.delete(others, queue);
            return Some(put(true));
        }
        match same.into_iter().next() {
            None => Some(put(true)),
            Some(record) => match record.version.filter(|_| !self.doubted) {
                Some(acked) if is_as_new(&acked, &object.version) => None,
                _ => Some(put(false)),
            },
        }
    }

    /// Of several objects of one name each is deleted in its turn.
    fn delete(&mut self, stale: Vec<SyncRecord>, queue: &mut Queue) {
        let mut stale = stale.into_iter().map(|record| record.object);
        if let Some(object) = stale.next() {
            queue.surplus(deletion(&object));
            for later in stale {
                self.next.entry(later.key.clone()).or_default().push(later);
            }
        }
    }

    /// It was found that these do not exist.
    pub(super) fn gone(&mut self, gone: &[Recorded], queue: &mut Queue) {
        for object in gone {
            if let Some(records) = self.kept.remove(&object.key) {
                let (stale, kept): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|record| record.object == *object);
                if !kept.is_empty() {
                    self.kept.insert(object.key.clone(), kept);
                }
                self.delete(stale, queue);
            }
        }
    }

    /// No watch asked for the rest: what a node may hold only with a right to it is deleted, where `is_owned` says so. Copies of other
    /// kinds stay, as a stock edge keeps what its clients once watched.
    pub(super) fn delete_surplus(&mut self, is_owned: impl Fn(&ObjectKey) -> bool, queue: &mut Queue) {
        let keys: Vec<_> = self.kept.keys().filter(|key| is_owned(key)).cloned().collect();
        for key in keys {
            if let Some(records) = self.kept.remove(&key) {
                self.delete(records, queue);
            }
        }
    }

    /// What is kept, of the kinds that `is_unknown` names.
    pub(super) fn kept(&self, is_unknown: impl Fn(&ObjectKey) -> bool) -> Vec<Recorded> {
        let unknown = self.kept.iter().filter(|(key, _)| is_unknown(key));
        unknown
            .flat_map(|(_, records)| records.iter().map(|record| record.object.clone()))
            .collect()
    }

    /// The edge may have lost its database.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
        for record in self.kept.values_mut().flatten() {
            record.version = None;
        }
    }

    /// A deletion was handed to the session.
    pub(super) fn deletes(&mut self, key: &ObjectKey, uid: &Arc<str>) {
        let uids = self.deleting.entry(key.clone()).or_default();
        if !uids.contains(uid) {
            uids.push(uid.clone());
        }
    }

    /// A deletion counts no more: it is acknowledged, was not taken, or something newer took its place. False when it did not count.
    pub(super) fn deletes_no_more(&mut self, key: &ObjectKey, uid: &str) -> bool {
        let Some(uids) = self.deleting.get_mut(key) else {
            return false;
        };
        let before = uids.len();
        uids.retain(|known| **known != *uid);
        let found = uids.len() < before;
        if uids.is_empty() {
            self.deleting.remove(key);
        }
        found
    }

    /// A deletion is acknowledged: another object of this name may be waiting for its own.
    pub(super) fn delete_next(&mut self, key: &ObjectKey, queue: &mut Queue) {
        let Some(waiting) = self.next.get_mut(key) else {
            return;
        };
        if let Some(object) = waiting.pop() {
            queue.surplus(deletion(&object));
        }
        if waiting.is_empty() {
            self.next.remove(key);
        }
    }

    /// Whether something of this name must be acknowledged as deleted before an object with this uid may go.
    pub(super) fn is_held_up(&self, key: &ObjectKey, uid: Option<&str>) -> bool {
        let uids = self.deleting.get(key);
        uids.is_some_and(|uids| uids.iter().any(|deleting| Some(&**deleting) != uid))
    }
}

/// The least that KubeEdge itself sends to delete what it only knows by its record (§4.7).
fn deletion(object: &Recorded) -> Object {
    let mut metadata = json!({ "name": &*object.key.name, "uid": &*object.uid });
    if let Some(namespace) = &object.key.namespace {
        metadata["namespace"] = (&**namespace).into();
    }
    Object {
        key: object.key.clone(),
        uid: object.uid.clone(),
        version: "".into(),
        body: json!({ "metadata": metadata }).to_string().into(),
    }
}

/// Whether who acknowledged the one needs not be sent the other. A version that is no number is compared as text.
fn is_as_new(acked: &ResourceVersion, version: &ResourceVersion) -> bool {
    match (acked.number(), version.number()) {
        (Some(acked), Some(version)) => acked >= version,
        _ => acked == version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub_core::object::GroupVersionResource;

    fn object(resource: &str, name: &str, uid: &str, version: &str) -> Arc<Object> {
        Arc::new(Object {
            key: ObjectKey::new(GroupVersionResource::core(resource), Some("d"), name),
            uid: uid.into(),
            version: version.into(),
            body: "{}".into(),
        })
    }

    fn record(object: &Object, uid: &str, version: Option<&str>) -> SyncRecord {
        SyncRecord {
            object: Recorded {
                key: object.key.clone(),
                uid: uid.into(),
                kind: "Kind".into(),
            },
            version: version.map(Into::into),
        }
    }

    /// What a node is told that has these records of one object, which is there with uid `u` and version 7.
    fn told(records: &[(&str, Option<&str>)]) -> Option<(bool, Option<Arc<str>>)> {
        let object = object("configmaps", "c", "u", "7");
        let records = records
            .iter()
            .map(|(uid, version)| record(&object, uid, *version));
        let wanted = BTreeMap::from([(object.key.clone(), object.clone())]);
        let (mut stock, mut queue) = (Stock::default(), Queue::default());
        stock.compare(records.collect(), &wanted, &mut queue, |_| Now::Absent);
        let (_, dirty) = queue.take(9, |_, _| true).pop()?;
        Some((dirty.fresh, dirty.gone.map(|gone| gone.uid.clone())))
    }

    #[test]
    fn an_object_is_told_by_what_its_record_says() {
        assert_eq!(told(&[]), Some((true, None)), "it never had it");
        assert_eq!(told(&[("u", None)]), Some((false, None)), "perhaps it has it");
        assert_eq!(told(&[("u", Some("6"))]), Some((false, None)));
        assert_eq!(told(&[("u", Some("7"))]), None);
        assert_eq!(
            told(&[("u", Some("10"))]),
            None,
            "somebody told it more than is known here"
        );
        assert_eq!(told(&[("u", Some("no number"))]), Some((false, None)));
        assert_eq!(told(&[("old", Some("3"))]), Some((true, Some("old".into()))));
        assert_eq!(
            told(&[("old", Some("3")), ("u", Some("7"))]),
            Some((true, Some("old".into()))),
            "the deletion of the one may take the other along"
        );
    }

    #[test]
    fn objects_of_one_name_are_deleted_one_after_the_other() {
        let object = object("pods", "p", "", "");
        let records = ["a", "b", "c"].map(|uid| record(&object, uid, None));
        let (mut stock, mut queue) = (Stock::default(), Queue::default());
        stock.compare(records.to_vec(), &BTreeMap::new(), &mut queue, |_| Now::Absent);
        let mut deleted = Vec::new();
        while let Some((key, dirty)) = queue.take(9, |_, _| true).pop() {
            let uid = dirty.gone.unwrap().uid.clone();
            stock.deletes(&key, &uid);
            assert!(stock.is_held_up(&key, Some("new")) && !stock.is_held_up(&key, Some(&uid)));
            assert!(stock.deletes_no_more(&key, &uid) && !stock.deletes_no_more(&key, &uid));
            stock.delete_next(&key, &mut queue);
            deleted.push(uid);
        }
        deleted.sort();
        assert_eq!(deleted, ["a".into(), "b".into(), "c".into()]);
        assert!(stock.next.is_empty() && stock.deleting.is_empty());
    }

    #[test]
    fn to_compare_ten_thousand_objects_costs_ten_times_a_thousand() {
        let cost = |count: usize| {
            let objects = (0..count).map(|n| object("configmaps", &format!("c{n}"), &format!("u{n}"), "7"));
            let wanted: BTreeMap<_, _> = objects.map(|object| (object.key.clone(), object)).collect();
            let records = wanted
                .values()
                .map(|object| record(object, &object.uid, Some("7")));
            let records: Vec<_> = records.collect();
            let (mut stock, mut queue) = (Stock::default(), Queue::default());
            let started = Instant::now();
            stock.compare(records, &wanted, &mut queue, |_| Now::Absent);
            assert!(queue.is_empty() && stock.kept.is_empty());
            started.elapsed()
        };
        // The best of some, as others use this machine too.
        let best = |count| (0..5).map(|_| cost(count)).min().unwrap();
        let (small, large) = (best(1_000), best(10_000));
        assert!(
            large < small * 40,
            "{small:?} {large:?}: a hundredfold would be quadratic"
        );
    }
}
