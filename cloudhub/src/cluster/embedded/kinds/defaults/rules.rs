//! Default values as rules: where in an object, and what stands there when nothing does.
//!
//! A place is a path of fields. `[]` goes to every element of a list, `[field=value]` goes on only where the object says so, `[field=]` where
//! it says nothing. A rule whose path leads through something absent says nothing; so an empty object is itself a rule where Kubernetes
//! makes one. An empty text is nothing too: programs in Go write the fields that they left alone.

use serde_json::Value;

use crate::cluster::embedded::values::set::default;

/// A place and the JSON that belongs there.
pub(super) type Rule = (&'static str, &'static str);

/// Applies rules, in their order, to the value that their places start from.
pub(super) fn apply(value: &mut Value, rules: &[Rule]) {
    for (place, to) in rules {
        let to: Value = serde_json::from_str(to).unwrap_or_default();
        let (path, field) = place.rsplit_once('.').unwrap_or(("", place));
        let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
        each(value, &steps, &mut |found| {
            if found[field] == "" {
                found[field] = Value::Null;
            }
            default(found, field, to.clone());
        });
    }
}

/// Calls with every object that the steps lead to.
pub(super) fn each(value: &mut Value, steps: &[&str], then: &mut dyn FnMut(&mut Value)) {
    let Some((step, rest)) = steps.split_first() else {
        if value.is_object() {
            then(value);
        }
        return;
    };
    let (name, bracket) = step.split_once('[').unwrap_or((step, ""));
    let Some(found) = value.get_mut(name) else { return };
    match bracket.trim_end_matches(']') {
        "" if bracket.is_empty() => each(found, rest, then),
        "" => {
            for element in found.as_array_mut().into_iter().flatten() {
                each(element, rest, then);
            }
        }
        condition => {
            let (field, wanted) = condition.split_once('=').unwrap_or((condition, ""));
            if found[field].as_str().unwrap_or_default() == wanted {
                each(found, rest, then);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_fills_what_is_absent_and_changes_nothing_that_is_there() {
        let mut value = json!({"ports": [{"port": 1}, {"port": 2, "protocol": "UDP"}]});
        apply(&mut value, &[("ports[].protocol", "\"TCP\"")]);
        assert_eq!(
            value,
            json!({"ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "UDP"}]})
        );
    }

    #[test]
    fn a_rule_about_something_absent_says_nothing() {
        let mut value = json!({"volumes": [{"name": "a"}]});
        apply(&mut value, &[("volumes[].secret.defaultMode", "420")]);
        assert_eq!(value, json!({"volumes": [{"name": "a"}]}));
    }

    #[test]
    fn an_empty_text_is_as_good_as_nothing() {
        let mut value = json!({"roleRef": {"apiGroup": ""}, "strategy": {"type": ""}});
        let rules: &[Rule] = &[
            ("roleRef.apiGroup", "\"rbac.authorization.k8s.io\""),
            ("strategy[type=].rollingUpdate", "{}"),
        ];
        apply(&mut value, rules);
        assert_eq!(value["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(value["strategy"]["rollingUpdate"], json!({}));
    }

    #[test]
    fn a_condition_keeps_a_rule_to_the_objects_that_say_so() {
        let rule: &[Rule] = &[("strategy[type=RollingUpdate].rollingUpdate", "{}")];
        let mut value = json!({"strategy": {"type": "Recreate"}});
        apply(&mut value, rule);
        assert_eq!(value, json!({"strategy": {"type": "Recreate"}}));
        value["strategy"]["type"] = "RollingUpdate".into();
        apply(&mut value, rule);
        assert_eq!(
            value,
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}})
        );
    }
}
