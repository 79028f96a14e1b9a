//! Durations as Go writes them: `1h30m`, `1.5s`, `-2ms`.

/// What Go says of a text that is no duration; None of one that is (Go's `time.ParseDuration`).
pub(crate) fn wrong(text: &str) -> Option<String> {
    let invalid = || Some(format!("time: invalid duration {text:?}"));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return None;
    }
    if rest.is_empty() {
        return invalid();
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        if !digits.contains(|c: char| c.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return invalid();
        }
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        if unit.is_empty() {
            return Some(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&unit) {
            return Some(format!("time: unknown unit {unit:?} in duration {text:?}"));
        }
        rest = next;
    }
    None
}

const UNITS: &[&str] = &["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_right_and_the_rest_wrong_in_its_words() {
        for right in ["0", "1s", "-1s", "1h30m", "1.5s", ".5h", "3\u{b5}s"] {
            assert_eq!(wrong(right), None, "{right}");
        }
        for (text, said) in [
            ("abc", r#"time: invalid duration "abc""#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1x", r#"time: unknown unit "x" in duration "1x""#),
            ("1..2s", r#"time: invalid duration "1..2s""#),
            ("-", r#"time: invalid duration "-""#),
        ] {
            assert_eq!(wrong(text).as_deref(), Some(said));
        }
    }
}
