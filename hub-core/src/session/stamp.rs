//! Fresh message ids and timestamps, from a seed and an instant.

use std::time::Instant;

use crate::message::{Message, MessageId};
use crate::random::Random;

/// Draws ids from a seed: the same seed, the same ids.
#[derive(Debug)]
pub(super) struct Stamp {
    random: Random,
    /// The Unix time in milliseconds that was known at an instant; None before the first connection.
    wall: Option<(i64, Instant)>,
}

impl Stamp {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            wall: None,
        }
    }

    /// It is `wall_ms` now.
    pub(super) fn set_wall(&mut self, wall_ms: i64, now: Instant) {
        self.wall = Some((wall_ms, now));
    }

    /// When the wall time was told last, which is when the connection was attached.
    pub(super) fn wall_since(&self) -> Option<Instant> {
        self.wall.map(|(_, at)| at)
    }

    /// Fills in a nil id and a zero timestamp. What is there already stays, so a resend is the same message.
    pub(super) fn fill(&mut self, message: &mut Message, now: Instant) {
        if message.header.id == MessageId::NIL {
            message.header.id = self.id();
        }
        if message.header.timestamp_ms == 0
            && let Some((wall_ms, at)) = self.wall
        {
            let elapsed = now.saturating_duration_since(at).as_millis();
            message.header.timestamp_ms = wall_ms.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX));
        }
    }

    /// A number that no other draw of this session has.
    pub(super) fn id(&mut self) -> MessageId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random.number().to_le_bytes());
        bytes[8..].copy_from_slice(&self.random.number().to_le_bytes());
        MessageId::from_random(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::{Content, Operation, Route};

    #[test]
    fn only_a_nil_id_and_a_zero_timestamp_are_filled_in() {
        let now = Instant::now();
        let mut stamp = Stamp::new(7);
        stamp.set_wall(1_000, now);
        let mut message = Message::new(Route::new("a", "b", Operation::Update, "c"), Content::null());
        stamp.fill(&mut message, now + Duration::from_millis(250));
        assert_ne!(message.header.id, MessageId::NIL);
        assert_eq!(message.header.timestamp_ms, 1_250);

        let before = message.clone();
        stamp.fill(&mut message, now + Duration::from_secs(9));
        assert_eq!(message, before);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids_and_never_one_twice() {
        let draw = |seed| {
            let mut stamp = Stamp::new(seed);
            (0..1000).map(|_| stamp.id()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(
            draw(3).iter().collect::<std::collections::BTreeSet<_>>().len(),
            1000
        );
    }
}
