//! What every object must be, whatever its kind: names, labels, annotations, finalizers, owners. Then what its kind must be.

use hub_core::api::Status;
use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::content;
use crate::cluster::embedded::call::{is, meta};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::values::names;

/// Checks an object that is about to be stored, in the place of another or of none.
pub(in crate::cluster::embedded) fn object(
    kind: &ResourceKind,
    old: Option<&Value>,
    value: &Value,
) -> Result<(), Status> {
    let mut errors = metadata_errors(kind, value);
    if old.is_some() {
        repeat(kind, None, &mut errors);
    }
    content::check(kind, value, &mut errors);
    match old {
        Some(old) => content::changed(kind, old, value, &mut errors),
        None => content::created(kind, value, &mut errors),
    }
    refuse(kind, value, &errors)
}

/// The same for who writes a part of it by the part's own door, and is not to blame for the rest.
pub(in crate::cluster::embedded) fn part(
    kind: &ResourceKind,
    part: &str,
    old: &Value,
    value: &Value,
) -> Result<(), Status> {
    let mut errors = metadata_errors(kind, value);
    repeat(kind, Some(part), &mut errors);
    if !kind.custom {
        content::part(kind, part, old, value, &mut errors);
    }
    refuse(kind, value, &errors)
}

/// How often a real server finds the same thing wrong with the metadata of an object that is there: every layer looks.
#[derive(Clone, Copy)]
pub(in crate::cluster::embedded) struct Times {
    /// Labels, annotations and owners.
    labels: usize,
    /// A time of deletion that a client sets.
    pub(in crate::cluster::embedded) deletion: usize,
    finalizers: usize,
}

/// By which door, and for which kind. Seen on a kube-apiserver 1.36.
pub(in crate::cluster::embedded) fn times(kind: &ResourceKind, part: Option<&str>) -> Times {
    let times = |labels, deletion, finalizers| Times {
        labels,
        deletion,
        finalizers,
    };
    match (&*kind.resource.group, &*kind.resource.resource, part) {
        _ if kind.custom => times(1, 1, 1),
        ("batch", "cronjobs", Some(_)) | ("policy", _, _) | ("", "events", None) => times(2, 1, 1),
        (_, _, Some(_)) => times(3, 2, 2),
        ("admissionregistration.k8s.io", ..) => times(3, 1, 2),
        ("flowcontrol.apiserver.k8s.io" | "discovery.k8s.io", ..) => times(3, 1, 3),
        ("storage.k8s.io", "volumeattachments" | "csinodes", _) | ("", "limitranges", _) => times(3, 1, 3),
        ("coordination.k8s.io", ..) => times(3, 2, 1),
        ("", "persistentvolumes", _) => times(4, 1, 5),
        ("apps", "controllerrevisions", _) => times(5, 3, 5),
        ("node.k8s.io" | "apiregistration.k8s.io", ..) => times(4, 2, 2),
        ("networking.k8s.io", "servicecidrs" | "networkpolicies", _)
        | ("storage.k8s.io", "csidrivers", _)
        | ("batch", "cronjobs", _)
        | ("apps" | "autoscaling" | "events.k8s.io" | "scheduling.k8s.io", ..)
        | ("", "podtemplates" | "replicationcontrollers" | "resourcequotas" | "services", _) => {
            times(3, 2, 2)
        }
        _ => times(4, 2, 4),
    }
}

/// Finds again what was found, as often as a real server does.
fn repeat(kind: &ResourceKind, part: Option<&str>, errors: &mut Vec<FieldError>) {
    if errors.is_empty() {
        return;
    }
    let times = times(kind, part);
    let found = errors.clone();
    for time in 1..times.labels.max(times.finalizers) {
        let again = found.iter().filter(|error| match error.field() {
            "metadata.finalizers" => time < times.finalizers,
            field if field.starts_with("metadata.finalizers[") => false,
            _ => time < times.labels,
        });
        errors.extend(again.cloned());
    }
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
    let (name, base) = (meta(value, "name"), meta(value, "generateName"));
    // Nobody looks at the names of events but who stores them.
    if !base.is_empty() && !is(kind, "", "events") {
        for detail in name_faults(kind, base, true) {
            errors.push(FieldError::invalid(
                "metadata.generateName",
                &base.into(),
                &detail,
            ));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        for detail in name_faults(kind, name, false) {
            errors.push(FieldError::invalid("metadata.name", &name.into(), &detail));
        }
    }
    let metadata = &value["metadata"];
    if metadata["generation"]
        .as_i64()
        .is_some_and(|generation| generation < 0)
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            "metadata.generation",
            &metadata["generation"],
            detail,
        ));
    }
    labels(&metadata["labels"], "metadata.labels", &mut errors);
    annotations(&metadata["annotations"], &mut errors);
    owners(&metadata["ownerReferences"], &mut errors);
    finalizers(kind, &metadata["finalizers"], &mut errors);
    errors
}

/// Checks that the metadata of a custom object has the types that Kubernetes gives it, and leaves no nulls in it. What is wrong with
/// that of others is found with the rest of their fields.
pub(in crate::cluster::embedded) fn types(kind: &ResourceKind, value: &mut Value) -> Result<(), Status> {
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
    if !kind.custom {
        return Ok(());
    }
    let Value::Object(fields) = metadata else {
        let found = super::conform::found(metadata);
        return Err(fault::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: json: cannot unmarshal {found} into Go value of type v1.ObjectMeta",
            kind = kind.kind
        )));
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
                    if let Some(entry) = entries.values().find(|entry| !text(entry) && !entry.is_null()) {
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

/// What is wrong with a name of a kind. A prefix of names may end in a dash.
fn name_faults(kind: &ResourceKind, name: &str, prefix: bool) -> Vec<String> {
    let masked = match name.strip_suffix('-') {
        Some(base) if prefix && !base.is_empty() => format!("{base}a"),
        _ => name.to_owned(),
    };
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io", "apiservices") => {
            names::path_segment(name)
        }
        ("", "namespaces" | "services") => names::label(&masked),
        ("batch", "cronjobs") if name.len() > CRON_JOB_BYTES_MAX && !prefix => {
            vec![format!("must be no more than {CRON_JOB_BYTES_MAX} characters")]
        }
        _ => names::subdomain(&masked),
    }
}

pub(in crate::cluster::embedded) fn labels(labels: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for detail in names::qualified(key) {
            errors.push(FieldError::invalid(path, &key.as_str().into(), &detail));
        }
        for detail in names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(path, value, &detail));
        }
    }
}

fn annotations(annotations: &Value, errors: &mut Vec<FieldError>) {
    let entries = || annotations.as_object().into_iter().flatten();
    for (key, _) in entries() {
        for detail in names::qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                &detail,
            ));
        }
    }
    let size: usize = entries()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > ANNOTATION_BYTES_MAX {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATION_BYTES_MAX));
    }
}

fn owners(owners: &Value, errors: &mut Vec<FieldError>) {
    let path = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let version = match text("apiVersion").split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] => version,
            _ => "",
        };
        if version.is_empty() {
            let path = format!("{path}.apiVersion");
            errors.push(FieldError::invalid(
                path,
                &text("apiVersion").into(),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.push(FieldError::invalid(
                    format!("{path}.{field}"),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            errors.push(FieldError::invalid(
                path,
                owner,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(path, owners, &detail));
                }
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(kind: &ResourceKind, finalizers: &Value, errors: &mut Vec<FieldError>) {
    let all = || finalizers.as_array().into_iter().flatten();
    let has = |name: &str| all().any(|finalizer| finalizer == name);
    for finalizer in all() {
        for detail in names::qualified(finalizer.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, &detail));
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", finalizers, detail));
    }
    // The groups outside of Kubernetes' core check their finalizers once only.
    if kind.custom || kind.resource.group.ends_with("apiextensions.k8s.io") {
        return;
    }
    for (index, finalizer) in all().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        if !text.contains('/') && !STANDARD_FINALIZERS.contains(&text) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(
                format!("metadata.finalizers[{index}]"),
                finalizer,
                detail,
            ));
        }
    }
}

/// Kubernetes `apimachinery/pkg/api/validation`: the total size of annotations.
const ANNOTATION_BYTES_MAX: usize = 256 << 10;
/// Kubernetes `pkg/apis/batch/validation`: a job's name has a time behind that of its cron job.
const CRON_JOB_BYTES_MAX: usize = 52;
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
