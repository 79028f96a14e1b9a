//! Definitions as Kubernetes' own code has them: what all versions share stands once, and has another path in messages.

use serde_json::{Value, json};

/// What is the same in all versions: a field of the version, and its name for the whole.
const SHARED: &[(&str, &str)] = &[
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// The spec with what all versions share taken out of them.
pub(super) fn hoisted(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for (field, shared) in SHARED {
        let versions = spec["versions"].as_array().cloned().unwrap_or_default();
        let Some(first) = versions.first().map(|version| version[*field].clone()) else {
            continue;
        };
        let empty = first.as_array().is_some_and(Vec::is_empty);
        if first.is_null() || empty || versions.iter().any(|version| version[*field] != first) {
            continue;
        }
        for version in spec["versions"].as_array_mut().into_iter().flatten() {
            if let Some(version) = version.as_object_mut() {
                version.remove(*field);
            }
        }
        spec[*shared] = first;
    }
    spec
}

/// The versions as Kubernetes' own types show them in messages.
pub(super) fn shown(spec: &Value) -> Value {
    let Some(versions) = spec["versions"]
        .as_array()
        .filter(|versions| !versions.is_empty())
    else {
        return spec["versions"].clone();
    };
    let versions = versions.iter().map(|version| {
        json!([
            ["Name", version["name"].as_str().unwrap_or_default()],
            ["Served", version["served"] == true],
            ["Storage", version["storage"] == true],
            ["Deprecated", version["deprecated"] == true],
            ["DeprecationWarning", version["deprecationWarning"]],
            ["Schema", version["schema"]],
            ["Subresources", version["subresources"]],
            ["AdditionalPrinterColumns", version["additionalPrinterColumns"]],
            ["SelectableFields", version["selectableFields"]],
        ])
    });
    Value::String(format!(
        "[{}]",
        versions
            .map(|version| in_order(&version))
            .collect::<Vec<_>>()
            .join(",")
    ))
}

/// An object of pairs, whose order is kept.
pub(super) fn in_order(pairs: &Value) -> String {
    let pairs = pairs.as_array().into_iter().flatten();
    let pairs = pairs.map(|pair| format!("{}:{}", pair[0], escaped(&pair[1])));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// JSON as Go writes it, where `<`, `>` and `&` are escaped.
fn escaped(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
