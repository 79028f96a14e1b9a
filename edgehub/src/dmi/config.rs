//! Where mappers find the node, and what they may ask of it.

use std::path::PathBuf;
use std::time::Duration;

use hub_core::backoff::Backoff;

use super::metrics::DmiMetrics;

/// The settings of a [`Dmi`](super::Dmi).
#[derive(Debug, Clone)]
pub struct DmiConfig {
    /// The node's socket. Its owner and its group may call.
    pub socket: PathBuf,
    /// Mappers that are known; the registration of one more is refused.
    pub mappers_max: usize,
    /// Connections of mappers at a time; more wait at the door. KubeEdge's framework makes one a report.
    pub connections_max: usize,
    /// Calls a second, of all mappers together; more are refused, and come again with the next report. KubeEdge grants one.
    pub calls_per_second: u32,
    /// Calls at once after silence.
    pub calls_burst: u32,
    /// Bytes of one call to the node.
    pub call_bytes_max: usize,
    /// Bytes of the answer to a registration. Devices beyond follow one by one. Go's clients take 4 MiB.
    pub answer_bytes_max: usize,
    /// How long a mapper that registered is given before it is called: it begins to listen only after the answer.
    pub settle: Duration,
    /// How long a mapper may take for a call.
    pub call_timeout: Duration,
    /// Calls to one mapper at a time.
    pub calls_at_once: usize,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// Attempts for what a mapper refuses, or while it does not answer. Then it is told again when its devices change, or when
    /// it registers.
    pub attempts_max: u32,
    /// Where it is counted.
    pub metrics: DmiMetrics,
}

impl DmiConfig {
    /// The defaults, with a socket (KubeEdge: `/etc/kubeedge/dmi.sock`).
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            mappers_max: 64,
            connections_max: 256,
            calls_per_second: 1000,
            calls_burst: 2000,
            call_bytes_max: 1 << 20,
            answer_bytes_max: 3 << 20,
            settle: Duration::from_secs(1),
            call_timeout: Duration::from_secs(10),
            calls_at_once: 8,
            backoff: Backoff {
                first: Duration::from_secs(1),
                max: Duration::from_secs(30),
            },
            attempts_max: 12,
            metrics: DmiMetrics::default(),
        }
    }
}
