//! Events, which are the same in both of their groups.

use serde_json::Value;
use time::OffsetDateTime;

use super::super::age;
use super::super::text::{at, number, text, text_or};

pub(super) fn cells(o: &Value, name: Value, now: OffsetDateTime) -> Vec<Value> {
    let pick = |core: &str, new: &str| {
        if at(o, core).is_null() {
            at(o, new).clone()
        } else {
            at(o, core).clone()
        }
    };
    let time = |value: &Value| age::since(value, now);
    let since = pick("firstTimestamp", "deprecatedFirstTimestamp");
    let last = pick("lastTimestamp", "deprecatedLastTimestamp");
    let seen = if since.is_null() {
        at(o, "eventTime")
    } else {
        &since
    };
    let (last_seen, count) = match at(o, "series") {
        Value::Null => {
            let count = pick("count", "deprecatedCount").as_i64().unwrap_or_default();
            (if last.is_null() { seen } else { &last }, count.max(1))
        }
        series => (at(series, "lastObservedTime"), number(series, "count")),
    };
    let about = pick("involvedObject", "regarding");
    let object = match (text(&about, "kind").to_lowercase(), text(&about, "name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    let source = pick("source", "deprecatedSource");
    let reporter = pick("reportingComponent", "reportingController");
    let component = text_or(&source, "component", reporter.as_str().unwrap_or_default());
    let instance = match text(&source, "host") {
        "" => text(o, "reportingInstance"),
        host => host,
    };
    let from = if instance.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {instance}")
    };
    vec![
        time(last_seen).into(),
        text(o, "type").into(),
        text(o, "reason").into(),
        object.into(),
        text(&about, "fieldPath").into(),
        from.into(),
        pick("message", "note").as_str().unwrap_or_default().trim().into(),
        time(seen).into(),
        count.into(),
        name,
    ]
}
