//! Quantities that are added up. What comes out is written as Kubernetes writes it.

use std::fmt;
use std::ops::{Add, Sub};

use serde_json::Value;

use crate::cluster::embedded::values::quantity;

/// A quantity, in billionths, and whether it was written in powers of 1024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    billionths: i128,
    binary: bool,
}

/// What there is of each resource, by its name.
pub(super) type Amounts = std::collections::BTreeMap<String, Amount>;

impl Amount {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(Self {
            billionths: quantity::billionths(&text).ok()?,
            binary: text.ends_with('i'),
        })
    }

    pub(super) fn count(number: usize) -> Self {
        Self {
            billionths: i128::try_from(number).unwrap_or(i128::MAX / WHOLE) * WHOLE,
            binary: false,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self.billionths == 0
    }

    /// Whether there is more of it than of another.
    pub(super) fn exceeds(self, other: Self) -> bool {
        self.billionths > other.billionths
    }

    pub(super) fn max(self, other: Self) -> Self {
        if other.exceeds(self) { other } else { self }
    }

    /// The next whole one above.
    pub(super) fn rounded_up(self) -> Self {
        let part = self.billionths.rem_euclid(WHOLE);
        let missing = if part == 0 { 0 } else { WHOLE - part };
        Self {
            billionths: self.billionths.saturating_add(missing),
            ..self
        }
    }

    /// What is more here than there, if anything is.
    pub(super) fn above(self, other: Self) -> Self {
        Self {
            billionths: (self.billionths.saturating_sub(other.billionths)).max(0),
            ..self
        }
    }

    /// A sum is written as its first part was, unless that was nothing.
    fn with(self, other: Self, billionths: i128) -> Self {
        Self {
            billionths,
            binary: if self.is_zero() { other.binary } else { self.binary },
        }
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, self.billionths.saturating_add(other.billionths))
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, self.billionths.saturating_sub(other.billionths))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.billionths / WHOLE;
        let text = if self.binary && self.billionths % WHOLE == 0 {
            if whole % 1024 != 0 {
                return write!(f, "{whole}");
            }
            format!("{}Ki", whole / 1024)
        } else {
            format!("{}n", self.billionths)
        };
        f.write_str(&quantity::canonical(&text).unwrap_or(text))
    }
}

const WHOLE: i128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_written_as_their_first_part_was() {
        let amount = |text: &str| Amount::of(&json!(text)).unwrap();
        for (one, other, sum) in [
            ("0", "1Gi", "1Gi"),
            ("1Gi", "512Mi", "1536Mi"),
            ("100m", "900m", "1"),
            ("1", "1", "2"),
            ("1Ki", "1", "1025"),
            ("1500m", "1Mi", "1048577500m"),
        ] {
            assert_eq!((amount(one) + amount(other)).to_string(), sum, "{one} + {other}");
        }
        assert_eq!((amount("2Gi") - amount("1Gi")).to_string(), "1Gi");
        assert_eq!(amount("1").above(amount("2")), Amount::default());
        assert_eq!(amount("1500m").rounded_up().to_string(), "2");
    }
}
