//! Times as people read them (Kubernetes `apimachinery/pkg/util/duration`).

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long ago a time field was; `<unknown>` where there is none.
pub(super) fn since(time: &Value, now: OffsetDateTime) -> String {
    match parse(time) {
        Some(then) => human((now - then).whole_seconds()),
        None => "<unknown>".into(),
    }
}

pub(super) fn parse(time: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(time.as_str()?, &Rfc3339).ok()
}

/// Seconds in two units at most, coarser the longer it is.
pub(super) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |first: i64, unit: char, second: i64, lower: char| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{lower}"),
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, 'd', hours % 24, 'h'),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_grow_coarser_with_time() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (187, "3m7s"),
            (660, "11m"),
            (3 * HOUR + 60, "3h1m"),
            (47 * HOUR, "47h"),
            (2 * DAY + HOUR, "2d1h"),
            (112 * DAY, "112d"),
            (800 * DAY, "2y70d"),
            (3000 * DAY, "8y"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }
}
