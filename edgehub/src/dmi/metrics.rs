//! What can be counted about mappers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::{Code, Status};

/// The numbers of a node's mappers. All clones count together, so they outlive a socket that has to be bound anew.
#[derive(Debug, Clone, Default)]
pub struct DmiMetrics {
    pub(crate) mappers: Gauge,
    calls: Family<Label, Counter>,
    told: Family<Label, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    end: &'static str,
}

impl DmiMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("edge_mappers", "Mappers that are known", self.mappers.clone());
        registry.register(
            "edge_mapper_calls",
            "Calls of mappers, by how they ended",
            self.calls.clone(),
        );
        registry.register(
            "edge_mapper_tells",
            "Calls to mappers, by how they ended",
            self.told.clone(),
        );
    }

    /// A mapper called.
    pub(crate) fn called<T>(&self, result: &Result<T, Status>) {
        let end = match result.as_ref().map_err(Status::code) {
            Ok(_) => "taken",
            Err(Code::ResourceExhausted) => "limited",
            Err(Code::Unavailable) => "failed",
            Err(_) => "refused",
        };
        self.calls.get_or_create(&Label { end }).inc();
    }

    /// A mapper was called: `taken`, `refused` or `silent`.
    pub(crate) fn told(&self, end: &'static str) {
        self.told.get_or_create(&Label { end }).inc();
    }
}
