//! YAML as JSON, as `sigs.k8s.io/yaml` has it, within the limits that keep a small text from becoming a large object.
//!
//! It reads YAML 1.1: `y`, `on` and their like are truths unless they stand in quotes, also where they are the key of a field, which
//! then reads `true`. A key that stands twice is left so: whether that is a fault is for the server to say.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value};
use serde_saphyr::DuplicateKeyPolicy;

/// The first document of a body.
pub(super) fn json(body: &[u8]) -> Result<Vec<u8>, YamlError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
    };
    let body = first_document(body);
    let node: Node = serde_saphyr::from_slice_with_options(body, options)
        .map_err(|error| YamlError(told(body, &error.to_string())))?;
    serde_json::to_vec(&node).map_err(|error| YamlError(error.to_string()))
}

/// What stands before the next document, if there is one.
fn first_document(body: &[u8]) -> &[u8] {
    let (mut at, mut begun) = (0, false);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let marks = |mark: &[u8]| {
            let rest = line.strip_prefix(mark);
            rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
        };
        if begun && (marks(b"---") || marks(b"...")) {
            return &body[..at];
        }
        begun |= marks(b"---") || !(text.is_empty() || matches!(text[0], b'#' | b'%'));
        at += line.len();
    }
    body
}

/// A fault as Go's parser tells of it, where the two tell of the same: its line, if it is not the first, and what was found.
fn told(body: &[u8], fault: &str) -> String {
    let first = fault.lines().next().unwrap_or_default();
    let placed = first.strip_prefix("error: line ").and_then(|rest| {
        let (line, rest) = rest.split_once(" column ")?;
        let (_, what) = rest.split_once(": ")?;
        Some((line.parse::<usize>().ok()?, what))
    });
    let Some((line, what)) = placed else {
        return first.to_owned();
    };
    if let Some(bracket) = what.strip_prefix("unclosed bracket '") {
        let text = body.trim_ascii();
        let ends = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        let close = if bracket.starts_with('{') { '}' } else { ']' };
        return match text.last() {
            Some(b'{' | b'[' | b',' | b':') => format!("line {ends}: did not find expected node content"),
            _ => format!("line {ends}: did not find expected ',' or '{close}'"),
        };
    }
    match line {
        1 => what.to_owned(),
        line => format!("line {line}: {what}"),
    }
}

/// What stands in a document, in its order.
enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// As the name of a field.
    fn name(self) -> Option<String> {
        match self {
            Self::Scalar(Value::String(text)) => Some(text),
            Self::Scalar(other) => Some(other.to_string()),
            Self::List(_) | Self::Map(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(serializer),
            Self::List(elements) => elements.serialize(serializer),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Node, Node>()? {
            let name = key
                .name()
                .ok_or_else(|| serde::de::Error::custom("a key is a list or a map"))?;
            entries.push((name, value));
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Node::List(elements))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("JSON has no such number"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
}

/// A body is no YAML that has a form in JSON.
#[derive(Debug, thiserror::Error)]
#[error("yaml: {0}")]
pub(super) struct YamlError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, YamlError> {
        json(text.as_bytes()).map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn of_several_documents_the_first_counts() {
        for text in [
            "a: 1\n---\nb: 2\n",
            "---\na: 1\n---\nb: [\n",
            "# x\n---\na: 1\n...\n%\n",
            "a: 1",
        ] {
            assert_eq!(read(text).unwrap(), json!({"a": 1}), "{text}");
        }
        assert_eq!(read("a: ---\nb: 2\n").unwrap(), json!({"a": "---", "b": 2}));
    }

    #[test]
    fn faults_are_told_as_go_tells_them() {
        let told = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            told("a: b: c"),
            "yaml: mapping values are not allowed in this context"
        );
        assert_eq!(
            told("x: 1\na: b: c"),
            "yaml: line 2: mapping values are not allowed in this context"
        );
        assert_eq!(told("{"), "yaml: line 1: did not find expected node content");
        assert_eq!(told("a: [1\n"), "yaml: line 1: did not find expected ',' or ']'");
    }

    #[test]
    fn what_people_write_is_read() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  # why\n  a: \"1\"\n  b: |\n    x\n    y\n";
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"a": "1", "b": "x\ny\n"}});
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(
            read("a: 1\nb: 1.5\nc: true\nd: null\ne: 0x10\n").unwrap()["b"],
            json!(1.5)
        );
        assert_eq!(read(r#"{"a": [1, "x"]}"#).unwrap(), json!({"a": [1, "x"]}));
        assert_eq!(
            read("a: &x {b: 1}\nc: *x\n").unwrap(),
            json!({"a": {"b": 1}, "c": {"b": 1}})
        );
    }

    #[test]
    fn truths_are_those_of_yaml_1_1_and_keys_are_texts() {
        let text = "y: '1'\n'n': a\noff: yes\n'yes': \"on\"\n1: x\n";
        let expected = json!({"true": "1", "n": "a", "false": true, "yes": "on", "1": "x"});
        assert_eq!(read(text).unwrap(), expected);
        let twice = json(b"a: 1\na: 2\n").unwrap();
        assert_eq!(twice, br#"{"a":1,"a":2}"#, "whoever is strict must see it");
    }

    #[test]
    fn a_small_text_does_not_become_a_large_object() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let below = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(read(&text).is_err());
        assert!(read("a: [").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n]{0,60}") {
            let _ = read(&text);
        }
    }
}
