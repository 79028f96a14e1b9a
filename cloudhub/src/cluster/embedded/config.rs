//! The limits of an embedded cluster.

use hub_core::store::LogLimits;

/// The limits of an embedded cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Objects.
    pub objects_max: usize,
    /// Bytes of all bodies.
    pub bytes_max: usize,
    /// Bytes of the body of one request; more is answered with 413.
    pub body_bytes_max: usize,
    /// Writes waiting for the disk; more are refused as overload.
    pub queue_max: usize,
    /// Writes that share one commit.
    pub group_max: usize,
    /// What one rule of a custom kind (`x-kubernetes-validations`) may cost for one object, in steps: about one for each node of its
    /// expression that is evaluated, each element that is looked at and ten bytes of text. An object for which it costs more is refused.
    pub rule_steps_max: u64,
    /// What all rules of one object may.
    pub rules_steps_max: u64,
    /// The history of each collection, for watches.
    pub history: LogLimits,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            objects_max: 200_000,
            bytes_max: 1 << 30,
            body_bytes_max: 3 << 20,
            queue_max: 1024,
            group_max: 256,
            // Some tens of milliseconds of the writer.
            rule_steps_max: 500_000,
            rules_steps_max: 2_000_000,
            history: LogLimits::default(),
        }
    }
}
