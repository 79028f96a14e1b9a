//! What quotas and limit ranges must be: names of resources that are there to be limited, and amounts that agree (Kubernetes
//! `pkg/apis/core/validation`).

use serde_json::Value;

use super::{list, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::{names, quantity};

type Errors = Vec<FieldError>;

pub(super) fn spec(spec: &Value, errors: &mut Errors) {
    amounts(&spec["hard"], "spec.hard", errors);
    let shown = &spec["scopes"];
    let scopes: Vec<&str> = list(shown).map(text).collect();
    let mut refuse = |detail: &str| errors.push(FieldError::invalid("spec.scopes", shown, detail));
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            refuse("unsupported scope");
        }
        for name in spec["hard"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
        {
            if is_standard(name) && !fits(scope, name) {
                refuse("unsupported scope applied to resource");
            }
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            refuse("conflicting scopes");
        }
    }
}

pub(super) fn changed(old: &Value, new: &Value, errors: &mut Errors) {
    let sorted = |value: &Value| {
        let mut scopes: Vec<&str> = list(&value["spec"]["scopes"]).map(text).collect();
        scopes.sort_unstable();
        scopes.join(",")
    };
    if sorted(old) != sorted(new) {
        let given = &new["spec"]["scopes"];
        errors.push(FieldError::invalid("spec.scopes", given, "field is immutable"));
    }
}

/// The status of a quota.
pub(super) fn counted(status: &Value, errors: &mut Errors) {
    for field in ["hard", "used"] {
        amounts(&status[field], &format!("status.{field}"), errors);
    }
}

pub(super) fn ranges(spec: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, item) in list(&spec["limits"]).enumerate() {
        let path = format!("spec.limits[{index}]");
        let (of, at) = (&item["type"], format!("{path}.type"));
        let name = text(of);
        let faults = names::qualified(name);
        for detail in &faults {
            errors.push(FieldError::invalid(at.as_str(), &name.into(), detail));
        }
        if faults.is_empty() && !name.contains('/') && !OF_RANGES.contains(&name) {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(at.as_str(), of, detail));
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(at, of));
        }
        seen.push(name);
        for field in ["default", "defaultRequest"] {
            let given = item[field].as_object().is_some_and(|all| !all.is_empty());
            if name == "Pod" && given {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
        if name == "PersistentVolumeClaim"
            && ["min", "max"].iter().all(|side| item[*side]["storage"].is_null())
        {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(format!("{path}.limits"), detail));
        }
        bounds(item, &path, name == "Pod", errors);
    }
}

/// The least, what is asked for, what is given and the most come in this order.
fn bounds(item: &Value, path: &str, of_pods: bool, errors: &mut Errors) {
    let fields = ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut resources: Vec<&String> = fields
        .iter()
        .flat_map(|field| item[*field].as_object().into_iter().flatten())
        .map(|(name, _)| name)
        .collect();
    resources.sort();
    resources.dedup();
    for resource in resources {
        let none = &Value::Null;
        let of = |field: &str| {
            let unused = of_pods && field.starts_with("default");
            if unused { none } else { &item[field][resource] }
        };
        let mut order =
            |at: &str, shown: &str, (less, of_less): (&str, &str), (more, of_more): (&str, &str)| {
                let (low, high) = (of(less), of(more));
                let wrong = match (quantity::amount(low), quantity::amount(high)) {
                    (Some(low), Some(high)) => low > high,
                    _ => false,
                };
                if wrong {
                    let detail = format!(
                        "{of_less} value {} is greater than {of_more} value {}",
                        text(low),
                        text(high)
                    );
                    errors.push(FieldError::invalid(
                        format!("{path}.{at}[{resource}]"),
                        of(shown),
                        &detail,
                    ));
                }
            };
        let (least, most) = (("min", "min"), ("max", "max"));
        let request = ("defaultRequest", "default request");
        order("min", "min", least, most);
        order("defaultRequest", "defaultRequest", least, request);
        order("defaultRequest", "defaultRequest", request, most);
        order(
            "defaultRequest",
            "defaultRequest",
            request,
            ("default", "default limit"),
        );
        order("default", "min", least, ("default", "default"));
        order("default", "max", ("default", "default"), most);
        let ratio = of("maxLimitRequestRatio");
        let Some(given) = quantity::amount(ratio) else {
            continue;
        };
        let at = format!("{path}.maxLimitRequestRatio[{resource}]");
        if given < 1.0 {
            let detail = format!("ratio {} is less than 1", text(ratio));
            errors.push(FieldError::invalid(at.as_str(), ratio, &detail));
        }
        if let (Some(low), Some(high)) = (quantity::amount(of("min")), quantity::amount(of("max")))
            && given > high / low
        {
            let detail = format!(
                "ratio {} is greater than max/min = {:.6}",
                text(ratio),
                high / low
            );
            errors.push(FieldError::invalid(at, ratio, &detail));
        }
    }
}

fn amounts(all: &Value, path: &str, errors: &mut Errors) {
    for (name, amount) in all.as_object().into_iter().flatten() {
        let path = format!("{path}[{name}]");
        let faults = names::qualified(name);
        for detail in &faults {
            errors.push(FieldError::invalid(path.as_str(), &name.as_str().into(), detail));
        }
        let short = !name.contains('/');
        let known = [
            (
                is_standard(name) || name == "storage",
                "must be a standard resource type or fully qualified",
            ),
            (is_standard(name), "must be a standard resource for quota"),
        ];
        for (is, detail) in known.into_iter().filter(|_| short) {
            // Pages of a size have names that only a real server tells from others by their beginning.
            if !is && !name.contains("hugepages-") && (faults.is_empty() || detail.ends_with("quota")) {
                errors.push(FieldError::invalid(path.as_str(), &name.as_str().into(), detail));
            }
        }
        let number = quantity::amount(amount).unwrap_or(0.0);
        if number < 0.0 {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(path.as_str(), amount, detail));
        }
        if COUNTED.contains(&name.as_str()) && number.fract() != 0.0 {
            errors.push(FieldError::invalid(path, amount, "must be an integer"));
        }
    }
}

fn is_standard(name: &str) -> bool {
    COUNTED.contains(&name) || MEASURED.contains(&name)
}

/// Whether a quota of a scope may count a resource.
fn fits(scope: &str, name: &str) -> bool {
    let of_claims = matches!(name, "persistentvolumeclaims" | "requests.storage");
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => of_claims,
        _ if SCOPES.contains(&scope) => name == "pods" || (MEASURED.contains(&name) && !of_claims),
        _ => true,
    }
}

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const OF_RANGES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const MEASURED: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::content::said;

    #[test]
    fn a_quota_counts_what_its_scopes_have() {
        let refused =
            |shown: &str, detail: &str| vec![format!("spec.scopes: Invalid value: {shown}: {detail}")];
        for (quota, wanted) in [
            (json!({"hard": {"pods": "10", "count/x.io": "1"}}), vec![]),
            (json!({"hard": {"pods": "10"}, "scopes": ["BestEffort"]}), vec![]),
            (
                json!({"hard": {"requests.cpu": "1"}, "scopes": ["BestEffort"]}),
                refused("[\"BestEffort\"]", "unsupported scope applied to resource"),
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                refused("[\"BestEffort\",\"NotBestEffort\"]", "conflicting scopes"),
            ),
            (
                json!({"hard": {"pods": "-1"}}),
                vec!["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0".to_owned()],
            ),
        ] {
            assert_eq!(said(spec, quota.clone()), wanted, "{quota}");
        }
    }

    #[test]
    fn the_amounts_of_a_range_come_in_their_order() {
        let range = |item: Value| json!({"limits": [item]});
        assert!(
            said(
                ranges,
                range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}))
            )
            .is_empty()
        );
        assert_eq!(
            said(
                ranges,
                range(
                    json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}})
                )
            ),
            [
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            ]
        );
        assert_eq!(
            said(ranges, range(json!({"type": "PersistentVolumeClaim"}))),
            [
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            ]
        );
    }
}
