//! What a pod asks of the node that it comes to: affinities, spread, tolerations (Kubernetes `pkg/apis/core/validation`).

use serde_json::Value;

use super::super::workload::requirement;
use super::super::{list, one_of, one_of_or_none, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn affinity(affinity: &Value, path: &str, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let node = &affinity["nodeAffinity"][REQUIRED];
    if node.is_object() {
        let path = format!("{path}.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
        let terms: Vec<&Value> = list(&node["nodeSelectorTerms"]).collect();
        if terms.is_empty() {
            errors.push(FieldError::required(
                path.as_str(),
                "must have at least one node selector term",
            ));
        }
        for (index, term) in terms.iter().enumerate() {
            for (at, expression) in list(&term["matchExpressions"]).enumerate() {
                let path = format!("{path}[{index}].matchExpressions[{at}]");
                requirement(expression, &path, true, errors);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (index, term) in list(&affinity[kind][REQUIRED]).enumerate() {
            let at = format!("{path}.{kind}.{REQUIRED}[{index}].topologyKey");
            let key = text(&term["topologyKey"]);
            if key.is_empty() {
                errors.push(FieldError::required(at.as_str(), "can not be empty"));
            }
            for detail in names::qualified(key) {
                errors.push(FieldError::invalid(at.as_str(), &key.into(), &detail));
            }
        }
    }
}

pub(super) fn spread(spec: &Value, path: &str, errors: &mut Errors) {
    for (index, constraint) in list(&spec["topologySpreadConstraints"]).enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            let detail = "must be greater than zero";
            errors.push(FieldError::invalid(
                format!("{path}.maxSkew"),
                &skew.into(),
                detail,
            ));
        }
        if text(&constraint["topologyKey"]).is_empty() {
            errors.push(FieldError::required(
                format!("{path}.topologyKey"),
                "can not be empty",
            ));
        }
        let ways = ["DoNotSchedule", "ScheduleAnyway"];
        one_of_or_none(
            &constraint["whenUnsatisfiable"],
            &format!("{path}.whenUnsatisfiable"),
            &ways,
            errors,
        );
    }
}

pub(super) fn tolerations(spec: &Value, path: &str, errors: &mut Errors) {
    for (index, toleration) in list(&spec["tolerations"]).enumerate() {
        let path = format!("{path}.tolerations[{index}]");
        let (key, operator) = (text(&toleration["key"]), text(&toleration["operator"]));
        let at = format!("{path}.operator");
        if !key.is_empty() {
            for detail in names::qualified(key) {
                errors.push(FieldError::invalid(
                    format!("{path}.key"),
                    &toleration["key"],
                    &detail,
                ));
            }
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(at.as_str(), &operator.into(), detail));
        }
        match operator {
            "Exists" if !text(&toleration["value"]).is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(at, &toleration["value"], detail));
            }
            _ => one_of(&toleration["operator"], &at, &["Equal", "Exists"], errors),
        }
        if !text(&toleration["effect"]).is_empty() {
            one_of(&toleration["effect"], &format!("{path}.effect"), EFFECTS, errors);
        }
    }
}

pub(in crate::cluster::embedded::kinds::content) const EFFECTS: &[&str] =
    &["NoSchedule", "PreferNoSchedule", "NoExecute"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_selected_by_rows_that_say_as_many_values_as_their_operator_takes() {
        let selecting = |operator: &str, values: Value| {
            let row = json!({"key": "zone", "operator": operator, "values": values});
            let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [row]}]});
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
            let mut errors = Vec::new();
            affinity(&json!({"nodeAffinity": required}), "spec.affinity", &mut errors);
            errors.iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        for (operator, values) in [("In", json!(["a"])), ("Exists", json!([])), ("Gt", json!(["1"]))] {
            assert!(selecting(operator, values).is_empty(), "{operator}");
        }
        for (operator, values, expected) in [
            ("NotIn", json!([]), "Required value: must be specified when"),
            ("Exists", json!(["a"]), "Forbidden: may not be specified when"),
            (
                "Lt",
                json!(["1", "2"]),
                "Required value: must be specified single value",
            ),
        ] {
            let told = selecting(operator, values);
            let [told] = &told[..] else {
                panic!("{operator}: {told:?}")
            };
            assert!(
                told.contains(&format!("matchExpressions[0].values: {expected}")),
                "{told}"
            );
        }
    }
}
