//! What jobs and those that make them must be, and may become (Kubernetes `pkg/apis/batch/validation`).

pub(super) mod status;

use serde_json::{Value, json};

use super::workload::{mismatch, pod_of};
use super::{EVERY_POLICY, not_negative, one_of, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::{validate, workload};
use crate::cluster::embedded::values::go_shape;

type Errors = Vec<FieldError>;

/// A job itself, which finds its pods by labels that no other job has.
pub(super) fn check(value: &Value, errors: &mut Errors) {
    let spec = &value["spec"];
    let uid = text(&value["metadata"]["uid"]);
    if spec["manualSelector"] != true {
        let generated = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        if !spec["selector"].is_null() && spec["selector"] != generated {
            let detail = "`selector` not auto-generated";
            errors.push(FieldError::invalid("spec.selector", &spec["selector"], detail));
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if spec["selector"].is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    if spec["selector"].is_null() || !workload::selects(&spec["selector"], labels) {
        mismatch(labels, errors);
    }
    job(spec, "spec", errors);
}

pub(super) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    let begun = !old["status"]["startTime"].is_null();
    let (old, new) = (&old["spec"], &new["spec"]);
    if new["selector"].is_null() {
        // A real server looks twice.
        errors.push(FieldError::required("spec.selector", ""));
        mismatch(&new["template"]["metadata"]["labels"], errors);
    }
    let mut frozen = |field: &str| {
        if old[field] != new[field] {
            let path = format!("spec.{field}");
            errors.push(FieldError::invalid(path, &new[field], "field is immutable"));
        }
    };
    if old["completionMode"] != "Indexed" {
        frozen("completions");
    }
    frozen("selector");
    let fixed = |spec: &Value| {
        let mut template = spec["template"].clone();
        // Whoever does not run yet may still be told where to.
        if old["suspend"] == true && !begun {
            for (part, fields) in PLACED {
                if let Some(part) = template[*part].as_object_mut() {
                    part.retain(|field, _| !fields.contains(&field.as_str()));
                }
            }
        }
        template
    };
    if old["template"] != new["template"] && fixed(old) != fixed(new) {
        let shown = go_shape::template(&new["template"]);
        errors.push(FieldError::invalid_shown(
            "spec.template",
            &shown,
            "field is immutable",
        ));
    }
    if old["completionMode"] != new["completionMode"] {
        let (path, given) = ("spec.completionMode", &new["completionMode"]);
        errors.push(FieldError::invalid(path, given, "field is immutable"));
    }
}

pub(super) fn job(spec: &Value, path: &str, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        not_negative(&spec[field], &format!("{path}.{field}"), errors);
    }
    let at = format!("{path}.completionMode");
    one_of(&spec["completionMode"], &at, &["NonIndexed", "Indexed"], errors);
    if spec["completionMode"] == "Indexed" {
        if spec["completions"].is_null() {
            let detail = "when completion mode is Indexed";
            errors.push(FieldError::required(format!("{path}.completions"), detail));
        }
    } else if !spec["backoffLimitPerIndex"].is_null() {
        let (at, value) = (
            format!("{path}.backoffLimitPerIndex"),
            &spec["backoffLimitPerIndex"],
        );
        errors.push(FieldError::invalid(at, value, "requires indexed completion mode"));
    }
    let at = format!("{path}.podReplacementPolicy");
    one_of(
        &spec["podReplacementPolicy"],
        &at,
        &["Failed", "TerminatingOrFailed"],
        errors,
    );
    let template = &spec["template"];
    validate::labels(
        &template["metadata"]["labels"],
        &format!("{path}.template.labels"),
        errors,
    );
    pod_of(template, &format!("{path}.template"), EVERY_POLICY, errors);
    if !matches!(text(&template["spec"]["restartPolicy"]), "OnFailure" | "Never") {
        let detail = "valid values: \"OnFailure\", \"Never\"";
        errors.push(FieldError::required(
            format!("{path}.template.spec.restartPolicy"),
            detail,
        ));
    }
}

pub(super) fn cron(spec: &Value, errors: &mut Errors) {
    let schedule = text(&spec["schedule"]);
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if let Some(detail) = schedule_fault(schedule) {
        errors.push(FieldError::invalid("spec.schedule", &schedule.into(), &detail));
    }
    not_negative(
        &spec["startingDeadlineSeconds"],
        "spec.startingDeadlineSeconds",
        errors,
    );
    if spec["timeZone"] == "" {
        let detail = "timeZone must be nil or non-empty string";
        errors.push(FieldError::invalid("spec.timeZone", &"".into(), detail));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(
        &spec["concurrencyPolicy"],
        "spec.concurrencyPolicy",
        &policies,
        errors,
    );
    job(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(&spec[field], &format!("spec.{field}"), errors);
    }
}

/// Five fields, or a name for five.
fn schedule_fault(schedule: &str) -> Option<String> {
    if schedule.contains("TZ") {
        return Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
    }
    if schedule.starts_with('@') {
        let known = SCHEDULES.contains(&schedule) || schedule.starts_with("@every ");
        return (!known).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    (fields.len() != 5).then(|| {
        let shown = fields.join(" ");
        format!("expected exactly 5 fields, found {}: [{shown}]", fields.len())
    })
}

const SCHEDULES: &[&str] = &[
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];
/// What says where the pods of a job run.
const PLACED: &[(&str, &[&str])] = &[
    ("metadata", &["labels", "annotations"]),
    (
        "spec",
        &["affinity", "nodeSelector", "schedulingGates", "tolerations"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_five_fields_or_a_name() {
        assert_eq!(schedule_fault("*/5 * * * *"), None);
        assert_eq!(schedule_fault("@hourly"), None);
        assert_eq!(
            schedule_fault("x").as_deref(),
            Some("expected exactly 5 fields, found 1: [x]")
        );
        assert!(schedule_fault("TZ=UTC * * * * *").is_some());
    }
}
