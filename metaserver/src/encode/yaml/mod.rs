//! JSON as YAML, laid out as a real server lays it out: two spaces a level, lists not deeper than their keys, keys in natural
//! order (Go's `yaml.v2`, which Kubernetes writes YAML with).

mod scalar;

use std::cmp::Ordering;

use serde_json::{Map, Value};

use scalar::Scalar;

/// The same value in YAML.
pub(crate) fn yaml(json: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut writer = Writer::default();
    match serde_json::from_slice(json)? {
        Value::Object(map) if !map.is_empty() => writer.mapping(&map, 0, true),
        Value::Array(list) if !list.is_empty() => writer.sequence(&list, 0, true),
        other => writer.inline(&other, 0),
    }
    writer.out.push('\n');
    Ok(writer.out.into_bytes())
}

#[derive(Default)]
struct Writer {
    out: String,
    /// Characters since the last line break.
    column: usize,
}

impl Writer {
    /// `started` tells that the first key stands on a line that has begun.
    fn mapping(&mut self, map: &Map<String, Value>, indent: usize, started: bool) {
        let mut fields: Vec<(&String, &Value)> = map.iter().collect();
        fields.sort_by(|a, b| natural(a.0, b.0));
        for (index, (key, value)) in fields.into_iter().enumerate() {
            if index > 0 || !started {
                self.line(indent);
            }
            let key = Scalar::text(key);
            if key.is_simple() {
                key.write(self, indent + 2, true);
                self.put(":");
                self.value(value, indent);
            } else {
                self.put("? ");
                key.write(self, indent + 2, false);
                self.line(indent);
                self.put(":");
                self.item(value, indent);
            }
        }
    }

    fn sequence(&mut self, list: &[Value], indent: usize, started: bool) {
        for (index, item) in list.iter().enumerate() {
            if index > 0 || !started {
                self.line(indent);
            }
            self.put("-");
            self.item(item, indent);
        }
    }

    /// What stands behind a key.
    fn value(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => self.mapping(map, indent + 2, false),
            Value::Array(list) if !list.is_empty() => self.sequence(list, indent, false),
            other => {
                self.put(" ");
                self.inline(other, indent + 2);
            }
        }
    }

    /// What stands behind a dash.
    fn item(&mut self, item: &Value, indent: usize) {
        self.put(" ");
        match item {
            Value::Object(map) if !map.is_empty() => self.mapping(map, indent + 2, true),
            Value::Array(list) if !list.is_empty() => self.sequence(list, indent + 2, true),
            other => self.inline(other, indent + 2),
        }
    }

    fn inline(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(_) => self.put("{}"),
            Value::Array(_) => self.put("[]"),
            Value::String(text) => Scalar::text(text).write(self, indent, false),
            Value::Number(number) if number.is_f64() => {
                self.put(&float(number.as_f64().unwrap_or_default()));
            }
            plain => self.put(&plain.to_string()),
        }
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// Text without line breaks.
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn put_char(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }
}

/// As Go prints the shortest form of a number: with an exponent from 10⁶ on.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Numbers in texts by their value, letters after everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let (one, other): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(place) = one.iter().zip(&other).position(|(x, y)| x != y) else {
        return one.len().cmp(&other.len());
    };
    let (x, y) = (one[place], other[place]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    // A zero inside of a number counts, one in front of it does not.
    let mut start = 0_u64;
    if x == '0' || y == '0' {
        let before = one[..place].iter().rev().take_while(|c| c.is_ascii_digit());
        start = before.into_iter().any(|c| *c != '0').into();
    }
    let number = |text: &[char]| {
        let digits = text[place..].iter().map_while(|c| c.to_digit(10));
        digits.fold((start, 0), |(value, length), digit| {
            (value.wrapping_mul(10).wrapping_add(digit.into()), length + 1)
        })
    };
    number(&one).cmp(&number(&other)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(value: Value, expected: &str) {
        let written = yaml(value.to_string().as_bytes()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn it_is_laid_out_as_a_real_server_does() {
        check(
            json!({"b": [{"x": 1, "y": {"z": []}}, [1, [2]], {}], "a": null, "list": ["s"], "f": 1.5, "t": true}),
            "a: null\nb:\n- x: 1\n  \"y\":\n    z: []\n- - 1\n  - - 2\n- {}\nf: 1.5\nlist:\n- s\nt: true\n",
        );
        check(json!({}), "{}\n");
    }

    #[test]
    fn keys_are_in_natural_order() {
        check(
            json!({"a10": 1, "a9": 2, "B": 3, "a": 4, ".": 5, "f:x": 6}),
            ".: 5\nB: 3\na: 4\na9: 2\na10: 1\nf:x: 6\n",
        );
    }

    #[test]
    fn texts_are_quoted_only_where_they_would_be_something_else() {
        check(
            json!({"a": ["yes", "1", "0x1f", "1:20", "2026-11-22T05:32:20Z", "", "a: b", "- a", "#", "it's: so", " a", "~"]}),
            "a:\n- \"yes\"\n- \"1\"\n- \"0x1f\"\n- \"1:20\"\n- \"2026-11-22T05:32:20Z\"\n- \"\"\n- 'a: b'\n- '- a'\n- '#'\n- \
             'it''s: so'\n- ' a'\n- \"~\"\n",
        );
        check(
            json!({"a": "x\ty", "b": "1.2.3", "c": "\u{1f600}"}),
            "a: \"x\\ty\"\nb: 1.2.3\nc: \"\\U0001F600\"\n",
        );
    }

    #[test]
    fn lines_stay_lines() {
        check(
            json!({"a": {"b": "x\n y\n\nz\n", "c": "x\ny", "d": " x\ny\n\n", "e": "x \ny", "f": "\n"}}),
            "a:\n  b: |\n    x\n     y\n\n    z\n  c: |-\n    x\n    y\n  d: |2+\n     x\n    y\n\n  e: \"x \\ny\"\n  f: |2+\n\n",
        );
    }

    #[test]
    fn long_texts_are_folded_at_a_space_after_column_80() {
        let words = "word ".repeat(20);
        let text = words.trim_end();
        let (front, rest) = (&text[..79], &text[80..]);
        check(json!({ "a": text }), &format!("a: {front}\n  {rest}\n"));
        check(
            json!({ "a": format!("'{text}") }),
            &format!("a: '''{}\n  {}'\n", &text[..79], &text[80..]),
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_it_was(text in "[ -~\n\t\u{e4}\u{1f600}]{0,30}", key in "[ -~]{1,12}") {
            let value = json!({ key: { "x": [text] } });
            let written = yaml(value.to_string().as_bytes()).unwrap();
            let read: Value = serde_saphyr::from_slice(&written).unwrap();
            prop_assert_eq!(read, value, "{}", String::from_utf8_lossy(&written));
        }
    }
}
