//! What a client says it has of a file, and which part of it it wants (RFC 9110 §13 and §14), decided as Go's server of files decides
//! it (`net/http/fs.go`).

use std::ops::Range;
use std::time::SystemTime;

use http::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

/// What is sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    /// 304: the client has it.
    Nothing,
    /// 412: the client wants another one.
    Refused,
    /// 206.
    Part(Range<usize>),
    /// 416: it is shorter than the part that is wanted.
    NoSuchPart,
}

/// Of a file with a tag, which is empty where it has none.
pub(crate) fn sent(headers: &HeaderMap, tag: &str, modified: SystemTime, size: usize) -> Sent {
    let text = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.is_empty())
    };
    let since = |name| text(name).and_then(|since| httpdate::parse_http_date(since).ok());
    match (text(IF_MATCH), since(IF_UNMODIFIED_SINCE)) {
        (Some(wanted), _) if !names(wanted, |known| known == tag && !known.starts_with("W/")) => {
            return Sent::Refused;
        }
        (None, Some(since)) if is_after(modified, since) => return Sent::Refused,
        _ => {}
    }
    match (text(IF_NONE_MATCH), since(IF_MODIFIED_SINCE)) {
        (Some(known), _) if names(known, |known| known.trim_start_matches("W/") == tag) => {
            return Sent::Nothing;
        }
        (None, Some(since)) if !is_after(modified, since) => return Sent::Nothing,
        _ => {}
    }
    let same = text(IF_RANGE).is_none_or(|known| {
        known == tag || httpdate::parse_http_date(known).is_ok_and(|known| !is_after(modified, known))
    });
    match text(RANGE).filter(|_| same).and_then(|range| part(range, size)) {
        None => Sent::Whole,
        Some(part) if part.start >= size => Sent::NoSuchPart,
        Some(part) => Sent::Part(part),
    }
}

/// Whether one of the tags in a list is meant; it ends where no tag follows.
fn names(list: &str, is_meant: impl Fn(&str) -> bool) -> bool {
    let mut rest = list.trim_start_matches([' ', ',', '\t']);
    loop {
        if rest.starts_with('*') {
            return true;
        }
        let open = if rest.starts_with("W/\"") { 3 } else { 1 };
        let Some(length) = rest
            .get(open..)
            .filter(|_| rest[..open].ends_with('"'))
            .and_then(|tag| tag.find('"'))
        else {
            return false;
        };
        let (tag, after) = rest.split_at(open + length + 1);
        if is_meant(tag) {
            return true;
        }
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
}

/// The header has whole seconds.
fn is_after(modified: SystemTime, since: SystemTime) -> bool {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    seconds(modified) > seconds(since)
}

/// The one part that is wanted; None where the header says nothing that is understood, or wants several, which may come whole.
fn part(range: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => Some(size.saturating_sub(last.parse().ok()?)..size),
        (first, "") => Some(first.parse().ok()?..size),
        (first, last) => {
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| first..last.saturating_add(1).min(size).max(first))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(headers: &[(HeaderName, &str)]) -> Sent {
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        sent(&pairs.collect(), "\"a\"", made, 10)
    }

    #[test]
    fn who_has_the_file_is_not_sent_it_and_who_wants_a_part_gets_that() {
        let before = "Sat, 01 Jan 2000 00:00:00 GMT";
        let begin = "Thu, 01 Jan 1970 00:00:00 GMT";
        for (headers, expected) in [
            (&[][..], Sent::Whole),
            (&[(IF_NONE_MATCH, "\"a\"")], Sent::Nothing),
            (&[(IF_NONE_MATCH, "\"x\", W/\"a\"")], Sent::Nothing),
            (&[(IF_NONE_MATCH, "*")], Sent::Nothing),
            (&[(IF_NONE_MATCH, "a")], Sent::Whole),
            (
                &[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, before)],
                Sent::Whole,
            ),
            (&[(IF_MODIFIED_SINCE, before)], Sent::Nothing),
            (&[(IF_MODIFIED_SINCE, begin)], Sent::Whole),
            (&[(IF_UNMODIFIED_SINCE, begin)], Sent::Refused),
            (&[(IF_UNMODIFIED_SINCE, before)], Sent::Whole),
            (&[(IF_MATCH, "\"a\"")], Sent::Whole),
            (&[(IF_MATCH, "W/\"a\"")], Sent::Refused),
            (&[(IF_MATCH, "garbage")], Sent::Refused),
            (&[(RANGE, "bytes=2-3")], Sent::Part(2..4)),
            (&[(RANGE, "bytes=8-99")], Sent::Part(8..10)),
            (&[(RANGE, "bytes=-3")], Sent::Part(7..10)),
            (&[(RANGE, "bytes=10-")], Sent::NoSuchPart),
            (&[(RANGE, "bytes=3-2")], Sent::Whole),
            (&[(RANGE, "bytes=1-2"), (IF_RANGE, "\"x\"")], Sent::Whole),
        ] {
            assert_eq!(asked(headers), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~]{0,20}", tags in "[W/\"*, a]{0,12}") {
            for name in [RANGE, IF_RANGE, IF_MODIFIED_SINCE] {
                let _ = asked(&[(name, &text)]);
            }
            for name in [IF_MATCH, IF_NONE_MATCH] {
                let _ = asked(&[(name, &tags)]);
            }
        }
    }
}
