//! How the broker is reached.

use std::sync::Arc;
use std::time::Duration;

use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::transport::Endpoint;

use super::MqttTls;

/// The broker, and what may wait for it. The names in the comments are those of KubeEdge's `edgecore.yaml`, `modules.eventBus`.
#[derive(Debug, Clone)]
pub struct MqttConfig {
    /// `mqttServerExternal`.
    pub broker: Endpoint,
    /// `eventBusTLS`; None where the broker is spoken to plainly.
    pub tls: Option<MqttTls>,
    /// `mqttSubClientID`, or one made of the node's name. The broker keeps what it could not deliver under this name.
    pub client_id: Arc<str>,
    /// `mqttUsername` and `mqttPassword`.
    pub credentials: Option<(Arc<str>, Arc<str>)>,
    /// `mqttQOS`, for what is published; what is subscribed to is always wanted at least once, as KubeEdge's client wants it.
    pub quality: Quality,
    /// `mqttRetain`: whether the broker keeps the newest document and delta of each device for those who come later.
    pub retain: bool,
    /// `mqttSessionQueueSize`: messages that wait for the broker. More wait with their senders.
    pub queue_max: usize,
    /// Messages of applications that are worked on at once.
    pub handlers_max: usize,
    /// Bytes of a message, coming or going.
    pub message_max: usize,
    /// Devices of which it is remembered that an application speaks of them without a namespace.
    pub short_names_max: usize,
    /// How often the broker hears of us when there is nothing to say.
    pub keep_alive: Duration,
    /// The pauses between attempts to connect.
    pub backoff: Backoff,
}

/// How sure a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// It may be lost.
    AtMostOnce,
    /// It may come twice.
    #[default]
    AtLeastOnce,
    /// Neither.
    ExactlyOnce,
}

/// The text names no broker that can be reached. The operator's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not tcp://host:port, or ssl://host:port with eventBusTLS (there is no WebSocket to the broker here)"
)]
pub struct InvalidBroker(String);

impl MqttConfig {
    /// A broker with KubeEdge's defaults. `server` is `tcp://host:port`, `mqtt://host:port` or `host:port`; the port may be left out.
    pub fn new(node: &NodeId, server: &str) -> Result<Self, InvalidBroker> {
        Self::with_tls(node, server, None)
    }

    /// The same over TLS, where that is wanted. Then `server` may also be `ssl://…`, `tls://…` or `mqtts://…`.
    pub fn with_tls(node: &NodeId, server: &str, tls: Option<MqttTls>) -> Result<Self, InvalidBroker> {
        let invalid = || InvalidBroker(server.into());
        let rest = match server.split_once("://") {
            Some(("tcp" | "mqtt", rest)) => rest,
            Some(("ssl" | "tls" | "mqtts", rest)) if tls.is_some() => rest,
            Some(_) => return Err(invalid()),
            None => server,
        };
        let rest = rest.trim_end_matches('/');
        let port = if tls.is_some() { TLS_PORT } else { PORT };
        let broker = Endpoint::parse(rest)
            .or_else(|| Endpoint::parse(&format!("{rest}:{port}")))
            .ok_or_else(invalid)?;
        Ok(Self {
            broker,
            tls,
            client_id: format!("edgehub-{node}").into(),
            credentials: None,
            quality: Quality::default(),
            retain: false,
            queue_max: 100,
            handlers_max: 256,
            message_max: 1 << 20,
            short_names_max: 4096,
            keep_alive: Duration::from_secs(30),
            backoff: Backoff {
                first: Duration::from_millis(500),
                max: Duration::from_secs(30),
            },
        })
    }
}

/// MQTT's own.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_as_kubeedge_names_it() {
        let node = NodeId::new("edge-1").unwrap();
        for (text, expected) in [
            ("tcp://127.0.0.1:1884", "127.0.0.1:1884"),
            ("mqtt://broker", "broker:1883"),
            ("broker:7", "broker:7"),
            ("tcp://[::1]:1883", "[::1]:1883"),
        ] {
            let made = MqttConfig::new(&node, text).unwrap();
            assert_eq!(made.broker, Endpoint::parse(expected).unwrap(), "{text}");
        }
        for odd in ["ssl://broker:8883", "ws://broker:80", "", "tcp://"] {
            assert!(MqttConfig::new(&node, odd).is_err(), "{odd}");
        }
    }
}
