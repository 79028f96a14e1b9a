//! What events must be, of the old group and of the new one, which asks for more (Kubernetes `pkg/apis/core/validation/events.go`). A real
//! server looks at both as at the old one, and names most of their fields so.

use serde_json::Value;

use super::text;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

/// Of both groups.
pub(super) fn event(value: &Value, new_group: bool, errors: &mut Errors) {
    let (about, controller) = if new_group {
        ("regarding", "reportingController")
    } else {
        ("involvedObject", "reportingComponent")
    };
    let (own, about) = (
        text(&value["metadata"]["namespace"]),
        text(&value[about]["namespace"]),
    );
    let timed = !value["eventTime"].is_null();
    let fits = match (about.is_empty(), timed) {
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => own == "default",
        (false, true) => true,
        (false, false) => own == about,
    };
    if !fits {
        let (path, detail) = ("involvedObject.namespace", "does not match event.namespace");
        errors.push(FieldError::invalid(path, &about.into(), detail));
    }
    if !timed {
        return;
    }
    let given = text(&value[controller]);
    if given.is_empty() {
        errors.push(FieldError::required(controller, ""));
    }
    for detail in names::qualified(given) {
        errors.push(FieldError::invalid(controller, &given.into(), &detail));
    }
    for field in ["reportingInstance", "action", "reason"] {
        let given = text(&value[field]);
        if given.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        too_long(field, given, FIELD_BYTES_MAX, errors);
    }
    let note = if new_group { "note" } else { "message" };
    too_long("message", text(&value[note]), NOTE_BYTES_MAX, errors);
}

/// What a new event of the new group must be besides.
pub(super) fn created(value: &Value, errors: &mut Errors) {
    series(&value["series"], errors);
    if value["eventTime"].is_null() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(&value["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid("type", &"".into(), &detail));
    }
    for (new, old) in UNSET {
        let given = &value[*new];
        let said = match given {
            Value::Object(source) => source.values().any(|value| !text(value).is_empty()),
            other => !other.is_null() && *other != 0,
        };
        if said {
            errors.push(FieldError::invalid(*old, &"".into(), "needs to be unset"));
        }
    }
}

/// What may not become of an event by the door of the new group: it was so, and only goes on.
pub(super) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    if old["series"] != new["series"] {
        series(&new["series"], errors);
    }
    for (field, named) in KEPT {
        let (held, given) = (&old[*field], &new[*field]);
        if held != given {
            errors.push(FieldError::invalid(*named, given, "field is immutable"));
        }
    }
}

fn series(series: &Value, errors: &mut Errors) {
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.push(FieldError::invalid(
            "series.count",
            &"".into(),
            "should be at least 2",
        ));
    }
    if series["lastObservedTime"].is_null() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}

fn too_long(field: &str, given: &str, most: usize, errors: &mut Errors) {
    if given.len() > most {
        let detail = format!("can have at most {most} characters");
        errors.push(FieldError::invalid(field, &"".into(), &detail));
    }
}

const FIELD_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;
/// What an event of the new group no longer says, and how the old one has it.
const UNSET: &[(&str, &str)] = &[
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("deprecatedSource", "source"),
];
const KEPT: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(then: impl FnOnce(&mut Errors)) -> Vec<String> {
        let mut errors = Vec::new();
        then(&mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn the_new_group_asks_for_more_than_the_old_one() {
        let old = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(
            said(|errors| event(&old, false, errors)),
            ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
        );
        let new = json!({"metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "c", "reportingInstance": "i", "action": "a", "reason": "r", "type": "Odd",
            "deprecatedCount": 2, "series": {"count": 1}});
        assert!(said(|errors| event(&new, true, errors)).is_empty());
        assert_eq!(
            said(|errors| created(&new, errors)),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let mut other = new.clone();
        other["note"] = "other".into();
        assert_eq!(
            said(|errors| changed(&new, &other, errors)),
            ["message: Invalid value: \"other\": field is immutable"]
        );
    }
}
