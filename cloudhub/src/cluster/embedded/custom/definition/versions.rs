//! One version of a custom kind: its subresources, columns and fields to select by.

use serde_json::Value;

use super::{Found, each, schema, text};
use crate::cluster::embedded::fault::FieldError;

/// What all versions have together.
pub(super) struct Shared<'v> {
    pub(super) status: bool,
    pub(super) subresources: &'v Value,
}

/// Whether the status has a door of its own.
pub(super) fn has_status(of: &Value) -> bool {
    of["subresources"]["status"].is_object()
}

pub(super) fn check(version: &Value, whole: &Shared<'_>, path: &str, found: &mut Found) {
    deprecation(version, path, found);
    let status = has_status(version) || whole.subresources["status"].is_object();
    schema::check(&version["schema"], status, &format!("{path}.schema"), found);
    subresources(&version["subresources"], &format!("{path}.subresources"), found);
    columns(version, path, found);
    selectable_fields(version, &version["schema"]["openAPIV3Schema"], path, found);
}

fn deprecation(version: &Value, path: &str, found: &mut Found) {
    let given = &version["deprecationWarning"];
    let Some(warning) = given.as_str() else { return };
    let path = format!("{path}.deprecationWarning");
    if version["deprecated"] != true {
        found.invalid(path, given, "can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        found.invalid(&path, given, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        found.invalid(&path, given, "must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, letter)| letter.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        found.invalid(&path, given, &detail);
    }
}

pub(super) fn subresources(of: &Value, path: &str, found: &mut Found) {
    let Some(scale) = of.get("scale").filter(|scale| scale.is_object()) else {
        return;
    };
    for (field, under) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let (given, path) = (text(scale, field), format!("{path}.scale.{field}"));
        if given.is_empty() {
            found.required(path, "");
        } else if simple(given, &path, found) && !given.starts_with(&format!("{under}.")) {
            let detail = format!("should be a json path under {under}");
            found.invalid(path, &given.into(), &detail);
        }
    }
    let (given, path) = (
        text(scale, "labelSelectorPath"),
        format!("{path}.scale.labelSelectorPath"),
    );
    let known = given.starts_with(".spec.") || given.starts_with(".status.");
    if !given.is_empty() && simple(given, &path, found) && !known {
        found.invalid(
            path,
            &given.into(),
            "should be a json path under either .spec or .status",
        );
    }
}

pub(super) fn columns(of: &Value, path: &str, found: &mut Found) {
    for (index, column) in each(of, "additionalPrinterColumns") {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if text(column, "name").is_empty() {
            found.required(format!("{path}.name"), "");
        }
        let types = format!("must be one of {}", TYPES.join(","));
        match text(column, "type") {
            "" => found.required(format!("{path}.type"), &types),
            given if TYPES.contains(&given) => {}
            given => found.invalid(format!("{path}.type"), &given.into(), &types),
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            found.invalid(format!("{path}.format"), &format.into(), &detail);
        }
        match text(column, "jsonPath") {
            "" => found.required(format!("{path}.JSONPath"), ""),
            given => {
                simple(given, &format!("{path}.JSONPath"), found);
            }
        }
    }
}

fn simple(given: &str, path: &str, found: &mut Found) -> bool {
    let simple = given.starts_with('.');
    if !simple {
        found.invalid(path, &given.into(), "must be a simple json path starting with .");
    }
    simple
}

pub(super) fn selectable_fields(of: &Value, schema: &Value, path: &str, found: &mut Found) {
    let path = format!("{path}.selectableFields");
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in each(of, "selectableFields") {
        let at = format!("{path}[{index}].jsonPath");
        let given = text(field, "jsonPath");
        if given.is_empty() {
            found.required(at, "");
            continue;
        }
        let shown = Value::from(given);
        let of = match field_path(given, schema, false) {
            Ok(of) => of,
            Err(why) => {
                found.invalid(at, &shown, &format!("is an invalid path: {why}"));
                continue;
            }
        };
        if given == ".metadata" || given.starts_with(".metadata.") {
            found.invalid(&at, &shown, "must not point to fields in metadata");
        }
        if !matches!(of["type"].as_str(), Some("string" | "boolean" | "integer")) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            found.invalid(&at, &shown, detail);
        }
        if seen.contains(&given) {
            found.errors.push(FieldError::duplicate(at, &shown));
        } else {
            seen.push(given);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        let count = u64::try_from(seen.len()).unwrap_or(u64::MAX);
        found.errors.push(FieldError::too_many(path, count, 8));
    }
}

/// The schema at the end of a path of a schema's fields (`.spec.a`, and `['a.b']` where that is allowed).
pub(super) fn field_path<'v>(given: &str, schema: &'v Value, brackets: bool) -> Result<&'v Value, String> {
    let mut schema = schema;
    let mut rest = given;
    while let Some(first) = rest.chars().next() {
        let name;
        match first {
            '.' => {
                rest = &rest[1..];
                let end = rest
                    .find(['.', '[', ']'])
                    .unwrap_or(rest.len())
                    .max(usize::from(rest.starts_with(['.', '[', ']'])));
                if rest.is_empty() {
                    return Err("unexpected end of JSON path".into());
                }
                name = rest[..end].to_owned();
                rest = &rest[end..];
            }
            '[' if !brackets => return Err("array notation is not allowed".into()),
            '[' => {
                let quoted = rest.strip_prefix("['").and_then(|rest| rest.split_once('\''));
                let Some((inner, after)) = quoted else {
                    let end = rest[1..].find(['.', '[', ']']).map_or(rest.len(), |end| end + 1);
                    return Err(match &rest[1..end] {
                        "" => "unexpected end of JSON path".into(),
                        other => format!("expected single quoted string but got {other}"),
                    });
                };
                name = inner.to_owned();
                rest = after.strip_prefix(']').ok_or("unexpected end of JSON path")?;
            }
            _ => {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                return Err(format!("expected [ or . but got: {}", &rest[..end.max(1)]));
            }
        }
        let properties = schema
            .get("properties")
            .filter(|properties| properties.is_object());
        let more = schema.get("additionalProperties").filter(|more| more.is_object());
        let below = match (properties, more) {
            (Some(properties), _) => properties.get(&name),
            (None, more) => more,
        };
        schema = below.ok_or("does not refer to a valid field")?;
    }
    Ok(schema)
}

const TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// Fields that one version may be selected by.
const SELECTABLE_MAX: usize = 8;
