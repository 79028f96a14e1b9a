//! `batch`: jobs, once and by a schedule.

use serde_json::Value;
use time::OffsetDateTime;

use super::super::age;
use super::super::text::{NONE, at, condition, containers, items, number, selector, text, text_or};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(
    resource: &str,
    o: &Value,
    name: Value,
    age: Value,
    now: OffsetDateTime,
) -> Option<Vec<Value>> {
    Some(match resource {
        "jobs" => job(o, name, age, now),
        "cronjobs" => cron_job(o, name, age, now),
        _ => return None,
    })
}

fn job(o: &Value, name: Value, age: Value, now: OffsetDateTime) -> Vec<Value> {
    let holds = |kind| condition(o, kind).is_some_and(|condition| text(condition, "status") == "True");
    let status = match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if !text(o, "metadata.deletionTimestamp").is_empty() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let done = number(o, "status.succeeded");
    let completions = match (at(o, "spec.completions").as_i64(), number(o, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let duration = age::parse(at(o, "status.startTime")).map_or_else(String::new, |start| {
        let end = age::parse(at(o, "status.completionTime")).unwrap_or(now);
        age::human((end - start).whole_seconds())
    });
    let [containers, images] = containers(at(o, "spec.template.spec"));
    vec![
        name,
        status.into(),
        completions.into(),
        duration.into(),
        age,
        containers,
        images,
        selector(at(o, "spec.selector")).into(),
    ]
}

fn cron_job(o: &Value, name: Value, age: Value, now: OffsetDateTime) -> Vec<Value> {
    let last = match at(o, "status.lastScheduleTime") {
        Value::Null => NONE.into(),
        last => age::since(last, now),
    };
    let [containers, images] = containers(at(o, "spec.jobTemplate.spec.template.spec"));
    vec![
        name,
        text(o, "spec.schedule").into(),
        text_or(o, "spec.timeZone", NONE).into(),
        if at(o, "spec.suspend") == true {
            "True"
        } else {
            "False"
        }
        .into(),
        items(o, "status.active").len().into(),
        last.into(),
        age,
        containers,
        images,
        selector(at(o, "spec.jobTemplate.spec.selector")).into(),
    ]
}
