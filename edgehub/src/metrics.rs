//! What can be counted about a hub.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The numbers of a hub. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// 1 while the cloud is there.
    pub(crate) up: Gauge,
    pub(crate) connections: Counter,
    pub(crate) dials_failed: Counter,
    pub(crate) catch_ups: Counter,
    pub(crate) renewals: Counter,
    pub(crate) journal_entries: Gauge,
    pub(crate) journal_bytes: Gauge,
    pub(crate) journal_delivered: Counter,
    pub(crate) journal_denied: Counter,
    pub(crate) requests: Counter,
    pub(crate) requests_failed: Counter,
    pub(crate) tokens_kept: Gauge,
    pub(crate) tokens_renewed: Counter,
    pub(crate) tokens_failed: Counter,
    pub(crate) deletions_held_back: Gauge,
    pub(crate) deletions_confirmed: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("edge_link_up", "1 while the cloud is there", self.up.clone());
        registry.register(
            "edge_connections",
            "Connections that were made",
            self.connections.clone(),
        );
        registry.register(
            "edge_dials_failed",
            "Dials that brought no connection",
            self.dials_failed.clone(),
        );
        registry.register(
            "edge_catch_ups",
            "Catch-ups that were completed",
            self.catch_ups.clone(),
        );
        registry.register(
            "edge_certificate_renewals",
            "Certificates renewed",
            self.renewals.clone(),
        );
        registry.register(
            "edge_journal_entries",
            "Reports that wait for the cloud",
            self.journal_entries.clone(),
        );
        registry.register("edge_journal_bytes", "Their bytes", self.journal_bytes.clone());
        registry.register(
            "edge_journal_delivered",
            "Reports that the cloud has",
            self.journal_delivered.clone(),
        );
        registry.register(
            "edge_journal_denied",
            "Those of them that the cloud denied for good, and that are lost",
            self.journal_denied.clone(),
        );
        registry.register(
            "edge_api_requests",
            "Requests put to the cloud's API",
            self.requests.clone(),
        );
        registry.register(
            "edge_api_requests_failed",
            "Those without an answer",
            self.requests_failed.clone(),
        );
        registry.register(
            "edge_tokens_kept",
            "Tokens of service accounts that are kept",
            self.tokens_kept.clone(),
        );
        registry.register(
            "edge_tokens_renewed",
            "Those of them that were renewed though nobody asked",
            self.tokens_renewed.clone(),
        );
        registry.register(
            "edge_tokens_failed",
            "Renewals of tokens that failed",
            self.tokens_failed.clone(),
        );
        registry.register(
            "edge_deletions_held_back",
            "Objects that the cloud seems to have lost, kept until that is confirmed",
            self.deletions_held_back.clone(),
        );
        registry.register(
            "edge_deletions_confirmed",
            "Deletions that were held back and then done",
            self.deletions_confirmed.clone(),
        );
    }
}
