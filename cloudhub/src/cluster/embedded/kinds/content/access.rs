//! What roles and their bindings must be (Kubernetes `pkg/apis/rbac/validation`).

use serde_json::Value;

use super::{list, one_of_or_none, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn rules(value: &Value, namespaced: bool, errors: &mut Errors) {
    for (index, rule) in list(&value["rules"]).enumerate() {
        let path = format!("rules[{index}]");
        let some = |field: &str| list(&rule[field]).next().is_some();
        let mut required = |field: &str, detail: &str| {
            errors.push(FieldError::required(format!("{path}.{field}"), detail));
        };
        if !some("verbs") {
            required("verbs", "verbs must contain at least one value");
        }
        if some("nonResourceURLs") {
            let wrong = if namespaced {
                "namespaced rules cannot apply to non-resource URLs"
            } else if some("apiGroups") || some("resources") || some("resourceNames") {
                "rules cannot apply to both regular resources and non-resource URLs"
            } else {
                continue;
            };
            let urls = &rule["nonResourceURLs"];
            errors.push(FieldError::invalid(
                format!("{path}.nonResourceURLs"),
                urls,
                wrong,
            ));
            continue;
        }
        if !some("apiGroups") {
            required("apiGroups", "resource rules must supply at least one api group");
        }
        if !some("resources") {
            required("resources", "resource rules must supply at least one resource");
        }
    }
    let selectors = &value["aggregationRule"];
    if selectors.is_object() && list(&selectors["clusterRoleSelectors"]).next().is_none() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(
            "aggregationRule.clusterRoleSelectors",
            detail,
        ));
    }
}

pub(super) fn binding(value: &Value, namespaced: bool, errors: &mut Errors) {
    let role = &value["roleRef"];
    one_of_or_none(&role["apiGroup"], "roleRef.apiGroup", &[GROUP], errors);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    one_of_or_none(&role["kind"], "roleRef.kind", kinds, errors);
    if text(&role["name"]).is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    } else {
        for detail in names::path_segment(text(&role["name"])) {
            errors.push(FieldError::invalid("roleRef.name", &role["name"], &detail));
        }
    }
    for (index, subject) in list(&value["subjects"]).enumerate() {
        self::subject(subject, &format!("subjects[{index}]"), namespaced, errors);
    }
}

fn subject(subject: &Value, path: &str, namespaced: bool, errors: &mut Errors) {
    let name = text(&subject["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let group = format!("{path}.apiGroup");
    match text(&subject["kind"]) {
        "ServiceAccount" => {
            if !name.is_empty() {
                for detail in names::subdomain(name) {
                    errors.push(FieldError::invalid(
                        format!("{path}.name"),
                        &subject["name"],
                        &detail,
                    ));
                }
            }
            let given = text(&subject["apiGroup"]);
            if !given.is_empty() {
                errors.push(FieldError::unsupported(group, &format!("{given:?}"), "\"\""));
            }
            if !namespaced && text(&subject["namespace"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => one_of_or_none(&subject["apiGroup"], &group, &[GROUP], errors),
        _ => {
            let kinds = ["ServiceAccount", "User", "Group"];
            one_of_or_none(&subject["kind"], &format!("{path}.kind"), &kinds, errors);
        }
    }
}

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_and_bindings_are_told_what_is_wrong_in_a_real_servers_words() {
        let mut errors = Vec::new();
        rules(
            &json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}, {}]}),
            true,
            &mut errors,
        );
        binding(
            &json!({"roleRef": {"apiGroup": GROUP, "kind": "X", "name": "r"}, "subjects": [{"kind": "Y", "name": "n"}]}),
            true,
            &mut errors,
        );
        let said: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        assert_eq!(
            said,
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[1].verbs: Required value: verbs must contain at least one value",
                "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[1].resources: Required value: resource rules must supply at least one resource",
                "roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\"",
                "subjects[0].kind: Unsupported value: \"Y\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ]
        );
    }
}
