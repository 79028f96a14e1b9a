//! A bad wire: frames under way, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::dice::Dice;
use crate::transport::Outbound;

/// Which end a frame goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Cloud,
    Edge,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Cloud => Self::Edge,
            Self::Edge => Self::Cloud,
        }
    }
}

/// What a wire does to its frames, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) delay_max: Duration,
    /// Whether frames may overtake each other.
    pub(super) reorders: bool,
    pub(super) drops: u64,
    pub(super) copies: u64,
}

/// A frame.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Sent(Box<Outbound>),
    Pong,
}

/// Frames under way, each on the connection with its number.
#[derive(Debug)]
pub(super) struct Wire {
    frames: BTreeMap<(Instant, u64), (Side, u64, Frame)>,
    numbers: u64,
    /// The last arrival towards each side, where order is kept.
    last: [Option<Instant>; 2],
    /// Towards which sides frames vanish although the connection seems to stand.
    pub(super) swallows: [bool; 2],
    pub(super) manners: Manners,
}

impl Wire {
    pub(super) fn new(manners: Manners) -> Self {
        Self {
            frames: BTreeMap::new(),
            numbers: 0,
            last: [None; 2],
            swallows: [false; 2],
            manners,
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn send(&mut self, to: Side, connection: u64, frame: Frame, dice: &mut Dice, now: Instant) {
        if self.swallows[to as usize] || dice.percent(self.manners.drops) {
            return;
        }
        let copies = 1 + u64::from(dice.percent(self.manners.copies));
        for _ in 0..copies {
            let mut at = now + dice.time(self.manners.delay_max);
            if !self.manners.reorders {
                at = self.last[to as usize].map_or(at, |last| last.max(at));
                self.last[to as usize] = Some(at);
            }
            self.numbers += 1;
            self.frames
                .insert((at, self.numbers), (to, connection, frame.clone()));
        }
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<(Side, u64, Frame)> {
        let entry = self.frames.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// What is under way is lost.
    pub(super) fn cut(&mut self) {
        self.frames.clear();
        self.last = [None; 2];
        self.swallows = [false; 2];
    }
}
