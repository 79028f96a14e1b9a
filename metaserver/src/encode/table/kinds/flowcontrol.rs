//! `flowcontrol.apiserver.k8s.io`.

use serde_json::Value;

use super::super::text::{NONE, at, condition, number, text, text_or};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "flowschemas" => {
            let dangling =
                condition(o, "Dangling").map_or("?", |condition| text_or(condition, "status", "?"));
            vec![
                name,
                text(o, "spec.priorityLevelConfiguration.name").into(),
                number(o, "spec.matchingPrecedence").into(),
                text_or(o, "spec.distinguisherMethod.type", NONE).into(),
                age,
                dangling.into(),
            ]
        }
        "prioritylevelconfigurations" => {
            let or = |path| match at(o, path) {
                Value::Null => NONE.into(),
                value => value.clone(),
            };
            let queuing = "spec.limited.limitResponse.queuing";
            vec![
                name,
                text(o, "spec.type").into(),
                or("spec.limited.nominalConcurrencyShares"),
                or(&format!("{queuing}.queues")),
                or(&format!("{queuing}.handSize")),
                or(&format!("{queuing}.queueLengthLimit")),
                age,
            ]
        }
        _ => return None,
    })
}
