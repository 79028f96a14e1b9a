//! The numbers of a connection to an API server.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use hub_core::object::GroupVersionResource;

use super::collection::Held;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    /// `none` where there was no answer.
    code: String,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct KubeMetrics {
    requests: Family<Request, Counter>,
    pub(super) busy: Counter,
    pub(super) watches: Gauge,
    pub(super) lists: Counter,
    pub(super) interrupted: Counter,
    pub(super) garbage: Counter,
    objects_held: Gauge,
    bytes_held: Gauge,
    history_bytes_held: Gauge,
    seconds: Seconds,
    heard: Arc<Table>,
}

/// From 1 ms to 16 s.
#[derive(Debug)]
struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1e-3, 2.0, 15)))
    }
}

impl KubeMetrics {
    pub(super) fn request(&self, method: &Method, code: Option<u16>, took: Duration) {
        self.seconds.0.observe(took.as_secs_f64());
        let request = Request {
            method: method.to_string(),
            code: code.map_or_else(|| "none".into(), |code| code.to_string()),
        };
        self.requests.get_or_create(&request).inc();
    }

    /// A watch holds something else.
    pub(super) fn hold(&self, before: Held, after: Held) {
        let difference = |after: usize, before: usize| {
            let number = |held| i64::try_from(held).unwrap_or(i64::MAX);
            number(after) - number(before)
        };
        self.objects_held
            .inc_by(difference(after.objects, before.objects));
        self.bytes_held.inc_by(difference(after.bytes, before.bytes));
        self.history_bytes_held
            .inc_by(difference(after.history_bytes, before.history_bytes));
    }

    /// A watch of this resource begins.
    pub(super) fn hear(&self, resource: &GroupVersionResource) -> Heard {
        let number = self.heard.count.fetch_add(1, Ordering::Relaxed);
        let heard = Heard {
            number,
            resource: resource.to_string().into(),
            table: self.heard.clone(),
        };
        heard.now();
        heard
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cluster");
        registry.register(
            "requests",
            "Requests to the API server by method and code",
            self.requests.clone(),
        );
        registry.register(
            "busy",
            "Requests put again because the API server was too busy",
            self.busy.clone(),
        );
        registry.register("watches", "Watches at the API server", self.watches.clone());
        registry.register("lists", "Collections listed from the start", self.lists.clone());
        registry.register(
            "watches_interrupted",
            "Watches that broke off and were taken up again",
            self.interrupted.clone(),
        );
        registry.register(
            "garbage",
            "Answers of the API server that made no sense",
            self.garbage.clone(),
        );
        registry.register(
            "request_seconds",
            "Time until the API server began to answer",
            self.seconds.0.clone(),
        );
        registry.register_collector(Box::new(Silence(self.heard.clone())));
        registry.register(
            "objects_held",
            "Objects held of all watches",
            self.objects_held.clone(),
        );
        registry.register("held_bytes", "Bytes of these objects", self.bytes_held.clone());
        registry.register(
            "history_bytes",
            "Bytes of what they were before, kept for readers that have not seen it",
            self.history_bytes_held.clone(),
        );
    }
}

/// When each watch last had something to say.
#[derive(Debug, Default)]
struct Table {
    count: AtomicU64,
    watches: Mutex<HashMap<u64, (Arc<str>, Instant)>>,
}

/// One watch, for as long as it lives.
#[derive(Debug)]
pub(super) struct Heard {
    number: u64,
    resource: Arc<str>,
    table: Arc<Table>,
}

impl Heard {
    /// Something came: a list, an event or a bookmark.
    pub(super) fn now(&self) {
        let mut watches = self.table.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.insert(self.number, (self.resource.clone(), Instant::now()));
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut watches = self.table.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.remove(&self.number);
    }
}

/// For each resource the silence of its quietest watch, taken when somebody asks.
#[derive(Debug)]
struct Silence(Arc<Table>);

impl Collector for Silence {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut quietest: BTreeMap<Arc<str>, Duration> = BTreeMap::new();
        for (resource, at) in self
            .0
            .watches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            let silence = quietest.entry(resource.clone()).or_default();
            *silence = at.elapsed().max(*silence);
        }
        let help = "Time since the quietest watch of a resource said anything; bookmarks come every minute";
        let gauge = ConstGauge::new(0.0);
        let mut family =
            encoder.encode_descriptor("watch_silence_seconds", help, None, gauge.metric_type())?;
        for (resource, silence) in quietest {
            let labels = [("resource", &*resource)];
            ConstGauge::new(silence.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
