//! `admissionregistration.k8s.io`.

use serde_json::Value;

use super::super::text::{UNSET, at, items, plain, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => {
            vec![name, items(o, "webhooks").len().into(), age]
        }
        "validatingadmissionpolicies" => vec![
            name,
            items(o, "spec.validations").len().into(),
            parameter_kind(o),
            age,
        ],
        "mutatingadmissionpolicies" => vec![
            name,
            items(o, "spec.mutations").len().into(),
            parameter_kind(o),
            age,
        ],
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
            vec![name, text(o, "spec.policyName").into(), parameter(o).into(), age]
        }
        _ => return None,
    })
}

fn parameter_kind(o: &Value) -> Value {
    match at(o, "spec.paramKind") {
        Value::Null => UNSET.into(),
        kind => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
    }
}

fn parameter(o: &Value) -> String {
    let parameter = at(o, "spec.paramRef");
    match (text(parameter, "namespace"), text(parameter, "name")) {
        (_, "") => match at(parameter, "selector") {
            Value::Null => UNSET.into(),
            selector => in_go(selector),
        },
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// A `metav1.LabelSelector` as Go's generated code shows it.
fn in_go(selector: &Value) -> String {
    let labels = at(selector, "matchLabels").as_object().into_iter().flatten();
    let mut labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}: {},", plain(value)))
        .collect();
    labels.sort();
    let expressions = items(selector, "matchExpressions").iter().map(|expression| {
        let values: Vec<&str> = items(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(expression, "key"),
            text(expression, "operator"),
            values.join(" ")
        )
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        expressions.collect::<String>()
    )
}
