//! The numbers of a connection to an API server.

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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
    pub(super) held: Gauge,
}

impl KubeMetrics {
    pub(super) fn request(&self, method: &Method, code: Option<u16>) {
        let request = Request {
            method: method.to_string(),
            code: code.map_or_else(|| "none".into(), |code| code.to_string()),
        };
        self.requests.get_or_create(&request).inc();
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
        registry.register("objects_held", "Objects held of all watches", self.held.clone());
    }
}
