//! What somebody who watches knows, and that it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use cloudhub::cluster::{Cluster, ClusterEvent, KubeCluster};
use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use hub_core::api::Status;
use hub_core::object::{Object, ObjectKey};
use hub_core::scope::Scope;

/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// A reader of a scope.
pub(crate) struct View {
    events: Fuse<BoxStream<'static, ClusterEvent>>,
    pub(crate) objects: BTreeMap<ObjectKey, Object>,
    /// Named since a restart.
    named: Option<BTreeSet<ObjectKey>>,
    pub(crate) is_synced: bool,
    pub(crate) refused: Option<Status>,
    pub(crate) restarts: usize,
    /// What it was told to be gone.
    pub(crate) gone: Vec<Object>,
}

impl View {
    pub(crate) fn of(cluster: &KubeCluster, scope: Scope) -> Self {
        Self {
            events: cluster.watch(scope).fuse(),
            objects: BTreeMap::new(),
            named: None,
            is_synced: false,
            refused: None,
            restarts: 0,
            gone: Vec::new(),
        }
    }

    /// Reads until the view is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let reads = async {
            while !wanted(self) {
                match self.events.next().await {
                    Some(event) => self.apply(event),
                    None => panic!("the watch ended before {what}"),
                }
            }
        };
        if tokio::time::timeout(PATIENCE, reads).await.is_err() {
            panic!("{what} takes too long; held: {:?}", self.objects.values());
        }
    }

    pub(crate) async fn synced(&mut self) {
        self.until("the first list", |view| view.is_synced).await;
    }

    /// Reads what is there already.
    pub(crate) fn read_now(&mut self) {
        use futures::FutureExt;
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.apply(event);
        }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.objects.keys().map(|key| &*key.name).collect()
    }

    fn apply(&mut self, event: ClusterEvent) {
        match event {
            ClusterEvent::Applied { object, previous } => {
                if let Some(previous) = previous {
                    assert_eq!(
                        self.objects.get(&object.key).map(|held| &held.body),
                        Some(&previous)
                    );
                }
                if let Some(named) = &mut self.named {
                    named.insert(object.key.clone());
                }
                self.objects.insert(object.key.clone(), object);
            }
            ClusterEvent::Deleted { object } => {
                assert!(
                    self.objects.remove(&object.key).is_some(),
                    "{object:?} was not there"
                );
                self.gone.push(object);
            }
            ClusterEvent::Restarted => {
                self.named = Some(BTreeSet::new());
                self.restarts += 1;
            }
            ClusterEvent::Synced { .. } => {
                if let Some(named) = self.named.take() {
                    let gone: Vec<_> = self
                        .objects
                        .keys()
                        .filter(|key| !named.contains(*key))
                        .cloned()
                        .collect();
                    for key in gone {
                        self.gone.extend(self.objects.remove(&key));
                    }
                }
                self.is_synced = true;
            }
            ClusterEvent::Refused(status) => self.refused = Some(status),
        }
    }
}
