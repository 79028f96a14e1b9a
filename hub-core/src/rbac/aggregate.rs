//! Roles that are made of others (Kubernetes `pkg/controller/clusterroleaggregation`).

use serde_json::Value;

use super::label_selector;

/// The rules that a ClusterRole with an `aggregationRule` has by the labels of all of them, which are sorted by name. None where it
/// has them already, or is made of no others.
pub fn aggregated(role: &Value, all: &[Value]) -> Option<Value> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors.iter().filter_map(label_selector) {
        let chosen = all.iter().filter(|other| {
            let labels = other["metadata"]["labels"].as_object().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let labels = labels.map(|(key, value)| (key.as_str().into(), text(value).into()));
            other["metadata"]["name"] != role["metadata"]["name"] && selector.matches(&labels.collect())
        });
        for rule in chosen.filter_map(|other| other["rules"].as_array()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    let held = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
    (held != rules).then(|| rules.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_has_the_rules_of_those_it_selects_once_each_by_their_names() {
        let role = |name: &str, labels: Value, verbs: &[&str]| {
            let rules: Vec<Value> = verbs.iter().map(|verb| json!({ "verbs": [verb] })).collect();
            json!({ "metadata": { "name": name, "labels": labels }, "rules": rules })
        };
        let mut edit = role("edit", json!({ "to": "edit" }), &["old"]);
        edit["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { "to": "edit" } }, { "matchLabels": { "also": "1" } }] });
        let mut all = vec![
            role("a", json!({ "also": "1" }), &["x"]),
            role("b", json!({ "to": "edit" }), &["get", "list"]),
            role("c", json!({ "to": "edit" }), &["list", "watch"]),
            role("d", json!({ "to": "other" }), &["delete"]),
            edit.clone(),
        ];
        let rules = aggregated(&edit, &all).unwrap();
        let verbs: Vec<&Value> = rules
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| &rule["verbs"][0])
            .collect();
        assert_eq!(verbs, ["get", "list", "watch", "x"]);
        edit["rules"] = rules;
        all[4] = edit.clone();
        assert_eq!(aggregated(&edit, &all), None, "it has them");
        assert_eq!(aggregated(&all[0], &all), None, "it is made of no others");
    }
}
