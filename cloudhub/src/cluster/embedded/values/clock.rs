//! Wall time, as objects write it.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Now, in seconds.
pub(in crate::cluster::embedded) fn now() -> String {
    after(0)
}

/// A time in the future, or now.
pub(in crate::cluster::embedded) fn after(seconds: i64) -> String {
    let time = OffsetDateTime::now_utc() + Duration::seconds(seconds.clamp(0, SECONDS_MAX));
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

/// Whether a text is a time.
pub(in crate::cluster::embedded) fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// A hundred years: no grace period is longer, and no date overflows.
const SECONDS_MAX: i64 = 100 * 365 * 24 * 3600;
