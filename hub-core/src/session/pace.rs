//! How fast a stock edge is told what it does not acknowledge.
//!
//! A stock edge reads into an inbox of 100 messages and drops the oldest of them when it is full (KubeEdge `pkg/viaduct/pkg/fifo`). What it
//! acknowledges is resent; what it does not is lost. So everything together must fit in: the window, a few places beside it for what is
//! urgent, and a few messages of the other kind, after which those go at a rate that an edge keeps up with (KubeEdge's edges ask 30 times a
//! second). Ours drop nothing and are not slowed.

use std::time::{Duration, Instant};

use super::SessionConfig;
use crate::transport::Capabilities;

/// Watches one connection. Made anew with each.
#[derive(Debug)]
pub(super) struct Pace {
    /// When as many messages may go at once again as ever. None where there is no limit.
    full: Option<Instant>,
    /// Whether a message waits for its turn.
    waits: bool,
}

/// What a stock edge is sent beside the window. See [`SessionConfig::pace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceConfig {
    /// Unacknowledged urgent messages, such as answers, under way beyond the window.
    pub urgent: usize,
    /// Messages without acknowledgement that may go at once.
    pub burst: u32,
    /// The pause between two of them when that many went.
    pub interval: Duration,
}

impl Pace {
    pub(super) fn new(config: &SessionConfig, capabilities: Capabilities, now: Instant) -> Self {
        let stock_edge = !config.acknowledges && capabilities == Capabilities::NONE;
        Self {
            full: stock_edge.then_some(now),
            waits: false,
        }
    }

    /// No limit.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            full: None,
            waits: false,
        }
    }

    /// How many messages may be unacknowledged when an urgent one is sent.
    pub(super) fn urgent_max(&self, config: &SessionConfig) -> usize {
        match self.full {
            Some(_) => config.window.saturating_add(config.pace.urgent),
            None => usize::MAX,
        }
    }

    /// Whether a message may go now that will not be acknowledged. If not, [`deadline`](Self::deadline) says when.
    pub(super) fn allows(&mut self, config: &PaceConfig, now: Instant) -> bool {
        self.waits = self.turn(config).is_some_and(|turn| turn > now);
        !self.waits
    }

    /// Such a message went.
    pub(super) fn spend(&mut self, config: &PaceConfig, now: Instant) {
        if let Some(full) = &mut self.full {
            *full = (*full).max(now) + config.interval;
        }
    }

    pub(super) fn deadline(&self, config: &PaceConfig) -> Option<Instant> {
        self.turn(config).filter(|_| self.waits)
    }

    pub(super) fn handle_timeout(&mut self, config: &PaceConfig, now: Instant) {
        self.waits &= self.turn(config).is_some_and(|turn| turn > now);
    }

    /// From when on the next one may go.
    fn turn(&self, config: &PaceConfig) -> Option<Instant> {
        let ahead = config.interval.saturating_mul(config.burst.saturating_sub(1));
        self.full?.checked_sub(ahead)
    }
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self {
            urgent: 12,
            burst: 16,
            interval: Duration::from_millis(20),
        }
    }
}
