//! A text in YAML: plain where nothing else could be read in it, else quoted or as lines.

use time::Date;

use super::Writer;

/// A text, looked through once.
pub(super) struct Scalar<'a> {
    text: &'a str,
    style: Style,
    multiline: bool,
    quotable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl<'a> Scalar<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        let found = Found::new(text);
        let quotable = !found.break_space && !found.space_break && !found.special;
        let ends = text.starts_with(is_space_or_break) || text.ends_with(is_space_or_break);
        let lines = !text.is_empty() && !text.ends_with(' ') && !found.space_break && !found.special;
        let style = if text.contains('\n') {
            if lines { Style::Literal } else { Style::Double }
        } else if is_something_else(text) {
            Style::Double
        } else if !ends && quotable && !found.breaks && !found.indicators {
            Style::Plain
        } else if quotable {
            Style::Single
        } else {
            Style::Double
        };
        Self {
            text,
            style,
            multiline: found.breaks,
            quotable,
        }
    }

    /// Whether it can be a key on the line of its value.
    pub(super) fn is_simple(&self) -> bool {
        self.text.len() <= KEY_BYTES_MAX && !self.multiline
    }

    /// `indent` is that of the lines after the first.
    pub(super) fn write(&self, to: &mut Writer, indent: usize, key: bool) {
        match self.style {
            Style::Literal if !key => self.literal(to, indent),
            Style::Literal | Style::Double => self.double(to, indent, key),
            Style::Single if self.multiline && !self.quotable => self.double(to, indent, key),
            Style::Single => {
                to.put_char('\'');
                self.folded(to, indent, key, |to, c| {
                    if c == '\'' {
                        to.put_char('\'');
                    }
                    to.put_char(c);
                });
                to.put_char('\'');
            }
            Style::Plain => self.folded(to, indent, key, Writer::put_char),
        }
    }

    /// A space between words becomes a line break where the line is long enough.
    fn folded(&self, to: &mut Writer, indent: usize, key: bool, put: impl Fn(&mut Writer, char)) {
        let mut spaces = false;
        let mut chars = self.text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if c == ' '
                && !key
                && !spaces
                && to.column > WIDTH
                && at > 0
                && next.is_some_and(|next| next != ' ')
            {
                to.line(indent);
            } else {
                put(to, c);
            }
            spaces = c == ' ';
        }
    }

    fn literal(&self, to: &mut Writer, indent: usize) {
        to.put_char('|');
        if self.text.starts_with(is_space_or_break) {
            to.put_char('2');
        }
        match self.text.strip_suffix('\n') {
            None => to.put_char('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => to.put_char('+'),
            Some(_) => {}
        }
        let lines = self.text.strip_suffix('\n').unwrap_or(self.text);
        for line in lines.split('\n') {
            if line.is_empty() {
                to.line(0);
            } else {
                to.line(indent);
                to.put(line);
            }
        }
    }

    fn double(&self, to: &mut Writer, indent: usize, key: bool) {
        to.put_char('"');
        let mut spaces = false;
        let mut chars = self.text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                escape(to, c);
                spaces = false;
            } else if c == ' ' && !key && !spaces && to.column > WIDTH && at > 0 && next.is_some() {
                to.line(indent);
                if next == Some(' ') {
                    to.put_char('\\');
                }
                spaces = true;
            } else {
                to.put_char(c);
                spaces = c == ' ';
            }
        }
        to.put_char('"');
    }
}

/// What stands in a text that matters to its form.
#[derive(Default)]
struct Found {
    /// Characters that begin something other than a text.
    indicators: bool,
    breaks: bool,
    /// Characters that must be escaped.
    special: bool,
    /// A line that begins with a space.
    break_space: bool,
    /// A line that ends with one.
    space_break: bool,
}

impl Found {
    fn new(text: &str) -> Self {
        let mut found = Self {
            indicators: text.starts_with("---") || text.starts_with("..."),
            ..Self::default()
        };
        let mut before: Option<char> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let blank_after = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            let blank_before = before.is_none_or(|before| matches!(before, ' ' | '\t') || is_break(before));
            found.indicators |= match c {
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    before.is_none()
                }
                '?' | '-' => before.is_none() && blank_after,
                ':' => blank_after,
                '#' => blank_before,
                _ => false,
            };
            found.special |= !is_printable(c);
            found.breaks |= is_break(c);
            found.break_space |= c == ' ' && before.is_some_and(is_break);
            found.space_break |= is_break(c) && before == Some(' ');
            before = Some(c);
        }
        found
    }
}

/// Whether a plain text would be read as null, a truth, a number or a time (YAML 1.1 as `yaml.v2` has it).
fn is_something_else(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "y", "yes", "true", "on", "n", "no", "false", "off", "null", ".nan", ".inf", "+.inf", "-.inf", "~",
    ];
    if text.is_empty() || text == "<<" {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    let cased = text == lower || text == text.to_ascii_uppercase() || *rest == lower[first.len()..];
    if WORDS.contains(&&*lower) && (cased || lower == ".nan") {
        return true;
    }
    if !first.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return false;
    }
    is_number(&text.replace('_', "")) || is_time(text) || is_base_60(text)
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix)
            && u64::from_str_radix(digits, base).is_ok()
            && !digits.starts_with('+')
        {
            return true;
        }
    }
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && digits(exponent)
        && !exponent.is_empty()
        && !(whole.is_empty() && fraction.is_empty())
}

fn is_time(text: &str) -> bool {
    let number = |text: &str, max: u8| {
        text.len() <= 2
            && text.bytes().all(|b| b.is_ascii_digit())
            && text.parse().is_ok_and(|n: u8| n <= max)
    };
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let calendar = (year.len() == 4 && number(month, 12) && number(day, 31))
        .then(|| {
            let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
            Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
        })
        .flatten();
    if calendar.is_none() {
        return false;
    }
    let Some(clock) = clock else { return true };
    let zoned = text.as_bytes().get(date.len()) != Some(&b' ');
    let clock = match (zoned, clock.strip_suffix('Z')) {
        (false, _) => clock,
        (true, Some(clock)) => clock,
        (true, None) => {
            let Some(at) = clock.rfind(['+', '-']) else {
                return false;
            };
            let zone = &clock[at + 1..];
            let known = zone
                .split_once(':')
                .is_some_and(|(h, m)| h.len() == 2 && m.len() == 2 && number(h, 24) && number(m, 60));
            if !known {
                return false;
            }
            &clock[..at]
        }
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else {
        return false;
    };
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    !hour.is_empty() && number(hour, 23) && number(minute, 59) && number(second, 59) && fraction
}

/// Numbers such as `1:20:30`, that other readers of YAML make one number of.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let sixtieth = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    whole.contains(':')
        && first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && digits(fraction)
        && parts.all(sixtieth)
}

fn escape(to: &mut Writer, c: char) {
    let short = match c {
        '\0' => '0',
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        '\x1b' => 'e',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        '"' | '\\' => c,
        _ => {
            let code = u32::from(c);
            return to.put(&match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    to.put_char('\\');
    to.put_char(short);
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_space_or_break(c: char) -> bool {
    c == ' ' || is_break(c)
}

/// Characters of a line after which it may be broken.
const WIDTH: usize = 80;

/// Longer keys stand on a line of their own.
const KEY_BYTES_MAX: usize = 128;
