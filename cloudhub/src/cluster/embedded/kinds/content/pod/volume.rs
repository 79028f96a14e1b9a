//! What the volumes of a pod must be: exactly one source each, with what it needs (Kubernetes `pkg/apis/core/validation`,
//! `ValidateVolumes`).

use serde_json::Value;

use super::super::{Sources, list, one_of, sole, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

/// Adds what is wrong with the volumes of a spec at a path. Returns their names.
pub(super) fn volumes<'v>(spec: &'v Value, path: &str, errors: &mut Errors) -> Vec<&'v str> {
    let mut seen = Vec::new();
    for (index, volume) in list(&spec["volumes"]).enumerate() {
        let path = format!("{path}.volumes[{index}]");
        source(volume, &path, errors);
        let name = text(&volume["name"]);
        let at = format!("{path}.name");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(at, &volume["name"]));
        } else {
            for detail in names::label(name) {
                errors.push(FieldError::invalid(at.as_str(), &volume["name"], &detail));
            }
        }
        seen.push(name);
    }
    seen
}

/// Where the files of a volume come from: exactly one source, with what it needs.
fn source(volume: &Value, path: &str, errors: &mut Errors) {
    sole(
        volume,
        path,
        SOURCES,
        "volume",
        errors,
        |kind, source, path, errors| match kind {
            "hostPath" => {
                host_path(&source["path"], &format!("{path}.path"), errors);
                one_of(&source["type"], &format!("{path}.type"), HOST_PATHS, errors);
            }
            "emptyDir" if text(&source["sizeLimit"]).starts_with('-') => {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(format!("{path}.sizeLimit"), detail));
            }
            "configMap" | "secret" => files(source, path, errors),
            _ => {}
        },
    );
}

fn files(source: &Value, path: &str, errors: &mut Errors) {
    let mode = |value: &Value, path: String, errors: &mut Errors| {
        if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
            let detail = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(FieldError::invalid(path, value, detail));
        }
    };
    mode(&source["defaultMode"], format!("{path}.defaultMode"), errors);
    for (index, item) in list(&source["items"]).enumerate() {
        let path = format!("{path}.items[{index}]");
        if text(&item["key"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), ""));
        }
        let at = format!("{path}.path");
        match text(&item["path"]) {
            "" => errors.push(FieldError::required(at, "")),
            absolute if absolute.starts_with('/') => {
                errors.push(FieldError::invalid(at, &item["path"], "must be a relative path"));
            }
            _ => host_path(&item["path"], &at, errors),
        }
        mode(&item["mode"], format!("{path}.mode"), errors);
    }
}

/// No step back.
pub(in crate::cluster::embedded::kinds::content) fn host_path(
    value: &Value,
    path: &str,
    errors: &mut Errors,
) {
    if text(value).split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// What can be mounted, in the order in which Kubernetes looks, and what each cannot do without.
const SOURCES: Sources = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("configMap", &["name"]),
    ("downwardAPI", &[]),
    ("projected", &[]),
    ("csi", &["driver"]),
    ("ephemeral", &[]),
];
const HOST_PATHS: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
