//! What every object must be, whatever its kind: names, labels, annotations, finalizers, owners. Then what its kind must be.

use hub_core::api::Status;
use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::call::{is, is_namespaces, meta};
use super::content;
use super::fault::{self, FieldError};

/// Checks an object that is about to be stored, in the place of another or of none.
pub(super) fn object(kind: &ResourceKind, old: Option<&Value>, value: &Value) -> Result<(), Status> {
    let mut errors = metadata_errors(kind, value);
    content::check(kind, value, &mut errors);
    if let Some(old) = old {
        content::changed(kind, old, value, &mut errors);
    }
    refuse(kind, value, &errors)
}

/// The same for who writes a part of it, and is not to blame for the rest.
pub(super) fn metadata(kind: &ResourceKind, value: &Value) -> Result<(), Status> {
    refuse(kind, value, &metadata_errors(kind, value))
}

fn refuse(kind: &ResourceKind, value: &Value, errors: &[FieldError]) -> Result<(), Status> {
    let name = meta(value, "name");
    if errors.is_empty() {
        Ok(())
    } else if &*kind.kind == "Event" && !kind.custom {
        // A real server checks both of their groups as the old one.
        Err(fault::invalid_named("", "Event", name, errors))
    } else {
        Err(fault::invalid(kind, name, errors))
    }
}

fn metadata_errors(kind: &ResourceKind, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = meta(value, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if let Some(detail) = name_fault(kind, name) {
        errors.push(FieldError::invalid("metadata.name", &name.into(), &detail));
    }
    labels(&value["metadata"]["labels"], &mut errors);
    for key in keys(&value["metadata"]["annotations"]) {
        if let Some(detail) = qualified_name_fault(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &key.into(), &detail));
        }
    }
    for finalizer in value["metadata"]["finalizers"].as_array().into_iter().flatten() {
        if let Some(detail) = qualified_name_fault(finalizer.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, &detail));
        }
    }
    for owner in value["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
    {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let path = format!("metadata.ownerReferences.{field}");
                errors.push(FieldError::invalid(path, &"".into(), "must not be empty"));
            }
        }
    }
    if is(kind, "events.k8s.io", "events") && meta(value, "resourceVersion").is_empty() {
        event(value, &mut errors);
    }
    errors
}

/// A new event of the new group says more than the old one must (Kubernetes `pkg/apis/core/validation/events.go`).
fn event(value: &Value, errors: &mut Vec<FieldError>) {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let timed = !text("eventTime").is_empty();
    if !timed {
        errors.push(FieldError::required("eventTime", ""));
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        let detail = format!("has invalid value: {}", text("type"));
        errors.push(FieldError::invalid("type", &text("type").into(), &detail));
    }
    if !timed {
        return;
    }
    for (field, most) in [
        ("reportingController", usize::MAX),
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
    ] {
        if text(field).is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if text(field).len() > most {
            let detail = format!("can have at most {most} characters");
            errors.push(FieldError::invalid(field, &"".into(), &detail));
        }
    }
    if text("note").len() > NOTE_BYTES_MAX {
        let detail = format!("can have at most {NOTE_BYTES_MAX} characters");
        errors.push(FieldError::invalid("note", &"".into(), &detail));
    }
}

/// Checks that the metadata has the types that Kubernetes gives it, and leaves no nulls in it.
pub(super) fn types(kind: &ResourceKind, value: &mut Value) -> Result<(), Status> {
    let version = &kind.resource.version;
    let wrong = |what: &Value, field: &str, wanted: &str| {
        let found = match what {
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) | Value::Null => "object",
        };
        let kind = &kind.kind;
        fault::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field {field} of type {wanted}"
        ))
    };
    let Value::Object(object) = value else {
        return Err(wrong(value, "ObjectMeta", "v1.ObjectMeta"));
    };
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Default::default()));
    if metadata.is_null() {
        *metadata = Value::Object(Default::default());
    }
    let Value::Object(fields) = metadata else {
        return Err(wrong(metadata, "metadata", "v1.ObjectMeta"));
    };
    fields.retain(|_, value| !value.is_null());
    for (name, value) in &*fields {
        let field = format!("ObjectMeta.{name}");
        let text = |value: &Value| value.is_string();
        match name.as_str() {
            "name" | "generateName" | "namespace" | "uid" | "resourceVersion" | "creationTimestamp"
            | "deletionTimestamp" | "selfLink"
                if !text(value) =>
            {
                return Err(wrong(value, &field, "string"));
            }
            "labels" | "annotations" => match value {
                Value::Object(entries) => {
                    if let Some(entry) = entries.values().find(|entry| !text(entry)) {
                        return Err(wrong(entry, &field, "string"));
                    }
                }
                other => return Err(wrong(other, &field, "map[string]string")),
            },
            "finalizers" => match value {
                Value::Array(entries) => {
                    if let Some(entry) = entries.iter().find(|entry| !text(entry)) {
                        return Err(wrong(entry, &field, "string"));
                    }
                }
                other => return Err(wrong(other, &field, "[]string")),
            },
            "ownerReferences"
                if !value
                    .as_array()
                    .is_some_and(|all| all.iter().all(Value::is_object)) =>
            {
                return Err(wrong(value, &field, "[]v1.OwnerReference"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn name_fault(kind: &ResourceKind, name: &str) -> Option<String> {
    if &*kind.resource.group == "rbac.authorization.k8s.io"
        || is(kind, "apiregistration.k8s.io", "apiservices")
    {
        let bad = |part: &&&str| name.contains(**part);
        return match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            _ => ["/", "%"]
                .iter()
                .find(bad)
                .map(|part| format!("may not contain '{part}'")),
        };
    }
    if is_namespaces(kind) {
        return (!is_label(name)).then(|| LABEL.to_owned());
    }
    if is(kind, "", "services") {
        let ok = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
        return (!ok).then(|| LABEL_1035.to_owned());
    }
    if name.len() > 253 {
        return Some("must be no more than 253 bytes".into());
    }
    (!name.split('.').all(is_long_label)).then(|| SUBDOMAIN.to_owned())
}

fn labels(labels: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(detail) = qualified_name_fault(key) {
            errors.push(FieldError::invalid(
                "metadata.labels",
                &key.as_str().into(),
                &detail,
            ));
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            errors.push(FieldError::invalid(
                "metadata.labels",
                value,
                "must be no more than 63 bytes",
            ));
        }
        if !text.is_empty() && !is_name_part(text) {
            errors.push(FieldError::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
}

fn qualified_name_fault(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && (prefix.len() > 253 || !prefix.split('.').all(is_long_label))
    {
        return Some(format!("prefix part {SUBDOMAIN}"));
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".into());
    }
    (!is_name_part(name)).then(|| format!("name part {NAME_PART}"))
}

fn keys(map: &Value) -> impl Iterator<Item = &str> {
    map.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_long_label(text)
}

fn is_long_label(text: &str) -> bool {
    let edge = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|c| edge(c) || *c == b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

/// Kubernetes `pkg/apis/core/validation/events.go`.
const NOTE_BYTES_MAX: usize = 1024;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub(super) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
