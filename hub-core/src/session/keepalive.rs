//! Signs of life: when to give them, and when the peer has given none for too long.

use std::time::{Duration, Instant};

use super::KeepaliveConfig;

/// Watches one connection. Made anew with each.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Instant,
    /// When to give the next sign of life; None where the peer is the one who gives them.
    next: Option<Instant>,
    /// Whether the peer is KubeEdge's, which knows life only by its own message.
    stock: bool,
    message_due: bool,
    ping_due: bool,
    told: bool,
    /// Microseconds from a send to its acknowledgement, the last time; 0 while there was none. Four bytes, for idle links.
    round_trip_us: u32,
}

/// A sign of life to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// KubeEdge's keepalive message (tunnel specification §4.1).
    Message,
    /// A ping of the transport.
    Ping,
}

impl Keepalive {
    pub(super) fn new(config: &KeepaliveConfig, stock: bool, now: Instant) -> Self {
        let interval = config.interval();
        Self {
            heard: now,
            next: interval.map(|interval| now + interval),
            stock,
            message_due: interval.is_some() && stock,
            ping_due: interval.is_some() && !stock,
            told: false,
            round_trip_us: 0,
        }
    }

    /// A frame came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// For how long nothing came.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// A message was acknowledged after this time.
    pub(super) fn acknowledged(&mut self, after: Duration) {
        self.round_trip_us = u32::try_from(after.as_micros()).unwrap_or(u32::MAX).max(1);
    }

    /// The last time from a send to its acknowledgement.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        (self.round_trip_us > 0).then(|| Duration::from_micros(self.round_trip_us.into()))
    }

    pub(super) fn deadline(&self, config: &KeepaliveConfig) -> Option<Instant> {
        let death = (!self.told).then(|| self.heard + config.silence_max());
        [self.next, death].into_iter().flatten().min()
    }

    /// Returns true, once, when the peer was not heard for too long.
    pub(super) fn handle_timeout(&mut self, config: &KeepaliveConfig, now: Instant) -> bool {
        if let (Some(next), Some(interval)) = (self.next, config.interval())
            && next <= now
        {
            self.next = Some(now + interval);
            self.message_due = self.stock;
            self.ping_due = true;
        }
        let silent = !self.told && self.heard + config.silence_max() <= now;
        self.told |= silent;
        silent
    }

    pub(super) fn transmit(&mut self) -> Option<Sign> {
        if std::mem::take(&mut self.message_due) {
            return Some(Sign::Message);
        }
        std::mem::take(&mut self.ping_due).then_some(Sign::Ping)
    }
}
