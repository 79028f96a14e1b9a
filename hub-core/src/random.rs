//! Chance that can be replayed: pauses that are not the same for all, ids, and schedules of tests.

/// Draws numbers from a seed: the same seed, the same numbers on every machine. SplitMix64 (Steele, Lea, Flood 2014), which is nothing
/// for secrets.
///
/// ```
/// use hub_core::random::Random;
///
/// let (mut one, mut other) = (Random::new(7), Random::new(7));
/// assert_eq!(one.number(), other.number());
/// assert!(one.below(10) < 10 && (0.0..1.0).contains(&one.share()));
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// From 0 to 1, and never 1.
    pub fn share(&mut self) -> f64 {
        share(self.number())
    }
}

/// What part of all numbers is below this one.
pub fn share(number: u64) -> f64 {
    (number >> 11) as f64 / (1u64 << 53) as f64
}
