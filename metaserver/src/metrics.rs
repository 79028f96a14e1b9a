//! What the server counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::reply::Source;

/// The counters of one server.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    latency: Histogram,
    pub(crate) watches: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) events: Counter,
    pub(crate) stalled: Counter,
    pub(crate) skipped_fields: Counter,
    pub(crate) local_writes: Counter,
    pub(crate) local_told: Counter,
    pub(crate) local_events_dropped: Counter,
    pub(crate) local_pending: Gauge,
    pub(crate) local_conflicts: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    /// Only names of known kinds, so that clients cannot invent series.
    resource: String,
    code: u16,
    source: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            latency: Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 3.0]),
            watches: Gauge::default(),
            connections: Gauge::default(),
            events: Counter::default(),
            stalled: Counter::default(),
            skipped_fields: Counter::default(),
            local_writes: Counter::default(),
            local_told: Counter::default(),
            local_events_dropped: Counter::default(),
            local_pending: Gauge::default(),
            local_conflicts: Gauge::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("metaserver");
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            self.latency.clone(),
        );
        registry.register("watches", "Watches open", self.watches.clone());
        registry.register("connections", "Connections open", self.connections.clone());
        registry.register("events_sent", "Events sent to watches", self.events.clone());
        registry.register(
            "stalled_clients",
            "Clients cut off because they did not read",
            self.stalled.clone(),
        );
        registry.register(
            "skipped_fields",
            "Fields of protobuf bodies left out because this release does not know them",
            self.skipped_fields.clone(),
        );
        registry.register(
            "local_writes",
            "Writes taken while the cloud was away",
            self.local_writes.clone(),
        );
        registry.register(
            "local_told",
            "Objects written here of which the cloud was told",
            self.local_told.clone(),
        );
        registry.register(
            "local_events_dropped",
            "Events given up because too many waited for the cloud",
            self.local_events_dropped.clone(),
        );
        registry.register(
            "local_pending",
            "Objects written here of which the cloud is still to be told",
            self.local_pending.clone(),
        );
        registry.register(
            "local_conflicts",
            "Local writes, or parts of them, that the cloud did not take",
            self.local_conflicts.clone(),
        );
    }

    pub(crate) fn answered(
        &self,
        verb: &'static str,
        resource: String,
        code: u16,
        source: Source,
        took: Duration,
    ) {
        let source = source.as_str();
        self.requests
            .get_or_create(&Labels {
                verb,
                resource,
                code,
                source,
            })
            .inc();
        self.latency.observe(took.as_secs_f64());
    }
}
