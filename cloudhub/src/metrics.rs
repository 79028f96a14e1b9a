//! The numbers of a hub.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use hub_core::service::ServiceMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Shared by all parts of a hub.
#[derive(Debug)]
pub(crate) struct HubMetrics {
    pub(crate) connected: Gauge,
    pub(crate) duplicates: Counter,
    pub(crate) refused: Counter,
    pub(crate) handshake_seconds: Histogram,
    pub(crate) queued: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) objects: Gauge,
    pub(crate) scopes: Gauge,
    pub(crate) catch_ups: Counter,
    pub(crate) service: ServiceMetrics,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    rejected: Family<Reason, Counter>,
    detached: Family<Reason, Counter>,
}

impl Default for HubMetrics {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            duplicates: Counter::default(),
            refused: Counter::default(),
            // 1 ms to 8 s.
            handshake_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 14)),
            queued: Gauge::default(),
            in_flight: Gauge::default(),
            objects: Gauge::default(),
            scopes: Gauge::default(),
            catch_ups: Counter::default(),
            service: ServiceMetrics::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            messages_in: Counter::default(),
            messages_out: Counter::default(),
            rejected: Family::default(),
            detached: Family::default(),
        }
    }
}

impl HubMetrics {
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn detached(&self, reason: &'static str) {
        self.detached.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let connected = "Nodes with a connection";
        // KubeEdge's own name, for dashboards that exist.
        registry.register(
            "KubeEdge_CloudHub_connected_nodes",
            connected,
            self.connected.clone(),
        );
        let registry = registry.sub_registry_with_prefix("cloudhub");
        registry.register("connected_nodes", connected, self.connected.clone());
        registry.register(
            "rejections",
            "Connections refused, by reason",
            self.rejected.clone(),
        );
        registry.register(
            "disconnections",
            "Connections that ended, by reason",
            self.detached.clone(),
        );
        registry.register(
            "duplicate_nodes",
            "Turns of two living nodes under one name",
            self.duplicates.clone(),
        );
        registry.register(
            "handshake_seconds",
            "Time from a connection to its session",
            self.handshake_seconds.clone(),
        );
        registry.register(
            "refused_messages",
            "Messages that nodes refused",
            self.refused.clone(),
        );
        registry.register(
            "queued_messages",
            "Messages waiting for nodes, over all nodes",
            self.queued.clone(),
        );
        registry.register(
            "unacknowledged_messages",
            "Messages sent to nodes and not acknowledged",
            self.in_flight.clone(),
        );
        registry.register(
            "known_objects",
            "Objects of the cluster that nodes may need",
            self.objects.clone(),
        );
        registry.register(
            "watched_scopes",
            "Watches open in the cluster",
            self.scopes.clone(),
        );
        registry.register(
            "catch_ups",
            "Catch-ups of returning nodes",
            self.catch_ups.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes received from nodes",
            self.bytes_in.clone(),
        );
        registry.register("sent_bytes", "Bytes sent to nodes", self.bytes_out.clone());
        registry.register(
            "received_messages",
            "Messages received from nodes",
            self.messages_in.clone(),
        );
        registry.register(
            "sent_messages",
            "Messages sent to nodes",
            self.messages_out.clone(),
        );
        self.service.register(registry);
    }
}
