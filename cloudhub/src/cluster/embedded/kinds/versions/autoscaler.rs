//! Horizontal pod autoscalers of `autoscaling/v1` and `v2` (Kubernetes `pkg/apis/autoscaling/v1/conversion.go`).
//!
//! The old version knows one metric, the processor. What else the new one says stands in annotations there, as JSON.

use serde_json::{Map, Value, json};

pub(super) fn to_v1(value: &mut Value) {
    let spec = &mut value["spec"];
    let metrics = take_list(spec, "metrics");
    let behavior = take(spec, "behavior");
    let (cpu, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(|metric| {
        metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && metric["resource"]["target"]["averageUtilization"].is_number()
    });
    if let Some(cpu) = cpu.last() {
        spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"].clone();
    }
    let status = &mut value["status"];
    let current = take_list(status, "currentMetrics");
    let conditions = take_list(status, "conditions");
    let processor = current
        .iter()
        .find(|metric| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu");
    if let Some(used) = processor.map(|metric| &metric["resource"]["current"]["averageUtilization"])
        && used.is_number()
    {
        status["currentCPUUtilizationPercentage"] = used.clone();
    }
    let old = |metrics: Vec<Value>, part| metrics.iter().map(|metric| old_metric(metric, part)).collect();
    annotate(value, METRICS, old(others, "target"));
    annotate(value, CURRENT_METRICS, old(current, "current"));
    let names = ["type", "status", "lastTransitionTime", "reason", "message"];
    let condition = |condition: &Value| text(names.map(|field| (field, condition[field].to_string())));
    let conditions = conditions.iter().map(condition).collect();
    annotate(value, CONDITIONS, conditions);
    if let Some(behavior) = behavior.filter(Value::is_object) {
        // Kubernetes writes this one as its own type, whose fields have the names of Go.
        value["metadata"]["annotations"][BEHAVIOR] = go_behavior(&behavior).into();
    }
}

pub(super) fn to_v2(value: &mut Value) {
    let mut metrics = new_metrics(unannotate(value, METRICS), "target");
    let mut current = new_metrics(unannotate(value, CURRENT_METRICS), "current");
    let conditions = unannotate(value, CONDITIONS);
    let behavior = unannotate(value, BEHAVIOR).map(json_names);
    let spec = &mut value["spec"];
    if let Some(percent) = take(spec, "targetCPUUtilizationPercentage").filter(Value::is_number) {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        spec["metrics"] = metrics.into();
    }
    if let Some(behavior) = behavior {
        spec["behavior"] = behavior;
    }
    let status = &mut value["status"];
    if let Some(percent) = take(status, "currentCPUUtilizationPercentage").filter(Value::is_number)
        && current.is_empty()
    {
        let used = json!({"averageUtilization": percent});
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": used}}));
    }
    if !current.is_empty() {
        status["currentMetrics"] = current.into();
    }
    if let Some(conditions @ Value::Array(_)) = conditions {
        status["conditions"] = conditions;
    }
}

/// A metric as the old version has it, its fields in the order of Go's. `part` is what it says of it: `target` or `current`.
fn old_metric(metric: &Value, part: &str) -> String {
    let kind = metric["type"].as_str().unwrap_or_default();
    let source = source(kind);
    let said = &metric[&source];
    let (value, average, percent) = (
        &said[part]["value"],
        &said[part]["averageValue"],
        &said[part]["averageUtilization"],
    );
    let metric_name = &said["metric"]["name"];
    let selector = &said["metric"]["selector"];
    let word = |rest: &str| format!("{part}{rest}");
    let old = match kind {
        // This amount is there even where nothing was said of it.
        "Object" => text([
            ("target", &reference(&said["describedObject"])),
            ("metricName", &metric_name.to_string()),
            (
                &word("Value"),
                &if value.is_null() {
                    "\"0\"".into()
                } else {
                    value.to_string()
                },
            ),
            ("selector", &selector.to_string()),
            ("averageValue", &average.to_string()),
        ]),
        "Pods" => text([
            ("metricName", &metric_name.to_string()),
            (&word("AverageValue"), &average.to_string()),
            ("selector", &selector.to_string()),
        ]),
        "External" => text([
            ("metricName", &metric_name.to_string()),
            ("metricSelector", &selector.to_string()),
            (&word("Value"), &value.to_string()),
            (&word("AverageValue"), &average.to_string()),
        ]),
        _ => text([
            ("name", &said["name"].to_string()),
            (&word("AverageUtilization"), &percent.to_string()),
            (&word("AverageValue"), &average.to_string()),
            ("container", &said["container"].to_string()),
        ]),
    };
    format!("{{\"type\":{},{}:{old}}}", metric["type"], Value::from(source))
}

fn reference(object: &Value) -> String {
    text(["kind", "name", "apiVersion"].map(|field| (field, object[field].to_string())))
}

/// An object's JSON with those of the fields that say something.
fn text<const N: usize, T: AsRef<str>>(fields: [(&str, T); N]) -> String {
    let fields = fields.iter().map(|(name, value)| (name, value.as_ref()));
    let said: Vec<String> = fields
        .filter(|(_, value)| *value != "null")
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", said.join(","))
}

fn new_metrics(annotated: Option<Value>, part: &str) -> Vec<Value> {
    let Some(Value::Array(metrics)) = annotated else {
        return Vec::new();
    };
    metrics.iter().map(|metric| new_metric(metric, part)).collect()
}

fn new_metric(metric: &Value, part: &str) -> Value {
    let kind = metric["type"].as_str().unwrap_or_default();
    let source = source(kind);
    let said = &metric[&source];
    let word = |rest: &str| &said[format!("{part}{rest}")];
    let selector = if kind == "External" {
        &said["metricSelector"]
    } else {
        &said["selector"]
    };
    let average = if kind == "Object" {
        &said["averageValue"]
    } else {
        word("AverageValue")
    };
    let (value, percent) = (word("Value"), word("AverageUtilization"));
    let mut amount = fields([
        ("value", value),
        ("averageValue", average),
        ("averageUtilization", percent),
    ]);
    if part == "target" {
        amount["type"] = match (value.is_null(), average.is_null()) {
            (_, false) => "AverageValue",
            (false, true) => "Value",
            (true, true) => "Utilization",
        }
        .into();
    }
    let mut new = match kind {
        "Object" | "Pods" | "External" => {
            json!({"metric": fields([("name", &said["metricName"]), ("selector", selector)])})
        }
        _ => fields([("name", &said["name"]), ("container", &said["container"])]),
    };
    if kind == "Object" {
        new["describedObject"] = said["target"].clone();
    }
    new[part] = amount;
    json!({"type": kind, source: new})
}

/// The field that a type of metric has: `Resource` is in `resource`.
fn source(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// What there is of these fields.
fn fields<const N: usize>(all: [(&str, &Value); N]) -> Value {
    let there = all.into_iter().filter(|(_, value)| !value.is_null());
    let fields: Map<_, _> = there
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect();
    fields.into()
}

/// With every field of Go's structs, in their order.
fn go_behavior(behavior: &Value) -> String {
    fn go_struct<const N: usize>(of: &Value, fields: [(&str, String); N]) -> String {
        let all = fields.map(|(name, value)| format!("\"{name}\":{value}"));
        if of.is_null() {
            "null".into()
        } else {
            format!("{{{}}}", all.join(","))
        }
    }
    let policy = |of: &Value| {
        let field = |name: &str| of[name].to_string();
        let fields = [
            ("Type", field("type")),
            ("Value", field("value")),
            ("PeriodSeconds", field("periodSeconds")),
        ];
        go_struct(of, fields)
    };
    let rules = |of: &Value| {
        let policies: Vec<String> = of["policies"]
            .as_array()
            .into_iter()
            .flatten()
            .map(policy)
            .collect();
        let field = |name: &str| of[name].to_string();
        let fields = [
            ("StabilizationWindowSeconds", field("stabilizationWindowSeconds")),
            ("SelectPolicy", field("selectPolicy")),
            ("Policies", format!("[{}]", policies.join(","))),
            ("Tolerance", field("tolerance")),
        ];
        go_struct(of, fields)
    };
    let (up, down) = (rules(&behavior["scaleUp"]), rules(&behavior["scaleDown"]));
    go_struct(behavior, [("ScaleUp", up), ("ScaleDown", down)])
}

/// Changes the first letter of all names to a small one.
fn json_names(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| {
                    let mut letters = name.chars();
                    let start = letters.next().map(|letter| letter.to_ascii_lowercase());
                    (start.into_iter().chain(letters).collect(), json_names(value))
                });
            Value::Object(renamed.collect())
        }
        Value::Array(elements) => elements.into_iter().map(json_names).collect(),
        other => other,
    }
}

fn annotate(value: &mut Value, annotation: &str, list: Vec<String>) {
    if !list.is_empty() {
        value["metadata"]["annotations"][annotation] = format!("[{}]", list.join(",")).into();
    }
}

/// Takes what an annotation says. What does not read as JSON says nothing.
fn unannotate(value: &mut Value, annotation: &str) -> Option<Value> {
    let annotations = value.pointer_mut("/metadata/annotations")?.as_object_mut()?;
    let text = annotations.remove(annotation)?;
    serde_json::from_str(text.as_str()?).ok()
}

fn take(value: &mut Value, field: &str) -> Option<Value> {
    value.as_object_mut()?.remove(field)
}

fn take_list(value: &mut Value, field: &str) -> Vec<Value> {
    match take(value, field) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_field_in_the_old_version_and_is_a_metric_in_the_new() {
        let mut value = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 80},
            "status": {"currentReplicas": 0}});
        let old = value.clone();
        to_v2(&mut value);
        assert_eq!(
            value["spec"],
            json!({"maxReplicas": 5, "metrics": [{"type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]})
        );
        to_v1(&mut value);
        assert_eq!(value, old);
    }

    #[test]
    fn what_the_old_version_cannot_say_comes_back_from_its_annotations() {
        let new = json!({"metadata": {"annotations": {"mine": "1"}}, "spec": {
            "behavior": {"scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}},
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "packets", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "1k"}}},
                {"type": "Object", "object": {"metric": {"name": "requests"}, "describedObject": {"kind": "Service", "name": "x"},
                    "target": {"type": "Value", "value": "10k"}}},
                {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "30"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app",
                    "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}], "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "3m"}}}]}});
        let mut value = new.clone();
        to_v1(&mut value);
        assert_eq!(value["spec"], json!({"targetCPUUtilizationPercentage": 50}));
        assert_eq!(value["status"], json!({"currentCPUUtilizationPercentage": 12}));
        let annotations = value["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 5);
        assert_eq!(
            annotations[BEHAVIOR],
            r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":60}],"Tolerance":null}}"#
        );
        to_v2(&mut value);
        assert_eq!(value, new);
    }
}
