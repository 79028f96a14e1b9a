//! What the content of the kinds that people write most must be (Kubernetes `pkg/apis/*/validation`): what is missing, out of range, or
//! there twice. Less than a kube-apiserver checks, and nothing that it would let pass.

mod access;
mod event;
mod job;
mod kept;
mod network;
mod others;
mod pod;
mod quota;
mod service;
mod status;
mod storage;
pub(in crate::cluster::embedded) mod warn;
mod webhook;
mod workload;

pub(in crate::cluster::embedded) use service::has_health;

use hub_core::registry::ResourceKind;
use serde_json::Value;

use crate::cluster::embedded::call::is;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

/// Adds what is wrong with an object beyond its metadata.
pub(super) fn check(kind: &ResourceKind, value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "pods") => pod::spec(spec, "spec", EVERY_POLICY, errors),
        ("", "configmaps") => keys(value, errors),
        ("", "secrets") => {
            keys(value, errors);
            others::secret(value, errors);
        }
        ("", "services") => service::service(spec, errors),
        ("", "endpoints") => service::endpoints(value, errors),
        ("discovery.k8s.io", "endpointslices") => service::slice(value, errors),
        ("", "persistentvolumeclaims") => storage::claim(spec, "spec", errors),
        ("", "persistentvolumes") => storage::volume(spec, errors),
        ("storage.k8s.io", "storageclasses") => storage::class(value, errors),
        ("", "nodes") => others::node(spec, errors),
        ("", "resourcequotas") => quota::spec(spec, errors),
        ("", "limitranges") => quota::ranges(spec, errors),
        ("", "events") => event::event(value, false, errors),
        ("events.k8s.io", "events") => event::event(value, true, errors),
        ("coordination.k8s.io", "leases") => others::lease(spec, errors),
        ("networking.k8s.io", "ingresses") => network::ingress(spec, errors),
        ("networking.k8s.io", "networkpolicies") => network::policy(spec, errors),
        ("autoscaling", "horizontalpodautoscalers") => others::autoscaler(spec, errors),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => {
            webhook::configuration(value, errors);
        }
        ("policy", "poddisruptionbudgets") => others::budget(spec, errors),
        ("scheduling.k8s.io", "priorityclasses") => others::priority(value, errors),
        ("node.k8s.io", "runtimeclasses") => others::runtime(value, errors),
        (access::GROUP, "roles") => access::rules(value, true, errors),
        (access::GROUP, "clusterroles") => access::rules(value, false, errors),
        (access::GROUP, "rolebindings") => access::binding(value, true, errors),
        (access::GROUP, "clusterrolebindings") => access::binding(value, false, errors),
        _ => workload::check(kind, value, errors),
    }
}

/// Adds what a new object may not have yet.
pub(super) fn created(kind: &ResourceKind, value: &Value, errors: &mut Vec<FieldError>) {
    if is(kind, "events.k8s.io", "events") {
        event::created(value, errors);
    }
    if !is(kind, "", "pods") {
        return;
    }
    pod::update::annotations(&Value::Null, &value["metadata"]["annotations"], errors);
    if list(&value["spec"]["ephemeralContainers"]).next().is_some() {
        let detail = "cannot be set on create";
        errors.push(FieldError::forbidden("spec.ephemeralContainers", detail));
    }
    let gated = list(&value["spec"]["schedulingGates"]).next().is_some();
    if gated && !text(&value["spec"]["nodeName"]).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
}

/// Adds what may not have become of an object.
pub(super) fn changed(kind: &ResourceKind, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let frozen = old["immutable"] == true && (is(kind, "", "configmaps") || is(kind, "", "secrets"));
    if frozen {
        let mut forbid = |field: &str| {
            errors.push(FieldError::forbidden(
                field,
                "field is immutable when `immutable` is set",
            ));
        };
        if new["immutable"] != true {
            forbid("immutable");
        }
        for field in ["data", "binaryData"] {
            if old[field] != new[field] {
                forbid(field);
            }
        }
    }
    let binding = is(kind, access::GROUP, "rolebindings") || is(kind, access::GROUP, "clusterrolebindings");
    if binding && old["roleRef"] != new["roleRef"] {
        let role = &new["roleRef"];
        let shown = format!(
            "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
            role["apiGroup"], role["kind"], role["name"]
        );
        errors.push(FieldError::invalid_shown(
            "roleRef",
            &shown,
            "cannot change roleRef",
        ));
    }
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("events.k8s.io", "events") => event::changed(old, new, errors),
        ("", "pods") => {
            let annotations = |pod: &Value| pod["metadata"]["annotations"].clone();
            pod::update::annotations(&annotations(old), &annotations(new), errors);
            pod::update::changed(old, new, errors);
        }
        ("", "nodes") => others::node_changed(old, new, errors),
        ("", "services") => service::service_changed(old, new, errors),
        ("", "persistentvolumeclaims") => storage::claim_changed(old, new, errors),
        ("", "resourcequotas") => quota::changed(old, new, errors),
        ("apps", "controllerrevisions") if old["data"] != new["data"] => {
            errors.push(FieldError::invalid("data", &new["data"], "field is immutable"));
        }
        ("discovery.k8s.io", "endpointslices") if old["addressType"] != new["addressType"] => {
            errors.push(FieldError::invalid(
                "addressType",
                &new["addressType"],
                "field is immutable",
            ));
        }
        _ => {
            kept::changed(kind, old, new, errors);
            workload::changed(kind, old, new, errors);
        }
    }
}

/// Adds what is wrong with what came by another door than the main one.
pub(super) fn part(kind: &ResourceKind, part: &str, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    match (part, &*kind.resource.group, &*kind.resource.resource) {
        ("ephemeralcontainers", "", "pods") => {
            check(kind, new, errors);
            pod::update::ephemeral_changed(old, new, errors);
        }
        ("resize", "", "pods") => {
            check(kind, new, errors);
            pod::update::resized(old, new, errors);
        }
        ("finalize", "", "namespaces") => others::finalizers(&new["spec"]["finalizers"], errors),
        ("status", _, _) => status::changed(kind, old, new, errors),
        _ => {}
    }
}

/// A name that is a label, and no other's in the list.
fn named<'v>(value: &'v Value, path: &str, names: &mut Vec<&'v str>, errors: &mut Vec<FieldError>) {
    let (name, path) = (text(&value["name"]), format!("{path}.name"));
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !names::label(name).is_empty() {
        for detail in names::label(name) {
            errors.push(FieldError::invalid(path.as_str(), &value["name"], &detail));
        }
    } else if names.contains(&name) {
        errors.push(FieldError::duplicate(path, &value["name"]));
    }
    names.push(name);
}

/// Of data that pods see as files or variables.
fn keys(value: &Value, errors: &mut Vec<FieldError>) {
    for field in ["data", "binaryData"] {
        for key in value[field].as_object().into_iter().flatten().map(|(key, _)| key) {
            let path = format!("{field}[{key}]");
            for detail in names::config_key(key) {
                errors.push(FieldError::invalid(path.as_str(), &key.as_str().into(), &detail));
            }
            if field == "data" && value["binaryData"].get(key).is_some() {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(path, &key.as_str().into(), detail));
            }
        }
    }
}

fn in_range(port: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let number = port.as_i64().unwrap_or(0);
    if !(1..=65_535).contains(&number) {
        let detail = "must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(path, &number.into(), detail));
    }
}

fn not_negative(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be greater than or equal to 0",
        ));
    }
}

/// Nothing is one of all: where there must be something, a default has put it there.
fn one_of(value: &Value, path: &str, all: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(text) = value.as_str().filter(|text| !all.contains(text)) {
        let all: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
        errors.push(FieldError::unsupported(
            path,
            &format!("{text:?}"),
            &all.join(", "),
        ));
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Checks that something is of one kind only, and has what that kind needs; `then` looks further at the first. Whether it is of any.
fn sole(
    holder: &Value,
    path: &str,
    kinds: Sources,
    what: &str,
    errors: &mut Vec<FieldError>,
    mut then: impl FnMut(&str, &Value, &str, &mut Vec<FieldError>),
) -> bool {
    let mut found = false;
    for (kind, needed) in kinds {
        let (source, path) = (&holder[*kind], format!("{path}.{kind}"));
        if source.is_null() {
            continue;
        }
        if std::mem::replace(&mut found, true) {
            let detail = format!("may not specify more than 1 {what} type");
            errors.push(FieldError::forbidden(path, &detail));
            continue;
        }
        for field in *needed {
            if text(&source[*field]).is_empty() {
                errors.push(FieldError::required(format!("{path}.{field}"), ""));
            }
        }
        then(kind, source, &path, errors);
    }
    found
}

/// Kinds of which something is one, each with the fields that it needs.
type Sources = &'static [(&'static str, &'static [&'static str])];

/// The same where nothing is not one of them.
fn one_of_or_none(value: &Value, path: &str, all: &[&str], errors: &mut Vec<FieldError>) {
    match value {
        Value::Null => one_of(&"".into(), path, all, errors),
        value => one_of(value, path, all, errors),
    }
}

/// A number that is not negative, or a part in per cent; with `most`, of no more than all.
fn percent(value: &Value, path: &str, most: bool, errors: &mut Vec<FieldError>) {
    let part = value.as_str().map(|text| {
        text.strip_suffix('%').and_then(|digits| {
            let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
        })
    });
    match part {
        None if most => {}
        None => not_negative(value, path, errors),
        Some(None) if !most => errors.push(FieldError::invalid(path, value, PERCENT)),
        Some(Some(part)) if most && part > 100 => {
            errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
        }
        Some(_) => {}
    }
}

const EVERY_POLICY: &[&str] = &["Always", "OnFailure", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// What a check says of a value.
#[cfg(test)]
fn said(check: fn(&Value, &mut Vec<FieldError>), value: Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(&value, &mut errors);
    errors.iter().map(FieldError::to_string).collect()
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;
    use hub_core::registry::Registry;
    use serde_json::json;

    use super::*;

    fn said(group: &str, resource: &str, value: Value) -> Vec<String> {
        let version = if group == "autoscaling" { "v2" } else { "v1" };
        let kind = Registry::builtin()
            .by_resource(&GroupVersionResource::new(group, version, resource))
            .unwrap();
        let mut errors = Vec::new();
        check(&kind, &value, &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn pods_are_told_what_they_lack() {
        let pod = json!({"spec": {"restartPolicy": "Sometimes", "volumes": [{"name": "v"}], "containers": [
            {"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}]},
            {"name": "a", "ports": [{"containerPort": 70_000, "protocol": "TCP"}]}, {"name": "B_", "image": "i"}]}});
        assert_eq!(
            said("", "pods", pod)
                .iter()
                .map(|error| error.split(": ").take(2).collect::<Vec<_>>().join(": "))
                .collect::<Vec<_>>(),
            [
                "spec.containers[0].volumeMounts[1].name: Not found",
                "spec.containers[1].image: Required value",
                "spec.containers[1].ports[0].containerPort: Invalid value",
                "spec.containers[1].name: Duplicate value",
                "spec.containers[2].name: Invalid value",
                "spec.restartPolicy: Unsupported value",
            ]
        );
        let good = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}});
        assert!(said("", "pods", good).is_empty());
    }

    #[test]
    fn others_are_told_too() {
        assert_eq!(
            said(
                "",
                "services",
                json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"}})
            ),
            ["spec.ports: Required value"]
        );
        assert!(said("", "services", json!({"spec": {"clusterIP": "None"}})).is_empty());
        let ports = json!({"spec": {"ports": [{"port": 0}, {"name": "b", "port": 80}]}});
        assert_eq!(
            said("", "services", ports),
            [
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"
            ]
        );
        assert_eq!(
            said("", "configmaps", json!({"data": {"a.b": "1", "a b": "2"}})).len(),
            1
        );
        let scaler = json!({"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment"}}});
        assert_eq!(said("autoscaling", "horizontalpodautoscalers", scaler).len(), 2);
        assert_eq!(
            said(
                "rbac.authorization.k8s.io",
                "roles",
                json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]})
            )
            .len(),
            1
        );
        let job = json!({"spec": {"parallelism": -1, "manualSelector": true, "selector": {}, "template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "i"}]}}}});
        assert_eq!(said("batch", "jobs", job).len(), 2);
    }

    #[test]
    fn what_is_immutable_stays() {
        let kind = Registry::builtin()
            .by_resource(&GroupVersionResource::core("configmaps"))
            .unwrap();
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let mut errors = Vec::new();
        changed(&kind, &old, &json!({"data": {"a": "2"}}), &mut errors);
        let fields: Vec<_> = errors.iter().map(FieldError::field).collect();
        assert_eq!(fields, ["immutable", "data"]);
    }
}
