//! The limits of a session, and who keeps whom alive.

use std::time::Duration;

use super::PaceConfig;

/// The limits of a [`Session`](super::Session). Every queue it has is named here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Keys the outbox holds; one more is [`Full`](super::Full). Protects memory.
    pub slots_max: usize,
    /// Unacknowledged messages under way at once. Protects the peer; one in flight per key always.
    pub window: usize,
    /// How long to wait for an acknowledgement before the first resend; doubles with each up to `resend_max`.
    pub resend: Duration,
    /// The longest pause between two sends of one message.
    pub resend_max: Duration,
    /// Calls under way at once.
    pub calls_max: usize,
    /// Inbound messages handled at once. The driver keeps this limit and the next two.
    pub handling_max: usize,
    /// Inbound messages that wait for a handler while what comes behind them is still read: a peer that pings must hear a pong
    /// though the cluster hangs. More of them wait in the socket.
    pub unhandled_max: usize,
    /// The size of their contents from which on the socket is not read. One message may exceed it.
    pub unhandled_bytes_max: usize,
    /// Ids of finished inbound messages that are remembered, to acknowledge copies without handling them again.
    pub remembered_max: usize,
    /// Keys whose acknowledged content is remembered (as a hash), so that the next version can be a difference.
    pub bases_max: usize,
    /// What a stock edge is sent beside the window, so that nothing is lost in its inbox of 100 messages.
    pub pace: PaceConfig,
    /// Signs of life.
    pub keepalive: KeepaliveConfig,
    /// Whether this end acknowledges every inbound message that is not a reply (the edge does, KubeEdge's or ours).
    /// The cloud does only towards peers with the `ack` capability.
    pub acknowledges: bool,
}

impl SessionConfig {
    /// For the cloud's end of a node.
    pub fn cloud() -> Self {
        Self {
            slots_max: 65_536,
            window: 64,
            resend: Duration::from_secs(5),
            resend_max: Duration::from_secs(60),
            calls_max: 64,
            handling_max: 64,
            unhandled_max: 1024,
            unhandled_bytes_max: 1 << 20,
            remembered_max: 512,
            bases_max: 4096,
            pace: PaceConfig::default(),
            keepalive: KeepaliveConfig::Expect {
                silence_max: Duration::from_secs(30),
            },
            acknowledges: false,
        }
    }

    /// For the edge's end.
    pub fn edge() -> Self {
        Self {
            slots_max: 16_384,
            window: 32,
            handling_max: 256,
            calls_max: 1024,
            keepalive: KeepaliveConfig::Send {
                interval: Duration::from_secs(15),
                silence_max: Duration::from_secs(40),
            },
            acknowledges: true,
            ..Self::cloud()
        }
    }
}

/// Who shows signs of life, and when silence is death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveConfig {
    /// The edge: KubeEdge's keepalive message at once on attach and then every `interval` towards a stock cloud; towards
    /// our own, a transport ping in its place. Every `interval` a ping is sent too, so that the cloud's pong shows that the
    /// link is whole in both directions; nothing heard for `silence_max` is death.
    Send {
        /// KubeEdge `modules.edgeHub.heartbeat`.
        interval: Duration,
        /// The time after which a link without any inbound frame is given up.
        silence_max: Duration,
    },
    /// The cloud: any frame counts; nothing heard for `silence_max` is death.
    Expect {
        /// KubeEdge `modules.cloudHub.keepaliveInterval`.
        silence_max: Duration,
    },
}

impl KeepaliveConfig {
    /// The pause between two signs of life of this end, if it gives any.
    pub(super) fn interval(&self) -> Option<Duration> {
        match self {
            Self::Send { interval, .. } => Some((*interval).max(Duration::from_millis(1))),
            Self::Expect { .. } => None,
        }
    }

    /// The silence of the peer that means it is gone.
    pub(super) fn silence_max(&self) -> Duration {
        match self {
            Self::Send { silence_max, .. } | Self::Expect { silence_max } => *silence_max,
        }
    }
}
