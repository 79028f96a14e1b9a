//! Deletions that are too many to be believed at once (metaserver goal G.6, "mass change guard").
//!
//! A cloud that lost its data, or whose API server answers with nothing, says that everything is gone. A node that believes it
//! stops its pods. So what a catch-up or a list would delete of a collection is weighed first: a large share of it is held back,
//! shown, and done only when a second look, some time later, says the same, or when an operator says so. What the cloud tells of
//! one object at a time, as it happens, is never held back.
//!
//! ```text
//!   catch-up, list ──► weigh ── few ──────────────► store
//!                        └─ many ──► held back ──► second look still says so, or `meta allow` ──► store
//!                                        └────────► the cloud has the objects again: forgotten
//! ```
//!
//! Nothing of this is on the disk: the objects are, and the next look finds the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::{HeldBack, Scope};
use hub_core::store::{Change, ObjectStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;

/// When deletions are too many to be believed at once: at least so many objects, and at least such a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassDeletion {
    /// Objects. Fewer are always believed.
    pub objects_min: usize,
    /// Percent of the objects that are held of the scope. Less is always believed.
    pub percent_min: usize,
    /// How long after the first look a second one counts. None: only an operator may confirm.
    pub second_look: Option<Duration>,
}

impl Default for MassDeletion {
    fn default() -> Self {
        Self {
            objects_min: 20,
            percent_min: 50,
            second_look: Some(Duration::from_secs(60)),
        }
    }
}

impl MassDeletion {
    fn is(&self, deletions: usize, held: usize) -> bool {
        deletions >= self.objects_min.max(1)
            && deletions.saturating_mul(100) >= held.saturating_mul(self.percent_min)
    }
}

/// What is held back, for all who must know of it.
pub(crate) struct Doubts {
    config: MassDeletion,
    metrics: Metrics,
    state: Mutex<State>,
    told: watch::Sender<Arc<[HeldBack]>>,
    /// An operator allowed something: what is complete now is found by another look.
    again: Notify,
}

#[derive(Default)]
struct State {
    /// What the catch-up that runs wants deleted. None while none runs.
    collected: Option<BTreeMap<ObjectKey, Change>>,
    /// Whether the cloud is being asked: what it deletes then is still to come.
    asking: bool,
    doubts: BTreeMap<Scope, Doubt>,
}

struct Doubt {
    deletions: BTreeMap<ObjectKey, Change>,
    held: usize,
    since: Instant,
    since_ms: i64,
}

/// What becomes of the deletions of a catch-up.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// To be done.
    pub(crate) deletions: Vec<Change>,
    /// The collections of which some are held back. They are not complete.
    pub(crate) doubted: BTreeSet<GroupVersionResource>,
    /// All that was weighed.
    keys: Vec<ObjectKey>,
}

impl Doubts {
    pub(crate) fn new(config: MassDeletion, metrics: Metrics) -> Self {
        Self {
            config,
            metrics,
            state: Mutex::default(),
            told: watch::channel(Arc::from(Vec::new())).0,
            again: Notify::new(),
        }
    }

    pub(crate) fn held_back(&self) -> watch::Receiver<Arc<[HeldBack]>> {
        self.told.subscribe()
    }

    /// A connection begins. What an earlier one said and did not finish may be wrong by now.
    pub(crate) fn begin_connection(&self) {
        self.lock().collected = None;
    }

    /// A catch-up begins: what it deletes is collected until its end.
    pub(crate) fn begin_catch_up(&self) {
        let mut state = self.lock();
        state.asking = true;
        state.collected.get_or_insert_default();
    }

    /// The cloud has answered. Where something differs, what it deletes follows, and then the end.
    pub(crate) fn asked(&self, differs: bool) {
        let mut state = self.lock();
        state.asking = false;
        if !differs {
            state.collected = None;
        }
    }

    /// Takes a deletion that a catch-up found, if one runs. It is known by its version, which only a deletion that is told as
    /// it happens has. An acknowledgement may go out: the object is still on the disk, and the next catch-up finds it again.
    pub(crate) fn collect(&self, change: &Change) -> bool {
        let Change::Delete {
            key, version: None, ..
        } = change
        else {
            return false;
        };
        match &mut self.lock().collected {
            Some(collected) => {
                collected.insert(key.clone(), change.clone());
                true
            }
            None => false,
        }
    }

    /// The cloud has the object, or says now that it is gone.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        let mut state = self.lock();
        if let Some(collected) = &mut state.collected {
            collected.remove(key);
        }
        let mut touched = false;
        for doubt in state.doubts.values_mut() {
            touched |= doubt.deletions.remove(key).is_some();
        }
        if touched {
            state.doubts.retain(|_, doubt| !doubt.deletions.is_empty());
            self.tell(&state);
        }
    }

    /// A catch-up ends: all that it deletes was collected. What was `denied` to this node goes without a doubt.
    pub(crate) fn settle(&self, store: &dyn ObjectStore, denied: &BTreeSet<GroupVersionResource>) -> Settled {
        // It stays collected until it is done: a disk that refuses hears of the same end again.
        let collected = self.lock().collected.clone().unwrap_or_default();
        let mut collections: BTreeMap<GroupVersionResource, BTreeMap<ObjectKey, Change>> = BTreeMap::new();
        for (key, change) in collected {
            let of = collections.entry(key.resource.clone()).or_default();
            of.insert(key, change);
        }
        {
            // What no longer differs is in doubt no more.
            let mut state = self.lock();
            let before = state.doubts.len();
            state
                .doubts
                .retain(|scope, _| collections.contains_key(&scope.resource));
            if state.doubts.len() != before {
                tracing::info!("the cloud has again what it seemed to have lost; nothing was deleted");
                self.tell(&state);
            }
        }
        let mut settled = Settled {
            keys: collections.values().flat_map(BTreeMap::keys).cloned().collect(),
            ..Settled::default()
        };
        for (resource, deletions) in collections {
            if denied.contains(&resource) {
                settled.deletions.extend(deletions.into_values());
                continue;
            }
            let objects = store.list(&resource, None).objects;
            let held = objects
                .iter()
                .filter(|stored| !stored.object.version.as_str().is_empty());
            match self.weigh(&Scope::all(resource.clone()), deletions, held.count()) {
                Some(deletions) => settled.deletions.extend(deletions),
                None => {
                    settled.doubted.insert(resource);
                }
            }
        }
        settled
    }

    /// What was settled is on the disk.
    pub(crate) fn done(&self, settled: &Settled) {
        let mut state = self.lock();
        // The end of one catch-up may come when the next is under way.
        if !state.asking {
            state.collected = None;
        } else if let Some(collected) = &mut state.collected {
            for key in &settled.keys {
                collected.remove(key);
            }
        }
    }

    /// The deletions that may be done of those that would leave a scope without objects that it holds. None holds them back.
    pub(crate) fn weigh(
        &self,
        scope: &Scope,
        deletions: BTreeMap<ObjectKey, Change>,
        held: usize,
    ) -> Option<Vec<Change>> {
        let mut state = self.lock();
        let count = deletions.len();
        let known = state.doubts.get(scope).map(|doubt| (doubt.since, doubt.since_ms));
        let is_confirmed = |since: Instant| {
            let pause = self.config.second_look;
            pause.is_some_and(|pause| since.elapsed() >= pause)
        };
        match known {
            _ if !self.config.is(count, held) => {}
            Some((since, _)) if is_confirmed(since) => {
                tracing::warn!(%scope, deletions = count, held, "a second look confirms the deletions that were held back");
                self.metrics.deletions_confirmed.inc_by(count as u64);
            }
            known => {
                if known.is_none() {
                    tracing::error!(
                        %scope, deletions = count, held, second_look = ?self.config.second_look,
                        "the cloud seems to have lost most of what this node holds; the deletions are held back until \
                         they are confirmed, by a second look or with edgecore meta allow"
                    );
                }
                let (since, since_ms) = known.unwrap_or_else(|| (Instant::now(), SystemClock.unix_ms()));
                let doubt = Doubt {
                    deletions,
                    held,
                    since,
                    since_ms,
                };
                state.doubts.insert(scope.clone(), doubt);
                self.tell(&state);
                return None;
            }
        }
        if state.doubts.remove(scope).is_some() {
            self.tell(&state);
        }
        Some(deletions.into_values().collect())
    }

    /// An operator believes the cloud: the deletions of a scope, or of all for the empty text, are given out to be done.
    pub(crate) fn allow(&self, scope: &str) -> Vec<Change> {
        let mut state = self.lock();
        let is_meant = |held: &Scope| scope.is_empty() || held.to_string() == scope;
        let meant: Vec<_> = state
            .doubts
            .keys()
            .filter(|held| is_meant(held))
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for scope in &meant {
            if let Some(doubt) = state.doubts.remove(scope) {
                tracing::warn!(%scope, deletions = doubt.deletions.len(), "an operator allows the deletions that were held back");
                self.metrics
                    .deletions_confirmed
                    .inc_by(doubt.deletions.len() as u64);
                changes.extend(doubt.deletions.into_values());
            }
        }
        self.tell(&state);
        changes
    }

    /// The cloud should be looked at anew.
    pub(crate) fn look_again(&self) {
        self.again.notify_one();
    }

    /// Resolves when it is time for another look, after the one that was made at `looked`.
    pub(crate) async fn due(&self, looked: Instant) {
        let mut told = self.told.subscribe();
        loop {
            let earliest = self.lock().doubts.values().map(|doubt| doubt.since).min();
            let at = earliest.zip(self.config.second_look);
            let second_look = async {
                match at {
                    Some((since, pause)) => sleep_until(since.max(looked) + pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.again.notified() => return,
                () = second_look => return,
                _ = told.changed() => {}
            }
        }
    }

    fn tell(&self, state: &State) {
        let held_back = state.doubts.iter().map(|(scope, doubt)| HeldBack {
            scope: scope.clone(),
            deletions: doubt.deletions.len(),
            held: doubt.held,
            since_ms: doubt.since_ms,
            second_look_ms: self.config.second_look.map(|pause| {
                let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
                doubt.since_ms.saturating_add(pause)
            }),
        });
        let held_back: Vec<_> = held_back.collect();
        let deletions: usize = held_back.iter().map(|held| held.deletions).sum();
        self.metrics.deletions_held_back.set(deletions as i64);
        self.told.send_replace(held_back.into());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Scope {
        Scope::all(GroupVersionResource::core("pods"))
    }

    fn deletions(count: usize) -> BTreeMap<ObjectKey, Change> {
        let deletion = |n: usize| {
            let key = ObjectKey::new(pods().resource, Some("shop"), &format!("p{n}"));
            let change = Change::Delete {
                key: key.clone(),
                uid: None,
                version: None,
            };
            (key, change)
        };
        (0..count).map(deletion).collect()
    }

    fn doubts(second_look: Option<Duration>) -> Doubts {
        let config = MassDeletion {
            second_look,
            ..MassDeletion::default()
        };
        Doubts::new(config, Metrics::default())
    }

    #[tokio::test(start_paused = true)]
    async fn few_objects_or_a_small_share_are_believed_at_once() {
        let doubts = doubts(None);
        for (count, held) in [(19, 19), (20, 41), (0, 0), (499, 1000)] {
            let believed = doubts.weigh(&pods(), deletions(count), held);
            assert_eq!(
                believed.map(|believed| believed.len()),
                Some(count),
                "{count} of {held}"
            );
        }
        assert!(doubts.held_back().borrow().is_empty());
        assert!(doubts.weigh(&pods(), deletions(20), 40).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_look_confirms_only_some_time_later() {
        let pause = Duration::from_secs(60);
        let doubts = doubts(Some(pause));
        assert!(doubts.weigh(&pods(), deletions(30), 30).is_none());
        assert!(
            doubts.weigh(&pods(), deletions(30), 30).is_none(),
            "at once is no second look"
        );
        let looked = Instant::now();
        doubts.due(looked).await;
        assert_eq!(looked.elapsed(), pause);
        assert_eq!(doubts.weigh(&pods(), deletions(30), 30).unwrap().len(), 30);
        assert!(doubts.held_back().borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_cloud_has_again_is_forgotten_and_a_later_doubt_begins_anew() {
        let doubts = doubts(Some(Duration::from_secs(60)));
        assert!(doubts.weigh(&pods(), deletions(30), 30).is_none());
        for key in deletions(29).keys() {
            doubts.forget(key);
        }
        assert_eq!(doubts.held_back().borrow()[0].deletions, 1);
        assert_eq!(doubts.weigh(&pods(), deletions(0), 30).unwrap().len(), 0);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(doubts.weigh(&pods(), deletions(30), 30).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_second_look_only_an_operator_confirms() {
        let doubts = doubts(None);
        assert!(doubts.weigh(&pods(), deletions(30), 30).is_none());
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(doubts.weigh(&pods(), deletions(30), 30).is_none());
        assert!(doubts.allow("/api/v1/secrets").is_empty());
        assert_eq!(doubts.allow("/api/v1/pods").len(), 30);
        assert!(doubts.allow("").is_empty() && doubts.held_back().borrow().is_empty());
    }

    #[test]
    fn only_a_catch_up_is_collected_and_only_what_it_found() {
        let doubts = doubts(None);
        let change = deletions(1).into_values().next().unwrap();
        assert!(!doubts.collect(&change), "no catch-up runs");
        doubts.begin_catch_up();
        assert!(doubts.collect(&change));
        let Change::Delete { key, uid, .. } = change else {
            unreachable!()
        };
        let told = Change::Delete {
            key,
            uid,
            version: Some("7".into()),
        };
        assert!(!doubts.collect(&told), "it was told as it happened");
    }
}
