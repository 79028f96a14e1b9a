//! The tunnel over QUIC v1 with mutual TLS 1.3, between our own ends only.
//!
//! KubeEdge's QUIC is a draft of 2018 that nothing modern speaks. Ours carries the same messages over one bidirectional stream
//! that the client opens; order holds over the whole connection. There is no 0-RTT. Signs of life are the session's pings, so QUIC's
//! own keepalive is off.

mod dialer;
mod listener;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

pub use dialer::QuicDialer;
pub use listener::QuicListener;

use super::TransportError;
use super::greeting::Limits;
use crate::codec::CodecLimits;

/// The limits of QUIC connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicConfig {
    /// The limits of messages.
    pub limits: CodecLimits,
    /// The longest request or answer of the handshake.
    pub greeting_bytes_max: usize,
    /// How many bytes may wait to be sent before the sink is not ready. One message may exceed it.
    pub queue_bytes_max: usize,
    /// How many bytes the peer may send ahead of our reading. It bounds the memory of a connection and, with the round-trip time,
    /// its throughput.
    pub receive_window_bytes: u32,
    /// How many sent bytes may wait to be acknowledged.
    pub send_window_bytes: u32,
    /// After this silence the connection is dead. Keep it above what the session allows, whose word it is.
    pub idle_timeout: Duration,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            limits: CodecLimits::default(),
            greeting_bytes_max: 8 << 10,
            queue_bytes_max: 64 << 10,
            receive_window_bytes: 1 << 20,
            send_window_bytes: 1 << 20,
            idle_timeout: Duration::from_secs(120),
        }
    }
}

impl QuicConfig {
    fn limits(&self) -> Limits {
        Limits {
            codec: self.limits,
            greeting_bytes_max: self.greeting_bytes_max,
            queue_bytes_max: self.queue_bytes_max,
        }
    }

    /// What quinn is told. Streams that nobody uses are forbidden, so they cost nothing.
    fn transport(&self, bidirectional_streams: u8) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from(bidirectional_streams))
            .max_concurrent_uni_streams(VarInt::from(0u8))
            .stream_receive_window(VarInt::from(self.receive_window_bytes))
            .receive_window(VarInt::from(self.receive_window_bytes))
            .send_window(self.send_window_bytes.into())
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            .keep_alive_interval(None)
            // A time that QUIC cannot express is no limit.
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok());
        Arc::new(transport)
    }
}

/// What a failed connection means.
fn connection_error(error: quinn::ConnectionError) -> TransportError {
    use quinn::ConnectionError as Error;

    match error {
        // The codes of TLS alerts (RFC 9001, section 4.8).
        Error::TransportError(error) if is_crypto(error.code) => TransportError::Tls(error.to_string()),
        Error::ConnectionClosed(close) if is_crypto(close.error_code) => {
            TransportError::Tls(close.to_string())
        }
        Error::TransportError(error) => TransportError::Protocol(error.to_string()),
        Error::VersionMismatch => TransportError::Protocol("no common version of QUIC".to_owned()),
        error => TransportError::Link(error.into()),
    }
}

fn is_crypto(code: quinn_proto::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

const NAME: &str = "quic";
