//! Twins for the applications of the node, on KubeEdge's topics of an MQTT broker beside it.
//!
//! ```text
//!   broker ──► Line (poll, reconnect) ──► Desk ──► Twins: update, get, state
//!          ◄──────── publish ◄─────────── Desk ◄── changes: documents, deltas, devices that come and go
//! ```
//!
//! A message that was published at least once is confirmed to the broker when it is on the disk, and the broker keeps for us what
//! comes while we are away. Without a broker nothing waits here: what should be otherwise is said anew on the next connection.
//!
//! Of KubeEdge's event bus this is the part of device twins. `SYS/dis/upload_records`, the topics of the rule engine and `+/user/#`
//! are not carried.

mod config;
mod desk;
#[cfg(test)]
mod tests;
mod tls;
mod topic;

use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS, Transport};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

pub use config::{InvalidBroker, MqttConfig, Quality};
pub use tls::MqttTls;

use super::Twins;
use desk::{Desk, Heard};
use tls::Relay;

/// Whether this node's hub is at the broker (KubeEdge `ConnectedInfo`).
#[derive(Serialize)]
struct Presence<'a> {
    event_type: &'a str,
    timestamp: i64,
}

/// Serves the twins on a broker. Runs until it is dropped, over as many connections as it takes.
pub async fn serve_mqtt(twins: Twins, config: MqttConfig) {
    let relay = relay(&config).await;
    let mut options = match &config.tls {
        Some(tls) => {
            let mut options = MqttOptions::new(&*config.client_id, tls.socket.to_string_lossy(), 0);
            options.set_transport(Transport::Unix);
            options
        }
        None => MqttOptions::new(&*config.client_id, &*config.broker.host, config.broker.port),
    };
    let will = presence(&twins, "disconnected");
    options
        .set_keep_alive(config.keep_alive)
        // The broker keeps what comes while we are away; a nameless client cannot have that.
        .set_clean_session(config.client_id.is_empty())
        .set_manual_acks(true)
        .set_max_packet_size(config.message_max, config.message_max)
        .set_last_will(LastWill::new(
            topic::disconnected(twins.node()),
            will,
            QoS::AtLeastOnce,
            false,
        ));
    if let Some((name, password)) = &config.credentials {
        options.set_credentials(&**name, &**password);
    }
    let (client, mut events) = AsyncClient::new(options, config.queue_max.max(1));
    let (heard, hears) = mpsc::channel::<Heard>(config.handlers_max.max(1));
    let (connection, connected) = watch::channel(None);
    let line = async {
        let (mut number, mut attempt, mut flooded) = (0, 0, false);
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    tracing::info!(broker = %config.broker, "connected to the MQTT broker");
                    attempt = 0;
                    twins.metrics.set_broker(&config.broker.to_string(), None);
                    number += 1;
                    connection.send_replace(Some(number));
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    // This task must not wait, or nothing is sent. Most brokers send no more than a few that are not confirmed, so
                    // this is full of such as may be lost.
                    let is_owed = message.qos != QoS::AtMostOnce;
                    let refused = heard
                        .try_send(Heard {
                            message,
                            connection: number,
                        })
                        .is_err();
                    if refused && !flooded {
                        tracing::warn!("too many messages at once from the MQTT broker; some are not taken");
                    }
                    twins.metrics.message(if refused { "dropped" } else { "heard" });
                    flooded = refused;
                    if refused && is_owed {
                        // It must not come after what follows it: another connection brings all that is not confirmed, in order.
                        connection.send_replace(None);
                        events.clean();
                        sleep(config.backoff.pause(0, 0)).await;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    connection.send_replace(None);
                    twins
                        .metrics
                        .set_broker(&config.broker.to_string(), Some(error.to_string()));
                    let pause = config
                        .backoff
                        .pause(attempt, u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    if attempt == 0 {
                        tracing::warn!(broker = %config.broker, %error, retry_in = ?pause, "no connection to the MQTT broker");
                    } else {
                        tracing::debug!(broker = %config.broker, %error, retry_in = ?pause, "still no connection to the MQTT broker");
                    }
                    attempt += 1;
                    sleep(pause).await;
                }
            }
        }
    };
    let desk = Desk::new(&twins, &config, client, connected).run(hears);
    let relay = async {
        if let Some(relay) = &relay {
            relay.run().await;
        }
    };
    tokio::join!(line, desk, relay);
}

/// What carries TLS, where that is wanted. Tried until it is there.
async fn relay(config: &MqttConfig) -> Option<Relay> {
    let tls = config.tls.as_ref()?;
    for attempt in 0.. {
        match Relay::bind(tls.clone(), config.broker.clone()).await {
            Ok(relay) => return Some(relay),
            Err(error) => tracing::warn!("the MQTT client cannot be heard on {error}; it is tried again"),
        }
        sleep(config.backoff.pause(attempt, u64::MAX)).await;
    }
    None
}

fn presence(twins: &Twins, event_type: &str) -> Vec<u8> {
    let presence = Presence {
        event_type,
        timestamp: twins.clock.unix_ms(),
    };
    serde_json::to_vec(&presence).unwrap_or_default()
}
