//! Points in time, and how long something lasts.

use ::time::{OffsetDateTime, UtcOffset};

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::{self, Val};
use super::{Overload, T, conversion, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    global("timestamp", &[T::Text], T::Time, timestamp),
    global("timestamp", &[T::Int], T::Time, timestamp),
    global("timestamp", &[T::Time], T::Time, timestamp),
    global("duration", &[T::Text], T::Span, duration),
    global("duration", &[T::Span], T::Span, duration),
    member("getFullYear", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.year().into())
    }),
    member("getFullYear", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.year().into())
    }),
    member("getMonth", &[T::Time], T::Int, |_, of| part(of, month)),
    member("getMonth", &[T::Time, T::Text], T::Int, |_, of| part(of, month)),
    member("getDate", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.day().into())
    }),
    member("getDate", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.day().into())
    }),
    member("getDayOfMonth", &[T::Time], T::Int, |_, of| {
        part(of, |time| i64::from(time.day()) - 1)
    }),
    member("getDayOfMonth", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| i64::from(time.day()) - 1)
    }),
    member("getDayOfWeek", &[T::Time], T::Int, |_, of| part(of, weekday)),
    member("getDayOfWeek", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, weekday)
    }),
    member("getDayOfYear", &[T::Time], T::Int, |_, of| {
        part(of, |time| i64::from(time.ordinal()) - 1)
    }),
    member("getDayOfYear", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| i64::from(time.ordinal()) - 1)
    }),
    member("getHours", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.hour().into())
    }),
    member("getHours", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.hour().into())
    }),
    member("getHours", &[T::Span], T::Int, |_, of| {
        span(of, |span| span.whole_hours())
    }),
    member("getMinutes", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.minute().into())
    }),
    member("getMinutes", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.minute().into())
    }),
    member("getMinutes", &[T::Span], T::Int, |_, of| {
        span(of, |span| span.whole_minutes())
    }),
    member("getSeconds", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.second().into())
    }),
    member("getSeconds", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.second().into())
    }),
    member("getSeconds", &[T::Span], T::Int, |_, of| {
        span(of, |span| span.whole_seconds())
    }),
    member("getMilliseconds", &[T::Time], T::Int, |_, of| {
        part(of, |time| time.millisecond().into())
    }),
    member("getMilliseconds", &[T::Time, T::Text], T::Int, |_, of| {
        part(of, |time| time.millisecond().into())
    }),
    member("getMilliseconds", &[T::Span], T::Int, |_, of| {
        span(of, |span| {
            i64::try_from(span.whole_milliseconds()).unwrap_or(i64::MAX)
        })
    }),
];

fn timestamp<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let time = match values {
        [Val::Time(time)] => return Ok(Val::Time(*time)),
        [Val::Int(seconds)] => OffsetDateTime::from_unix_timestamp(*seconds).ok(),
        [Val::Text(text)] => value::time(text),
        _ => return Err(no_overload()),
    };
    time.map(Val::Time)
        .ok_or_else(|| Fault::failed("type conversion error from 'string' to 'google.protobuf.Timestamp'"))
}

fn duration<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Span(span)] => Ok(Val::Span(*span)),
        [Val::Text(text)] => conversion::span_or_fault(text).map(Val::Span),
        _ => Err(no_overload()),
    }
}

/// A part of a time, in UTC or where the second value says (`+02:00`).
fn part<'a>(values: &[Val<'a>], part: fn(OffsetDateTime) -> i64) -> Outcome<'a> {
    let (time, offset) = match values {
        [Val::Time(time)] => (time, UtcOffset::UTC),
        [Val::Time(time), Val::Text(zone)] => (
            time,
            offset(zone).ok_or_else(|| Fault::failed(format!("unknown time zone {zone}")))?,
        ),
        _ => return Err(no_overload()),
    };
    Ok(Val::Int(part(time.to_offset(offset))))
}

fn span<'a>(values: &[Val<'a>], part: fn(&::time::Duration) -> i64) -> Outcome<'a> {
    let [Val::Span(span)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Int(part(span)))
}

/// Places by their name are not known here.
fn offset(zone: &str) -> Option<UtcOffset> {
    if zone == "UTC" || zone.is_empty() {
        return Some(UtcOffset::UTC);
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn month(time: OffsetDateTime) -> i64 {
    i64::from(u8::from(time.month())) - 1
}

fn weekday(time: OffsetDateTime) -> i64 {
    time.weekday().number_days_from_sunday().into()
}
