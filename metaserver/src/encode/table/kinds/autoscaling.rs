//! `autoscaling`, both of its versions.

use serde_json::Value;

use super::super::text::{NONE, UNSET, at, first, items, number, plain, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "horizontalpodautoscalers" => autoscaler(o, name, age),
        _ => return None,
    })
}

fn autoscaler(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let target = format!(
        "{}/{}",
        text(o, "spec.scaleTargetRef.kind"),
        text(o, "spec.scaleTargetRef.name")
    );
    let known = |value: &Value| {
        if value.is_null() {
            "<unknown>".to_owned()
        } else {
            plain(value)
        }
    };
    let mut metrics: Vec<String> = Vec::new();
    // Version 1 knows the one metric only.
    if let Some(percent) = at(o, "spec.targetCPUUtilizationPercentage").as_i64() {
        let current = at(o, "status.currentCPUUtilizationPercentage");
        let current = if current.is_null() {
            known(current)
        } else {
            format!("{current}%")
        };
        metrics.push(format!("cpu: {current}/{percent}%"));
    }
    for (index, metric) in items(o, "spec.metrics").iter().enumerate() {
        let kind = text(metric, "type");
        let field = kind[..1.min(kind.len())].to_lowercase() + kind.get(1..).unwrap_or_default();
        let current = &items(o, "status.currentMetrics")
            .get(index)
            .unwrap_or(&Value::Null)[&field]["current"];
        let target = &metric[&field]["target"];
        let label = match text(&metric[&field], "name") {
            "" => String::new(),
            name => format!("{name}: "),
        };
        metrics.push(match at(target, "averageUtilization") {
            Value::Null => {
                let which = if target["averageValue"].is_null() {
                    "value"
                } else {
                    "averageValue"
                };
                format!("{label}{}/{}", known(&current[which]), plain(&target[which]))
            }
            percent => {
                let current = &current["averageUtilization"];
                let current = if current.is_null() {
                    known(current)
                } else {
                    format!("{current}%")
                };
                format!("{label}{current}/{percent}%")
            }
        });
    }
    let smallest = match at(o, "spec.minReplicas") {
        Value::Null => UNSET.into(),
        value => plain(value),
    };
    vec![
        name,
        target.into(),
        first(&metrics, 2, NONE).into(),
        smallest.into(),
        number(o, "spec.maxReplicas").into(),
        number(o, "status.currentReplicas").into(),
        age,
    ]
}
