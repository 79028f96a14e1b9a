//! What can be counted about the devices of a node.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::device::Rejected;
use super::keeper::TwinError;

/// The numbers of a node's twins. All clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    owing: Gauge,
    oldest: Gauge,
    reports: Family<EndLabel, Counter>,
    refused: Family<CauseLabel, Counter>,
    broker_up: Gauge,
    broker_connections: Counter,
    broker_failures: Counter,
    messages: Family<FateLabel, Counter>,
    broker: Arc<Mutex<Option<BrokerState>>>,
}

/// Whether the MQTT broker is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerState {
    /// Which: `host:port`.
    pub server: String,
    /// Whether there is a connection.
    pub up: bool,
    /// Why there is none; for people.
    pub trouble: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabel {
    fate: &'static str,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "edge_twins_owing",
            "Devices with something that the cloud has not heard",
            self.owing.clone(),
        );
        registry.register(
            "edge_twins_oldest_owed_seconds",
            "Age of the oldest value that the cloud has not heard",
            self.oldest.clone(),
        );
        registry.register(
            "edge_twin_reports",
            "Reports of devices, by what became of them",
            self.reports.clone(),
        );
        registry.register(
            "edge_twin_changes_refused",
            "Changes of twins that were not made, by cause",
            self.refused.clone(),
        );
        registry.register(
            "edge_broker_up",
            "1 while the MQTT broker is there",
            self.broker_up.clone(),
        );
        registry.register(
            "edge_broker_connections",
            "Connections to the MQTT broker",
            self.broker_connections.clone(),
        );
        registry.register(
            "edge_broker_failures",
            "Connections to the MQTT broker that were lost or not made",
            self.broker_failures.clone(),
        );
        registry.register(
            "edge_broker_messages",
            "Messages from and to the MQTT broker, by what became of them",
            self.messages.clone(),
        );
    }

    /// How much waits for the cloud, as it is now.
    pub(super) fn owe(&self, devices: usize, oldest_ms: i64) {
        self.owing.set(devices as i64);
        self.oldest.set(oldest_ms / 1000);
    }

    /// A device's report ended: `told`, `refused`, `failed` or `unanswered`.
    pub(super) fn reported(&self, end: &'static str) {
        self.reports.get_or_create(&EndLabel { end }).inc();
    }

    /// A change was not made.
    pub(super) fn refused(&self, cause: &'static str) {
        self.refused.get_or_create(&CauseLabel { cause }).inc();
    }

    /// A message from the broker was `heard`, `repeated` or `dropped`; one to it `published` or `too_long`.
    pub(super) fn message(&self, fate: &'static str) {
        self.messages.get_or_create(&FateLabel { fate }).inc();
    }

    /// There is a connection to the broker, or why there is none.
    pub(super) fn set_broker(&self, server: &str, trouble: Option<String>) {
        let up = trouble.is_none();
        self.broker_up.set(up.into());
        if up {
            self.broker_connections.inc();
        } else {
            self.broker_failures.inc();
        }
        let state = BrokerState {
            server: server.into(),
            up,
            trouble: trouble.unwrap_or_default(),
        };
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    pub(super) fn broker(&self) -> Option<BrokerState> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl TwinError {
    /// One word for it.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Rejected(rejected) => match rejected {
                Rejected::Name(_) | Rejected::NoTwin | Rejected::NoValue(_) => "invalid",
                Rejected::NoProperty(_) => "no_property",
                Rejected::NotOptional(_) => "not_optional",
                Rejected::Full(_) => "full",
            },
            Self::NoDevice => "no_device",
            Self::SeveralDevices(_) => "several_devices",
            Self::Store(_) => "disk",
            Self::Stopped => "stopping",
        }
    }
}
