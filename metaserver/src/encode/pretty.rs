//! JSON for people: two spaces a level, as Go's encoder prints it.

/// Lays out a JSON text. What stands inside strings, the order of fields and the numbers stay as they are.
pub(crate) fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 3 / 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut bytes = json
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace() || *byte == b' ')
        .peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b' ' => {}
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.peek() == Some(&b' ') {
                    bytes.next();
                }
                if matches!(bytes.peek(), Some(b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            other => out.push(other),
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 2));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_laid_out_as_a_real_server_does() {
        let text = br#"{"a":"x, {y} \" :","b":[1, 2],"c":{},"d": [ ]}"#;
        let expected =
            "{\n  \"a\": \"x, {y} \\\" :\",\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(String::from_utf8(pretty(text)).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n]{0,40}") {
            let _ = pretty(text.as_bytes());
        }
    }
}
