//! YAML as JSON, within the limits that keep a small text from becoming a large object.

use serde_json::Value;

/// The first document of a body.
pub(super) fn json(body: &[u8]) -> Result<Vec<u8>, YamlError> {
    let value: Value = serde_saphyr::from_slice(body).map_err(|error| YamlError(error.to_string()))?;
    serde_json::to_vec(&value).map_err(|error| YamlError(error.to_string()))
}

/// A body is no YAML that has a form in JSON.
#[derive(Debug, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {0}")]
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
