//! What the server counts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
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
    latency: Family<VerbLabel, Histogram>,
    authentications: Family<AuthenticationLabels, Counter>,
    authorizations: Family<DecisionLabel, Counter>,
    scopes: Family<StateLabel, Gauge>,
    objects: Gauge,
    bytes: Gauge,
    away: Gauge,
    local_oldest: Gauge,
    /// The names of clients that have a series of their own.
    clients: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) watches: Gauge,
    pub(crate) watches_expired: Counter,
    pub(crate) panics: Counter,
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
    /// Of the first of them only, so that clients cannot invent series.
    client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    means: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

/// What is only counted when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) states: Vec<String>,
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    pub(crate) away_seconds: u64,
    pub(crate) local_oldest_seconds: i64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| {
                Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 3.0])
            }),
            authentications: Family::default(),
            authorizations: Family::default(),
            scopes: Family::default(),
            objects: Gauge::default(),
            bytes: Gauge::default(),
            away: Gauge::default(),
            local_oldest: Gauge::default(),
            clients: Arc::default(),
            watches: Gauge::default(),
            watches_expired: Counter::default(),
            panics: Counter::default(),
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
        registry.register(
            "authentications",
            "Callers who showed who they are, by what they showed; unknown: nobody could say",
            self.authentications.clone(),
        );
        registry.register(
            "authorizations",
            "Decisions by roles; unknown: the roles are not here",
            self.authorizations.clone(),
        );
        registry.register("watches", "Watches open", self.watches.clone());
        registry.register(
            "watches_expired",
            "Watches ended because their place in the history is no longer kept",
            self.watches_expired.clone(),
        );
        registry.register("scopes", "Scopes held, by state", self.scopes.clone());
        registry.register("objects", "Objects held", self.objects.clone());
        registry.register(
            "object_bytes",
            "Bytes of the objects held, as they came and as they are served",
            self.bytes.clone(),
        );
        registry.register(
            "cloud_away_seconds",
            "For how long the cloud has been known to be away; 0 while it is there",
            self.away.clone(),
        );
        registry.register(
            "local_oldest_seconds",
            "Age of the oldest local write of which the cloud is still to be told",
            self.local_oldest.clone(),
        );
        registry.register(
            "panics",
            "Requests answered with 500 because this program has a mistake",
            self.panics.clone(),
        );
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
        client: &str,
        took: Duration,
    ) {
        let client = self.client(client);
        let source = source.as_str();
        self.requests
            .get_or_create(&Labels {
                verb,
                resource,
                code,
                source,
                client,
            })
            .inc();
        self.latency
            .get_or_create(&VerbLabel { verb })
            .observe(took.as_secs_f64());
    }

    /// Somebody showed who they are, or did not.
    pub(crate) fn authenticated(&self, means: &'static str, result: &'static str) {
        self.authentications
            .get_or_create(&AuthenticationLabels { means, result })
            .inc();
    }

    /// The roles decided, or are not known.
    pub(crate) fn authorized(&self, decision: &'static str) {
        self.authorizations
            .get_or_create(&DecisionLabel { decision })
            .inc();
    }

    pub(crate) fn sample(&self, sample: &Sample) {
        self.scopes.clear();
        for state in &sample.states {
            self.scopes
                .get_or_create(&StateLabel { state: state.clone() })
                .inc();
        }
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.objects.set(gauge(sample.objects));
        self.bytes.set(gauge(sample.bytes));
        self.away
            .set(i64::try_from(sample.away_seconds).unwrap_or(i64::MAX));
        self.local_oldest.set(sample.local_oldest_seconds);
    }

    /// The program that a client says it is, without its version.
    fn client(&self, agent: &str) -> String {
        let name = agent.split(['/', ' ']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name: String = name.chars().filter(|c| plain(*c)).take(CLIENT_CHARS).collect();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.contains(&name) {
            return name;
        }
        if name.is_empty() || clients.len() >= CLIENTS_MAX {
            return "other".into();
        }
        clients.insert(name.clone());
        name
    }
}

/// Clients that have a series of their own; all further ones share one.
const CLIENTS_MAX: usize = 32;
/// Characters of a client's name.
const CLIENT_CHARS: usize = 40;
