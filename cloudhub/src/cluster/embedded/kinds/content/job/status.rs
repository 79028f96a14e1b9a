//! What the status of a job must be, and may become (Kubernetes `pkg/apis/batch/validation`, `pkg/registry/batch/job`): what is wrong and
//! was so before is left to whoever keeps the job.

use serde_json::Value;

use super::super::{list, not_negative, text};
use crate::cluster::embedded::fault::FieldError;

type Errors = Vec<FieldError>;

pub(in crate::cluster::embedded::kinds::content) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    let (spec, held, status) = (&new["spec"], &old["status"], &new["status"]);
    let changes = |field: &str| held[field] != status[field];
    let number = |status: &Value, field: &str| status[field].as_i64().unwrap_or(0);
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(&status[field], &format!("status.{field}"), errors);
    }
    uncounted(&status["uncountedTerminatedPods"], errors);
    let (before, now) = (End::of(held), End::of(status));
    let mut conditions =
        |detail: &str| errors.push(FieldError::invalid_something("status.conditions", detail));
    let turned = |of: fn(&End) -> bool| of(&before) != of(&now);
    let completes = turned(|end| end.complete);
    if (completes || turned(|end| end.failed)) && now.complete && now.failed {
        conditions("cannot set Complete=True and Failed=true conditions");
    }
    if (completes || turned(|end| end.failing)) && now.complete && now.failing {
        conditions("cannot set Complete=True and FailureTarget=true conditions");
    }
    times(status, completes, &changes, now, errors);
    let mut conditions =
        |detail: &str| errors.push(FieldError::invalid_something("status.conditions", detail));
    if (turned(|end| end.failed) || changes("failedIndexes")) && now.failed && !now.failing {
        conditions("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if (completes || turned(|end| end.met)) && now.complete && !now.met {
        conditions("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    let ends = before.is_over() != now.is_over();
    if (ends || changes("active")) && number(status, "active") > 0 && now.is_over() {
        errors.push(FieldError::invalid(
            "status.active",
            &status["active"],
            "active>0 is invalid for finished job",
        ));
    }
    let never_ran = spec["suspend"] == true && spec["completions"] == 0;
    if (ends || changes("startTime")) && !never_ran && status["startTime"].is_null() && now.is_over() {
        errors.push(FieldError::required(
            "status.startTime",
            "startTime is required for finished job",
        ));
    }
    let left = &status["uncountedTerminatedPods"];
    let some_left = ["succeeded", "failed"]
        .iter()
        .any(|side| list(&left[*side]).next().is_some());
    if (ends || changes("uncountedTerminatedPods")) && now.is_over() && some_left {
        let shown = format!(
            "{{\"Succeeded\":{},\"Failed\":{}}}",
            left["succeeded"], left["failed"]
        );
        let path = "status.uncountedTerminatedPods";
        errors.push(FieldError::invalid_shown(
            path,
            &shown,
            "must be empty for finished job",
        ));
    }
    indexes(spec, status, &changes, errors);
    if (ends || changes("terminating")) && number(status, "terminating") > 0 && now.is_over() {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(
            "status.terminating",
            &status["terminating"],
            detail,
        ));
    }
    let counted = !status["ready"].is_null() && (changes("ready") || changes("active"));
    if counted && number(status, "ready") > number(status, "active") {
        let detail = "cannot set more ready pods than active";
        errors.push(FieldError::invalid("status.ready", &status["ready"], detail));
    }
    let mut conditions =
        |detail: &str| errors.push(FieldError::invalid_something("status.conditions", detail));
    if now.met && now.failed {
        conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if now.met && now.failing {
        conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if !spec["successPolicy"].is_null() && !now.met && now.complete {
        conditions("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
    for (name, is, stays) in [
        ("Failed", before.failed, now.failed),
        ("Complete", before.complete, now.complete),
        ("FailureTarget", before.failing, now.failing),
    ] {
        if is && !stays {
            conditions(&format!("cannot disable the terminal {name}=True condition"));
        }
    }
    let scales = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    for field in ["failed", "succeeded"] {
        let may_shrink = field == "succeeded" && scales;
        if number(status, field) < number(held, field) && !may_shrink {
            let (path, given) = (format!("status.{field}"), number(status, field));
            errors.push(FieldError::invalid(
                path,
                &given.into(),
                &format!("cannot decrease the {field} counter"),
            ));
        }
    }
    let (ended, ends_at) = (&held["completionTime"], &status["completionTime"]);
    if !ended.is_null() && !ends_at.is_null() && ended != ends_at {
        errors.push(FieldError::invalid(
            "status.completionTime",
            ends_at,
            "field is immutable",
        ));
    }
    let resumes = has(held, "Suspended", "True") && has(status, "Suspended", "False");
    let started = !held["startTime"].is_null() && changes("startTime");
    if started && !resumes && spec["suspend"] != true {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid(
            "status.startTime",
            &status["startTime"],
            detail,
        ));
    }
    let mut conditions =
        |detail: &str| errors.push(FieldError::invalid_something("status.conditions", detail));
    if before.met && !now.met {
        conditions("cannot disable the SuccessCriteriaMet=True condition");
    }
    if before.complete && !before.met && now.met {
        conditions("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}

/// How far a job is with its end, by its conditions.
#[derive(Clone, Copy)]
struct End {
    complete: bool,
    failed: bool,
    failing: bool,
    met: bool,
}

impl End {
    fn of(status: &Value) -> Self {
        let is = |kind| has(status, kind, "True");
        Self {
            complete: is("Complete"),
            failed: is("Failed"),
            failing: is("FailureTarget"),
            met: is("SuccessCriteriaMet"),
        }
    }

    fn is_over(self) -> bool {
        self.complete || self.failed
    }
}

fn has(status: &Value, kind: &str, wanted: &str) -> bool {
    list(&status["conditions"]).any(|condition| condition["type"] == kind && condition["status"] == wanted)
}

fn uncounted(pods: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for side in ["succeeded", "failed"] {
        for (index, uid) in list(&pods[side]).enumerate() {
            let path = format!("status.uncountedTerminatedPods.{side}[{index}]");
            if text(uid).is_empty() {
                errors.push(FieldError::invalid(path, uid, "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(FieldError::duplicate(path, uid));
            } else {
                seen.push(uid);
            }
        }
    }
}

fn times(status: &Value, completes: bool, changes: &impl Fn(&str) -> bool, now: End, errors: &mut Errors) {
    let (path, ends_at, begun) = (
        "status.completionTime",
        &status["completionTime"],
        &status["startTime"],
    );
    if completes || changes("completionTime") {
        if !ends_at.is_null() && !now.complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(path, ends_at, detail));
        } else if ends_at.is_null() && now.complete {
            errors.push(FieldError::required(
                path,
                "completionTime is required for Complete jobs",
            ));
        }
    }
    // Times of objects are all of one form, which sorts as they do.
    if (changes("startTime") || changes("completionTime"))
        && let (Some(ends_at), Some(begun)) = (ends_at.as_str(), begun.as_str())
        && ends_at < begun
    {
        errors.push(FieldError::invalid(
            path,
            &ends_at.into(),
            "must be equal to or after `startTime`",
        ));
    }
}

fn indexes(spec: &Value, status: &Value, changes: &impl Fn(&str) -> bool, errors: &mut Errors) {
    let (completed, failed) = (&status["completedIndexes"], &status["failedIndexes"]);
    let completions = spec["completions"].as_i64();
    let mut refuse = |field: &str, given: &Value, detail: &str| {
        errors.push(FieldError::invalid(format!("status.{field}"), given, detail));
    };
    let wrong = |given: &Value| completions.and_then(|most| ranges(text(given), most).err());
    if changes("completedIndexes")
        && let Some(why) = wrong(completed)
    {
        refuse(
            "completedIndexes",
            completed,
            &format!("error parsing completedIndexes: {why}"),
        );
    }
    let each_has_its_limit = !spec["backoffLimitPerIndex"].is_null();
    if changes("failedIndexes")
        && each_has_its_limit
        && let Some(why) = wrong(failed)
    {
        refuse(
            "failedIndexes",
            failed,
            &format!("error parsing failedIndexes: {why}"),
        );
    }
    if changes("completedIndexes") && !text(completed).is_empty() && spec["completionMode"] != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        refuse("completedIndexes", completed, detail);
    }
    if changes("failedIndexes") && !each_has_its_limit && !failed.is_null() {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        refuse("failedIndexes", failed, detail);
    }
    if (changes("failedIndexes") || changes("completedIndexes"))
        && let Some(most) = completions
        && let (Ok(failed_ranges), Ok(completed)) =
            (ranges(text(failed), most), ranges(text(completed), most))
        && let Some(index) = overlap(&completed, &failed_ranges)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        refuse("failedIndexes", failed, &detail);
    }
}

/// Indexes as they are written: `0,2-4,7`, rising, below the most.
fn ranges(text: &str, most: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = part.split('-').collect();
        let index = |text: &str| {
            let index: i64 = text
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            if index < most {
                Ok(index)
            } else {
                Err(format!("too large index: {text:?}"))
            }
        };
        let rising = |previous: i64, current: i64| {
            let why = format!("non-increasing order, previous: {previous}, current: {current}");
            if previous < current { Ok(()) } else { Err(why) }
        };
        let (first, last) = match ends[..] {
            [only] => (index(only)?, index(only)?),
            [first, last] => {
                let (first, last) = (index(first)?, index(last)?);
                rising(first, last)?;
                (first, last)
            }
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        if let Some((_, previous)) = all.last() {
            rising(*previous, first)?;
        }
        all.push((first, last));
    }
    Ok(all)
}

fn overlap(one: &[(i64, i64)], other: &[(i64, i64)]) -> Option<i64> {
    let both = one
        .iter()
        .flat_map(|range| other.iter().map(move |with| (range, with)));
    both.filter(|(one, other)| one.0 <= other.1 && other.0 <= one.1)
        .map(|(one, other)| one.0.max(other.0))
        .next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(old: Value, new: Value) -> Vec<String> {
        let job = |status: Value| json!({"spec": {"completions": 3, "completionMode": "Indexed", "parallelism": 1}, "status": status});
        let mut errors = Vec::new();
        changed(&job(old), &job(new), &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn a_job_ends_once_with_all_that_an_end_has() {
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        let runs = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
        let done = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:05Z", "succeeded": 3,
            "completedIndexes": "0-2", "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
        assert!(said(json!({}), runs.clone()).is_empty());
        assert!(said(runs.clone(), done.clone()).is_empty());
        assert_eq!(
            said(
                runs.clone(),
                json!({"active": 1, "conditions": [condition("Complete")]})
            ),
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
                "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
            ]
        );
        assert_eq!(
            said(done, runs),
            [
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ]
        );
    }

    #[test]
    fn indexes_rise_and_are_the_jobs_own() {
        for (given, why) in [
            ("0,2", None),
            ("x", Some("cannot convert string to integer for index: \"x\"")),
            ("3", Some("too large index: \"3\"")),
            ("1,1", Some("non-increasing order, previous: 1, current: 1")),
        ] {
            let said = said(json!({}), json!({"completedIndexes": given}));
            let wanted = why.map(|why| {
                format!(
                    "status.completedIndexes: Invalid value: {given:?}: error parsing completedIndexes: {why}"
                )
            });
            assert_eq!(said, wanted.into_iter().collect::<Vec<_>>(), "{given}");
        }
        assert_eq!(overlap(&[(0, 1), (4, 6)], &[(2, 3), (5, 5)]), Some(5));
    }
}
