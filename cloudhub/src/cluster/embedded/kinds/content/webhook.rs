//! What the configurations of webhooks must be (Kubernetes `pkg/apis/admissionregistration/validation`). Nobody here calls them.

use serde_json::Value;

use super::{list, one_of, text, workload};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

pub(super) fn configuration(value: &Value, errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, hook) in list(&value["webhooks"]).enumerate() {
        let path = format!("webhooks[{index}]");
        webhook(hook, &path, errors);
        let name = text(&hook["name"]);
        if !name.is_empty() && taken.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &hook["name"]));
        }
        taken.push(name);
    }
}

fn webhook(hook: &Value, path: &str, errors: &mut Errors) {
    qualified(&hook["name"], &format!("{path}.name"), errors);
    for (index, rule) in list(&hook["rules"]).enumerate() {
        self::rule(rule, &format!("{path}.rules[{index}]"), errors);
    }
    one_of(
        &hook["failurePolicy"],
        &format!("{path}.failurePolicy"),
        &["Fail", "Ignore"],
        errors,
    );
    one_of(
        &hook["matchPolicy"],
        &format!("{path}.matchPolicy"),
        &["Equivalent", "Exact"],
        errors,
    );
    let at = format!("{path}.sideEffects");
    if hook["sideEffects"].is_null() {
        errors.push(FieldError::required(at, "must specify one of None, NoneOnDryRun"));
    } else {
        one_of(&hook["sideEffects"], &at, &["None", "NoneOnDryRun"], errors);
    }
    let seconds = &hook["timeoutSeconds"];
    if seconds
        .as_i64()
        .is_some_and(|seconds| !(1..=30).contains(&seconds))
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(
            format!("{path}.timeoutSeconds"),
            seconds,
            detail,
        ));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        workload::label_selector(&hook[field], &format!("{path}.{field}"), errors);
    }
    let again = ["IfNeeded", "Never"];
    one_of(
        &hook["reinvocationPolicy"],
        &format!("{path}.reinvocationPolicy"),
        &again,
        errors,
    );
    client(&hook["clientConfig"], &format!("{path}.clientConfig"), errors);
    versions(
        &hook["admissionReviewVersions"],
        &format!("{path}.admissionReviewVersions"),
        errors,
    );
}

fn qualified(name: &Value, path: &str, errors: &mut Errors) {
    let faults = names::subdomain(text(name));
    if text(name).is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !faults.is_empty() {
        errors.push(FieldError::invalid(path, name, &faults.join(",")));
    } else if text(name).split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn rule(rule: &Value, path: &str, errors: &mut Errors) {
    for (field, others) in [
        ("operations", "operations"),
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
        ("resources", ""),
    ] {
        let (given, path) = (&rule[field], format!("{path}.{field}"));
        let all: Vec<&str> = list(given).map(text).collect();
        if all.is_empty() {
            errors.push(FieldError::required(path.as_str(), ""));
        }
        if all.len() > 1 && all.contains(&"*") && !others.is_empty() {
            let detail = format!("if '*' is present, must not specify other {others}");
            errors.push(FieldError::invalid(path.as_str(), given, &detail));
        }
        for (index, one) in list(given).enumerate() {
            let path = format!("{path}[{index}]");
            if field == "operations" {
                one_of(
                    one,
                    &path,
                    &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"],
                    errors,
                );
            } else if field != "apiGroups" && text(one).is_empty() {
                errors.push(FieldError::required(path, ""));
            }
        }
    }
    one_of(
        &rule["scope"],
        &format!("{path}.scope"),
        &["*", "Cluster", "Namespaced"],
        errors,
    );
}

/// Where a webhook is: an address, or a service of the cluster.
fn client(config: &Value, path: &str, errors: &mut Errors) {
    let (url, service) = (&config["url"], &config["service"]);
    if url.is_null() == service.is_null() {
        errors.push(FieldError::required(
            path,
            "exactly one of url or service is required",
        ));
        return;
    }
    if service.is_null() {
        let path = format!("{path}.url");
        let (scheme, rest) = text(url).split_once("://").unwrap_or(("", text(url)));
        if scheme != "https" {
            let detail = format!("'https' is the only allowed URL scheme{FORM}");
            errors.push(FieldError::invalid(path.as_str(), &scheme.into(), &detail));
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.is_empty() || host.is_empty() {
            let detail = format!("host must be specified{FORM}");
            errors.push(FieldError::invalid(path.as_str(), &"".into(), &detail));
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let user = host.split_once('@').map_or("", |(user, _)| user);
        for (part, what) in [
            (user, "user information is"),
            (fragment, "fragments are"),
            (query, "query parameters are"),
        ] {
            if !part.is_empty() {
                let detail = format!("{what} not permitted in the URL");
                errors.push(FieldError::invalid(path.as_str(), &part.into(), &detail));
            }
        }
        return;
    }
    let path = format!("{path}.service");
    for field in ["name", "namespace"] {
        if text(&service[field]).is_empty() {
            errors.push(FieldError::required(format!("{path}.{field}"), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(format!("{path}.port"), &port.into(), detail));
    }
    let place = &service["path"];
    if text(place).is_empty() || text(place) == "/" {
        return;
    }
    let path = format!("{path}.path");
    if !text(place).starts_with('/') {
        errors.push(FieldError::invalid(path.as_str(), place, "must start with a '/'"));
    }
    let steps = text(place).get(1..).unwrap_or_default();
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            let detail = format!("segment[{index}] may not be empty");
            errors.push(FieldError::invalid(path.as_str(), place, &detail));
            continue;
        }
        for fault in names::subdomain(step) {
            let detail = format!("segment[{index}]: {fault}");
            errors.push(FieldError::invalid(path.as_str(), place, &detail));
        }
    }
}

fn versions(given: &Value, path: &str, errors: &mut Errors) {
    let mut seen = Vec::new();
    if list(given).next().is_none() {
        errors.push(FieldError::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    for (index, version) in list(given).enumerate() {
        if seen.contains(&version) {
            let path = format!("{path}[{index}]");
            errors.push(FieldError::invalid(path, version, "duplicate version"));
        }
        seen.push(version);
    }
    if !list(given).any(|version| matches!(text(version), "v1" | "v1beta1")) {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(path, given, detail));
    }
}

const FORM: &str = "; desired format: https://host[/path]";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::content::said;

    #[test]
    fn odd_webhooks_are_refused_in_a_real_servers_words() {
        let good = json!({"name": "a.b.c", "clientConfig": {"url": "https://h/p"}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
        let told = |field: &str, value: Value| {
            let mut hook = good.clone();
            hook[field] = value;
            said(configuration, json!({"webhooks": [hook]}))
        };
        assert!(told("name", json!("a.b.c")).is_empty());
        for (field, value, wanted) in [
            (
                "name",
                json!("x"),
                "name: Invalid value: \"x\": should be a domain with at least three segments separated by dots",
            ),
            (
                "clientConfig",
                json!({}),
                "clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                "clientConfig",
                json!({"url": "http://h"}),
                "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                "clientConfig",
                json!({"service": {"name": "s", "namespace": "n", "port": 0}}),
                "clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
            (
                "sideEffects",
                json!(null),
                "sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ),
            (
                "timeoutSeconds",
                json!(60),
                "timeoutSeconds: Invalid value: 60: the timeout value must be between 1 and 30 seconds",
            ),
            (
                "admissionReviewVersions",
                json!(["v9"]),
                "admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
            ),
        ] {
            assert_eq!(told(field, value), [format!("webhooks[0].{wanted}")]);
        }
        assert_eq!(told("rules", json!([{}])).len(), 4);
    }
}
