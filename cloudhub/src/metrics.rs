//! The numbers of a hub.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use hub_core::message::{Kind, Subject};
use hub_core::service::ServiceMetrics;
use hub_core::session::{Condition, Lane};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Denied {
    kind: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InLane {
    lane: &'static str,
}

/// One number for each lane, found without a lock.
type Lanes<M> = [M; Lane::ALL.len()];
/// The same, with the family they are of.
type ByLane<M> = (Family<InLane, M>, Lanes<M>);

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
    pub(crate) catch_up_seconds: Histogram,
    pub(crate) resent: Counter,
    caught_up: Family<Reason, Counter>,
    delivery_seconds: ByLane<Histogram>,
    lane_messages: ByLane<Gauge>,
    lane_age: ByLane<Gauge<f64, AtomicU64>>,
    pub(crate) service: ServiceMetrics,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    rejected: Family<Reason, Counter>,
    detached: Family<Reason, Counter>,
    denied: Family<Denied, Counter>,
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
            // 5 ms to 5 min.
            catch_up_seconds: Histogram::new(exponential_buckets(5e-3, 3.0, 11)),
            resent: Counter::default(),
            caught_up: Family::default(),
            // 1 ms to 1 h.
            delivery_seconds: by_lane(Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1e-3, 4.0, 12))
            })),
            lane_messages: by_lane(Family::default()),
            lane_age: by_lane(Family::default()),
            service: ServiceMetrics::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            messages_in: Counter::default(),
            messages_out: Counter::default(),
            rejected: Family::default(),
            detached: Family::default(),
            denied: Family::default(),
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

    /// A report is denied for good. Only what the catalogue knows is named, so a peer cannot make new series.
    pub(crate) fn denied(&self, what: &Subject<'_>, code: u16) {
        let kind = match what {
            Subject::Object { kind, .. } => [
                Kind::Node,
                Kind::NodePatch,
                Kind::NodeStatus,
                Kind::Lease,
                Kind::Pod,
                Kind::PodPatch,
                Kind::PodStatus,
                Kind::Event,
                Kind::VolumeAttachment,
                Kind::ServiceAccountToken,
                Kind::CertificateSigningRequest,
            ]
            .into_iter()
            .find(|known| known == kind)
            .map_or("other", Kind::as_str),
            Subject::Twin | Subject::DeviceTwin { .. } | Subject::DeviceState { .. } => "device",
            _ => "other",
        };
        self.denied.get_or_create(&Denied { kind, code }).inc();
    }

    /// So many objects of a catch-up had to be sent, or deleted.
    pub(crate) fn caught_up(&self, what: &'static str, objects: usize) {
        let counter = self.caught_up.get_or_create(&Reason { reason: what });
        counter.inc_by(objects as u64);
    }

    /// A node acknowledged what it had lacked for this long.
    pub(crate) fn took(&self, lane: Lane, took: Duration) {
        self.delivery_seconds.1[lane as usize].observe(took.as_secs_f64());
    }

    /// What waits for all nodes at this moment.
    pub(crate) fn sampled(&self, conditions: &[Condition]) {
        for (place, _) in Lane::ALL.iter().enumerate() {
            let lanes = || conditions.iter().map(|condition| condition.lanes[place]);
            let messages: usize = lanes().map(|lane| lane.queued + lane.in_flight).sum();
            let oldest = lanes().filter_map(|lane| lane.oldest).max().unwrap_or_default();
            self.lane_messages.1[place].set(i64::try_from(messages).unwrap_or(i64::MAX));
            self.lane_age.1[place].set(oldest.as_secs_f64());
        }
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
            "denied_reports",
            "Reports of nodes that the cluster or the rules for nodes denied, and that are lost, by kind and code",
            self.denied.clone(),
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
            "catch_up_seconds",
            "Time from a returning node's digests to the end of its catch-up",
            self.catch_up_seconds.clone(),
        );
        registry.register(
            "catch_up_objects",
            "Objects that returning nodes lacked (sent) or held in vain (deleted)",
            self.caught_up.clone(),
        );
        registry.register(
            "resent_messages",
            "Messages sent again because no acknowledgement came in time",
            self.resent.clone(),
        );
        registry.register(
            "delivery_seconds",
            "Time from a message's queueing to its acknowledgement, by lane",
            self.delivery_seconds.0.clone(),
        );
        registry.register(
            "lane_messages",
            "Messages waiting or unacknowledged, by lane, over all nodes",
            self.lane_messages.0.clone(),
        );
        registry.register(
            "lane_age_seconds",
            "Age of the oldest message that a node has not acknowledged, by lane",
            self.lane_age.0.clone(),
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

fn by_lane<M: Clone, C>(family: Family<InLane, M, C>) -> (Family<InLane, M, C>, Lanes<M>)
where
    C: prometheus_client::metrics::family::MetricConstructor<M>,
{
    let metrics = Lane::ALL.map(|lane| {
        let lane = lane.as_str();
        family.get_or_create_owned(&InLane { lane })
    });
    (family, metrics)
}
