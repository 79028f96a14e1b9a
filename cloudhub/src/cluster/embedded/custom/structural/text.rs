//! What a text must look like: a pattern, or one of the formats that Kubernetes knows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::embedded::fault::FieldError;

/// Adds what is wrong with a text at a path; `value` is the same text.
pub(super) fn check(text: &str, value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(pattern) = schema["pattern"].as_str()
        && !matches(pattern, text)
    {
        let detail = format!("{path} in body should match '{pattern}'");
        errors.push(FieldError::invalid(path, value, &detail));
    }
    if let Some(format) = schema["format"].as_str()
        && !has_format(format, text)
    {
        let detail = format!("Invalid value: {value}: {path} in body must be of type {format}: {value}");
        errors.push(FieldError::of_type(path, &detail));
    }
}

/// A pattern that nobody can read refuses nothing: the definition with it is to blame, not the object.
fn matches(pattern: &str, text: &str) -> bool {
    PATTERNS.with_borrow_mut(|read| {
        if read.len() >= PATTERNS_MAX && !read.contains_key(pattern) {
            read.clear();
        }
        let compiled = read.entry(pattern.to_owned()).or_insert_with(|| {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .ok()
        });
        compiled.as_ref().is_none_or(|pattern| pattern.is_match(text))
    })
}

/// Formats that a kube-apiserver does not check are let pass (`apiextensions-apiserver/pkg/apiserver/validation/formats.go`).
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        "date" => OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339).is_ok(),
        "byte" => BASE64.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "cidr" => text
            .split_once('/')
            .is_some_and(|(address, bits)| match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => bits.parse::<u8>().is_ok_and(|bits| bits <= 32),
                Ok(IpAddr::V6(_)) => bits.parse::<u8>().is_ok_and(|bits| bits <= 128),
                Err(_) => false,
            }),
        "duration" => is_duration(text),
        "hexcolor" => text.strip_prefix('#').is_some_and(|digits| {
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        }),
        _ => true,
    }
}

/// Numbers, each with its unit, of which one is known at least (`kube-openapi/pkg/validation/strfmt/duration.go`).
fn is_duration(text: &str) -> bool {
    if matches!(text, "0" | "+0" | "-0") {
        return true;
    }
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || matches!(letter, '\u{b5}' | '\u{3bc}');
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let after = rest[start..].trim_start_matches(|letter: char| letter.is_ascii_digit());
        let after = after.trim_start();
        let end = after
            .find(|letter: char| !is_letter(letter))
            .unwrap_or(after.len());
        let unit = after[..end].to_lowercase();
        if UNITS.contains(&unit.as_str()) || LONG_UNITS.iter().any(|name| unit.starts_with(name)) {
            return true;
        }
        rest = &after[end..];
    }
    false
}

const UNITS: &[&str] = &[
    "ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h", "hr", "d", "w", "wk",
];
const LONG_UNITS: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];

thread_local! {
    /// Patterns as they were read, so that not every object reads those of its kind.
    static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
}
const PATTERNS_MAX: usize = 1024;
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_held_against_its_pattern_and_its_format() {
        let said = |text: &str, schema: Value| -> Vec<String> {
            let mut errors = Vec::new();
            check(text, &text.into(), &schema, "spec.a", &mut errors);
            errors.iter().map(FieldError::to_string).collect()
        };
        assert_eq!(
            said("A1", json!({"pattern": "^[a-z]+$"})),
            ["spec.a: Invalid value: \"A1\": spec.a in body should match '^[a-z]+$'"]
        );
        assert_eq!(
            said("x", json!({"format": "date-time"})),
            ["spec.a: Invalid value: \"x\": spec.a in body must be of type date-time: \"x\""]
        );
        assert!(said("ab", json!({"pattern": "^[a-z]+$"})).is_empty());
        assert!(said("2026-01-01T00:00:00Z", json!({"format": "date-time"})).is_empty());
        for (format, good, bad) in [
            ("duration", "1h30m", "x"),
            ("duration", "-1.5h", "15"),
            ("duration", "3 days", "3 moons"),
            ("duration", "0", ""),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("cidr", "fd00::/64", "fd00::/129"),
            ("hexcolor", "#aF0", "#aF"),
        ] {
            assert!(
                said(good, json!({"format": format})).is_empty(),
                "{format} {good}"
            );
            assert_eq!(said(bad, json!({"format": format})).len(), 1, "{format} {bad}");
        }
        assert!(said("x", json!({"pattern": "(", "format": "other"})).is_empty());
    }
}
