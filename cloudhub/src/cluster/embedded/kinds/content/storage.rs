//! What volumes, claims and classes of storage must be (Kubernetes `pkg/apis/core/validation`, `pkg/apis/storage/validation`).

use serde_json::Value;

use super::workload::label_selector;
use super::{Sources, list, one_of, pod, sole, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::{go_shape, names, quantity};

type Errors = Vec<FieldError>;

pub(super) fn claim(spec: &Value, path: &str, errors: &mut Errors) {
    let modes: Vec<&Value> = list(&spec["accessModes"]).collect();
    let at = format!("{path}.accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(
            at.as_str(),
            "at least 1 access mode is required",
        ));
    }
    label_selector(&spec["selector"], &format!("{path}.selector"), errors);
    for mode in &modes {
        one_of(mode, &at, MODES, errors);
    }
    if modes.len() > 1 && modes.iter().any(|mode| **mode == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(at, detail));
    }
    let (storage, at) = (
        &spec["resources"]["requests"]["storage"],
        format!("{path}.resources[storage]"),
    );
    if storage.is_null() {
        errors.push(FieldError::required(at, ""));
    } else if quantity::amount(storage).is_some_and(|amount| amount <= 0.0) {
        errors.push(FieldError::invalid(at, storage, "must be greater than zero"));
    }
    if !text(&spec["storageClassName"]).is_empty() {
        for detail in names::subdomain(text(&spec["storageClassName"])) {
            let at = format!("{path}.storageClassName");
            errors.push(FieldError::invalid(at, &spec["storageClassName"], &detail));
        }
    }
    one_of(
        &spec["volumeMode"],
        &format!("{path}.volumeMode"),
        &["Block", "Filesystem"],
        errors,
    );
    for source in ["dataSource", "dataSourceRef"] {
        for field in ["kind", "name"] {
            if spec[source].is_object() && text(&spec[source][field]).is_empty() {
                errors.push(FieldError::required(format!("{path}.{source}.{field}"), ""));
            }
        }
    }
    let class = &spec["volumeAttributesClassName"];
    if !text(class).is_empty() {
        for detail in names::subdomain(text(class)) {
            let at = format!("{path}.volumeAttributesClassName");
            errors.push(FieldError::invalid(at, class, &detail));
        }
    }
}

/// A claim wants what it wants for life; one that is bound may want more.
pub(super) fn claim_changed(old: &Value, new: &Value, errors: &mut Errors) {
    let bound = old["status"]["phase"] == "Bound";
    let held = quantity::amount(&old["status"]["capacity"]["storage"]);
    let (old, new) = (&old["spec"], &new["spec"]);
    let mut given = new.clone();
    // Who has no volume, or no class, may be given one.
    for (field, free) in [
        ("resources", bound),
        ("volumeAttributesClassName", bound),
        ("volumeName", text(&old["volumeName"]).is_empty()),
        ("storageClassName", old["storageClassName"].is_null()),
    ] {
        if free {
            given[field] = old[field].clone();
        }
    }
    let shown = go_shape::difference("PersistentVolumeClaimSpec", old, &given);
    if !shown.is_empty() {
        errors.push(FieldError::forbidden("spec", &format!("{CLAIM_KEPT}\n{shown}")));
    }
    let wanted = |spec: &Value| quantity::amount(&spec["resources"]["requests"]["storage"]);
    if bound && wanted(new) < wanted(old) && wanted(new) < held {
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", detail));
    }
    if old["volumeMode"] != new["volumeMode"] {
        errors.push(FieldError::invalid(
            "volumeMode",
            &new["volumeMode"],
            "field is immutable",
        ));
    }
}

pub(super) fn volume(spec: &Value, errors: &mut Errors) {
    let modes: Vec<&Value> = list(&spec["accessModes"]).collect();
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    for mode in modes {
        one_of(mode, "spec.accessModes", MODES, errors);
    }
    let capacity = spec["capacity"].as_object();
    if capacity.is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required("spec.capacity", ""));
    }
    if capacity.is_none_or(|capacity| capacity.len() != 1 || !capacity.contains_key("storage")) {
        let shown = match &spec["capacity"] {
            Value::Null => "{}".to_owned(),
            given => given.to_string(),
        };
        errors.push(FieldError::unsupported("spec.capacity", &shown, "\"storage\""));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let at = "spec.persistentVolumeReclaimPolicy";
    one_of(&spec["persistentVolumeReclaimPolicy"], at, &policies, errors);
    if spec["nodeAffinity"].is_object() && spec["nodeAffinity"]["required"].is_null() {
        let detail = "must specify required node constraints";
        errors.push(FieldError::required("spec.nodeAffinity.required", detail));
    }
    let required = &spec["nodeAffinity"]["required"];
    if required.is_object() && list(&required["nodeSelectorTerms"]).next().is_none() {
        let detail = "must have at least one node selector term";
        let path = "spec.nodeAffinity.required.nodeSelectorTerms";
        errors.push(FieldError::required(path, detail));
    }
    let found = sole(
        spec,
        "spec",
        SOURCES,
        "volume",
        errors,
        |kind, source, path, errors| {
            if kind == "hostPath" {
                pod::host_path(&source["path"], &format!("{path}.path"), errors);
            }
            if kind == "csi" && !text(&source["driver"]).is_empty() {
                for detail in names::subdomain(&text(&source["driver"]).to_lowercase()) {
                    errors.push(FieldError::invalid(
                        format!("{path}.driver"),
                        &source["driver"],
                        &detail,
                    ));
                }
            }
            if kind == "local" && spec["nodeAffinity"].is_null() {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required("spec.nodeAffinity", detail));
            }
        },
    );
    if !found && !others(spec) {
        errors.push(FieldError::required("spec", "must specify a volume type"));
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if !text(&spec[field]).is_empty() {
            for detail in names::subdomain(text(&spec[field])) {
                errors.push(FieldError::invalid(
                    format!("spec.{field}"),
                    &spec[field],
                    &detail,
                ));
            }
        }
    }
    one_of(
        &spec["volumeMode"],
        "spec.volumeMode",
        &["Block", "Filesystem"],
        errors,
    );
}

/// Whether a volume is of one of the older kinds, which are let pass.
fn others(spec: &Value) -> bool {
    spec.as_object().into_iter().flatten().any(|(field, value)| {
        value.is_object() && !["capacity", "claimRef", "nodeAffinity"].contains(&field.as_str())
    })
}

pub(super) fn class(value: &Value, errors: &mut Errors) {
    let provisioner = text(&value["provisioner"]);
    if provisioner.is_empty() {
        errors.push(FieldError::required("provisioner", ""));
    } else {
        let lower = provisioner.to_lowercase();
        for detail in names::qualified(&lower) {
            errors.push(FieldError::invalid(
                "provisioner",
                &lower.as_str().into(),
                &detail,
            ));
        }
    }
    if value["parameters"]
        .as_object()
        .is_some_and(|all| all.contains_key(""))
    {
        errors.push(FieldError::invalid(
            "parameters",
            &"".into(),
            "field can not be empty.",
        ));
    }
    one_of(
        &value["reclaimPolicy"],
        "reclaimPolicy",
        &["Delete", "Retain"],
        errors,
    );
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(&value["volumeBindingMode"], "volumeBindingMode", &modes, errors);
}

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// What a volume can be made of, and what each cannot do without.
const SOURCES: Sources = &[
    ("hostPath", &["path"]),
    ("nfs", &["server", "path"]),
    ("local", &["path"]),
    ("csi", &["driver", "volumeHandle"]),
];

const CLAIM_KEPT: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn storage_is_told_what_is_wrong_in_a_real_servers_words() {
        let said = |spec: Value| {
            let mut errors = Vec::new();
            volume(&spec, &mut errors);
            errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        let good = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}});
        assert!(said(good.clone()).is_empty());
        let mut without = good;
        without["hostPath"] = Value::Null;
        assert_eq!(
            said(without),
            ["spec: Required value: must specify a volume type"]
        );
        let mut errors = Vec::new();
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}});
        claim(&spec, "spec", &mut errors);
        assert_eq!(
            errors[0].to_string(),
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero"
        );
    }

    #[test]
    fn a_claim_that_is_bound_may_grow_and_no_other() {
        let of = |phase: &str, storage: &str| json!({"spec": {"resources": {"requests": {"storage": storage}}}, "status": {"phase": phase}});
        for (phase, refused) in [("Bound", 0), ("Pending", 1)] {
            let mut errors = Vec::new();
            claim_changed(&of(phase, "1Gi"), &of(phase, "2Gi"), &mut errors);
            assert_eq!(errors.len(), refused, "{phase}");
        }
    }
}
