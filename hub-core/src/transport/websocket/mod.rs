//! The tunnel over WebSocket (RFC 6455) and TLS, as KubeEdge has it: one message a frame, JSON as text, bincode as binary.
//!
//! The upgrade is ours, because the decision about a node is asynchronous and comes before it: a peer that is refused gets
//! a proper HTTP answer. The framing is ours, because an idle connection shall hold no buffers at all (KubeEdge's weak spots M4 and
//! C6; tungstenite keeps its largest write for ever). Headers of frames and the accept key are tungstenite's.

mod dialer;
mod frame;
#[cfg(feature = "test-util")]
pub(super) mod fuzz;
mod head;
mod listener;

pub use dialer::WebSocketDialer;
pub use listener::WebSocketListener;

use crate::codec::CodecLimits;

/// The limits of WebSocket connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// The limits of messages; larger frames, whole or in fragments, end the connection.
    pub limits: CodecLimits,
    /// The longest head of an HTTP request or answer.
    pub head_bytes_max: usize,
    /// How many bytes may wait to be sent before the sink is not ready. One message may exceed it.
    pub queue_bytes_max: usize,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            limits: CodecLimits::default(),
            head_bytes_max: 8 << 10,
            queue_bytes_max: 64 << 10,
        }
    }
}

const NAME: &str = "websocket";
