//! `autoscaling`, both of its versions.

use serde_json::{Value, json};

use super::super::text::{NONE, UNSET, at, first, items, number, plain, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "horizontalpodautoscalers" => autoscaler(o, name, age),
        "scales" => vec![
            name,
            number(o, "spec.replicas").into(),
            number(o, "status.replicas").into(),
            age,
        ],
        _ => return None,
    })
}

fn autoscaler(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let target = format!(
        "{}/{}",
        text(o, "spec.scaleTargetRef.kind"),
        text(o, "spec.scaleTargetRef.name")
    );
    let (mut wanted, measured) = match at(o, "spec.metrics") {
        Value::Array(metrics) => (metrics.clone(), items(o, "status.currentMetrics").to_vec()),
        _ => (annotated(o, "metrics"), annotated(o, "current-metrics")),
    };
    // Version 1 has a field for the one metric, and keeps the others in annotations; where it stood among them is not kept.
    if let Some(percent) = at(o, "spec.targetCPUUtilizationPercentage").as_i64() {
        let cpu =
            |metric: &Value| text(metric, "type") == "Resource" && text(metric, "resource.name") == "cpu";
        let place = measured.iter().position(cpu).unwrap_or_default();
        let resource = json!({ "name": "cpu", "targetAverageUtilization": percent });
        wanted.insert(
            place.min(wanted.len()),
            json!({ "type": "Resource", "resource": resource }),
        );
    }
    let metrics: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(index, metric)| shown(metric, measured.get(index).unwrap_or(&Value::Null)))
        .collect();
    let smallest = match at(o, "spec.minReplicas") {
        Value::Null => UNSET.into(),
        value => plain(value),
    };
    vec![
        name,
        target.into(),
        first(&metrics, 2, ", ", NONE).into(),
        smallest.into(),
        number(o, "spec.maxReplicas").into(),
        number(o, "status.currentReplicas").into(),
        age,
    ]
}

/// A metric and what was measured of it, in the form of either version.
fn shown(metric: &Value, measured: &Value) -> String {
    let kind = text(metric, "type");
    let field = kind[..1.min(kind.len())].to_lowercase() + kind.get(1..).unwrap_or_default();
    let (metric, measured) = (&metric[&field], &measured[&field]);
    let part = |of: &Value, name: &str, old: &str| match &of[name] {
        Value::Null => of[format!("{name}{old}")].clone(),
        new => new[old[..1].to_lowercase() + &old[1..]].clone(),
    };
    // Version 1 has this one under a name of its own.
    let average = |of: &Value, name| match part(of, name, "AverageValue") {
        Value::Null => of["averageValue"].clone(),
        value => value,
    };
    let known = |value: Value| match value {
        Value::Null => "<unknown>".to_owned(),
        value => plain(&value),
    };
    let (target, current) = (average(metric, "target"), known(average(measured, "current")));
    match kind {
        "Resource" | "ContainerResource" => {
            let name = text(metric, "name");
            if !target.is_null() {
                return format!("{name}: {current}/{}", plain(&target));
            }
            let percent = |of, name, none: &str| match part(of, name, "AverageUtilization") {
                Value::Null => none.to_owned(),
                percent => format!("{percent}%"),
            };
            let target = percent(metric, "target", "<auto>");
            format!("{name}: {}/{target}", percent(measured, "current", "<unknown>"))
        }
        "Pods" => format!("{current}/{}", plain(&target)),
        _ if !target.is_null() => format!("{current}/{} (avg)", plain(&target)),
        _ => {
            let value = |of, name| part(of, name, "Value");
            let current = match value(measured, "current") {
                // Measured, but not as a value: Go prints the number that it has by itself.
                Value::Null if measured.is_object() => "0".into(),
                current => known(current),
            };
            format!("{current}/{}", plain(&value(metric, "target")))
        }
    }
}

/// What version 1 keeps in an annotation.
fn annotated(o: &Value, what: &str) -> Vec<Value> {
    let annotation = format!("autoscaling.alpha.kubernetes.io/{what}");
    let said = at(o, "metadata.annotations")[annotation].as_str();
    said.and_then(|said| serde_json::from_str(said).ok())
        .unwrap_or_default()
}
