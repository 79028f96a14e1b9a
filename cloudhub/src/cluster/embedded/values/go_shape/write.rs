//! Shapes as Go's `encoding/json` writes them: on one line, or a value a line.

use serde_json::Value;

use super::Shape;

impl Shape {
    /// On one line.
    pub(in super::super) fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// A value a line, one blank deeper with every step.
    pub(super) fn pretty(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, Some(0));
        text
    }

    fn write(&self, text: &mut String, depth: Option<usize>) {
        let deeper = depth.map(|depth| depth + 1);
        match self {
            Self::Plain(value) => plain(value, text),
            Self::List(elements) if elements.is_empty() => text.push_str("[]"),
            Self::Fields(fields) if fields.is_empty() => text.push_str("{}"),
            Self::List(elements) => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    next(text, index, deeper);
                    element.write(text, deeper);
                }
                line(text, depth);
                text.push(']');
            }
            Self::Fields(fields) => {
                text.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    next(text, index, deeper);
                    plain(&name.as_str().into(), text);
                    text.push_str(if depth.is_some() { ": " } else { ":" });
                    value.write(text, deeper);
                }
                line(text, depth);
                text.push('}');
            }
        }
    }
}

fn next(text: &mut String, index: usize, depth: Option<usize>) {
    if index > 0 {
        text.push(',');
    }
    line(text, depth);
}

fn line(text: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', depth));
    }
}

/// Go hides from browsers what could be markup.
fn plain(value: &Value, text: &mut String) {
    for letter in value.to_string().chars() {
        match letter {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            other => text.push(other),
        }
    }
}
