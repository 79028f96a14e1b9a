//! Wall time, for what people and certificates read. Everything else counts with monotonic instants.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the wall time. Tests may set it; nothing decides an order by it.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in milliseconds.
    fn unix_ms(&self) -> i64;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> i64 {
        // A clock before 1970 (no battery, no NTP yet) reads as 1970.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as i64)
    }
}
