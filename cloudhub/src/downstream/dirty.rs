//! What a node must still be told, one entry an object, in the order in which it should be told.
//!
//! The queue holds keys, not messages: a message is made of the object's state when its turn comes. So a queue is never longer than
//! the node's objects are many, and a node that is slow is told the newest state only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use hub_core::object::{Object, ObjectKey};

use super::index::What;
use super::kinds::{Kind, kind};

/// An object whose state a node must be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// Whether the node does not have it yet.
    pub(crate) fresh: bool,
    /// The body that the node was told last.
    pub(crate) previous: Option<Bytes>,
    /// The state that the node was told last, where it is to be deleted.
    pub(crate) gone: Option<Arc<Object>>,
    /// Whether what was delivered before is to be forgotten: the node says that it does not hold it.
    pub(crate) force: bool,
    /// When it must go, be its dependencies known or not.
    pub(crate) latest: Option<Instant>,
}

/// See the [module](self). Empty, it owns no memory.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    turns: BTreeMap<(u8, u64), ObjectKey>,
    entries: HashMap<ObjectKey, (u8, u64, Dirty)>,
    count: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Something about an object must be told.
    pub(crate) fn mark(&mut self, key: ObjectKey, what: What, latest: Option<Instant>) {
        let (fresh, previous, gone) = match what {
            What::Put { fresh, previous } => (fresh, previous, None),
            What::Gone(object) => (false, None, Some(object)),
        };
        self.add(
            key,
            Dirty {
                fresh,
                previous,
                gone,
                force: false,
                latest,
            },
        );
    }

    /// The node says that it lacks this object.
    pub(crate) fn lacks(&mut self, key: ObjectKey) {
        self.add(
            key,
            Dirty {
                fresh: true,
                force: true,
                ..Dirty::default()
            },
        );
    }

    /// The node says that it holds this object, which it should not.
    pub(crate) fn surplus(&mut self, object: Object) {
        let gone = Some(Arc::new(object));
        let key = gone.as_ref().map(|object| object.key.clone());
        if let Some(key) = key {
            self.add(
                key,
                Dirty {
                    gone,
                    force: true,
                    ..Dirty::default()
                },
            );
        }
    }

    /// Puts back what could not be told.
    pub(crate) fn add(&mut self, key: ObjectKey, dirty: Dirty) {
        let wanted_rank = rank(&key, dirty.gone.is_some());
        if let Some((rank, turn, known)) = self.entries.get_mut(&key) {
            if wanted_rank < *rank {
                self.turns.remove(&(*rank, *turn));
                *rank = wanted_rank;
                self.turns.insert((*rank, *turn), key);
            }
            // The oldest state is the one that the node has.
            known.fresh |= dirty.fresh;
            known.force |= dirty.force;
            known.previous = known.previous.take().or(dirty.previous);
            known.gone = known.gone.take().or(dirty.gone);
            known.latest = known.latest.or(dirty.latest);
            return;
        }
        self.count += 1;
        self.turns.insert((wanted_rank, self.count), key.clone());
        self.entries.insert(key, (wanted_rank, self.count, dirty));
    }

    /// Takes up to `max` entries of which `may_go` says yes.
    pub(crate) fn take(
        &mut self,
        max: usize,
        mut may_go: impl FnMut(&ObjectKey, &Dirty) -> bool,
    ) -> Vec<(ObjectKey, Dirty)> {
        let mut turns = Vec::new();
        for (turn, key) in &self.turns {
            if turns.len() == max {
                break;
            }
            if self
                .entries
                .get(key)
                .is_some_and(|(_, _, dirty)| may_go(key, dirty))
            {
                turns.push(*turn);
            }
        }
        let taken = turns.into_iter().filter_map(|turn| {
            let key = self.turns.remove(&turn)?;
            let (_, _, dirty) = self.entries.remove(&key)?;
            Some((key, dirty))
        });
        let taken = taken.collect();
        if self.entries.is_empty() {
            *self = Self {
                count: self.count,
                ..Self::default()
            };
        }
        taken
    }

    /// What there is something to tell about.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.entries.keys()
    }

    /// Whether there is something to tell about an object.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.entries.contains_key(key)
    }

    /// What there is to tell about devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (&ObjectKey, &Dirty)> {
        let entries = self.entries.iter();
        entries
            .filter(|(key, _)| kind(key) == Kind::Device)
            .map(|(key, (_, _, dirty))| (key, dirty))
    }

    /// The earliest instant after `now` at which an entry must go. What must have gone before waits for something else.
    pub(crate) fn latest(&self, now: Instant) -> Option<Instant> {
        let latest = self.entries.values().filter_map(|(_, _, dirty)| dirty.latest);
        latest.filter(|latest| *latest > now).min()
    }
}

/// Dependencies before the pods that need them; what goes away goes after what needed it.
fn rank(key: &ObjectKey, gone: bool) -> u8 {
    match (kind(key), gone) {
        (Kind::Node, _) => 0,
        // The node knows the kinds of what follows by them.
        (Kind::Other, false) if &*key.resource.resource == "customresourcedefinitions" => 0,
        (Kind::Config | Kind::Model | Kind::Access, false) => 1,
        (Kind::Pod | Kind::Device, _) => 2,
        (Kind::Config | Kind::Model | Kind::Access, true) => 3,
        (Kind::Other, _) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub_core::object::GroupVersionResource;

    fn key(resource: &str, name: &str) -> ObjectKey {
        ObjectKey::new(GroupVersionResource::core(resource), Some("d"), name)
    }

    fn put() -> What {
        What::Put {
            fresh: true,
            previous: None,
        }
    }

    #[test]
    fn configs_go_before_the_pods_that_need_them() {
        let mut queue = Queue::default();
        queue.mark(key("services", "s"), put(), None);
        queue.mark(key("pods", "p"), put(), None);
        queue.mark(key("secrets", "x"), put(), None);
        queue.mark(key("configmaps", "c"), put(), None);
        let order: Vec<_> = queue
            .take(9, |_, _| true)
            .into_iter()
            .map(|(key, _)| key.name.to_string())
            .collect();
        assert_eq!(order, ["x", "c", "p", "s"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_object_is_queued_once_and_its_oldest_state_is_kept() {
        let mut queue = Queue::default();
        let previous = |text: &'static [u8]| What::Put {
            fresh: false,
            previous: Some(Bytes::from_static(text)),
        };
        queue.mark(key("pods", "p"), previous(b"1"), None);
        queue.mark(key("pods", "p"), previous(b"2"), None);
        let taken = queue.take(9, |_, _| true);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].1.previous.as_deref(), Some(b"1".as_slice()));
    }

    #[test]
    fn what_may_not_go_yet_stays_and_holds_up_nobody() {
        let mut queue = Queue::default();
        queue.mark(key("pods", "a"), put(), Some(Instant::now()));
        queue.mark(key("pods", "b"), put(), None);
        let taken = queue.take(9, |key, _| &*key.name == "b");
        assert_eq!(taken.len(), 1);
        assert!(!queue.is_empty());
        let before = Instant::now().checked_sub(std::time::Duration::from_secs(1));
        assert!(queue.latest(before.unwrap()).is_some());
        assert_eq!(queue.latest(Instant::now()), None, "a timer would do nothing");
    }
}
