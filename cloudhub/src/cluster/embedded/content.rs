//! What the content of the kinds that people write most must be (Kubernetes `pkg/apis/*/validation`): what is missing, out of range, or
//! there twice. Less than a kube-apiserver checks, and nothing that it would let pass.

use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::call::is;
use super::fault::FieldError;
use super::names;

/// Adds what is wrong with an object beyond its metadata.
pub(super) fn check(kind: &ResourceKind, value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "pods") => pod_spec(spec, "spec", EVERY_POLICY, errors),
        ("", "configmaps" | "secrets") => keys(value, errors),
        ("", "services") => service(spec, errors),
        ("", "persistentvolumeclaims") => claim(spec, errors),
        ("", "replicationcontrollers") => {
            not_negative(&spec["replicas"], "spec.replicas", errors);
            template(spec, ALWAYS, errors);
        }
        ("apps", "deployments" | "replicasets" | "statefulsets") => {
            not_negative(&spec["replicas"], "spec.replicas", errors);
            not_negative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
            template(spec, ALWAYS, errors);
        }
        ("apps", "daemonsets") => template(spec, ALWAYS, errors),
        ("batch", "jobs") => job(spec, "spec", errors),
        ("batch", "cronjobs") => {
            if text(&spec["schedule"]).is_empty() {
                errors.push(FieldError::required("spec.schedule", ""));
            }
            job(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
        }
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(spec, errors),
        ("policy", "poddisruptionbudgets") => budget(spec, errors),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => rules(value, errors),
        _ => {}
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
    let binding = is(kind, RBAC, "rolebindings") || is(kind, RBAC, "clusterrolebindings");
    if binding && old["roleRef"] != new["roleRef"] {
        errors.push(FieldError::invalid(
            "roleRef",
            &new["roleRef"],
            "cannot change roleRef",
        ));
    }
}

fn template(spec: &Value, policies: &[&str], errors: &mut Vec<FieldError>) {
    pod_spec(&spec["template"]["spec"], "spec.template.spec", policies, errors);
}

fn pod_spec(spec: &Value, path: &str, policies: &[&str], errors: &mut Vec<FieldError>) {
    if !spec.is_object() {
        return;
    }
    let mut volumes = Vec::new();
    for (index, volume) in list(&spec["volumes"]).enumerate() {
        named(volume, &format!("{path}.volumes[{index}]"), &mut volumes, errors);
    }
    let mut names = Vec::new();
    if list(&spec["containers"]).next().is_none() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    for field in ["containers", "initContainers"] {
        for (index, container) in list(&spec[field]).enumerate() {
            let path = format!("{path}.{field}[{index}]");
            named(container, &path, &mut names, errors);
            containing(container, &path, &volumes, errors);
        }
    }
    one_of(
        &spec["restartPolicy"],
        &format!("{path}.restartPolicy"),
        policies,
        errors,
    );
    let path = format!("{path}.dnsPolicy");
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(&spec["dnsPolicy"], &path, &policies, errors);
}

fn containing(container: &Value, path: &str, volumes: &[&str], errors: &mut Vec<FieldError>) {
    if text(&container["image"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    let mut names = Vec::new();
    for (index, port) in list(&container["ports"]).enumerate() {
        let path = format!("{path}.ports[{index}]");
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            if names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &port["name"]));
            }
            names.push(name);
        }
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            _ => in_range(&port["containerPort"], &format!("{path}.containerPort"), errors),
        }
        one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
    }
    for (index, variable) in list(&container["env"]).enumerate() {
        if text(&variable["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.env[{index}].name"), ""));
        }
    }
    for (index, mount) in list(&container["volumeMounts"]).enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let name = text(&mount["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{path}.name"), &mount["name"]));
        }
        if text(&mount["mountPath"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        }
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(
        &container["imagePullPolicy"],
        &format!("{path}.imagePullPolicy"),
        &policies,
        errors,
    );
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

fn service(spec: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(&spec["type"]);
    let ports: Vec<&Value> = list(&spec["ports"]).collect();
    if ports.is_empty() && kind != "ExternalName" && spec["clusterIP"] != "None" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let mut names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        if ports.len() > 1 || !text(&port["name"]).is_empty() {
            named(port, &path, &mut names, errors);
        }
        in_range(&port["port"], &format!("{path}.port"), errors);
        one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
        if port["targetPort"].is_number() {
            in_range(&port["targetPort"], &format!("{path}.targetPort"), errors);
        }
    }
    one_of(
        &spec["sessionAffinity"],
        "spec.sessionAffinity",
        &["ClientIP", "None"],
        errors,
    );
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(&spec["type"], "spec.type", &kinds, errors);
}

fn claim(spec: &Value, errors: &mut Vec<FieldError>) {
    if list(&spec["accessModes"]).next().is_none() {
        errors.push(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    if spec["resources"]["requests"]["storage"].is_null() {
        errors.push(FieldError::required("spec.resources[storage]", ""));
    }
}

fn job(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        not_negative(&spec[field], &format!("{path}.{field}"), errors);
    }
    let path = format!("{path}.template.spec");
    pod_spec(&spec["template"]["spec"], &path, &["OnFailure", "Never"], errors);
}

fn autoscaler(spec: &Value, errors: &mut Vec<FieldError>) {
    let number = |field: &str| spec[field].as_i64();
    if let Some(least) = number("minReplicas").filter(|least| *least < 1) {
        errors.push(FieldError::invalid(
            "spec.minReplicas",
            &least.into(),
            "must be greater than or equal to 1",
        ));
    }
    let most = number("maxReplicas").unwrap_or(0);
    if most < 1 {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            &most.into(),
            "must be greater than 0",
        ));
    }
    if number("minReplicas").is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid("spec.maxReplicas", &most.into(), detail));
    }
    for field in ["kind", "name"] {
        if text(&spec["scaleTargetRef"][field]).is_empty() {
            errors.push(FieldError::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
}

fn budget(spec: &Value, errors: &mut Vec<FieldError>) {
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec, detail));
    }
}

fn rules(value: &Value, errors: &mut Vec<FieldError>) {
    for (index, rule) in list(&value["rules"]).enumerate() {
        if list(&rule["verbs"]).next().is_none() {
            errors.push(FieldError::required(
                format!("rules[{index}].verbs"),
                "verbs must contain at least one value",
            ));
        }
    }
}

/// Of data that pods see as files or variables.
fn keys(value: &Value, errors: &mut Vec<FieldError>) {
    for field in ["data", "binaryData"] {
        for key in value[field].as_object().into_iter().flatten().map(|(key, _)| key) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !key.chars().all(plain) || key.is_empty() {
                let path = format!("{field}[{key}]");
                errors.push(FieldError::invalid(path, &key.as_str().into(), CONFIG_KEY));
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

const RBAC: &str = "rbac.authorization.k8s.io";
const EVERY_POLICY: &[&str] = &["Always", "OnFailure", "Never"];
const ALWAYS: &[&str] = &["Always"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

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
                "spec.containers[1].name: Duplicate value",
                "spec.containers[1].image: Required value",
                "spec.containers[1].ports[0].containerPort: Invalid value",
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
        let scaler =
            json!({"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment"}}});
        assert_eq!(said("autoscaling", "horizontalpodautoscalers", scaler).len(), 2);
        assert_eq!(
            said(
                "rbac.authorization.k8s.io",
                "roles",
                json!({"rules": [{"resources": ["pods"]}]})
            )
            .len(),
            1
        );
        let job = json!({"spec": {"parallelism": -1, "template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "i"}]}}}});
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
