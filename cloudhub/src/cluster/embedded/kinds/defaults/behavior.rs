//! How an autoscaler scales where it says how in part only (Kubernetes `pkg/apis/autoscaling/v2/defaults.go`).

use serde_json::{Value, json};

use crate::cluster::embedded::values::set::default;

/// Completes the rules of an autoscaler that has any.
pub(super) fn complete(spec: &mut Value) {
    if !spec["behavior"].is_object() {
        return;
    }
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
    let down =
        json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
    for (direction, rules) in [("scaleUp", up), ("scaleDown", down)] {
        for (field, to) in rules.as_object().into_iter().flatten() {
            default(&mut spec["behavior"][direction], field, to.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_keeps_what_it_says_and_is_given_the_rest() {
        let policies = json!([{"type": "Pods", "value": 1, "periodSeconds": 60}]);
        let mut spec = json!({"behavior": {"scaleDown": {"policies": policies}}});
        complete(&mut spec);
        let behavior = &spec["behavior"];
        assert_eq!(
            behavior["scaleDown"],
            json!({"policies": policies, "selectPolicy": "Max"})
        );
        assert_eq!(behavior["scaleUp"]["policies"][0]["value"], 4);
        let mut silent = json!({});
        complete(&mut silent);
        assert_eq!(silent, json!({}));
    }
}
