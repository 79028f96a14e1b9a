//! How a session is doing, for a person who asks. Nothing of it is kept up to date while nobody does.

use std::time::{Duration, Instant};

use super::{Depth, Lane, Session};

/// How a session is doing at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// What it holds.
    pub depth: Depth,
    /// What is to be delivered, by lane, in the order of [`Lane::ALL`].
    pub lanes: [LaneDepth; Lane::ALL.len()],
    /// For how long nothing was heard; None without a connection.
    pub silence: Option<Duration>,
    /// The last time from a send to its acknowledgement, the work of the peer's handler included.
    pub round_trip: Option<Duration>,
    /// For how long the peer's end of the connection takes no bytes, though there are some for it.
    pub stuck: Option<Duration>,
    /// Sends again of what was not acknowledged in time, since the connection began.
    pub resent: u32,
}

/// What is to be delivered in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneDepth {
    /// Messages waiting to be sent, the refused ones among them.
    pub queued: usize,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Messages that the peer refused and that will be tried again.
    pub refused: usize,
    /// For how long the oldest has been wanted.
    pub oldest: Option<Duration>,
}

impl Condition {
    /// How far the peer is behind: the age of the oldest message that it has not acknowledged. None when it has all.
    pub fn lag(&self) -> Option<Duration> {
        self.lanes.iter().filter_map(|lane| lane.oldest).max()
    }

    /// Messages that the peer refused and that will be tried again.
    pub fn refused(&self) -> usize {
        self.lanes.iter().map(|lane| lane.refused).sum()
    }
}

impl Session {
    /// How it is doing. Looks at every message that it holds.
    pub fn condition(&self, now: Instant) -> Condition {
        Condition {
            depth: self.depth(),
            lanes: self.outbox.lanes(now),
            silence: self.link.as_ref().map(|link| link.keepalive.silence(now)),
            round_trip: self.link.as_ref().and_then(|link| link.keepalive.round_trip()),
            stuck: None,
            resent: self.resent(),
        }
    }
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::Own, Self::Rest, Self::Bulk];

    /// Its name, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Own => "own",
            Self::Rest => "rest",
            Self::Bulk => "bulk",
        }
    }
}
