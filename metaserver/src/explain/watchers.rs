//! The watches that are open, for an operator who asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hub_core::clock::{Clock as _, SystemClock};
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

/// One open watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchReport {
    /// What was asked for.
    pub path: String,
    /// What the client calls itself.
    pub client: String,
    /// Whether it goes over a WebSocket.
    pub websocket: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Events sent, bookmarks included.
    pub events: u64,
    /// The revision of the newest.
    pub revision: u64,
    /// When that was.
    pub last_event_ms: Option<i64>,
}

/// All of them. Their number is limited where they are opened.
#[derive(Debug, Default)]
pub(crate) struct OpenWatches {
    gauge: Gauge,
    number: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Facts>>>,
}

/// A watch's place among them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenWatch {
    watches: Arc<OpenWatches>,
    number: u64,
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    path: String,
    client: String,
    websocket: bool,
    since_ms: i64,
    events: AtomicU64,
    revision: AtomicU64,
    /// In milliseconds after the beginning.
    last: AtomicU64,
}

impl OpenWatches {
    /// None yet. Their number is shown in a gauge.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self {
            gauge,
            ..Self::default()
        }
    }

    pub(crate) fn enter(self: &Arc<Self>, path: String, client: String, websocket: bool) -> OpenWatch {
        let facts = Arc::new(Facts {
            path,
            client,
            websocket,
            since_ms: SystemClock.unix_ms(),
            events: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            last: AtomicU64::new(0),
        });
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, facts.clone());
        self.gauge.inc();
        OpenWatch {
            watches: self.clone(),
            number,
            facts,
        }
    }

    pub(crate) fn report(&self) -> Vec<WatchReport> {
        let open: Vec<_> = self.lock().values().cloned().collect();
        let report = |facts: Arc<Facts>| {
            let events = facts.events.load(Ordering::Relaxed);
            let last = facts.last.load(Ordering::Relaxed).cast_signed();
            WatchReport {
                path: facts.path.clone(),
                client: facts.client.clone(),
                websocket: facts.websocket,
                since_ms: facts.since_ms,
                events,
                revision: facts.revision.load(Ordering::Relaxed),
                last_event_ms: (events > 0).then(|| facts.since_ms.saturating_add(last)),
            }
        };
        open.into_iter().map(report).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Facts>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenWatch {
    /// An event went out.
    pub(crate) fn sent(&self, revision: u64) {
        let facts = &self.facts;
        let age = SystemClock.unix_ms().saturating_sub(facts.since_ms).max(0);
        facts.last.store(age.cast_unsigned(), Ordering::Relaxed);
        facts.revision.fetch_max(revision, Ordering::Relaxed);
        facts.events.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.watches.lock().remove(&self.number);
        self.watches.gauge.dec();
    }
}
